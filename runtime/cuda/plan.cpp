#include "runtime/cuda/plan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <tuple>

namespace flex::cuda {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxGridSide = 65535;  // of y and z
constexpr size_t kSectionAlignment = 256;
constexpr int kRegistersPerMultiprocessor = 65536, kRegistersPerThread = 255, kSharedPerBlockReserved = 1024;
// Splitting costs a pass over the partial results; below this many tiles of keys a split it does not pay.
constexpr int64_t kMinTilesToSplit = 4, kMaxSplits = 128;
constexpr double kFullEnough = 0.8, kNearBest = 0.85, kPackGain = 0.9;

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

size_t align_up(size_t n) {
    return (n + kSectionAlignment - 1) / kSectionAlignment * kSectionAlignment;
}

Status unsupported(std::string text) {
    return Status(Code::Unsupported, std::move(text));
}

int largest_pack(const flex_gpu_image& image, int64_t group) {
    int best = 1;
    for (int pack = 1; pack <= image.max_pack && pack <= group; ++pack)
        if (group % pack == 0) best = pack;
    return best;
}

/// A condition on images, and what to say if none meets it.
struct Condition {
    std::function<bool(const flex_gpu_image&)> holds;
    std::function<std::string()> reason;
};

using Images = std::vector<const flex_gpu_image*>;

/// "sm_80, sm_90a": the different values.
template <class Value>
std::string each(const Images& images, Value value) {
    std::vector<std::string> seen;
    std::string text;
    for (const flex_gpu_image* image : images) {
        std::string one = value(*image);
        if (std::find(seen.begin(), seen.end(), one) != seen.end()) continue;
        text += (text.empty() ? "" : ", ") + one;
        seen.push_back(std::move(one));
    }
    return text;
}

int32_t largest(const Images& images, int32_t flex_gpu_image::* dim) {
    int32_t value = 0;
    for (const flex_gpu_image* image : images) value = std::max(value, image->*dim);
    return value;
}

/// Blocks of the forward kernel that one multiprocessor holds, as far as the image says: its registers are not known.
int64_t resident_blocks(const flex_gpu_image& image, const DeviceFacts& device) {
    const int64_t by_shared = device.shared_per_multiprocessor / (image.forward.shared_bytes + kSharedPerBlockReserved);
    const int64_t by_registers = kRegistersPerMultiprocessor / (kRegistersPerThread * std::max(image.forward.threads, 32));
    return std::max<int64_t>(1, std::min(by_shared, by_registers));
}

int64_t choose_pack(const Problem& problem, const flex_gpu_image& image) {
    const int64_t group = problem.group(), queries = problem.queries();
    const auto tiles = [&](int64_t pack) { return ceil_div(queries * pack, image.tile_q) * (group / pack); };
    int64_t best = 1;
    for (int64_t pack = 2; pack <= group && pack <= image.max_pack; ++pack)
        if (group % pack == 0 && tiles(pack) < tiles(best)) best = pack;
    return static_cast<double>(tiles(best)) < kPackGain * static_cast<double>(tiles(1)) ? best : 1;
}

/// The smallest number of splits whose waves of blocks are nearly as full as the best.
int64_t choose_splits(const Problem& problem, const Plan& plan, const DeviceFacts& device) {
    const int64_t tiles = static_cast<int64_t>(plan.forward.x);
    const int64_t key_tiles = ceil_div(problem.keys(), plan.image->tile_k);
    const int64_t slots = device.multiprocessors * resident_blocks(*plan.image, device);
    if (static_cast<double>(tiles) >= kFullEnough * static_cast<double>(slots) || key_tiles <= kMinTilesToSplit) return 1;
    const int64_t most = std::min({kMaxSplits, slots, key_tiles});
    std::vector<double> efficiency(static_cast<size_t>(most) + 1, 0);
    double best = 0;
    for (int64_t splits = 1; splits <= most; ++splits) {
        // A number that gives each split as many tiles as a smaller number does, only leaves some with none.
        if (splits > 1 && ceil_div(key_tiles, splits) == ceil_div(key_tiles, splits - 1)) continue;
        const double waves = static_cast<double>(tiles * splits) / static_cast<double>(slots);
        const double full = waves / static_cast<double>(ceil_div(tiles * splits, slots));
        efficiency[static_cast<size_t>(splits)] = full;
        best = std::max(best, full);
    }
    for (int64_t splits = 1; splits <= most; ++splits)
        if (efficiency[static_cast<size_t>(splits)] >= kNearBest * best) return splits;
    return 1;
}

Status plan_summaries(const Problem& problem, Plan* plan) {
    const flex_gpu_image& image = *plan->image;
    if (image.summary_count == 0 || problem.keys() == 0) return {};
    int64_t words = 0, longest = 0, heads = 1;
    for (int32_t i = 0; i < image.summary_count; ++i) {
        const int32_t flags = image.summary_flags[i];
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
        plan->summaries.push_back(summary);
        words += 2 * all;
        longest = std::max(longest, blocks);
        if (flags & FLEX_SUMMARY_BY_H) heads = problem.heads();
    }
    const int64_t depth = problem.batch() * image.summary_count;
    if (heads > kMaxGridSide || depth > kMaxGridSide)
        return unsupported("the mask of `" + problem.desc.name + "` needs summaries, and those are made for at most 65535 heads and " +
                           std::to_string(kMaxGridSide / image.summary_count) + " batches");
    plan->summary_words = static_cast<size_t>(words);
    plan->summarise = {static_cast<unsigned>(ceil_div(longest, std::max(image.summarise.threads / 32, 1))), static_cast<unsigned>(heads),
                       static_cast<unsigned>(depth)};
    return {};
}

Status plan_partials(const Problem& problem, Plan* plan) {
    plan->partial = align_up(plan->summary_words * 4);
    plan->workspace_bytes = plan->summary_words * 4;
    if (plan->splits == 1) return {};
    const int64_t rows = problem.batch() * problem.heads() * problem.queries();
    const int64_t columns = ceil_div(problem.v_head_dim(), 4) * 4 + 2;
    constexpr int64_t kMost = int64_t{1} << 60;
    if (rows > kMost / columns / plan->splits / 4)
        return unsupported("splitting the keys of `" + problem.desc.name + "` needs too large a workspace for this shape");
    plan->workspace_bytes = plan->partial + static_cast<size_t>(rows * columns * plan->splits) * 4;
    const int64_t blocks = ceil_div(rows, std::max(plan->image->combine.threads / 32, 1));
    if (blocks > kMaxInt) return unsupported("`" + problem.desc.name + "` has too many rows for one launch: " + std::to_string(rows));
    plan->combine.x = static_cast<unsigned>(blocks);
    return {};
}

/// Whether every row of [B, H, N, D] begins at a multiple of 16 bytes and is one long.
bool rows_are_aligned(const Tensor& t) {
    constexpr int64_t kBytes = 16;
    const auto size = static_cast<int64_t>(size_of(t.dtype));
    if (reinterpret_cast<uintptr_t>(t.data) % kBytes != 0 || t.shape[3] * size % kBytes != 0) return false;
    for (size_t i = 0; i < 3; ++i)
        if (t.shape[i] > 1 && t.stride[i] * size % kBytes != 0) return false;
    return true;
}

flex_gpu_view view_of(const Tensor& t) {
    return {reinterpret_cast<uint64_t>(t.data), t.shape[0] == 1 ? 0 : t.stride[0], t.stride[1], t.stride[2]};
}

}  // namespace

