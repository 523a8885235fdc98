#include "tests/numerics/checker.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <span>

namespace numerics {

namespace {

const Precision& precision_of(flex::DType type) {
    return type == flex::DType::F16 ? kF16 : type == flex::DType::BF16 ? kBF16 : kF32;
}
const Precision& gpu_precision_of(flex::DType type, bool tf32) {
    return type == flex::DType::F16 ? kGpuF16 : type == flex::DType::BF16 ? kGpuBF16 : tf32 ? kGpuTF32 : kGpuF32;
}

/// The divisions of a launch, taken in turn. The number is prime to that of the types, so that each type meets each.
constexpr GpuSettings kDivisions[] = {{.name = ""},
                                      {.name = "2 splits", .splits = 2},
                                      {.name = "few rows", .short_queries = true},
                                      {.name = "packed", .pack = kLargestPack},
                                      {.name = "few rows, packed, 3 splits", .splits = 3, .pack = kLargestPack, .short_queries = true}};

/// The kernels of sm_90a: no short tiles, but a piece of work for each tile of keys. Prime to their two types.
constexpr GpuSettings kPersistentDivisions[] = {{.name = ""},
                                                {.name = "2 splits", .splits = 2},
                                                {.name = "packed", .pack = kLargestPack},
                                                {.name = "as many splits as tiles", .splits = 1000},
                                                {.name = "packed, 3 splits", .splits = 3, .pack = kLargestPack}};

std::string text_of(const Shape& s) {
    std::string text;
    for (const int extent : {s.b, s.h, s.hkv, s.q, s.k, s.d, s.dv, s.kvb}) text += std::to_string(extent) + " ";
    return text;
}

}  // namespace

Checker::Checker(const Options& options)
    : options_(options), levels_(levels()), types_{flex::DType::F32, flex::DType::F16, flex::DType::BF16} {
    if (options.quick) {
        if (levels_.size() > 2) levels_ = {levels_.front(), levels_.back()};
        types_ = {flex::DType::F32, flex::DType::BF16};
    }
    if (persistent()) std::erase(types_, flex::DType::F32);
}

bool Checker::start() {
    if (!options_.gpu) return true;
    std::string error;
    gpu_ = Gpu::open(options_.driver, &error);
    if (gpu_)
        std::printf("on %s\n", gpu_->description().c_str());
    else
        std::printf("no GPU to test on: %s\n", error.c_str());
    return gpu_ != nullptr;
}

void Checker::fail(const std::string& text) {
    if (++failures_ <= 200) std::printf("FAIL %s\n", text.c_str());
}

void Checker::expect(bool holds, const std::string& label, const std::string& what) {
    ++checks_;
    if (!holds) fail(label + ": " + what);
}

void Checker::compare_values(const std::string& place, const char* what, const std::vector<double>& actual,
                             const std::vector<double>& expected, const std::vector<double>& bound, bool is_output, Worst& worst) {
    expect(actual.size() == expected.size(), place, std::string(what) + " has another size");
    if (actual.size() != expected.size()) return;
    int wrong = 0;
    for (size_t i = 0; i < actual.size(); ++i) {
        const double a = actual[i], e = expected[i];
        bool right = false;
        if (!std::isfinite(e)) {
            // A NaN is a NaN. Infinities are exact, except those that a product made: inf * p may be NaN once p underflows.
            right = std::isnan(e) ? !std::isfinite(a) && (std::isnan(a) || !is_output) : a == e || (is_output && std::isnan(a));
        } else {
            const double error = std::fabs(a - e);
            right = error <= bound[i];
            if (is_output && std::isfinite(error)) worst.error = std::max(worst.error, error);
            if (bound[i] > 0) worst.ratio = std::max(worst.ratio, error / bound[i]);
        }
        ++checks_;
        if (!right && wrong++ == 0) {
            char line[200];
            std::snprintf(line, sizeof line, ": %s[%zu of %zu] = %.9g, expected %.9g (allowed error %.2g)", what, i, actual.size(), a, e,
                          bound[i]);
            fail(place + line);
        }
    }
    if (wrong > 1) std::printf("     ... and %d more of %s\n", wrong - 1, what);
}

void Checker::compare(const std::string& label, const std::string& engine, const Result& result, const Output& expected) {
    const std::string place = label + " [" + engine + "]";
    expect(result.error.empty(), place, result.error);
    if (!result.error.empty()) return;
    if (!worst_.count(label)) order_.push_back(label);
    Worst& worst = worst_[label][engine.substr(0, engine.find(' '))];
    compare_values(place, "o", result.o, expected.o, expected.o_bound, true, worst);
    compare_values(place, "lse", result.lse, expected.lse, expected.lse_bound, false, worst);
    compare_values(place, "max_score", result.max_score, expected.max_score, expected.max_score_bound, false, worst);
}

void Checker::check(const std::string& label, Program& program, const Case& c, uint32_t seed, const Edit& edit, Layout layout) {
    // Its two types are one code.
    const bool in_turn = (types_in_turn_ || persistent()) && gpu_ && !options_.full;
    const size_t first = in_turn ? turn_++ % types_.size() : 0;
    const size_t last = in_turn ? first + 1 : types_.size();
    for (size_t i = first; i < last; ++i) {
        const flex::DType type = types_[i];
        Random random(seed);
        Inputs in = random_inputs(random, c.shape, type);
        if (edit) edit(in);
        if (gpu_) {
            check_gpu(label, program, c, type, in, layout);
            continue;
        }
        if (type == flex::DType::F32 && layout == Layout::Dense)
            compare(label, "interp", program.interpret(in, c.captured),
                    attention(in, c.variant, c.inexact_constants ? kInterpInexact : kInterp));
        const Output expected = attention(in, c.variant, precision_of(type));
        for (const flex::CpuLevel level : levels_)
            compare(label, std::string(flex::name(type)) + " " + flex::name(level), program.run(level, type, in, c.captured, layout),
                    expected);
    }
}

void Checker::check_gpu(const std::string& label, Program& program, const Case& c, flex::DType type, const Inputs& in, Layout layout) {
    const std::span<const GpuSettings> divisions = persistent() ? std::span(kPersistentDivisions) : std::span(kDivisions);
    const size_t count = options_.full ? divisions.size() : 1;
    for (size_t i = 0; i < count; ++i) check_division(label, program, c, type, in, layout, divisions[division_++ % divisions.size()]);
}

void Checker::check_division(const std::string& label, Program& program, const Case& c, flex::DType type, const Inputs& in, Layout layout,
                             GpuSettings settings) {
    settings.arch = options_.arch;
    triples_.insert(label + " " + text_of(c.shape) + flex::name(type));
    ++gpu_launches_;
    const bool tf32 = settings.allow_tf32 && type == flex::DType::F32;
    const Output expected = attention(in, c.variant, gpu_precision_of(type, tf32));
    compare(label, std::string(tf32 ? "tf32" : flex::name(type)) + " gpu " + settings.name,
            program.run_gpu(*gpu_, settings, type, in, c.captured, layout), expected);
}

int Checker::finish() const {
    if (options_.table) {
        const std::vector<std::string> engines = {options_.gpu ? "tf32" : "interp", "f32", "f16", "bf16"};
        std::printf(
            "\nLargest |o - float64| over all cases and levels; in brackets the largest error of o, lse or max_score as a part of what is "
            "allowed.\n");
        std::printf("%-28s", "");
        for (const auto& engine : engines) std::printf("  %-16s", engine.c_str());
        std::printf("\n");
        for (const auto& label : order_) {
            std::printf("%-28s", label.c_str());
            for (const auto& engine : engines) {
                const auto& row = worst_.at(label);
                const auto found = row.find(engine);
                if (found == row.end())
                    std::printf("  %-16s", "-");
                else
                    std::printf("  %-8.1e (%.2f) ", found->second.error, found->second.ratio);
            }
            std::printf("\n");
        }
    }
    if (gpu_) {
        std::printf("%zu triples of variant, shape and type in %d launches", triples_.size(), gpu_launches_);
        if (gpu_->device().is_emulated())
            std::printf(", %.3g million warp instructions", static_cast<double>(gpu_->device().emulated_instructions()) / 1e6);
        std::printf("\n");
    }
    std::printf("%d values checked, %d failures\n", checks_, failures_);
    return failures_ == 0 && checks_ > 0 ? 0 : 1;
}

}  // namespace numerics
