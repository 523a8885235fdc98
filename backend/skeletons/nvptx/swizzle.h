// Where an element of a tile lies in shared memory.
//
// Rows follow each other without gaps. ldmatrix reads 8 rows at one 16-byte chunk, cp.async writes neighbouring chunks of a row; both must touch all
// 32 banks (8 chunks of 128 bytes) once. So the chunk's number is XORed with the row's:
//
//   row bytes a multiple of 128:            chunk ^ (row & 7)         8 rows, one chunk: 8 different places of 128 bytes
//   an odd multiple of 64 (D = 96 halves):  chunk ^ ((row >> 1) & 3)  two neighbouring rows lie 64 bytes apart modulo 128, four such pairs differ by XOR
//
// A walk along a row in steps of two chunks changes only address bits that belong to the swizzle and bits above, which it does not touch: `step`
// is one XOR of a few bits and an immediate offset, and all lanes keep one address a tile.
#pragma once

#include "backend/skeletons/nvptx/device.h"

namespace flexgpu {

template <int32_t RowBytes>
struct Swizzle {
    static_assert(RowBytes % 64 == 0);
    static constexpr int32_t kUnit = RowBytes % 128 == 0 ? 128 : 64;

    static FLEX_DEVICE uint32_t offset(int32_t row, int32_t chunk) {
        const int32_t turn = kUnit == 128 ? row & 7 : row >> 1 & 3;
        return uint32_t(row * RowBytes + (chunk ^ turn) * 16);
    }
    /// `address` + the way from an even chunk 2i (+ 1) with 2i < kUnit / 16 ... to 2 * steps chunks further on.
    static FLEX_DEVICE uint32_t step(uint32_t address, int32_t steps) {
        constexpr int32_t kSteps = kUnit / 32;
        return (address ^ uint32_t(steps % kSteps * 32)) + uint32_t(steps / kSteps * kUnit);
    }
};

}  // namespace flexgpu