bool parse_target(const char* text, Target* out) {
    if (!text || std::strncmp(text, "sm_", 3) != 0) return false;
    char* end = nullptr;
    const long value = std::strtol(text + 3, &end, 10);
    if (end == text + 3 || value < 10 || value > 999) return false;
    out->capability = static_cast<int>(value);
    out->exact = std::strcmp(end, "a") == 0;
    return *end == 0 || out->exact;
}

Status choose_image(const Problem& problem, const CudaOptions& options, const DeviceFacts& device, const flex_gpu_image* const* images,
                    size_t count, const flex_gpu_image** out) {
    const DType type = problem.arrays.q.dtype;
    const int64_t d = problem.head_dim(), dv = problem.v_head_dim();
    Images list(images, images + count);
    const auto limit = [&](int32_t flex_gpu_image::* dim, const char* extent, const char* array, int64_t value) {
        return "was compiled for head dimensions up to " + std::to_string(largest(list, dim)) + " with " + name(type) + ", and `" + array +
               "` has " + extent + " = " + std::to_string(value);
    };
    const Condition conditions[] = {
        {[](const flex_gpu_image& image) { return image.abi_version == FLEX_GPU_ABI_VERSION; },
         [&] {
             return "was compiled for the GPU ABI " + std::to_string(list.front()->abi_version) + ", this runtime has " +
                    std::to_string(FLEX_GPU_ABI_VERSION);
         }},
        {[&](const flex_gpu_image& image) {
             Target target;
             return parse_target(image.target, &target) && runs_on(target, device.compute_capability);
         },
         [&] {
             return "was compiled for " + each(list, [](const flex_gpu_image& image) { return std::string(image.target); }) +
                    ", and the device is sm_" + std::to_string(device.compute_capability);
         }},
        {[&](const flex_gpu_image& image) { return image.dtype == static_cast<int32_t>(type); },
         [&] {
             return "was compiled for " +
                    each(list, [](const flex_gpu_image& image) { return std::string(name(static_cast<DType>(image.dtype))); }) +
                    " on GPUs, and `q` is " + name(type);
         }},
        {[&](const flex_gpu_image& image) { return image.head_dim >= d; }, [&] { return limit(&flex_gpu_image::head_dim, "D", "q", d); }},
        {[&](const flex_gpu_image& image) { return image.v_head_dim >= dv; },
         [&] { return limit(&flex_gpu_image::v_head_dim, "DV", "v", dv); }},
        {[&](const flex_gpu_image& image) { return image.forward.shared_bytes <= device.shared_per_block; },
         [&] {
             return "needs " + each(list, [](const flex_gpu_image& image) { return std::to_string(image.forward.shared_bytes); }) +
                    " bytes of shared memory a block for D = " + std::to_string(d) + " and DV = " + std::to_string(dv) +
                    ", and the device has " + std::to_string(device.shared_per_block);
         }},
    };
    if (list.empty()) return unsupported("`" + problem.desc.name + "` was not compiled for any GPU");
    for (const Condition& condition : conditions) {
        Images kept;
        for (const flex_gpu_image* image : list)
            if (condition.holds(*image)) kept.push_back(image);
        if (kept.empty()) return unsupported("`" + problem.desc.name + "` " + condition.reason());
        list = std::move(kept);
    }

    const auto capability = [](const flex_gpu_image& image) {
        Target target;
        parse_target(image.target, &target);
        return target.capability;
    };
    // The accurate f32 unless tf32 is asked for; then the newest target; then the smallest head dimensions; then the smallest tile that
    // holds all rows of a KV head, else the largest.
    const auto rank = [&](const flex_gpu_image& image) {
        const int64_t rows = problem.queries() * largest_pack(image, problem.group());
        const bool holds_all = image.tile_q >= rows;
        return std::make_tuple((image.tf32 != 0) != options.allow_tf32, -capability(image), image.head_dim + image.v_head_dim, !holds_all,
                               holds_all ? image.tile_q : -image.tile_q);
    };
    *out =
        *std::min_element(list.begin(), list.end(), [&](const flex_gpu_image* a, const flex_gpu_image* b) { return rank(*a) < rank(*b); });
    return {};
}

