// The constants of one backward instance (backward_instances.def), given on the command line, and what follows from them. Names with Q belong to
// the kernels whose rows are queries (_rows, _queries), names with K to those whose rows are keys (_keys). Each walks the other axis in tiles of a size
// that follows here: neither the runtime nor the compiler has to know it.
#pragma once

#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

constexpr int32_t kTileQ = FLEX_TILE_Q, kTileK = FLEX_TILE_K;
constexpr int32_t kWarpsQ = FLEX_QUERY_WARPS, kThreadsQ = 32 * kWarpsQ;
constexpr int32_t kWarpsK = FLEX_KEY_WARPS, kThreadsK = 32 * kWarpsK;

constexpr int32_t kMostShared = 99 * 1024;
constexpr int32_t kBothBytes = kQRowBytes + kVRowBytes;  // a query with its dO, a key with its V

/// Tiles of the axis that a kernel walks: how many positions each, and how many are in shared memory at once.
struct Tiling {
    int32_t length, stages;
};
/// Swizzled tiles begin at multiples of 128 bytes.
constexpr int32_t stage_bytes(int32_t bytes) {
    return (bytes + 127) / 128 * 128;
}
/// `once`: bytes that a position takes besides, whatever the number of stages.
constexpr Tiling choose_tiling(int32_t resident_bytes, int32_t bytes_a_position, int32_t once, int32_t least) {
    constexpr Tiling kChoices[] = {{32, 2}, {16, 2}, {32, 1}, {16, 1}};
    for (const Tiling each : kChoices)
        if (each.length >= least &&
            resident_bytes + each.stages * stage_bytes(each.length * bytes_a_position) + each.length * once <= kMostShared)
            return each;
    return {0, 0};
}

// _queries: a warp has kMQ blocks of 16 queries.
constexpr int32_t kMQ = kTileQ / kWarpsQ / 16;
constexpr int32_t kResidentQ = kTileQ * kBothBytes;
constexpr Tiling kTilingQ = choose_tiling(kResidentQ, kBothBytes, 0, 16);
constexpr int32_t kWalkK = kTilingQ.length;  // keys of a tile
constexpr int32_t kStageBytesQ = kWalkK * kBothBytes;
constexpr int32_t kSharedQ = kResidentQ + kTilingQ.stages * kStageBytesQ;
static_assert(kTileQ % (16 * kWarpsQ) == 0 && kMQ <= 2 && kWalkK > 0);
static_assert(kSharedQ == FLEX_QUERY_SHARED_BYTES, "the bytes of shared memory in backward_instances.def");

// _keys: a stripe has kMK blocks of 16 keys. Where dK and dV of 16 keys take more than 128 registers, kSplit warps share a stripe: each computes
// the weights of its part of the queries and tells the others, and has its part of the columns of dK and dV.
constexpr int32_t kSplit = kD + kDv > 256 ? 2 : 1;
constexpr int32_t kStripes = kWarpsK / kSplit;
constexpr int32_t kMK = kTileK / kStripes / 16;
constexpr int32_t kRowFacts = 3;  // M, WEIGHT, DELTA of a query travel with it
constexpr int32_t kResidentK = kTileK * kBothBytes;
constexpr int32_t kExchangeUnit = kSplit == 1 ? 0 : kStripes * kMK * 512 / kStepKeys;  // bytes a query
constexpr Tiling kTilingK = choose_tiling(kResidentK, kBothBytes + kRowFacts * 4, kExchangeUnit, 16 * kSplit);
constexpr int32_t kWalkQ = kTilingK.length;  // queries of a tile
constexpr int32_t kFactsAt = kWalkQ * kBothBytes;
constexpr int32_t kStageBytesK = stage_bytes(kFactsAt + kWalkQ * kRowFacts * 4);
constexpr int32_t kExchangeAt = kResidentK + kTilingK.stages * kStageBytesK;
constexpr int32_t kSharedK = kExchangeAt + kWalkQ * kExchangeUnit;
static_assert(kWarpsK % kSplit == 0 && kTileK % (16 * kStripes) == 0 && kMK <= 2 && kWalkQ > 0);
static_assert(kSharedK == FLEX_KEY_SHARED_BYTES, "the bytes of shared memory in backward_instances.def");

}  // namespace flexgpu
