// Variance: which of b, h, q, k (and d, score) a value depends on. The IR's central fact: it decides what is a scalar
// or a vector lane on a CPU, and what is hoisted out of the KV loop on a GPU. hkv counts as h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

enum VarianceBit : uint8_t { kVariesB = 1, kVariesH = 2, kVariesQ = 4, kVariesK = 8, kVariesD = 16, kVariesScore = 32 };
using Variance = uint8_t;

/// One mask a node, indexed by NodeId::value. The score varies with b, h, q, k and itself. A reduction varies as its bounds and body;
/// a loop variable as its bounds.
[[nodiscard]] std::vector<Variance> variance(const Graph& graph);
/// For i32 values: the difference from one key to the next, where that is the constant 1 or -1 (mod 2^32); else 0.
[[nodiscard]] std::vector<int8_t> key_steps(const Graph& graph, const std::vector<Variance>& variance);
/// The same from one element d of a row to the next.
[[nodiscard]] std::vector<int8_t> element_steps(const Graph& graph, const std::vector<Variance>& variance);
/// "b h q", or "uniform"
[[nodiscard]] std::string variance_text(Variance v);

}  // namespace flexc::ir
