// One attention at one shape, ready to be launched again and again, with what its launches took.
#pragma once

#include "tools/gpu.h"
#include "tools/mask_rows.h"

namespace flexc::tools {

class Contender {
public:
    /// Compiles it and takes its arrays. False after reports to session().
    bool open(const InputOptions& input, const ExecuteOptions& execute, bool backward);
    /// `n` launches one behind the other; milliseconds of one. Nothing after a report. `progress`, on the CPU, is of these launches.
    std::optional<double> launch(int n, flex::CpuProgress* progress = nullptr);
    /// The first launch, which does not count: code, caches and pages are warm after it. Its statistics are those of all.
    std::optional<double> warm_up(flex::CpuProgress* progress = nullptr);
    /// Counts the elements that the mask keeps. False after a report; on a GPU it may stay uncounted.
    bool count();
    /// The rate of multiply-adds, on the CPU: the best of all calls.
    void measure_peak();

    [[nodiscard]] Session& session() { return prepared_.session; }
    [[nodiscard]] const Prepared& prepared() const { return prepared_; }
    [[nodiscard]] const GpuRun* gpu() const { return gpu_ ? &*gpu_ : nullptr; }
    [[nodiscard]] bool is_emulated() const { return prepared_.gpu && prepared_.gpu->is_emulated(); }
    [[nodiscard]] std::optional<int64_t> kept() const { return kept_; }
    [[nodiscard]] double peak_gflops() const { return peak_gflops_; }
    [[nodiscard]] const flex::CpuStats& stats() const { return stats_; }
    [[nodiscard]] uint64_t instructions() const;  // of the last launch, where is_emulated()
    [[nodiscard]] size_t workspace_bytes() const;
    /// Floating point operations of a launch by the usual count. Forward: two products, 2 (D + DV) for each element kept. Backward: 2.5 times as much, for the five products S,
    /// dP, dV, dK and dQ.
    [[nodiscard]] double flop() const;
    [[nodiscard]] double gflops(double ms) const { return ms > 0 ? flop() / ms / 1e6 : 0; }

    /// What `flexc bench --json` says of it; `sorted` are the times of its launches (none of the emulated device, whose time says nothing).
    [[nodiscard]] Json report(const std::vector<double>& sorted, size_t launches) const;

private:
    Prepared prepared_;
    Outputs outputs_;
    std::optional<GpuRun> gpu_;
    ExecuteOptions execute_;
    flex::CpuStats stats_;
    double peak_gflops_ = 0;
    std::optional<int64_t> kept_;
};

/// Of sorted values, at least one.
[[nodiscard]] double median(const std::vector<double>& sorted);
[[nodiscard]] inline const char* pass_name(bool backward) {
    return backward ? "backward" : "forward";
}

}  // namespace flexc::tools
