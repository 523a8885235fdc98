// The one table of tolerances, and where they come from.
//
// Notation: u = unit roundoff of the accumulation; g(n) = u * min(n, 3 sqrt(n)), the probabilistic bound for n roundings (Higham and Mary,
// "A New Approach to Probabilistic Rounding Error Analysis", 2019). One rounding has a standard deviation of at most 0.58 u, so that
// 3 sqrt(n) stands more than five deviations out.
//
//  score:   e_k = g(D + 4) |s'(x)| scale m                  the dot product and its scaling, through the slope of the score clause;
//                                                           m = the largest partial sum of q_i k_i, at least 3 times their 2-norm,
//                                                           which partial sums in another order rarely exceed
//               + c u (1 + |x| + |s| + |s - x|)              the score clause itself: c operations at its magnitudes
//               + r |s|                                      approximate functions (tanh_approx)
//               + 4 u |s - max s| + 8 u                      the exponential: argument, polynomial
//  output:  |do| <= sum p e |v| + (sum p e) (sum p |v|)      a weight p_k moves by p_k e_k, the sum by sum p e
//               + (g(K) + 4 u) sum p |v|                     the product with V and the division
//               + w sum p |v|                                weights rounded to the input type, where a target does so
//               + out |o| + tiny                             the result rounded to the output type
//  lse:     sum p e + g(K) + 4 u (1 + |lse|)
//  max:     max e over the attended keys, without the exponential's part
//
// f16 and bf16 inputs add nothing on the way in, because the oracle is given the rounded values.
#pragma once

namespace numerics {

struct Precision {
    const char* name;
    double u;        // accumulation
    double weights;  // rounding of the weights before the product with V
    double out;      // rounding of the output
    double tiny;     // half the smallest subnormal of the output type
};

inline constexpr double kScoreOps = 16;  // c: more than any clause of the gallery has, function calls counted as four

inline constexpr Precision kF32 = {"f32", 0x1p-24, 0, 0x1p-24, 0x1p-150};
inline constexpr Precision kF16 = {"f16", 0x1p-24, 0, 0x1p-11, 0x1p-25};
inline constexpr Precision kBF16 = {"bf16", 0x1p-24, 0, 0x1p-8, 0x1p-134};
/// The interpreter computes in float64, but constants of a program are f32: a literal such as 0.1 differs from the oracle's by 2^-25 of it.
inline constexpr Precision kInterp = {"interp", 0x1p-53, 0, 0x1p-53, 0};
inline constexpr Precision kInterpInexact = {"interp", 0x1p-27, 0, 0x1p-53, 0};

}  // namespace numerics
