// What the tests of backward passes share: cases with the gradients of float64, the arrays of a launch, and the comparison.
//
// Tolerances. f32: products and sums of n terms in f32, so 2^-24 times a few sqrt(n) of the largest partial sum, which the largest element of the
// result underestimates where terms cancel; bound = 2e-5 (1 + largest |element|). f16 and bf16: o, which delta is made of, and the result are rounded
// to the type, u = 2^-11 or 2^-8: bound = 4 u (1 + largest |element|); four times that for gradients of captured tensors, which sum the errors of many rows.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/interpret_gradient.h"
#include "tests/numerics/buffers.h"
#include "tests/numerics/engines.h"

namespace numerics {

struct Gradients {
    std::vector<double> dq, dk, dv;
    std::vector<std::vector<double>> d_params;
    std::string error;
};
/// To the last bit.
[[nodiscard]] bool same(const Gradients& a, const Gradients& b);

struct Problem {
    Inputs in;
    std::vector<Captured> captured;
    std::vector<double> d_o, d_lse, d_max_score;  // the last empty: the loss does not depend on it
};
/// The derivatives of a loss at random, by its shape; where `with_peaks`, by max_score too.
void random_loss(Random& random, flex::DType type, bool with_peaks, Problem* problem);

/// With every float tensor marked `grad`. Nothing after printing why.
[[nodiscard]] std::optional<flexc::ir::Attention> differentiated(const std::string& label, const std::string& source,
                                                                 const std::map<std::string, std::string>& consts);
/// By the interpreter. An error instead where the arrays do not fit.
[[nodiscard]] Gradients expected(const flexc::ir::Attention& attention, const flex::KernelDesc& desc, const Problem& problem);

/// The arrays of one launch forward and one backward, in layouts of different kinds.
struct LaunchArrays {
    Arrays arrays;
    Arguments arguments;
    Buffer d_o, d_lse, d_max_score, dq, dk, dv;
    std::vector<std::vector<float>> d_params;

    LaunchArrays(flex::DType type, const flex::KernelDesc& desc, const Problem& problem);
    [[nodiscard]] flex::GradientArrays gradients();
    /// Of dq, dk, dv and d_params, as they are now.
    [[nodiscard]] Gradients values() const;

private:
    const flex::KernelDesc& desc_;
    const Problem& problem_;
};

/// Counts cases and failures, and keeps the largest errors in units of the bound, by type and by gradient.
class Report {
public:
    void fail(const std::string& text);
    void counted() { ++cases_; }
    void compare(const std::string& place, const std::string& what, const std::vector<double>& got, const std::vector<double>& want,
                 double unit, flex::DType type);
    /// All gradients of a problem; `want` by the interpreter. `least_unit`: of functions that are approximate.
    void compare(const std::string& place, const flexc::ir::Attention& attention, const Gradients& got, const Gradients& want,
                 flex::DType type, double least_unit = 0);
    [[nodiscard]] int cases() const { return cases_; }
    /// The last lines of the program: the largest errors, as a table if wanted. Gives the exit status.
    int finish(bool table) const;

private:
    int cases_ = 0, failures_ = 0;
    std::map<std::string, std::array<double, 3>> worst_;  // by gradient (those of captured tensors together)
};

/// Programs besides the gallery: reads in the scale, in reductions, at several places, and out of range.
struct Special {
    const char* label;
    const char* source;
    std::function<std::vector<Captured>(Random&, const Shape&)> captured;
};
[[nodiscard]] const std::vector<Special>& specials();
/// The least relative error that f32 scores allow: half a unit in the last place of the largest, which weights and derivatives take over.
[[nodiscard]] double unit_of_scores(const std::string& label);

/// What a mask hides may be anything: the same problem clean, and with NaN and inf in K, V and in rows of Q that see nothing.
struct Hidden {
    flexc::ir::Attention attention;
    Problem clean, dirty;
};
[[nodiscard]] std::optional<Hidden> hidden_problem(flex::DType type);

}  // namespace numerics
