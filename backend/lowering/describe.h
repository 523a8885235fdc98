// What a launch of an attention takes, the same for every target, and which of its clauses a target lacks.
#pragma once

#include <string>
#include <vector>

#include "ir/ir.h"
#include "runtime/kernel.h"

namespace flexc::codegen {

[[nodiscard]] flex::KernelDesc describe(const ir::Attention& attention);

/// Clauses beyond scale, score and mask, which every target has.
enum ClauseBit : uint32_t { kNormalize = 1, kSink = 2, kQuery = 4, kKey = 8, kOutput = 16, kEmit = 32 };

/// The clauses of an attention that a target with these (a sum of ClauseBit) lacks, as written (`sink`, `emit NAME`, ...). Empty: it can be compiled.
[[nodiscard]] std::vector<std::string> unsupported_clauses(const ir::Attention& attention, uint32_t has);

}  // namespace flexc::codegen
