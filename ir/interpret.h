// The float64 interpreter: the oracle of the compiler, and the device `interp`. f32 values are doubles (constants keep their f32 value),
// i32 values are exact 32-bit integers, so it is what the program means up to rounding. It shares no code with the backends.
//
// What LANGUAGE leaves to the clauses:
//   softmax   weight = exp(s - lse); lse = ln sum over M of exp(s), and `sink` adds exp(sink) to that sum. max_score is the maximum over M, without
//             the sink; -inf if M is empty. A row with a score of NaN or +inf is NaN in o, lse and max_score.
//   sigmoid   weight = 1 / (1 + exp(-s)); none: weight = s. lse keeps its definition (no sink). Rows are not made NaN by +inf.
//   blocks    [B|1, H|1, R, J]: queries and keys are cut into R regions of ceil(Q / R) and ceil(K / R); a query of region r attends to
//             the keys of the regions blocks[b, h, r, :] only. Entries outside [0, R) name no region; repeated ones count once.
//   query     q'[d], key k'[d] for d in [0, D) replace the rows before the product. key reads b, hkv, k, d.
//   output    o[d] for d in [0, DV), also in rows with nothing to attend to (out() is 0 there).
//   emit      mean: sum over M of weight * value. column_sum: the sum over q of weight * value for each k. Elements of weight 0 count nothing, so
//             -weight * log(weight) needs no guard. In both score() is the raw score and weight() the weight.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// A captured tensor as the interpreter sees it: element at row-major position, already widened.
struct InterpTensor {
    std::vector<int32_t> dim;
    std::vector<double> values;  // floats exactly, integers and bools (0/1) exactly
};

/// What a launch binds: parameters by index, extents by id.
struct Bindings {
    std::vector<int32_t> extents;       // B H HKV Q K D DV, then the free ones
    std::vector<double> scalars;        // one a parameter
    std::vector<InterpTensor> tensors;  // one a parameter
};

/// A point of evaluation.
struct Point {
    int32_t b = 0, h = 0, q = 0, k = 0, d = 0;
    double score = 0, out = 0, weight = 0;
    int32_t q_lo = 0, q_hi = 0, k_lo = 0, k_hi = 0;  // tile bounds
    std::span<const int32_t> summaries;              // least and greatest value of each summary on the tile
    std::span<const double> query_row, key_row;
};

/// F32 rounds every f32 result to f32: what passes must keep to the last bit.
enum class Arithmetic : uint8_t { F64, F32 };

/// Evaluates roots of one graph at many points. Only the nodes that the roots reach are computed; values that do not
/// depend on the coordinates that changed since the last point are kept. Refers to `attention` and `bindings`, which must outlive it and stay as they are.
class Evaluator {
public:
    Evaluator(const Attention& attention, const Bindings& bindings, std::vector<NodeId> roots, Arithmetic arithmetic = Arithmetic::F64);
    ~Evaluator();
    /// f32 as is, i32 and bool as numbers; one a root. The reference is valid until the next call.
    const std::vector<double>& at(const Point& point);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Row-major inputs of a whole attention: q [B,H,Q,D], k [KB,HKV,K,D], v [KB,HKV,K,DV], KB = B or 1.
struct AttentionInput {
    std::vector<double> q, k, v;
    int32_t kv_batch = 1;
};
struct AttentionOutput {
    std::vector<double> o, lse, max_score;                           // [B,H,Q,DV], [B,H,Q], [B,H,Q]
    std::vector<std::pair<std::string, std::vector<double>>> emits;  // mean: [B,H,Q]; column_sum: [B,H,K]
};
/// The whole attention, every clause, straight from LANGUAGE.md: O(Q K D) per head, one row at a time. `cancelled` is polled once a row.
[[nodiscard]] AttentionOutput interpret(const Attention& attention, const Bindings& bindings, const AttentionInput& input,
                                        const std::function<bool()>& cancelled = {});

}  // namespace flexc::ir
