// Attention on the CPU, given bound arrays: everything but the score, the mask and the softmax step, which `kernel` does.
#pragma once

#include "runtime/abi.h"
#include "runtime/launch.h"
#include "runtime/status.h"

namespace flex::cpu {

/// `arrays` have passed bind(), `packed` comes from pack(), and this machine can execute vectors of kernel.lanes.
/// The result does not depend on options.threads. Fails for want of memory, and for lengths above 2^30.
Status run_attention(const flex_cpu_kernel& kernel, const flex_args& args, const AttentionArrays& arrays, const CpuOptions& options,
                     CpuStats* stats);

}  // namespace flex::cpu
