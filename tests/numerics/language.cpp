// The cases of tests/language (what each sentence of the language means), on the CPU target or a GPU.
#include "tests/language/cases.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/numerics/checker.h"

namespace numerics {

namespace {

using flexc::language::Array;

/// Expected values are exact or float64; what f32 arithmetic on top of a case's own tolerance may add.
constexpr double kF32Slack = 4e-6;

const Array* find(const flexc::language::Case& c, const std::string& name) {
    const auto found = std::find_if(c.arrays.begin(), c.arrays.end(), [&](const Array& a) { return a.name == name; });
    return found == c.arrays.end() ? nullptr : &*found;
}

Inputs inputs_of(const flexc::language::Case& c) {
    const auto& s = c.shape;
    Inputs in;
    in.shape = {.b = s.B, .h = s.H, .hkv = s.HKV, .q = s.Q, .k = s.K, .d = s.D, .dv = s.DV, .kvb = s.B};
    in.q.assign(static_cast<size_t>(s.B) * s.H * s.Q * s.D, 1);
    in.k.assign(static_cast<size_t>(s.B) * s.HKV * s.K * s.D, 1);
    for (int b = 0; b < s.B; ++b)
        for (int h = 0; h < s.HKV; ++h)
            for (int k = 0; k < s.K; ++k) in.v.insert(in.v.end(), static_cast<size_t>(s.DV), 100 * b + 10 * h + k);
    if (const Array* a = find(c, "q")) in.q = a->values;
    if (const Array* a = find(c, "k")) in.k = a->values;
    if (const Array* a = find(c, "v")) in.v = a->values;
    return in;
}

/// The case's arrays in the types that the program declares.
std::vector<Captured> captured_of(const flexc::language::Case& c, const flex::KernelDesc& desc) {
    std::vector<Captured> captured;
    for (const flex::ParamDesc& param : desc.params)
        if (const Array* a = find(c, param.name)) captured.push_back({a->name, param.dtype, {a->shape.begin(), a->shape.end()}, a->values});
    return captured;
}

bool matches(double got, double expected, double tolerance) {
    if (std::isnan(expected)) return std::isnan(got);
    if (std::isinf(expected)) return got == expected;
    return std::fabs(got - expected) <= tolerance * std::max(1.0, std::fabs(expected));
}

void compare(Checker& checker, const flexc::language::Case& c, const std::string& place, const Result& result) {
    checker.expect(result.error.empty(), place, result.error + "\n" + c.source);
    if (!result.error.empty()) return;
    for (const auto& e : c.expected) {
        const std::vector<double>& values = e.output == "o" ? result.o : e.output == "lse" ? result.lse : result.max_score;
        size_t at = (static_cast<size_t>(e.at[0]) * c.shape.H + e.at[1]) * c.shape.Q + e.at[2];
        if (e.output == "o") at = at * c.shape.DV + e.at[3];
        const double got = values.at(at);
        // A constant of the program is f32, and so is every step on the way to the expected number.
        checker.expect(matches(got, e.value, std::max(c.tolerance, kF32Slack)), place,
                       e.output + " is " + std::to_string(got) + " instead of " + std::to_string(e.value) + "\n" + c.source);
    }
}

}  // namespace

void check_language(Checker& checker) {
    int ran = 0;
    for (const flexc::language::Case& c : flexc::language::all_cases()) {
        const std::string label = "language: " + c.sentence;
        // Imports of files are the frontend's matter; here programs are run from text alone.
        if (!c.files.empty() || !checker.wanted(label)) continue;
        const auto program = Program::open("language", c.source, c.consts, false);
        checker.expect(program != nullptr, label, "does not compile:\n" + c.source);
        if (!program || !(checker.gpu() ? program->runs_on_gpu() : program->runs_on_cpu())) continue;
        ++ran;
        const Inputs in = inputs_of(c);
        // Compiling is all the work here: the best level for each case, and the others in turn.
        const auto& levels = checker.used_levels();
        if (checker.gpu()) {
            compare(checker, c, label + " [gpu]",
                    program->run_gpu(*checker.gpu(), {}, flex::DType::F32, in, captured_of(c, program->desc())));
            continue;
        }
        std::set<flex::CpuLevel> chosen = {levels.back()};
        if (!checker.options().quick) chosen.insert(levels[static_cast<size_t>(ran) % levels.size()]);
        for (const flex::CpuLevel level : chosen) {
            compare(checker, c, label + " [" + flex::name(level) + "]",
                    program->run(level, flex::DType::F32, in, captured_of(c, program->desc())));
        }
    }
    if (checker.options().filter.empty()) checker.expect(ran > 100, "language", "only " + std::to_string(ran) + " cases could be run");
}

}  // namespace numerics
