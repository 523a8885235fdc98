#include "tools/bench_contender.h"

#include <algorithm>

#include "runtime/cpu/fma_peak.h"

namespace flexc::tools {

double median(const std::vector<double>& sorted) {
    const size_t n = sorted.size();
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

bool Contender::open(const InputOptions& input, const ExecuteOptions& execute, bool backward) {
    execute_ = execute;
    Session& s = session();
    if (!open_attention(input, execute, &prepared_) || !prepare(execute, backward, &prepared_)) return false;
    if (!allocate_outputs(s, prepared_.launch, &outputs_)) return false;
    if (backward && !allocate_gradients(s, prepared_, {}, &outputs_)) return false;
    if (!prepared_.gpu) return true;
    gpu_.emplace(*prepared_.gpu, prepared_.desc, std::move(prepared_.images), std::move(prepared_.backward_images));
    flex::CudaOptions launch_options;
    launch_options.allow_tf32 = execute.allow_tf32;
    return gpu_->prepare(s, prepared_.launch, outputs_, launch_options) && (!backward || gpu_->prepare_backward(s, outputs_.gradients));
}

std::optional<double> Contender::launch(int n, flex::CpuProgress* progress) {
    if (gpu_) return prepared_.backward ? gpu_->launch_backward_many(session(), n) : gpu_->launch_many(session(), n);
    double total = 0;
    for (int i = 0; i < n; ++i) {
        const auto ms = (prepared_.backward ? launch_backward_once : launch_once)(session(), *prepared_.kernel, prepared_.launch, outputs_,
                                                                                  execute_.threads, nullptr, progress);
        if (!ms) return std::nullopt;
        total += *ms;
    }
    return total / n;
}

std::optional<double> Contender::warm_up(flex::CpuProgress* progress) {
    // The backward pass reads what the forward pass leaves.
    if (gpu_) {
        if (prepared_.backward && !gpu_->launch(session())) return std::nullopt;
        return launch(is_emulated() ? 1 : 3);
    }
    const auto forward = [&](flex::CpuStats* stats) {
        return launch_once(session(), *prepared_.kernel, prepared_.launch, outputs_, execute_.threads, stats, progress);
    };
    if (!prepared_.backward) return forward(&stats_);
    if (!forward(nullptr)) return std::nullopt;
    return launch_backward_once(session(), *prepared_.kernel, prepared_.launch, outputs_, execute_.threads, &stats_, progress);
}

bool Contender::count() {
    const auto counted = [&](Session& session, const MaskRows* rows, MaskRows* prepared) {
        if (!rows || !prepared->prepare_tiles(session, execute_.threads)) return false;
        kept_ = count_kept(*rows, prepared_.launch, execute_.threads);
        return true;
    };
    if (!gpu_) {
        const auto rows = MaskRows::make(session(), *prepared_.attention, prepared_.launch, *prepared_.kernel);
        return counted(session(), rows.get(), rows.get());
    }
    // Counting is the CPU's work, and its compilation none of this one.
    Session apart;
    const auto rows = MaskRows::make(apart, *prepared_.attention, prepared_.launch, prepared_.compile);
    counted(apart, rows.get(), rows.get());
    return true;
}

void Contender::measure_peak() {
    if (!gpu_) peak_gflops_ = std::max(peak_gflops_, flex::measure_fma_peak(prepared_.compile.level, execute_.threads));
}

uint64_t Contender::instructions() const {
    if (!gpu_) return 0;
    return prepared_.backward ? gpu_->backward_instructions() : gpu_->instructions();
}

size_t Contender::workspace_bytes() const {
    if (!gpu_) return static_cast<size_t>(stats_.workspace_bytes);
    return prepared_.backward ? gpu_->backward_plan().workspace_bytes : gpu_->plan().workspace_bytes;
}

double Contender::flop() const {
    const Launch& launch = prepared_.launch;
    const auto columns = static_cast<double>(launch.extent(ir::ExtentVar::D) + launch.extent(ir::ExtentVar::DV));
    return static_cast<double>(kept_.value_or(0)) * 2 * columns * (prepared_.backward ? 2.5 : 1);
}

Json Contender::report(const std::vector<double>& sorted, size_t launches) const {
    const Launch& launch = prepared_.launch;
    const Session& s = prepared_.session;
    Json out = {{"attention", prepared_.attention->name}, {"pass", pass_name(prepared_.backward)}, {"device", execute_.device}};
    if (!gpu_) {
        out["level"] = flex::name(prepared_.compile.level);
        out["threads"] = thread_count(execute_.threads);
    }
    out["dtype"] = flex::name(launch.dtype);
    out["shape"] = extents_json(prepared_.desc, launch);
    if (is_emulated()) {
        const auto instructions_run = static_cast<double>(instructions());
        out["instructions_per_element"] = kept_.value_or(0) > 0 ? 32.0 * instructions_run / static_cast<double>(*kept_) : 0.0;
    }
    if (!sorted.empty()) {
        const double ms = median(sorted);
        out.update({{"median_ms", ms}, {"min_ms", sorted.front()}, {"max_ms", sorted.back()}, {"launches", launches}});
        if (kept_) out["gflops"] = gflops(ms);
    }
    if (!gpu_) {
        out["fma_peak_gflops"] = peak_gflops_;
        out["peak_fraction"] = peak_gflops_ > 0 && !sorted.empty() ? gflops(median(sorted)) / peak_gflops_ : 0.0;
    }
    if (kept_) out["unmasked"] = *kept_;
    out.update({{"compile_ms", s.phases.total()}, {"cached", s.phases.cached}, {"phases", phases_json(s.phases)}});
    if (gpu_) {
        out.update(gpu_json(*prepared_.gpu, *gpu_));
        if (prepared_.backward) out["backward"] = backward_json(*prepared_.gpu, *gpu_);
    } else {
        out.update({{"tiles", {{"visited", stats_.tiles_visited}, {"full", stats_.tiles_full}}},
                    {"workspace_bytes", stats_.workspace_bytes},
                    {"mask_ms", stats_.mask_seconds * 1e3},
                    {"mask_bytes", stats_.mask_bytes}});
    }
    return out;
}

}  // namespace flexc::tools
