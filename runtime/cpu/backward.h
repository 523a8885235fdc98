// The backward pass on the CPU, given bound arrays.
#pragma once

#include "runtime/launch.h"

namespace flex::cpu {

/// `arrays` have passed bind(), `gradients` bind_gradients(), `args` comes from pack() and prepare(), kernel.backward is there.
Status run_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays,
                    const GradientArrays& gradients, const CpuOptions& options, CpuStats* stats);

/// plan_cpu_backward of runtime/launch.h.
CpuBackwardPlan plan_backward(const KernelDesc& desc, const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays,
                              const GradientArrays& gradients, int threads);

}  // namespace flex::cpu
