// Bulk copies: ops_bulk.cpp, for the table of ops_async.cpp; and what they share with ops_store_async.cpp.
#pragma once

#include "emulator/machine/atomic.h"
#include "emulator/machine/bulk.h"
#include "emulator/machine/decode.h"

namespace flexemu {

/// st.async, red.async
bool decode_store_async(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error);

/// cp.async.bulk and cp.reduce.async.bulk, with all that begins like them.
bool decode_bulk(Decoding& decoding, bool reduces);
/// Whether there is such a reduction in bulk, in global memory or in shared memory.
bool reduction_fits(AtomicOperation operation, ptx::Type type);
bool reduction_fits_shared(AtomicOperation operation, ptx::Type type);
bool take_reduction(Decoding& decoding, AtomicOperation* out);
/// The mbarrier that is to count `bytes` of a copy into the shared memory of `owner`. False after a fault.
bool bulk_barrier(WarpState& warp, const Op& op, int lane, uint64_t address, const BlockState* owner, uint32_t bytes, BulkCopy* copy);

}  // namespace flexemu
