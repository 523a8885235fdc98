// The passes of the IR, and the list in which they run. One pass is one file with one function, NAME.cpp.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// Replaces the clause `blocks` by a condition of the mask. Once, before the passes that repeat.
void blocks_to_mask(Attention& attention);
/// Evaluates operations on constants. Never changes a value, down to the last bit of f32 (transcendental functions are left alone).
void fold(Attention& attention);
/// Algebraic rules that hold for every value of f32 (NaN, -0 and inf included) and of i32: x * 1, x and x, not not x,
/// select with equal arms, comparisons turned round, and the rest of the table in simplify.cpp.
void simplify(Attention& attention);
/// Writes reductions of at most 8 trips with constant bounds and a small body as a chain, in the same order.
void unroll(Attention& attention);
/// Gives commutative operands one order and drops nodes that no root reaches; hash-consing then leaves one node a value.
void cse(Attention& attention);

struct Pass {
    std::string_view name;
    void (*run)(Attention&);
};
/// fold, simplify, unroll, cse: in the order in which `optimise` runs them.
[[nodiscard]] const std::vector<Pass>& passes();

/// Runs all passes to a fixed point (bounded); calls `after_each` with the pass name after each.
void optimise(Attention& attention, const std::function<void(std::string_view pass, const Attention&)>& after_each = {});

/// Checks every invariant of ir.h and ops.def; the first fault as text, or empty. `optimise` calls it in debug builds after each pass.
[[nodiscard]] std::string verify(const Attention& attention);

/// The textual form; print and parse_text round-trip exactly.
[[nodiscard]] std::string print(const Attention& attention);
/// Null with a message "line N: ..." on bad text. Never crashes: the text may come from anyone.
[[nodiscard]] std::optional<Attention> parse_text(std::string_view text, std::string* error);

}  // namespace flexc::ir
