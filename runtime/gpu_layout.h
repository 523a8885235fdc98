// Where captured arguments lie behind the flex_gpu_launch of a GPU kernel's parameter. The compiler generates code from it, the runtime
// fills it in; both compute it here from the description of the attention.
//
//   flex_gpu_launch | i32 extents[7 + free] | u32 scalars[params] | 8-byte aligned: tensors, in order | flex_gpu_summary[summaries]
//
// A backward pass has a flex_gpu_backward in the first place, and at the end flex_gpu_gradient[`grad` parameters].
//
// Scalars have a slot a parameter (f32 bits, i32, bool 0 or 1), tensors' slots unused, as in flex_args.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/gpu_abi.h"
#include "runtime/kernel.h"

namespace flex {

struct GpuLayout {
    size_t extents = 0, scalars = 0;
    std::vector<size_t> tensors;  // by parameter; unused for scalars. Strides follow at + 8, dims at + 8 + 8 * rank
    size_t summaries = 0;
    std::vector<size_t> gradients;  // by parameter; unused for those that are not `grad`. Empty in a forward pass
    size_t bytes = 0;               // of the whole parameter
};

inline constexpr size_t kGpuParameterLimit = 4096;  // what every driver and architecture takes
/// Of a parameter of `bytes`, followed by a flex_gpu_tensors.
inline constexpr size_t gpu_bytes_with_maps(size_t bytes) {
    constexpr size_t kAlignment = alignof(flex_gpu_tensors);
    return (bytes + kAlignment - 1) / kAlignment * kAlignment + sizeof(flex_gpu_tensors);
}
inline GpuLayout gpu_layout(const KernelDesc& desc, size_t summary_count, bool backward = false) {
    GpuLayout at;
    at.extents = backward ? sizeof(flex_gpu_backward) : sizeof(flex_gpu_launch);
    at.scalars = at.extents + 4 * (7 + desc.extents.size());
    size_t next = (at.scalars + 4 * desc.params.size() + 7) / 8 * 8;
    for (const ParamDesc& param : desc.params) {
        at.tensors.push_back(next);
        if (param.is_tensor) next += (sizeof(flex_gpu_tensor) + 12 * param.dims.size() + 7) / 8 * 8;
    }
    at.summaries = next;
    at.bytes = next + summary_count * sizeof(flex_gpu_summary);
    if (!backward) return at;
    for (const ParamDesc& param : desc.params) {
        at.gradients.push_back(at.bytes);
        if (param.grad) at.bytes += sizeof(flex_gpu_gradient);
    }
    return at;
}

}  // namespace flex
