#include "runtime/cuda/plan_parts.h"

namespace flex::cuda {

Status plan_summaries(const Problem& problem, const int32_t* flags_of, int32_t count, int32_t threads, SummaryPlan* out) {
    if (count == 0 || problem.keys() == 0) return {};
    int64_t words = 0, longest = 0, heads = 1;
    for (int32_t i = 0; i < count; ++i) {
        const int32_t flags = flags_of[i];
        const int64_t length = flags & FLEX_SUMMARY_OF_KEYS ? problem.keys() : problem.queries();
        const int64_t blocks = ceil_div(length, FLEX_GPU_SUMMARY_BLOCK), wide = ceil_div(length, FLEX_GPU_SUMMARY_WIDE);
        const int64_t record = blocks + wide;
        const int64_t of_batch = record * (flags & FLEX_SUMMARY_BY_H ? problem.heads() : 1);
        const int64_t all = of_batch * (flags & FLEX_SUMMARY_BY_B ? problem.batch() : 1);
        if (of_batch > kMaxInt || all > kMaxInt)
            return unsupported("the mask of `" + problem.desc.name + "` needs summaries of more than 2^31 entries for this shape");
        flex_gpu_summary summary{};
        summary.data = static_cast<uint64_t>(words) * 4;
        summary.b_stride = flags & FLEX_SUMMARY_BY_B ? static_cast<int32_t>(of_batch) : 0;
        summary.h_stride = flags & FLEX_SUMMARY_BY_H ? static_cast<int32_t>(record) : 0;
        summary.blocks = static_cast<int32_t>(blocks);
        summary.wide = static_cast<int32_t>(wide);
        out->list.push_back(summary);
        words += 2 * all;
        longest = std::max(longest, blocks);
        if (flags & FLEX_SUMMARY_BY_H) heads = problem.heads();
    }
    const int64_t depth = problem.batch() * count;
    if (heads > kMaxGridSide || depth > kMaxGridSide)
        return unsupported("the mask of `" + problem.desc.name + "` needs summaries, and those are made for at most 65535 heads and " +
                           std::to_string(kMaxGridSide / count) + " batches");
    out->words = static_cast<size_t>(words);
    out->grid = {static_cast<unsigned>(ceil_div(longest, std::max(threads / 32, 1))), static_cast<unsigned>(heads),
                 static_cast<unsigned>(depth)};
    return {};
}

bool rows_are_aligned(const Tensor& t) {
    constexpr int64_t kBytes = 16;
    const auto size = static_cast<int64_t>(size_of(t.dtype));
    if (reinterpret_cast<uintptr_t>(t.data) % kBytes != 0 || t.shape[3] * size % kBytes != 0) return false;
    for (size_t i = 0; i < 3; ++i)
        if (t.shape[i] > 1 && t.stride[i] * size % kBytes != 0) return false;
    return true;
}

flex_gpu_view view_of(const Tensor& t) {
    if (!t.data) return {};
    return {reinterpret_cast<uint64_t>(t.data), t.shape[0] == 1 ? 0 : t.stride[0], t.stride[1], t.stride[2]};
}

flex_gpu_launch launch_of(const Problem& problem) {
    const AttentionArrays& a = problem.arrays;
    flex_gpu_launch launch{};
    launch.q = view_of(a.q);
    launch.k = view_of(a.k);
    launch.v = view_of(a.v);
    launch.o = view_of(a.o);
    launch.lse = view_of(a.lse);
    launch.max_score = view_of(a.max_score);
    launch.splits = 1;
    launch.pack = 1;
    launch.aligned = rows_are_aligned(a.q) && rows_are_aligned(a.k) && rows_are_aligned(a.v);
    return launch;
}

Status make_captured(const Problem& problem, const CudaOptions& options, const SummaryPlan& summaries, const GpuLayout& at, size_t bytes,
                     std::vector<unsigned char>* out) {
    const KernelDesc& desc = problem.desc;
    if (bytes > kGpuParameterLimit)
        return unsupported("the parameters of `" + desc.name + "` take " + std::to_string(bytes) + " bytes, and a GPU kernel takes " +
                           std::to_string(kGpuParameterLimit));
    PackedArgs packed;
    if (Status status = pack(desc, problem.extents, problem.args, &packed); !status.ok()) return status;
    out->assign(at.bytes, 0);
    put(out, at.extents, packed.extents.data(), packed.extents.size() * 4);
    put(out, at.scalars, packed.scalars.data(), packed.scalars.size() * 4);
    for (size_t i = 0; i < desc.params.size(); ++i) {
        if (!desc.params[i].is_tensor) continue;
        const size_t rank = desc.params[i].dims.size();
        const flex_gpu_tensor tensor{reinterpret_cast<uint64_t>(packed.tensors[i].data)};
        put(out, at.tensors[i], &tensor, sizeof tensor);
        put(out, at.tensors[i] + sizeof tensor, packed.tensors[i].stride, 8 * rank);
        put(out, at.tensors[i] + sizeof tensor + 8 * rank, packed.tensors[i].dim, 4 * rank);
    }
    for (size_t i = 0; i < summaries.list.size(); ++i) {
        flex_gpu_summary summary = summaries.list[i];
        summary.data += reinterpret_cast<uint64_t>(options.workspace);
        put(out, at.summaries + i * sizeof summary, &summary, sizeof summary);
    }
    return {};
}

Status check_alignment(const char* what, const Tensor& t) {
    if (reinterpret_cast<uintptr_t>(t.data) % size_of(t.dtype) == 0) return {};
    return Status(Code::InvalidArgument, "`" + std::string(what) + "` is " + name(t.dtype) + " and must begin at a multiple of " +
                                             std::to_string(size_of(t.dtype)) + " bytes");
}

Status check_alignment(const AttentionArrays& arrays, const std::vector<Argument>& args) {
    const struct {
        const char* name;
        const Tensor& tensor;
    } all[] = {{"q", arrays.q}, {"k", arrays.k}, {"v", arrays.v}, {"o", arrays.o}, {"lse", arrays.lse}, {"max_score", arrays.max_score}};
    for (const auto& [what, tensor] : all)
        if (Status status = check_alignment(what, tensor); !status.ok()) return status;
    for (const Argument& arg : args)
        if (arg.value.rank > 0)
            if (Status status = check_alignment(arg.name.c_str(), arg.value); !status.ok()) return status;
    return {};
}

}  // namespace flex::cuda
