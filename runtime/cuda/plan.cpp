#include "runtime/cuda/plan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>

#include "runtime/cuda/plan_parts.h"
#include "runtime/cuda/tensor_maps.h"
#include "runtime/cuda/tuned.h"

namespace flex::cuda {
namespace {

constexpr int kRegistersPerMultiprocessor = 65536, kRegistersPerThread = 255, kSharedPerBlockReserved = 1024;
// Splitting costs a pass over the partial results; below this many tiles of keys a split it does not pay.
constexpr int64_t kMinTilesToSplit = 4, kMaxSplits = 128;
constexpr double kFullEnough = 0.8, kNearBest = 0.85, kPackGain = 0.9;

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
    for (int64_t pack = 2; pack <= group && pack <= image.max_pack; ++pack) {
        if (takes_maps(image) && kMapRows % pack != 0) continue;  // there would be none
        if (group % pack == 0 && tiles(pack) < tiles(best)) best = pack;
    }
    return static_cast<double>(tiles(best)) < kPackGain * static_cast<double>(tiles(1)) ? best : 1;
}

/// The smallest number of splits whose waves of blocks are nearly as full as the best.
int64_t choose_splits(const Problem& problem, const Plan& plan, int64_t tiles, const DeviceFacts& device) {
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

Status plan_partials(const Problem& problem, Plan* plan) {
    plan->next_work = plan->summaries.words * 4;
    plan->workspace_bytes = plan->next_work + plan->next_work_words * 4;
    plan->partial = align_up(plan->workspace_bytes);
    if (plan->splits == 1) return {};
    const int64_t rows = problem.batch() * problem.heads() * problem.queries();
    const int64_t columns = ceil_div(problem.v_head_dim(), 4) * 4 + 2;
    if (rows > kMostWords / columns / plan->splits)
        return unsupported("splitting the keys of `" + problem.desc.name + "` needs too large a workspace for this shape");
    plan->workspace_bytes = plan->partial + static_cast<size_t>(rows * columns * plan->splits) * 4;
    const int64_t blocks = ceil_div(rows, std::max(plan->image->combine.threads / 32, 1));
    if (blocks > kMaxInt) return unsupported("`" + problem.desc.name + "` has too many rows for one launch: " + std::to_string(rows));
    plan->combine.x = static_cast<unsigned>(blocks);
    return {};
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
    const LaunchFacts facts{problem.queries(), problem.group(), are_mappable(problem.arrays), options.allow_tf32};
    const auto rank = [&](const flex_gpu_image& image) { return rank_of(image, facts); };
    const std::string subject = "`" + problem.desc.name + "`";
    if (options.image) {
        if (std::find(images, images + count, options.image) == images + count)
            return Status(Code::InvalidArgument, subject + " has no such image as `image` points to");
        images = &options.image;
        count = 1;
    }
    return choose_fitting(
        problem, device, subject, subject + " was not compiled for any GPU", images, count,
        [](const flex_gpu_image& image) { return image.forward.shared_bytes; }, rank, out);
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
    const int64_t tiles = row_tiles * head_tiles;

    const bool can_split = is_given(image.combine) && key_tiles > 1;
    int64_t splits = !can_split ? 1 : options.splits > 0 ? options.splits : choose_splits(problem, *out, tiles, device);
    splits = std::min({splits, std::max<int64_t>(key_tiles, 1), kMaxGridSide});
    const int64_t tiles_each = ceil_div(std::max<int64_t>(key_tiles, 1), splits);
    out->split_keys = tiles_each * image.tile_k;
    out->splits = ceil_div(std::max<int64_t>(key_tiles, 1), tiles_each);
    if (takes_maps(image)) {
        if (out->splits > kMaxInt / tiles)
            return unsupported("`" + problem.desc.name + "` is too large for one launch in " + std::to_string(out->splits) + " splits");
        out->work = tiles * out->splits;
        out->forward.x = static_cast<unsigned>(std::min(out->work, device.multiprocessors * resident_blocks(image, device)));
        out->next_work_words = out->work > out->forward.x;
    } else {
        out->forward.x = static_cast<unsigned>(tiles);
        out->forward.y = static_cast<unsigned>(out->splits);
    }
    if (Status status = plan_summaries(problem, image.summary_flags, image.summary_count, image.summarise.threads, &out->summaries);
        !status.ok())
        return status;
    return plan_partials(problem, out);
}

Status make_parameter(const Problem& problem, const CudaOptions& options, const Plan& plan, std::vector<unsigned char>* out) {
    const GpuLayout at = gpu_layout(problem.desc, static_cast<size_t>(plan.image->summary_count));
    const size_t bytes = takes_maps(*plan.image) ? gpu_bytes_with_maps(at.bytes) : at.bytes;
    if (Status status = make_captured(problem, options, plan.summaries, at, bytes, out); !status.ok()) return status;
    flex_gpu_launch launch = launch_of(problem);
    launch.partial = plan.splits > 1 ? reinterpret_cast<uint64_t>(options.workspace) + plan.partial : 0;
    launch.splits = static_cast<int32_t>(plan.splits);
    launch.split_keys = static_cast<int32_t>(plan.split_keys);
    launch.pack = static_cast<int32_t>(plan.pack);
    put(out, 0, &launch, sizeof launch);
    return {};
}

}  // namespace flex::cuda
