// A naive attention in float64: plain loops straight from the definition, sharing nothing with the compiler.
//
// In: row-major q [B,H,Q,D], k [KB,HKV,K,D], v [KB,HKV,K,DV] (KB = B or 1), and the variant as two C++ functions.
// Out: o, lse, max_score, and for each of them a first-order bound on the error that correctly rounded arithmetic
// of a given precision may make (tolerance.h says how it is derived).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/numerics/tolerance.h"

namespace numerics {

struct Shape {
    int b = 1, h = 1, hkv = 1, q = 1, k = 1, d = 1, dv = 1, kvb = 1;
};

struct Inputs {
    Shape shape;
    std::vector<double> q, k, v;
};

/// The score clause: s is scale * dot(q, k).
using ScoreFn = std::function<double(int b, int h, int q, int k, double s)>;
using MaskFn = std::function<bool(int b, int h, int q, int k)>;

struct Variant {
    ScoreFn score;                                     // empty: s
    MaskFn mask;                                       // empty: all
    std::function<double(int b, int h, int q)> scale;  // empty: 1 / sqrt(D)
    std::function<double(int b, int h, int q)> sink;   // empty: none
    enum class Normalize : uint8_t { Softmax, Sigmoid, None } normalize = Normalize::Softmax;
    std::function<double(int b, int h, int q, int d, const double* row)>
        query;  // element d of the row that takes the place of a query's; empty: as it is
    std::function<double(int b, int hkv, int k, int d, const double* row)> key;
    std::function<double(int b, int h, int q, int d, double o)> output;  // empty: o
    double score_error = 0;        // relative error that the score clause is allowed beyond rounding (approximate functions)
    double score_ops = kScoreOps;  // 0 for a clause that only chooses between values
};

struct Output {
    std::vector<double> o, lse, max_score;                    // [B,H,Q,DV], [B,H,Q], [B,H,Q]
    std::vector<double> o_bound, lse_bound, max_score_bound;  // allowed absolute errors
};

[[nodiscard]] Output attention(const Inputs& in, const Variant& variant, const Precision& precision);

}  // namespace numerics
