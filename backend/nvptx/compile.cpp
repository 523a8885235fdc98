#include "backend/nvptx/compile.h"

#include <chrono>

#include "backend/lowering/describe.h"
#include "backend/nvptx/module.h"
#include "diag/check.h"

#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>

namespace flexc::nvptx {

namespace {

class Stopwatch {
public:
    double lap() {
        const auto now = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(now - last_).count();
        last_ = now;
        return seconds;
    }

private:
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

const Instance& chosen(const Options& options) {
    const Instance* instance = choose(options);
    FLEX_CHECK(instance, "the caller has asked for an instance");
    return *instance;
}

const BackwardInstance& chosen_backward(const Options& options) {
    const BackwardInstance* instance = choose_backward(options);
    FLEX_CHECK(instance, "the caller has asked for an instance");
    return *instance;
}

/// What `build` makes, optimised.
template <typename Build>
Unit optimised_unit(const ir::Attention& attention, const Build& build, Timings& timings) {
    FLEX_CHECK(unsupported_clauses(attention).empty(), "the caller has refused clauses that the target lacks");
    Stopwatch watch;
    Unit unit = build();
#ifndef NDEBUG
    FLEX_CHECK(!llvm::verifyModule(*unit.module, &llvm::errs()), "lowering makes valid LLVM IR");
#endif
    timings.lower = watch.lap();
    optimise(unit);
    timings.optimise = watch.lap();
    return unit;
}

template <typename Build>
std::string generated(const ir::Attention& attention, const Build& build, Timings* timings) {
    Timings local;
    Timings& t = timings ? *timings : local;
    Unit unit = optimised_unit(attention, build, t);
    Stopwatch watch;
    std::string ptx = generate(unit);
    t.codegen = watch.lap();
    return ptx;
}

template <typename Build>
std::string printed(const ir::Attention& attention, const Build& build) {
    Timings timings;
    const Unit unit = optimised_unit(attention, build, timings);
    std::string text;
    llvm::raw_string_ostream stream(text);
    unit.module->print(stream, nullptr);
    return stream.str();
}

}  // namespace

Image compile(const ir::Attention& attention, const Options& options, Timings* timings) {
    return compile(attention, chosen(options), timings);
}

Image compile(const ir::Attention& attention, const Instance& instance, Timings* timings) {
    Image image;
    image.ptx = generated(attention, [&] { return build_unit(attention, instance, &image); }, timings);
    return image;
}

BackwardImage compile_backward(const ir::Attention& attention, const Options& options, Timings* timings) {
    return compile_backward(attention, chosen_backward(options), options.atomic, timings);
}

BackwardImage compile_backward(const ir::Attention& attention, const BackwardInstance& instance, bool atomic, Timings* timings) {
    BackwardImage image;
    image.ptx = generated(attention, [&] { return build_unit(attention, instance, atomic, &image); }, timings);
    return image;
}

std::string emit_llvm(const ir::Attention& attention, const Options& options) {
    Image image;
    return printed(attention, [&] { return build_unit(attention, chosen(options), &image); });
}

std::string emit_backward_llvm(const ir::Attention& attention, const Options& options) {
    BackwardImage image;
    return printed(attention, [&] { return build_unit(attention, chosen_backward(options), options.atomic, &image); });
}

}  // namespace flexc::nvptx