Status make_plan(const Problem& problem, const CudaOptions& options, const DeviceFacts& device, Plan* out) {
    const flex_gpu_image& image = *out->image;
    const int64_t group = problem.group();
    if (options.pack < 0 || options.splits < 0)
        return Status(Code::InvalidArgument, "`pack` and `splits` may not be negative; 0 leaves the choice to the runtime");
    if (options.pack > 1 && (group % options.pack != 0 || options.pack > image.max_pack))
        return Status(Code::InvalidArgument, "`pack` = " + std::to_string(options.pack) + " must divide the " + std::to_string(group) +
                                                 " query heads of a KV head and be at most " + std::to_string(image.max_pack));
    if (problem.is_empty()) return {};
    out->pack = options.pack > 0 ? options.pack : choose_pack(problem, image);

    const int64_t rows = problem.queries() * out->pack;
    const int64_t row_tiles = ceil_div(rows, image.tile_q), key_tiles = ceil_div(problem.keys(), image.tile_k);
    const int64_t head_tiles = problem.heads() / out->pack * problem.batch();
    // Kernels count rows and keys in 32 bits, up to the end of the last tile.
    if ((row_tiles + 1) * image.tile_q > kMaxInt || (key_tiles + 1) * image.tile_k > kMaxInt || head_tiles > kMaxInt / row_tiles)
        return unsupported("`" + problem.desc.name + "` is too large for one launch: Q = " + std::to_string(problem.queries()) +
                           ", K = " + std::to_string(problem.keys()) + ", B * H = " + std::to_string(problem.batch() * problem.heads()));
    out->forward.x = static_cast<unsigned>(row_tiles * head_tiles);

    const bool can_split = image.combine.symbol && *image.combine.symbol && key_tiles > 1;
    int64_t splits = !can_split ? 1 : options.splits > 0 ? options.splits : choose_splits(problem, *out, device);
    splits = std::min({splits, std::max<int64_t>(key_tiles, 1), kMaxGridSide});
    const int64_t tiles_each = ceil_div(std::max<int64_t>(key_tiles, 1), splits);
    out->split_keys = tiles_each * image.tile_k;
    out->splits = ceil_div(std::max<int64_t>(key_tiles, 1), tiles_each);
    out->forward.y = static_cast<unsigned>(out->splits);
    if (Status status = plan_summaries(problem, out); !status.ok()) return status;
    return plan_partials(problem, out);
}

