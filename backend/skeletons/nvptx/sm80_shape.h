// The constants of one instance for sm_80 (instances.def), given on the command line, and what follows from them.
//
//   rows     kWarpsQ warps times kWarpRows rows each           kWarpsK = 1
//   or       one stripe of 16 rows, of which each of kWarpsK warps takes kWarpKeys keys of every tile
#pragma once

#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

constexpr int32_t kTileQ = FLEX_TILE_Q, kTileK = FLEX_TILE_K;
constexpr int32_t kWarps = FLEX_WARPS, kThreads = 32 * kWarps;
constexpr int32_t kSlots = FLEX_SLOTS;

constexpr int32_t kWarpsK = kTileQ == 16 ? kWarps : 1;
constexpr int32_t kWarpsQ = kWarps / kWarpsK;
constexpr int32_t kWarpRows = kTileQ / kWarpsQ, kWarpKeys = kTileK / kWarpsK;
constexpr int32_t kM = kWarpRows / 16;  // blocks of 16 rows of a warp
constexpr int32_t kN = kWarpKeys / 8;   // blocks of 8 keys
constexpr int32_t kNv = kDv / 8;        // blocks of 8 columns of the output
constexpr int32_t kRows = 2 * kM;       // rows that one thread holds a part of
static_assert(kWarpRows % 16 == 0 && kWarpKeys % 16 == 0 && kD % (2 * kStep) == 0 && kDv % 32 == 0);

// Shared memory: the tile of Q, the ring, and what is needed too rarely for a register. At the end the results take the place of the first two.
constexpr int32_t kQBytes = kTileQ * kQRowBytes;
constexpr int32_t kSliceBytes = kWarpKeys * (kQRowBytes > kVRowBytes ? kQRowBytes : kVRowBytes);  // of a slot, one warp's keys
constexpr int32_t kValueBytes = kWarpKeys * kVRowBytes;
constexpr int32_t kSlotBytes = kWarpsK * kSliceBytes;
constexpr int32_t kRingBytes = kSlots * kSlotBytes;
constexpr int32_t kStageBytes = kWarpsK * kTileQ * (kDv + 4) * 4;
constexpr int32_t kMainBytes = kQBytes + kRingBytes > kStageBytes ? kQBytes + kRingBytes : kStageBytes;
constexpr int32_t kKeysAt = kMainBytes, kValuesAt = kMainBytes + 8;  // addresses of K and V of the block's head
constexpr int32_t kNoteAt = kMainBytes + 16;                         // keys of the first and the last tile where V was not finite
static_assert(kMainBytes + 32 == FLEX_SHARED_BYTES, "the bytes of shared memory in instances.def");
static_assert(kSlots >= 2 && kSlots <= 6);

}  // namespace flexgpu
