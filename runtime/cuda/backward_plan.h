// What a backward pass on a GPU will do, decided from shapes alone as in plan.h: which image, the grids of its kernels, where the workspace's parts lie, the
// kernels' parameter, and what is to be zero.
//
//   summaries | filled with zeros: int64 sums, bounds, d_scale, dq_sums | rows
//
// Without queries or keys every gradient is zero: then there are only fills.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/cuda/plan.h"

namespace flex::cuda {

struct BackwardProblem : Problem {
    const GradientArrays& gradients;

    /// Every gradient is zero.
    [[nodiscard]] bool is_zero() const { return is_empty() || keys() == 0; }
    /// One set of blocks serves all batches, so that a gradient that they share has one writer.
    [[nodiscard]] bool shares_keys() const { return batch() > 1 && (arrays.k.shape[0] == 1 || arrays.v.shape[0] == 1); }
};

/// A gradient of a captured tensor, by the order of the `grad` parameters.
struct GradientPlan {
    uint64_t data = 0;  // 0: not wanted
    int64_t count = 0;
    size_t sums = 0;  // offset in the workspace; used by deterministic images
};

struct BackwardPlan {
    const flex_gpu_backward_image* image = nullptr;
    SummaryPlan summaries;
    Grid rows, queries, keys, scale, finish;
    std::vector<GradientPlan> gradients;
    size_t zeros = 0, zero_words = 0;                             // what is filled with zeros: offset and 32-bit words
    size_t bounds = 0, d_scale = 0, dq_sums = 0, row_planes = 0;  // offsets; bounds: 4 bytes a gradient
    bool has_scale = false, has_dq_sums = false;
    size_t workspace_bytes = 0;
};

/// A rectangle of zeros: rows of 16-bit units.
struct ZeroFill {
    uint64_t to = 0;
    size_t pitch = 0, width = 0, height = 1;  // pitch in bytes, width in units
};

/// As choose_image; a deterministic image goes before an atomic one.
Status choose_backward_image(const Problem& problem, const CudaOptions& options, const DeviceFacts& device,
                             const flex_gpu_backward_image* const* images, size_t count, const flex_gpu_backward_image** out);

/// All of the plan but the image, which `out` holds already.
Status make_backward_plan(const BackwardProblem& problem, BackwardPlan* out);

Status make_backward_parameter(const BackwardProblem& problem, const CudaOptions& options, const BackwardPlan& plan,
                               std::vector<unsigned char>* out);

/// What makes a gradient with these strides zero and touches nothing between its rows.
std::vector<ZeroFill> zero_fills(const Tensor& t);

Status check_alignment(const GradientArrays& gradients);

}  // namespace flex::cuda
