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

Unit optimised_unit(const ir::Attention& attention, const Instance& instance, Image* image, Timings& timings) {
    FLEX_CHECK(codegen::unsupported_clauses(attention).empty(), "the caller has refused clauses that the target lacks");
    Stopwatch watch;
    Unit unit = build_unit(attention, instance, image);
#ifndef NDEBUG
    FLEX_CHECK(!llvm::verifyModule(*unit.module, &llvm::errs()), "lowering makes valid LLVM IR");
#endif
    timings.lower = watch.lap();
    optimise(unit);
    timings.optimise = watch.lap();
    return unit;
}

}  // namespace

Image compile(const ir::Attention& attention, const Options& options, Timings* timings) {
    return compile(attention, chosen(options), timings);
}

Image compile(const ir::Attention& attention, const Instance& instance, Timings* timings) {
    Timings local;
    Timings& t = timings ? *timings : local;
    Image image;
    Unit unit = optimised_unit(attention, instance, &image, t);
    Stopwatch watch;
    image.ptx = generate(unit);
    t.codegen = watch.lap();
    return image;
}

std::string emit_llvm(const ir::Attention& attention, const Options& options) {
    Timings timings;
    Image image;
    Unit unit = optimised_unit(attention, chosen(options), &image, timings);
    std::string text;
    llvm::raw_string_ostream stream(text);
    unit.module->print(stream, nullptr);
    return stream.str();
}

}  // namespace flexc::nvptx
