#include "runtime/cuda/backward_plan.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "runtime/cuda/plan_parts.h"

namespace flex::cuda {
namespace {

Status too_large(const Problem& problem) {
    return unsupported("`" + problem.desc.name + "` is too large for one backward pass: Q = " + std::to_string(problem.queries()) +
                       ", K = " + std::to_string(problem.keys()) + ", B * H = " + std::to_string(problem.batch() * problem.heads()));
}

Status plan_gradients(const BackwardProblem& problem, BackwardPlan* plan) {
    for (const ParamDesc& param : problem.desc.params) {
        if (!param.grad) continue;
        GradientPlan& gradient = plan->gradients.emplace_back();
        for (const Argument& each : problem.gradients.d_params) {
            if (each.name != param.name || !each.value.data) continue;
            int64_t count = 1;
            for (int i = 0; i < each.value.rank; ++i) {
                const int64_t extent = each.value.shape[static_cast<size_t>(i)];
                if (extent > 0 && count > kMostWords / 8 / extent)
                    return unsupported("`d_" + param.name + "` of `" + problem.desc.name + "` has too many elements");
                count *= extent;
            }
            gradient.count = count;
            gradient.data = count > 0 ? reinterpret_cast<uint64_t>(each.value.data) : 0;
        }
    }
    return {};
}

/// The workspace, and the grids that depend on how much of it there is.
Status plan_workspace(const BackwardProblem& problem, BackwardPlan* plan) {
    const flex_gpu_backward_image& image = *plan->image;
    const int64_t rows = problem.batch() * problem.heads() * problem.queries();
    const int64_t dq_columns = image.atomic ? problem.head_dim() : 0;
    if (rows > kMostWords / 8 / (FLEX_GPU_ROW_PLANES + 1 + dq_columns)) return too_large(problem);

    bool wanted = false;
    int64_t largest = rows * dq_columns;
    plan->zeros = align_up(plan->summaries.words * 4);
    size_t at = plan->zeros;
    for (GradientPlan& gradient : plan->gradients) {
        if (!gradient.data) continue;
        wanted = true;
        largest = std::max(largest, gradient.count);
        gradient.sums = at;
        if (!image.atomic) at = align_up(at + static_cast<size_t>(gradient.count) * 8);
        if (at > static_cast<size_t>(kMostWords)) return too_large(problem);
    }
    const auto take = [&at](int64_t words) {
        const size_t begin = at;
        at = align_up(at + static_cast<size_t>(words) * 4);
        return begin;
    };
    plan->has_scale = wanted && is_given(image.scale);
    plan->has_dq_sums = image.atomic != 0;
    plan->bounds = take(static_cast<int64_t>(plan->gradients.size()));
    plan->d_scale = take(plan->has_scale ? rows : 0);
    plan->dq_sums = take(rows * dq_columns);
    plan->zero_words = (at - plan->zeros) / 4;
    plan->row_planes = at;
    plan->workspace_bytes = at + static_cast<size_t>(rows * FLEX_GPU_ROW_PLANES) * 4;

    const int64_t scale_blocks = plan->has_scale ? ceil_div(rows, std::max(image.scale.threads, 1)) : 0;
    const int64_t finish_blocks = wanted || image.atomic ? ceil_div(largest, std::max(image.finish.threads, 1)) : 0;
    if (scale_blocks > kMaxInt || finish_blocks > kMaxInt) return too_large(problem);
    plan->scale.x = static_cast<unsigned>(scale_blocks);
    plan->finish = {static_cast<unsigned>(finish_blocks), static_cast<unsigned>(plan->gradients.size() + 1), 1};
    return {};
}

}  // namespace

Status choose_backward_image(const Problem& problem, const CudaOptions& options, const DeviceFacts& device,
                             const flex_gpu_backward_image* const* images, size_t count, const flex_gpu_backward_image** out) {
    // The deterministic before the atomic; then as in the forward pass.
    const auto rank = [&](const flex_gpu_backward_image& image) {
        return std::make_tuple(image.atomic != 0, (image.tf32 != 0) != options.allow_tf32, -capability_of(image.target),
                               image.head_dim + image.v_head_dim, -image.tile_q);
    };
    const auto shared = [](const flex_gpu_backward_image& image) {
        return std::max({image.rows.shared_bytes, image.queries.shared_bytes, image.keys.shared_bytes});
    };
    const std::string subject = "`" + problem.desc.name + "`";
    return choose_fitting(problem, device, "the backward pass of " + subject,
                          subject + " was compiled without gradients for GPUs (`flexc build --grad`, CompileOptions::gradients)", images,
                          count, shared, rank, out);
}

Status make_backward_plan(const BackwardProblem& problem, BackwardPlan* out) {
    const flex_gpu_backward_image& image = *out->image;
    if (Status status = plan_gradients(problem, out); !status.ok() || problem.is_zero()) return status;
    const int64_t row_tiles = ceil_div(problem.queries(), image.tile_q), key_tiles = ceil_div(problem.keys(), image.tile_k);
    const int64_t query_heads = problem.heads() * problem.batch();
    const int64_t key_heads = problem.kv_heads() * (problem.shares_keys() ? 1 : problem.batch());
    // Kernels count rows and keys in 32 bits, up to the end of the last tile.
    if ((row_tiles + 1) * image.tile_q > kMaxInt || (key_tiles + 1) * image.tile_k > kMaxInt || query_heads > kMaxInt / row_tiles ||
        key_heads > kMaxInt / key_tiles)
        return too_large(problem);
    out->rows.x = static_cast<unsigned>(row_tiles * query_heads);
    if (!image.atomic) out->queries.x = out->rows.x;
    out->keys.x = static_cast<unsigned>(key_tiles * key_heads);
    if (Status status = plan_summaries(problem, image.summary_flags, image.summary_count, image.summarise.threads, &out->summaries);
        !status.ok())
        return status;
    return plan_workspace(problem, out);
}

Status make_backward_parameter(const BackwardProblem& problem, const CudaOptions& options, const BackwardPlan& plan,
                               std::vector<unsigned char>* out) {
    const KernelDesc& desc = problem.desc;
    const GradientArrays& g = problem.gradients;
    const GpuLayout at = gpu_layout(desc, static_cast<size_t>(plan.image->summary_count), true);
    if (Status status = make_captured(problem, options, plan.summaries, at, at.bytes, out); !status.ok()) return status;
    const auto workspace = reinterpret_cast<uint64_t>(options.workspace);
    flex_gpu_backward backward{};
    backward.launch = launch_of(problem);
    backward.launch.aligned = backward.launch.aligned && rows_are_aligned(g.d_o);
    backward.d_o = view_of(g.d_o);
    backward.d_lse = view_of(g.d_lse);
    backward.d_max_score = view_of(g.d_max_score);
    backward.dq = view_of(g.dq);
    backward.dk = view_of(g.dk);
    backward.dv = view_of(g.dv);
    backward.rows = workspace + plan.row_planes;
    backward.d_scale = plan.has_scale ? workspace + plan.d_scale : 0;
    backward.dq_sums = plan.has_dq_sums ? workspace + plan.dq_sums : 0;
    backward.k_shared = problem.batch() > 1 && problem.arrays.k.shape[0] == 1;
    backward.v_shared = problem.batch() > 1 && problem.arrays.v.shape[0] == 1;
    put(out, 0, &backward, sizeof backward);
    for (size_t i = 0, next = 0; i < desc.params.size(); ++i) {
        if (!desc.params[i].grad) continue;
        const GradientPlan& from = plan.gradients[next];
        flex_gpu_gradient gradient{};
        gradient.data = from.data;
        gradient.sums = from.data && !plan.image->atomic ? workspace + from.sums : 0;
        gradient.bound = workspace + plan.bounds + 4 * std::min<size_t>(next, FLEX_GPU_BOUNDS - 1);
        gradient.count = from.count;
        put(out, at.gradients[i], &gradient, sizeof gradient);
        ++next;
    }
    return {};
}

std::vector<ZeroFill> zero_fills(const Tensor& t) {
    constexpr int64_t kMostPitch = kMaxInt;  // that every device takes
    struct Dim {
        int64_t count, stride;
    };
    std::vector<Dim> dims;
    auto to = reinterpret_cast<uint64_t>(t.data);
    const auto size = static_cast<int64_t>(size_of(t.dtype));
    for (size_t i = 0; i < static_cast<size_t>(t.rank); ++i) {
        if (t.shape[i] == 0) return {};
        if (t.shape[i] == 1) continue;
        // Backwards is the same from the other end.
        if (t.stride[i] < 0) to += static_cast<uint64_t>(t.stride[i] * (t.shape[i] - 1) * size);
        dims.push_back({t.shape[i], (t.stride[i] < 0 ? -t.stride[i] : t.stride[i]) * size});
    }
    // In the order of addresses, what follows without a gap is one.
    std::sort(dims.begin(), dims.end(), [](const Dim& a, const Dim& b) { return a.stride < b.stride; });
    int64_t width = size;
    size_t first = 0;
    for (; first < dims.size() && dims[first].stride == width; ++first) width *= dims[first].count;
    std::vector<Dim> rest;
    for (; first < dims.size(); ++first) {
        if (!rest.empty() && dims[first].stride == rest.back().stride * rest.back().count)
            rest.back().count *= dims[first].count;
        else
            rest.push_back(dims[first]);
    }
    Dim rows{1, width};
    if (!rest.empty() && rest.front().stride <= kMostPitch && rest.front().stride >= width) {
        rows = rest.front();
        rest.erase(rest.begin());
    }
    std::vector<ZeroFill> fills = {{to, static_cast<size_t>(rows.stride), static_cast<size_t>(width / 2), static_cast<size_t>(rows.count)}};
    for (const Dim& dim : rest) {
        const size_t each = fills.size();
        for (int64_t i = 1; i < dim.count; ++i)
            for (size_t f = 0; f < each; ++f) {
                ZeroFill fill = fills[f];
                fill.to += static_cast<uint64_t>(i * dim.stride);
                fills.push_back(fill);
            }
    }
    return fills;
}

Status check_alignment(const GradientArrays& gradients) {
    const struct {
        const char* name;
        const Tensor& tensor;
    } all[] = {{"do", gradients.d_o}, {"dlse", gradients.d_lse}, {"dmax_score", gradients.d_max_score},
               {"dq", gradients.dq},  {"dk", gradients.dk},      {"dv", gradients.dv}};
    for (const auto& [what, tensor] : all)
        if (Status status = check_alignment(what, tensor); !status.ok()) return status;
    for (const Argument& each : gradients.d_params)
        if (Status status = check_alignment(("d_" + each.name).c_str(), each.value); !status.ok()) return status;
    return {};
}

}  // namespace flex::cuda

namespace flex {

Status backward_workspace_of(const KernelDesc& desc, const flex_gpu_backward_image& image, const BoundExtents& extents, size_t* bytes) {
    static char there;  // stands for arrays: only whether they are wanted matters
    AttentionArrays arrays;
    for (Tensor* each : {&arrays.k, &arrays.v}) each->shape[0] = extents.values[0];
    GradientArrays gradients;
    for (const ParamDesc& param : desc.params) {
        if (!param.grad) continue;
        Argument& argument = gradients.d_params.emplace_back();
        argument.name = param.name;
        argument.value.data = &there;
        for (const DimDesc& dim : param.dims)
            argument.value.shape[static_cast<size_t>(argument.value.rank++)] =
                dim.extent < 0 ? dim.offset : int64_t{dim.multiplier} * extents.values[static_cast<size_t>(dim.extent)] + dim.offset;
    }
    const std::vector<Argument> args;
    const cuda::BackwardProblem problem{{desc, arrays, args, extents}, gradients};
    cuda::BackwardPlan plan;
    plan.image = &image;
    Status status = cuda::make_backward_plan(problem, &plan);
    *bytes = plan.workspace_bytes;
    return status;
}

}  // namespace flex
