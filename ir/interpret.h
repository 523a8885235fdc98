// The float64 interpreter: the oracle of the compiler, and the device `interp`. f32 values are doubles (constants keep their f32 value),
// i32 values are exact 32-bit integers, so it is what the program means up to rounding. It shares no code with the backends.
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
    std::vector<double> values;   // floats exactly, integers and bools (0/1) exactly
};

/// What a launch binds: parameters by index, extents by id.
struct Bindings {
    std::vector<int32_t> extents;          // B H HKV Q K D DV, then the free ones
    std::vector<double> scalars;           // one a parameter
    std::vector<InterpTensor> tensors;     // one a parameter
};

/// A point of evaluation.
struct Point {
    int32_t b = 0, h = 0, q = 0, k = 0, d = 0;
    double score = 0, out = 0;
    int32_t q_lo = 0, q_hi = 0, k_lo = 0, k_hi = 0;              // tile bounds
    std::span<const double> query_row, key_row;
};

/// Evaluates roots of one graph at many points. Only the nodes that the roots reach are computed; values that do not
/// depend on the coordinates that changed since the last point are kept.
class Evaluator {
public:
    Evaluator(const Attention& attention, const Bindings& bindings, std::vector<NodeId> roots);
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
    std::vector<double> o, lse, max_score;              // [B,H,Q,DV], [B,H,Q], [B,H,Q]
    std::vector<std::pair<std::string, std::vector<double>>> emits;   // mean: [B,H,Q]; column_sum: [B,H,K]
};
/// The whole attention, every clause, straight from LANGUAGE.md: O(Q K D) per head, one row at a time. `cancelled` is polled once a row.
[[nodiscard]] AttentionOutput interpret(const Attention& attention, const Bindings& bindings, const AttentionInput& input,
                                        const std::function<bool()>& cancelled = {});

}  // namespace flexc::ir
