// Bulk copies: ops_bulk.cpp, for the table of ops_async.cpp.
#pragma once

#include "emulator/machine/atomic.h"
#include "emulator/machine/decode.h"

namespace flexemu {

/// cp.async.bulk and cp.reduce.async.bulk, with all that begins like them.
bool decode_bulk(Decoding& decoding, bool reduces);
/// Whether there is such a reduction in bulk.
bool reduction_fits(AtomicOperation operation, ptx::Type type);

}  // namespace flexemu
