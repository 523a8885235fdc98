// What a launch on a GPU will do, decided from shapes alone: which image, how rows and keys are divided, where the workspace's parts lie, and the
// kernels' parameter. Calls no driver, so that it is tested without one.
//
// Rows. The query heads of a KV head can share a tile (`pack`), so that K and V are read once for all of them: worth it when the queries of one head
// do not fill tiles. Keys. When there are fewer tiles than the device takes at once, the keys are split among blocks, whose
// partial results NAME_combine adds; as many splits as fill the last wave of blocks well, no more. Blocks. A kernel that takes tensor maps is persistent: as
// many blocks as run at once take pieces of work, a tile of rows by a split of keys, until none is left.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/gpu_layout.h"

namespace flex::cuda {

struct DeviceFacts {
    int compute_capability = 80;
    int multiprocessors = 1;
    int shared_per_block = 49152;           // with opt-in
    int shared_per_multiprocessor = 65536;  // of all blocks together
    bool has_tensor_maps = true;            // the driver can make them
};

struct Problem {
    const KernelDesc& desc;
    const AttentionArrays& arrays;
    const std::vector<Argument>& args;
    BoundExtents extents;

    [[nodiscard]] int64_t batch() const { return extents.values[0]; }
    [[nodiscard]] int64_t heads() const { return extents.values[1]; }
    [[nodiscard]] int64_t kv_heads() const { return extents.values[2]; }
    [[nodiscard]] int64_t queries() const { return extents.values[3]; }
    [[nodiscard]] int64_t keys() const { return extents.values[4]; }
    [[nodiscard]] int64_t head_dim() const { return extents.values[5]; }
    [[nodiscard]] int64_t v_head_dim() const { return extents.values[6]; }
    /// Query heads of one KV head.
    [[nodiscard]] int64_t group() const { return kv_heads() > 0 ? heads() / kv_heads() : 1; }
    /// Nothing is written, so nothing is launched.
    [[nodiscard]] bool is_empty() const { return batch() == 0 || heads() == 0 || queries() == 0; }
};

/// Images leave out kernels that they do not need.
[[nodiscard]] inline bool is_given(const flex_gpu_kernel& kernel) {
    return kernel.symbol && *kernel.symbol;
}

/// Whether the forward kernel is persistent and takes tensor maps.
[[nodiscard]] inline bool takes_maps(const flex_gpu_image& image) {
    return image.map_columns > 0;
}
[[nodiscard]] inline bool takes_maps(const flex_gpu_backward_image&) {
    return false;
}

struct Grid {
    unsigned x = 0, y = 1, z = 1;  // x = 0: not launched
};

/// Least and greatest values for the mask's tile states: they begin the workspace.
struct SummaryPlan {
    std::vector<flex_gpu_summary> list;  // data: offsets into the workspace
    size_t words = 0;                    // 32-bit words to fill before NAME_summarise
    Grid grid;
};

struct Plan {
    const flex_gpu_image* image = nullptr;
    int64_t pack = 1, splits = 1, split_keys = 0;
    Grid forward, combine;
    SummaryPlan summaries;
    size_t partial = 0;                         // offset of the partial results
    int64_t work = 0;                           // pieces of a persistent kernel
    size_t next_work = 0, next_work_words = 0;  // where they are counted, zero before the launch; words: 0 or 1
    size_t workspace_bytes = 0;
};

/// The image for this problem and device (tuned.h says which of several); Unsupported, in words, if there is none.
Status choose_image(const Problem& problem, const CudaOptions& options, const DeviceFacts& device, const flex_gpu_image* const* images,
                    size_t count, const flex_gpu_image** out);

/// All of the plan but the image, which `out` holds already.
Status make_plan(const Problem& problem, const CudaOptions& options, const DeviceFacts& device, Plan* out);

/// The kernels' parameter.
Status make_parameter(const Problem& problem, const CudaOptions& options, const Plan& plan, std::vector<unsigned char>* out);

/// Of addresses: every array begins at a multiple of its element's size. `bind` cannot know that a device insists.
Status check_alignment(const AttentionArrays& arrays, const std::vector<Argument>& args);

/// "sm_80" -> 80, and whether it runs on this device; "sm_90a" runs on 9.0 alone.
struct Target {
    int capability = 0;
    bool exact = false;
};
bool parse_target(const char* text, Target* out);
[[nodiscard]] inline bool runs_on(const Target& target, int compute_capability) {
    return target.exact ? target.capability == compute_capability : target.capability <= compute_capability;
}

}  // namespace flex::cuda
