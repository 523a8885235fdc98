#include "backend/cpu/compile.h"

#include <chrono>

#include "backend/cpu/module.h"
#include "diag/check.h"

#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>

namespace flexc::cpu {

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

Unit optimised_unit(const ir::Attention& attention, const Options& options, Timings& timings) {
    FLEX_CHECK(unsupported_clauses(attention).empty(), "the caller has refused clauses that the target lacks");
    Stopwatch watch;
    Unit unit = build_unit(attention, options.level);
#ifndef NDEBUG
    FLEX_CHECK(!llvm::verifyModule(*unit.module, &llvm::errs()), "lowering makes valid LLVM IR");
#endif
    timings.lower = watch.lap();
    optimise(unit);
    timings.optimise = watch.lap();
    return unit;
}

}  // namespace

std::vector<char> compile_object(const ir::Attention& attention, const Options& options, Timings* timings) {
    Timings local;
    Timings& t = timings ? *timings : local;
    Unit unit = optimised_unit(attention, options, t);
    Stopwatch watch;
    const auto object = generate(unit, llvm::CodeGenFileType::ObjectFile);
    t.codegen = watch.lap();
    return {object.begin(), object.end()};
}

std::string emit_llvm(const ir::Attention& attention, const Options& options) {
    Timings timings;
    Unit unit = optimised_unit(attention, options, timings);
    std::string text;
    llvm::raw_string_ostream stream(text);
    unit.module->print(stream, nullptr);
    return stream.str();
}

std::string emit_asm(const ir::Attention& attention, const Options& options) {
    Timings timings;
    Unit unit = optimised_unit(attention, options, timings);
    const auto text = generate(unit, llvm::CodeGenFileType::AssemblyFile);
    return {text.begin(), text.end()};
}

}  // namespace flexc::cpu
