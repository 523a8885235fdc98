// The constants of one instance for sm_90a (instances_sm90a.def), given on the command line, and what follows from them.
//
// Shared memory, from its beginning, which is a multiple of 1024:
//
//   Q        a block of 64 rows for each consumer
//   K, V     kStages tiles each
//   O        as Q; where there is no room for it, it takes the place of Q
//   control  barriers, codes of tiles, records of pieces (sm90a_pieces.h)
//
// A tile of n rows is cut into panels of kMapColumns columns, each n rows of kPanelBytes without gaps, swizzled within 8 rows (swizzle.h): what a box of a
// tensor map fills and a descriptor of wgmma walks over.
#pragma once

#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

constexpr int32_t kTileQ = FLEX_TILE_Q, kTileK = FLEX_TILE_K;
constexpr int32_t kConsumers = FLEX_CONSUMERS, kStages = FLEX_STAGES;       // kConsumers: warpgroups that multiply
constexpr int32_t kGroup = 128;                                             // threads of a warpgroup
constexpr int32_t kWarps = 4 * kConsumers, kThreads = kConsumers * kGroup;  // that have rows; the producer's come after them
constexpr int32_t kBlockThreads = kThreads + kGroup;
static_assert(kHalf && kTileQ == 64 * kConsumers && kTileK % 16 == 0 && kTileK <= 256 && kDv <= 256);

// As the headers that are shared with sm_80 see it: a warp has 16 rows and all keys of a tile.
constexpr int32_t kWarpsK = 1, kWarpRows = 16, kWarpKeys = kTileK;
constexpr int32_t kM = 1, kN = kTileK / 8, kNv = kDv / 8, kRows = 2;

constexpr int32_t kMapColumns = FLEX_MAP_COLUMNS, kPanelBytes = kMapColumns * kBytes;
static_assert(kMapColumns == 32 || kMapColumns == 64);
constexpr int32_t kPanels = (kD + kMapColumns - 1) / kMapColumns, kValuePanels = (kDv + kMapColumns - 1) / kMapColumns;
constexpr int32_t kPanelQ = 64 * kPanelBytes, kPanelK = kTileK * kPanelBytes;  // bytes of a panel of 64 rows, of kTileK keys
constexpr int32_t kGroupQ = kPanels * kPanelQ, kGroupO = kValuePanels * kPanelQ;
constexpr int32_t kKeyBytes = kPanels * kPanelK, kValueBytes = kValuePanels * kPanelK;  // of a stage
constexpr int32_t kSliceBytes = kKeyBytes;

constexpr int32_t kControlBytes = 512, kMostShared = 227 * 1024;
constexpr int32_t kQAt = 0, kKAt = kConsumers * kGroupQ, kVAt = kKAt + kStages * kKeyBytes, kTilesEnd = kVAt + kStages * kValueBytes;
constexpr bool kSeparateOutput = kTilesEnd + kConsumers * kGroupO + kControlBytes <= kMostShared;
constexpr int32_t kOAt = kSeparateOutput ? kTilesEnd : kQAt, kOStride = kSeparateOutput ? kGroupO : kGroupQ;
static_assert(kSeparateOutput || kGroupO <= kGroupQ);
constexpr int32_t kControlAt = kSeparateOutput ? kTilesEnd + kConsumers * kGroupO : kTilesEnd;
static_assert(kControlAt + kControlBytes == FLEX_SHARED_BYTES && FLEX_SHARED_BYTES <= kMostShared,
              "the bytes of shared memory in instances_sm90a.def");

// Control.
constexpr int32_t kQFull = kControlAt, kQEmpty = kControlAt + 8, kDone = kControlAt + 16;  // two of the last
constexpr int32_t kKFull = kControlAt + 32, kKEmpty = kKFull + 8 * kStages, kVFull = kKEmpty + 8 * kStages, kVEmpty = kVFull + 8 * kStages;
constexpr int32_t kCodesAt = kVEmpty + 8 * kStages;
constexpr int32_t kCallAt = kControlAt + 352, kRecordsAt = kControlAt + 384;  // 32 bytes; four records of 32 bytes
static_assert(kCodesAt + 4 * kStages <= kCallAt);

// Registers of a thread, which warpgroups exchange once they know what they are: the block starts with 65536 / kBlockThreads of them, rounded down to
// a multiple of 8. Walking over tiles takes more than issuing copies of all.
constexpr int32_t kConsumerRegisters = kConsumers == 1 ? 240 : kConsumers == 2 ? (kD <= 128 ? 216 : 224) : 160;
constexpr int32_t kProducerRegisters = kConsumers == 1 ? 240 : kConsumers == 2 ? (kD <= 128 ? 72 : 56) : 32;

}  // namespace flexgpu
