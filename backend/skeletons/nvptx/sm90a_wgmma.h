// wgmma: the matrix products of a warpgroup, and the descriptors of their operands in shared memory (PTX ISA, "Asynchronous Warpgroup Level Matrix
// Instructions").
//
// Accumulators are tied to the instruction and to the wait that ends it, so that no compiler moves anything between; the instruction is volatile. Rules that
// keep ptxas from giving up asynchrony: one fence before each product; left operands packed before it; no accumulator touched between a product and its wait.
//
// Fragments, lane = 4 g + t of warp w: d[4 j + 2 h + c] is row 16 w + g + 8 h, column 8 j + 2 t + c, and so is the left operand of the next product.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"

namespace flexgpu {

// Descriptors. Start, leading and stride offsets count 16 bytes. A pattern is 8 rows of a panel.
//   along the rows (Q, K)      stride offset: the next 8 rows; the leading one is ignored. 16 columns on: + 32 bytes; the panel is another start
//   across the rows (V)        stride offset: the next 8 rows, of the keys here; leading offset: the next panel. 16 keys on: two patterns
constexpr uint64_t kSwizzleBits = uint64_t(kPanelBytes == 128 ? 1 : 2) << 62;
constexpr uint64_t kPattern = uint64_t(8 * kPanelBytes >> 4) << 32;
FLEX_DEVICE uint64_t along_rows(uint32_t start) {
    return kSwizzleBits | kPattern | uint64_t(1) << 16 | (start & 0x3ffff) >> 4;
}
FLEX_DEVICE uint64_t across_rows(uint32_t start) {
    return kSwizzleBits | kPattern | uint64_t(kPanelK >> 4) << 16 | (start & 0x3ffff) >> 4;
}

FLEX_DEVICE void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
FLEX_DEVICE void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Register lists of 8 n.
#define FLEX_R0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define FLEX_R1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define FLEX_R2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define FLEX_R3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define FLEX_R4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define FLEX_R5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define FLEX_R6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define FLEX_R7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define FLEX_R8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define FLEX_R9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define FLEX_R10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define FLEX_R11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define FLEX_R12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define FLEX_R13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define FLEX_R14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define FLEX_R15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define FLEX_LIST_1 FLEX_R0
#define FLEX_LIST_2 FLEX_LIST_1 ", " FLEX_R1
#define FLEX_LIST_3 FLEX_LIST_2 ", " FLEX_R2
#define FLEX_LIST_4 FLEX_LIST_3 ", " FLEX_R3
#define FLEX_LIST_5 FLEX_LIST_4 ", " FLEX_R4
#define FLEX_LIST_6 FLEX_LIST_5 ", " FLEX_R5
#define FLEX_LIST_7 FLEX_LIST_6 ", " FLEX_R6
#define FLEX_LIST_8 FLEX_LIST_7 ", " FLEX_R7
#define FLEX_LIST_9 FLEX_LIST_8 ", " FLEX_R8
#define FLEX_LIST_10 FLEX_LIST_9 ", " FLEX_R9
#define FLEX_LIST_11 FLEX_LIST_10 ", " FLEX_R10
#define FLEX_LIST_12 FLEX_LIST_11 ", " FLEX_R11
#define FLEX_LIST_13 FLEX_LIST_12 ", " FLEX_R12
#define FLEX_LIST_14 FLEX_LIST_13 ", " FLEX_R13
#define FLEX_LIST_15 FLEX_LIST_14 ", " FLEX_R14
#define FLEX_LIST_16 FLEX_LIST_15 ", " FLEX_R15
#define FLEX_F8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define FLEX_TIED_1 FLEX_F8(0)
#define FLEX_TIED_2 FLEX_TIED_1, FLEX_F8(8)
#define FLEX_TIED_3 FLEX_TIED_2, FLEX_F8(16)
#define FLEX_TIED_4 FLEX_TIED_3, FLEX_F8(24)
#define FLEX_TIED_5 FLEX_TIED_4, FLEX_F8(32)
#define FLEX_TIED_6 FLEX_TIED_5, FLEX_F8(40)
#define FLEX_TIED_7 FLEX_TIED_6, FLEX_F8(48)
#define FLEX_TIED_8 FLEX_TIED_7, FLEX_F8(56)
#define FLEX_TIED_9 FLEX_TIED_8, FLEX_F8(64)
#define FLEX_TIED_10 FLEX_TIED_9, FLEX_F8(72)
#define FLEX_TIED_11 FLEX_TIED_10, FLEX_F8(80)
#define FLEX_TIED_12 FLEX_TIED_11, FLEX_F8(88)
#define FLEX_TIED_13 FLEX_TIED_12, FLEX_F8(96)
#define FLEX_TIED_14 FLEX_TIED_13, FLEX_F8(104)
#define FLEX_TIED_15 FLEX_TIED_14, FLEX_F8(112)
#define FLEX_TIED_16 FLEX_TIED_15, FLEX_F8(120)

#define FLEX_EACH_SIZE(f) \
    f(4, 64) f(5, 80) f(6, 96) f(7, 112) f(8, 128) f(9, 144) f(10, 160) f(11, 176) f(12, 192) f(13, 208) f(14, 224) f(16, 256)

#define FLEX_WGMMA(n, type, add) \
    "{\n\t.reg .pred add;\n\tsetp.ne.b32 add, " add ", 0;\n\twgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {"

/// d = a b, or d += a b unless `Fresh`; a and b along their rows.
template <bool Fresh, int32_t Count>
FLEX_DEVICE void wgmma(float (&d)[Count], uint64_t a, uint64_t b) {
#define FLEX_ONE(eights, n, type)                                                                         \
    asm volatile(FLEX_WGMMA(n, type, "%[adds]") FLEX_LIST_##eights "}, %[a], %[b], add, 1, 1, 0, 0;\n\t}" \
                 : FLEX_TIED_##eights                                                                     \
                 : [a] "l"(a), [b] "l"(b), [adds] "n"(Fresh ? 0 : 1))
#define FLEX_SIZE(eights, n)                    \
    if constexpr (Count == 8 * eights) {        \
        if constexpr (kElement == Element::F16) \
            FLEX_ONE(eights, n, "f16");         \
        else                                    \
            FLEX_ONE(eights, n, "bf16");        \
    }
    FLEX_EACH_SIZE(FLEX_SIZE)
#undef FLEX_SIZE
#undef FLEX_ONE
}

/// d += a b; a in registers, b across its rows.
template <int32_t Count>
FLEX_DEVICE void wgmma(float (&d)[Count], const uint32_t (&a)[4], uint64_t b) {
#define FLEX_ONE(eights, n, type)                                                                                        \
    asm volatile(FLEX_WGMMA(n, type, "1") FLEX_LIST_##eights "}, {%[a0], %[a1], %[a2], %[a3]}, %[b], add, 1, 1, 1;\n\t}" \
                 : FLEX_TIED_##eights                                                                                    \
                 : [a0] "r"(a[0]), [a1] "r"(a[1]), [a2] "r"(a[2]), [a3] "r"(a[3]), [b] "l"(b))
#define FLEX_SIZE(eights, n)                    \
    if constexpr (Count == 8 * eights) {        \
        if constexpr (kElement == Element::F16) \
            FLEX_ONE(eights, n, "f16");         \
        else                                    \
            FLEX_ONE(eights, n, "bf16");        \
    }
    FLEX_EACH_SIZE(FLEX_SIZE)
#undef FLEX_SIZE
#undef FLEX_ONE
}

/// Waits for all but the newest `Pending` products, of which d is one that is then there.
template <int32_t Pending, int32_t Count>
FLEX_DEVICE void wgmma_wait(float (&d)[Count]) {
#define FLEX_SIZE(eights, n)           \
    if constexpr (Count == 8 * eights) \
        asm volatile("wgmma.wait_group.sync.aligned %[left];" : FLEX_TIED_##eights : [left] "n"(Pending) : "memory");
    FLEX_EACH_SIZE(FLEX_SIZE)
#undef FLEX_SIZE
}

}  // namespace flexgpu
