// The rate of multiply-adds that this machine sustains: the ceiling of the products, for benchmarks to divide by.
#pragma once

#include "runtime/launch.h"

namespace flex {

/// GFLOP/s (two a multiply-add) in f32 with the vectors of `level`, all `threads` (0: all that the process may use) at
/// once: the best of several runs of some milliseconds. `level` must not be above host_level().
[[nodiscard]] double measure_fma_peak(CpuLevel level, int threads = 0);

}  // namespace flex
