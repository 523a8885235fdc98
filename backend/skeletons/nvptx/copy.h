// Tiles from global to shared memory.
//
// The usual way is cp.async, 16 bytes a copy past the registers (PTX ISA, cp.async): bytes beyond the source size are zeros, so rows beyond the end and
// columns beyond D cost no branch. Where rows are not made of whole aligned 16-byte chunks, elements are loaded and stored one by one under the same
// protocol, four at a time so that their latencies overlap.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

FLEX_DEVICE void copy_async16(uint32_t to, uint64_t from, bool exists) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}
FLEX_DEVICE void copies_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until all but the newest `Pending` groups of this thread's copies have landed.
template <int32_t Pending>
FLEX_DEVICE void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// What a copy reads: rows of `columns` elements.
struct Source {
    uint64_t data;       // of row 0, column 0
    int64_t row_stride;  // in bytes
    int32_t columns;
};

constexpr int32_t largest_divisor(int32_t n, int32_t most) {
    while (n % most != 0) most--;
    return most;
}

/// How threads share a tile whose rows have `Units` pieces: `kAcross` neighbours in a row, `kDown` rows at once.
template <int32_t Rows, int32_t Units, int32_t Threads>
struct Share {
    static constexpr int32_t kAcross = largest_divisor(Units, Units < Threads ? Units : Threads);
    // A power of two divides the rows evenly; where the units of a row are not one (D = 96), some threads have nothing to do.
    static constexpr int32_t kDown = 1 << (31 - __builtin_clz(uint32_t(Threads / kAcross)));
    static constexpr bool kIdle = kAcross * kDown < Threads;
    static_assert(Rows % kDown == 0);
};

/// Rows [first, first + Rows) of the source, of which those up to `end` exist, to `shared`, by `Threads` threads of which this is number `thread`.
template <int32_t Rows, int32_t RowBytes, int32_t Threads>
FLEX_DEVICE void copy_rows(uint32_t shared, const Source& from, int32_t first, int32_t end, int32_t thread, bool aligned) {
    if (aligned) {
        constexpr int32_t kUnits = RowBytes / 16;
        using By = Share<Rows, kUnits, Threads>;
        const int32_t row = thread / By::kAcross, column = thread % By::kAcross;
        if (By::kIdle && row >= By::kDown) return;
        const uint64_t address = from.data + uint64_t(from.row_stride * (first + row)) + uint64_t(column * 16);
        const uint64_t pass = uint64_t(from.row_stride * By::kDown);
        FLEX_UNROLL
        for (int32_t c = 0; c < kUnits; c += By::kAcross) {
            // No row exists for a chunk beyond the last column.
            const int32_t rows = (column + c) * (16 / kBytes) < from.columns ? end - first - row : 0;
            uint64_t source = address + uint64_t(c * 16);
            FLEX_UNROLL
            for (int32_t r = 0; r < Rows; r += By::kDown) {
                copy_async16(shared + Swizzle<RowBytes>::offset(row + r, column + c), source, r < rows);
                source += pass;
            }
        }
        return;
    }
    constexpr int32_t kUnits = RowBytes / kBytes;
    using By = Share<Rows, kUnits, Threads>;
    constexpr int32_t kBatch = Rows / By::kDown < 4 ? Rows / By::kDown : 4;
    const int32_t row = thread / By::kAcross;
    if (By::kIdle && row >= By::kDown) return;
    const uint64_t pass = uint64_t(from.row_stride * By::kDown);
    FLEX_ROLLED
    for (int32_t column = thread % By::kAcross; column < kUnits; column += By::kAcross) {
        const int32_t rows = column < from.columns ? end - first : 0;
        uint64_t source = from.data + uint64_t(from.row_stride * (first + row)) + uint64_t(column * kBytes);
        FLEX_ROLLED
        for (int32_t r = row; r < Rows; r += By::kDown * kBatch) {
            Bits value[kBatch];
            FLEX_UNROLL
            for (int32_t j = 0; j < kBatch; j++) {
                value[j] = r + j * By::kDown < rows ? load_global<Bits>(source) : Bits(0);
                source += pass;
            }
            FLEX_UNROLL
            for (int32_t j = 0; j < kBatch; j++)
                store_shared(shared + Swizzle<RowBytes>::offset(r + j * By::kDown, column * kBytes / 16) + uint32_t(column * kBytes % 16),
                             value[j]);
        }
    }
}

}  // namespace flexgpu
