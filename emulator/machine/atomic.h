// What read-modify-write operations make of two values: shared by atom and red (ops_atomic.cpp) and by reductions in bulk (bulk.cpp).
#pragma once

#include <cstdint>

#include "emulator/ptx/module.h"

namespace flexemu {

enum class AtomicOperation : uint8_t { And, Or, Xor, Cas, Exch, Add, Inc, Dec, Min, Max };

/// Of the bits of one element (or of a pair, x2), as slots of registers hold them. `flushes`: f32 additions in global memory flush subnormals. Not for Cas.
uint64_t combine(AtomicOperation operation, ptx::Type type, uint64_t old, uint64_t value, bool flushes);

}  // namespace flexemu
