// What the files of asynchronous instructions share: ops_async.cpp (cp.async, griddepcontrol) and ops_mbarrier.cpp.
#pragma once

#include "emulator/machine/decode.h"
#include "emulator/machine/mbarrier.h"
#include "emulator/machine/warp.h"

namespace flexemu {

/// The mbarrier at an address, checked: it was initialised, is intact, and this access of it races with nothing. Null after a fault.
Mbarrier* find_mbarrier(Warp& warp, const Op& op, int lane, uint64_t address, Block** block = nullptr);
/// Appends the base of an address operand to the sources; the offset goes to the op.
bool take_address(Decoding& decoding, size_t index);
bool decode_mbarrier(Decoding& decoding);

}  // namespace flexemu
