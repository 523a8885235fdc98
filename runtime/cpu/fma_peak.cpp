#include "runtime/cpu/fma_peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "runtime/cpu/microkernel_table.h"
#include "runtime/cpu/pool.h"

namespace flex {

double measure_fma_peak(CpuLevel level, int threads) {
    const cpu::MicroKernels& micro = cpu::micro_kernels(lanes(level));
    if (threads <= 0) threads = cpu::available_threads();
    constexpr int64_t kSteps = 500'000;
    constexpr int kRuns = 8;
    std::atomic<float> sink{0.0f};  // keeps the loop from being removed
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
        // Every thread waits for the others, so that all of them share the machine for the whole time.
        std::atomic<int> waiting{threads};
        auto burn = [&](int64_t) {
            waiting.fetch_sub(1);
            for (int spins = 0; waiting.load() > 0 && spins < 10'000'000; ++spins) {
            }
            sink.store(micro.fma_loop(kSteps, 0.999f, 0.001f), std::memory_order_relaxed);
        };
        const auto start = std::chrono::steady_clock::now();
        cpu::parallel_for(threads, threads, burn);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, 2.0 * static_cast<double>(kSteps) * micro.fma_round * threads / seconds.count() * 1e-9);
    }
    return best;
}

}  // namespace flex
