// The float64 interpreter backwards: the gradients of a whole attention straight from their definition, the oracle of every backward kernel.
//
// With p = exp(s - lse) over M and a loss whose derivatives by o, lse and max_score are given (do, dlse, dmax_score):
//   ds    = p * (do . v - rowsum(do * o) + dlse)        by the score clause's value
//           + dmax_score / n                            where the score is the greatest of its row, which n keys attain
//   dx    = ds * d s / d x                              by x = scale * dot
//   dq    = sum over k of dx * scale * k, and so dk;  dv = sum over q of p * do
//   d_NAME[index] += ds * adjoint for each read of the score clause, and (sum over k of dx * dot) * adjoint for each of the scale clause,
//                  and exp(sink - lse) * (dlse - rowsum(do * o)) * adjoint for each of the sink, which is a key without a value
// Rows without keys, and elements not in M, contribute nothing, whatever stands there. A row with a NaN is NaN in what it touches.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ir/interpret.h"

namespace flexc::ir {

struct GradientInput {
    std::vector<double> d_o;          // [B, H, Q, DV]
    std::vector<double> d_lse;        // [B, H, Q], or empty: zero
    std::vector<double> d_max_score;  // [B, H, Q], or empty: zero. Keys that attain the maximum have equal shares of it
};

struct GradientOutput {
    std::vector<double> dq, dk, dv;             // of the shapes of q, k and v
    std::vector<std::vector<double>> d_params;  // one a parameter, of its shape; empty if it is not `grad`
};

/// What of an attention has no gradient yet, as written (`output`, `normalize sigmoid`, ...). Empty: it can be differentiated.
[[nodiscard]] std::vector<std::string> no_gradient(const Attention& attention);

/// `attention.gradient` must be set (gradient.h), and no_gradient be empty (FLEX_CHECK). `cancelled` is polled once a row.
[[nodiscard]] GradientOutput interpret_gradient(const Attention& attention, const Bindings& bindings, const AttentionInput& input,
                                                const GradientInput& loss, const std::function<bool()>& cancelled = {});

}  // namespace flexc::ir
