// Launching an attention on the CPU.
//
//   flex::CpuLaunch launch{&desc, kernel};            // from the compiler, the cache, or a linked object
//   launch.q = ...; launch.k = ...; launch.v = ...; launch.o = ...; launch.lse = ...;
//   launch.args = { {.name = "slope", .tensor = ...}, {.name = "window", .scalar = bits} };
//   flex::Status status = flex::launch_cpu(launch);
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "runtime/kernel.h"
#include "runtime/status.h"
#include "runtime/tensor.h"

namespace flex {

/// One captured argument, by name. A scalar is a Tensor of rank 0 in the parameter's dtype.
struct Argument {
    std::string name;
    Tensor value;
};

/// Values of all extents for one launch: B H HKV Q K D DV, then the free ones.
struct BoundExtents {
    std::vector<int32_t> values;
};

struct AttentionArrays {
    Tensor q;            // [B, H, Q, D]       f32, f16 or bf16; last dimension contiguous
    Tensor k;            // [B or 1, HKV, K, D]  same type
    Tensor v;            // [B or 1, HKV, K, DV] same type
    Tensor o;            // [B, H, Q, DV]      same type; written
    Tensor lse{};        // [B, H, Q] f32, natural logarithm; optional (data == nullptr)
    Tensor max_score{};  // [B, H, Q] f32; optional. Maximum of the score over the attended keys, -inf if none
};

/// Checks arrays and arguments against the description and solves for the extents. Errors name the array,
/// the declared type and shape, and the one given.
Status bind(const KernelDesc& desc, const AttentionArrays& arrays, const std::vector<Argument>& args, BoundExtents* extents);

/// The same without q, k, v: the seven built-in extents are given. For `show` and tile counts.
Status bind_args(const KernelDesc& desc, const std::array<int32_t, 7>& builtin, const std::vector<Argument>& args, BoundExtents* extents);

/// The bound arguments in the form that generated code reads; views into `args`, which must outlive it.
struct PackedArgs {
    std::vector<int32_t> extents;
    std::vector<uint32_t> scalars;
    std::vector<flex_tensor> tensors;
    std::vector<flex_summary> summaries;
    std::vector<int32_t> summary_data;
    flex_args c{};
};
/// Fills all but the summaries.
Status pack(const KernelDesc& desc, const BoundExtents& extents, const std::vector<Argument>& args, PackedArgs* out);

/// Fills the summaries: evaluates what the kernel's tile_state, kv_range and q_range look up, once along Q or K. Needed before these are called.
Status prepare(const flex_cpu_kernel& kernel, int threads, PackedArgs* args);

/// How far launches are, for another thread to read meanwhile: work done of work known so far, in a unit of its own. Launches add to both; start at 0.
struct CpuProgress {
    std::atomic<int64_t> done{0}, total{0};
};

struct CpuOptions {
    int threads = 0;                  // 0: all that the process may use
    CpuProgress* progress = nullptr;  // null: nothing is counted
};

struct CpuStats {
    int64_t tiles_visited = 0;    // score blocks computed
    int64_t tiles_full = 0;       // of these, without mask evaluation
    int64_t workspace_bytes = 0;  // peak of what the launch allocated, the mask's summaries included
    int64_t mask_bytes = 0;       // of these, the mask's summaries
    double mask_seconds = 0;      // time to make them
};

/// Runs the attention. Deterministic: the result does not depend on the number of threads.
Status launch_cpu(const KernelDesc& desc, const flex_cpu_kernel& kernel, const AttentionArrays& arrays, const std::vector<Argument>& args,
                  const CpuOptions& options = {}, CpuStats* stats = nullptr);

/// What a backward pass is given and gives. The loss's derivatives by o and lse come in; those by q, k and v, and by the `grad` parameters, go out.
struct GradientArrays {
    Tensor d_o;          // [B, H, Q, DV]  the type of q; last dimension contiguous
    Tensor d_lse;        // [B, H, Q] f32; optional
    Tensor d_max_score;  // [B, H, Q] f32; optional. Keys that attain the maximum have equal shares of it
    Tensor dq;           // [B, H, Q, D], dk [B or 1, HKV, K, D], dv [B or 1, HKV, K, DV]: the type of q; written
    Tensor dk;
    Tensor dv;
    std::vector<Argument>
        d_params;  // by the name of a `grad` parameter: f32 of its shape, dense; written. Those that are absent are not computed
};

/// Checks gradients against arrays that have passed bind().
Status bind_gradients(const KernelDesc& desc, const AttentionArrays& arrays, const GradientArrays& gradients, const BoundExtents& extents);

/// The backward pass. `kernel` was compiled with gradients; arrays.o and arrays.lse hold the results of the forward pass. Deterministic: the result
/// depends neither on the number of threads nor on chance. Rows without keys give zeros.
Status launch_cpu_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const AttentionArrays& arrays,
                           const GradientArrays& gradients, const std::vector<Argument>& args, const CpuOptions& options = {},
                           CpuStats* stats = nullptr);

enum class CpuLevel : uint8_t;

/// What a backward pass on the CPU takes beside its arrays, by shapes alone: with k and v of every batch, and every gradient wanted.
struct CpuBackwardPlan {
    int64_t workspace_bytes = 0;
    std::vector<int> sums;  // for each `grad` parameter: partial sums that are added in order; 1: none beside the gradient itself
};
/// `desc` is of a kernel with gradients; `threads` as in CpuOptions.
[[nodiscard]] CpuBackwardPlan plan_cpu_backward(const KernelDesc& desc, CpuLevel level, const BoundExtents& extents, int threads = 0);

/// Vector levels of the CPU target, in rising order. `Generic` is 128-bit vectors without FMA.
enum class CpuLevel : uint8_t { Generic, Avx2, Avx512, Avx512Bf16 };
[[nodiscard]] const char* name(CpuLevel level);  // "generic", "avx2", "avx512", "avx512-bf16"
/// The highest level this machine can execute.
[[nodiscard]] CpuLevel host_level();
[[nodiscard]] int lanes(CpuLevel level);

}  // namespace flex
