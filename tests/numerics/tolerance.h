// The one table of tolerances, and where they come from.
//
// Notation: u = unit roundoff of the accumulation; g(n) = u * min(n, 3 sqrt(n)), the probabilistic bound for n roundings (Higham and Mary,
// "A New Approach to Probabilistic Rounding Error Analysis", 2019). One rounding has a standard deviation of at most 0.58 u, so that
// 3 sqrt(n) stands more than five deviations out.
//
//  score:   e_k = g(D + 4) |s'(x)| scale m                  the dot product and its scaling, through the slope of the score clause;
//                                                           m = the largest partial sum of q_i k_i, at least 3 times their 2-norm,
//                                                           which partial sums in another order rarely exceed
//               + t |s'(x)| scale m                        products of several rounded parts (f32 on tensor cores)
//               + c u |s'(x)| scale |q| |k|                  where a clause transforms q or k: c operations against the norm of the row
//               + c u (1 + |x| + |s| + |s - x|)              the score clause itself: c operations at its magnitudes
//               + r |s|                                      approximate functions (tanh_approx)
//               + 4 u |s - max s| + 8 u                      the exponential: argument, polynomial
//  output:  |do| <= sum p e |v| + (sum p e) (sum p |v|)      a weight p_k moves by p_k e_k, the sum by sum p e
//               + (g(K) + 4 u) sum p |v|                     the product with V and the division
//               + w sum p |v| + w0 sum |v|                   weights rounded to the input type, where a target does so: w relative, w0 at least
//               + out |o| + tiny                             the result rounded to the output type
//           where weights stand by themselves, w moves by e_k (w = s) or by w (1 - w) e_k + 8 u w (w = sigmoid(s)), and there is no sum to divide by;
//           an `output` clause passes all but the last line on by its slope, and adds c u (1 + |before| + |after|)
//  lse:     sum p e + g(K) + 4 u (1 + |lse|); a sink is one more key without a value
//  max:     max e over the attended keys, without the exponential's part
//
// f16 and bf16 inputs add nothing on the way in, because the oracle is given the rounded values.
//
// On tensor cores
//  - products of f16 and bf16 are exact, sums are in f32 and may be cut instead of rounded: u = 2^-23. A step adds 8 or 16 products at once, so that
//    min(n, 3 sqrt(n)) stands above the n / 16 steps in one direction that cutting may make, for all n up to 256 with sixfold, and for the keys because they
//    are added a tile at a time to a sum that is rescaled;
//  - weights are rounded to the input type before the product with V, half a unit: w = 2^-11 or 2^-8. Weights below the smallest normal f16 lose more of
//    themselves, at most 2^-25: w0;
//  - an f32 factor is the sum of two tf32 numbers of 11 bits: it misses at most 2^-22 of itself, and the product of the two small parts, again at most
//    2^-22, is left out. These errors have any sign, and a third of that as their standard deviation: t = 2^-22 with m as above, and w = 2^-22.
#pragma once

namespace numerics {

struct Precision {
    const char* name;
    double u;                 // accumulation
    double weights;           // rounding of the weights before the product with V
    double out;               // rounding of the output
    double tiny;              // half the smallest subnormal of the output type
    double products = 0;      // t
    double weights_tiny = 0;  // w0
};

inline constexpr double kRowOps = 16;    // of clauses that transform rows, against the norm of the row
inline constexpr double kScoreOps = 16;  // c: more than any clause of the gallery has, function calls counted as four

inline constexpr Precision kF32 = {"f32", 0x1p-24, 0, 0x1p-24, 0x1p-150};
inline constexpr Precision kF16 = {"f16", 0x1p-24, 0, 0x1p-11, 0x1p-25};
inline constexpr Precision kBF16 = {"bf16", 0x1p-24, 0, 0x1p-8, 0x1p-134};
inline constexpr Precision kGpuF32 = {"f32", 0x1p-23, 0x1p-22, 0x1p-24, 0x1p-126, 0x1p-22, 0};
inline constexpr Precision kGpuF16 = {"f16", 0x1p-23, 0x1p-11, 0x1p-11, 0x1p-25, 0, 0x1p-25};
inline constexpr Precision kGpuBF16 = {"bf16", 0x1p-23, 0x1p-8, 0x1p-8, 0x1p-126, 0, 0};
/// One tf32 product: each factor rounded to 11 bits.
inline constexpr Precision kGpuTF32 = {"tf32", 0x1p-23, 0x1p-10, 0x1p-24, 0x1p-126, 0x1p-10, 0};
/// The interpreter computes in float64, but constants of a program are f32: a literal such as 0.1 differs from the oracle's by 2^-25 of it.
inline constexpr Precision kInterp = {"interp", 0x1p-53, 0, 0x1p-53, 0};
inline constexpr Precision kInterpInexact = {"interp", 0x1p-27, 0, 0x1p-53, 0};

}  // namespace numerics
