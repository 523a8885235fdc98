#include "tests/gradients/checks.h"

namespace numerics {

using flex::DType;
using flexc::ir::Attention;

namespace {

/// Forward and backward by native code.
Gradients run(const flexc::CpuKernel& kernel, DType type, const Problem& p, int threads) {
    LaunchArrays arrays(type, kernel.desc, p);
    const flex::AttentionArrays views = arrays.arrays.views();
    Gradients out;
    auto status = flex::launch_cpu(kernel.desc, kernel.code->table(), views, arrays.arguments.list, {.threads = threads});
    if (status.ok())
        status = flex::launch_cpu_backward(kernel.desc, kernel.code->table(), views, arrays.gradients(), arrays.arguments.list,
                                           {.threads = threads});
    if (!status.ok()) {
        out.error = status.text();
        return out;
    }
    return arrays.values();
}

class CpuCheck : public Check {
public:
    using Check::Check;

    void problem(const std::string& label, const Attention& attention, const Problem& p, uint32_t seed, bool first) override {
        if (!flexc::ir::no_gradient(attention).empty()) return;
        Random random(seed + 77);
        for (const flex::CpuLevel level : levels()) {
            if (!first && level != levels().back()) continue;
            const auto kernel = compiled(attention, level);
            if (!kernel) return report.fail(label + ": does not compile");
            for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
                if (type != DType::F32 && level != levels().back()) continue;
                Problem q = p;
                Random again(seed);
                const Inputs fresh = random_inputs(again, p.in.shape, type);
                if (type != DType::F32) q.in = fresh;
                // Where many scores lie within rounding of their bound, f32 and float64 find it at different keys.
                const bool with_peaks = report.cases() % 2 == 0 && label != "trig";
                random_loss(random, type, with_peaks, &q);
                const std::string place = label + " " + flex::name(type) + " " + flex::name(level) + (with_peaks ? " with dmax_score" : "");
                const Gradients want = expected(attention, kernel->desc, q);
                if (!want.error.empty()) return report.fail(place + ": " + want.error);
                const Gradients got = run(*kernel, type, q, 1);
                if (!got.error.empty()) return report.fail(place + ": " + got.error);
                report.compare(place, attention, got, want, type, unit_of_scores(label));
                if (!same(got, run(*kernel, type, q, 3))) report.fail(place + ": depends on the number of threads");
            }
        }
    }

    void hidden() override {
        const auto problem = hidden_problem(DType::F32);
        if (!problem) return report.fail("hidden: is refused");
        for (const flex::CpuLevel level : levels()) {
            const std::string place = std::string("hidden ") + flex::name(level);
            const auto kernel = compiled(problem->attention, level);
            if (!kernel) return report.fail(place + ": does not compile");
            const Gradients clean = run(*kernel, DType::F32, problem->clean, 2), dirty = run(*kernel, DType::F32, problem->dirty, 2);
            if (!clean.error.empty() || !dirty.error.empty()) return report.fail(place + ": " + clean.error + dirty.error);
            report.compare(place, problem->attention, dirty, clean, DType::F32);
        }
    }

private:
    std::unique_ptr<flexc::CpuKernel> compiled(const Attention& attention, flex::CpuLevel level) {
        flexc::KernelOptions options;
        options.level = level;
        options.use_cache = false;
        return session_.compile_cpu(attention, options);
    }

    flexc::Session session_;
};

}  // namespace

std::unique_ptr<Check> cpu_check(Report& report) {
    return std::make_unique<CpuCheck>(report);
}

}  // namespace numerics