Status make_parameter(const Problem& problem, const CudaOptions& options, const Plan& plan, std::vector<unsigned char>* out) {
    const KernelDesc& desc = problem.desc;
    const AttentionArrays& a = problem.arrays;
    const GpuLayout at = gpu_layout(desc, static_cast<size_t>(plan.image->summary_count));
    if (at.bytes > kGpuParameterLimit)
        return unsupported("the parameters of `" + desc.name + "` take " + std::to_string(at.bytes) + " bytes, and a GPU kernel takes " +
                           std::to_string(kGpuParameterLimit));
    PackedArgs packed;
    if (Status status = pack(desc, problem.extents, problem.args, &packed); !status.ok()) return status;
    out->assign(at.bytes, 0);
    const auto put = [out](size_t offset, const void* from, size_t bytes) {
        if (bytes) std::memcpy(out->data() + offset, from, bytes);
    };

    const auto workspace = reinterpret_cast<uint64_t>(options.workspace);
    flex_gpu_launch launch{};
    launch.q = view_of(a.q);
    launch.k = view_of(a.k);
    launch.v = view_of(a.v);
    launch.o = view_of(a.o);
    const auto statistics = [](const Tensor& t) {
        return t.data ? flex_gpu_view{reinterpret_cast<uint64_t>(t.data), t.stride[0], t.stride[1], t.stride[2]} : flex_gpu_view{};
    };
    launch.lse = statistics(a.lse);
    launch.max_score = statistics(a.max_score);
    launch.partial = plan.splits > 1 ? workspace + plan.partial : 0;
    launch.splits = static_cast<int32_t>(plan.splits);
    launch.split_keys = static_cast<int32_t>(plan.split_keys);
    launch.pack = static_cast<int32_t>(plan.pack);
    launch.aligned = rows_are_aligned(a.q) && rows_are_aligned(a.k) && rows_are_aligned(a.v);
    put(0, &launch, sizeof launch);
    put(at.extents, packed.extents.data(), packed.extents.size() * 4);
    put(at.scalars, packed.scalars.data(), packed.scalars.size() * 4);
    for (size_t i = 0; i < desc.params.size(); ++i) {
        if (!desc.params[i].is_tensor) continue;
        const size_t rank = desc.params[i].dims.size();
        const flex_gpu_tensor tensor{reinterpret_cast<uint64_t>(packed.tensors[i].data)};
        put(at.tensors[i], &tensor, sizeof tensor);
        put(at.tensors[i] + sizeof tensor, packed.tensors[i].stride, 8 * rank);
        put(at.tensors[i] + sizeof tensor + 8 * rank, packed.tensors[i].dim, 4 * rank);
    }
    for (size_t i = 0; i < plan.summaries.size(); ++i) {
        flex_gpu_summary summary = plan.summaries[i];
        summary.data += workspace;
        put(at.summaries + i * sizeof summary, &summary, sizeof summary);
    }
    return {};
}

Status check_alignment(const AttentionArrays& arrays, const std::vector<Argument>& args) {
    const auto check = [](const std::string& what, const Tensor& t) -> Status {
        if (reinterpret_cast<uintptr_t>(t.data) % size_of(t.dtype) == 0) return {};
        return Status(Code::InvalidArgument, "`" + what + "` is " + name(t.dtype) + " and must begin at a multiple of " +
                                                 std::to_string(size_of(t.dtype)) + " bytes");
    };
    const struct {
        const char* name;
        const Tensor& tensor;
    } all[] = {{"q", arrays.q}, {"k", arrays.k}, {"v", arrays.v}, {"o", arrays.o}, {"lse", arrays.lse}, {"max_score", arrays.max_score}};
    for (const auto& [what, tensor] : all)
        if (Status status = check(what, tensor); !status.ok()) return status;
    for (const Argument& arg : args)
        if (arg.value.rank > 0)
            if (Status status = check(arg.name, arg.value); !status.ok()) return status;
    return {};
}

}  // namespace flex::cuda
