// Fragments of the tensor cores: loads from shared memory, the instruction, conversions.
//
// With lane = 4 g + t, a 16 x 8 result c has c0, c1 in row g and c2, c3 in row g + 8, columns 2t and 2t + 1 (PTX ISA, matrix fragments of mma).
//
//   halves   m16n8k16   a0 (g; k = 2t, 2t+1)  a1 (g+8; same)  a2 (g; 2t+8, +9)  a3 (g+8; same)     b0 (2t, 2t+1; n = g)  b1 (2t+8, +9; g)
//   tf32     m16n8k8    a0 (g; t)             a1 (g+8; t)     a2 (g; t+4)       a3 (g+8; t+4)      b0 (t; g)             b1 (t+4; g)
//
// Either way one step takes 32 bytes of a row of Q and K, and ldmatrix, which hands the g-th row's t-th four bytes to lane 4g + t, serves both.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

/// Four 8 x 8 matrices of halves, or 8 x 4 of floats; lane l gives the address of row l % 8 of matrix l / 8.
FLEX_DEVICE Words4 load_matrices(uint32_t address) {
    Words4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "r"(address)
                 : "memory");
    return v;
}
FLEX_DEVICE Words4 load_matrices_transposed(uint32_t address) {
    Words4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "r"(address)
                 : "memory");
    return v;
}

#define FLEX_MMA(shape, types)                                                                                         \
    asm("mma.sync.aligned." shape ".row.col." types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                               \
        : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b0), "r"(b1))

FLEX_DEVICE void multiply_halves(float (&c)[4], const Words4& a, uint32_t b0, uint32_t b1) {
    if constexpr (kElement == Element::F16)
        FLEX_MMA("m16n8k16", "f32.f16.f16.f32");
    else
        FLEX_MMA("m16n8k16", "f32.bf16.bf16.f32");
}
FLEX_DEVICE void multiply_tf32(float (&c)[4], const Words4& a, uint32_t b0, uint32_t b1) {
    FLEX_MMA("m16n8k8", "f32.tf32.tf32.f32");
}
#undef FLEX_MMA

FLEX_DEVICE uint32_t round_to_tf32(float x) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

/// x = big + small with 11 bits each: products of two such sums miss 2^-22 of the result, as f32 does.
struct Split {
    uint32_t big, small;
};
FLEX_DEVICE Split split(float x) {
    Split s;
    s.big = round_to_tf32(x);
    s.small = kElement == Element::F32 ? round_to_tf32(x - float_of(s.big)) : 0;
    return s;
}

/// Operands of the matrix product in the form that its instructions take.
struct A {
    Words4 big, small;  // small: F32 only
};
struct B {
    uint32_t big[2], small[2];
};
FLEX_DEVICE A operand_a(const Words4& raw) {
    A a;
    if constexpr (kHalf) {
        a.big = raw;
    } else {
        FLEX_UNROLL
        for (int32_t i = 0; i < 4; i++) {
            const Split s = split(float_of(raw.w[i]));
            a.big.w[i] = s.big;
            a.small.w[i] = s.small;
        }
    }
    return a;
}
FLEX_DEVICE B operand_b(uint32_t raw0, uint32_t raw1) {
    B b;
    if constexpr (kHalf) {
        b.big[0] = raw0;
        b.big[1] = raw1;
    } else {
        const Split s0 = split(float_of(raw0)), s1 = split(float_of(raw1));
        b.big[0] = s0.big;
        b.big[1] = s1.big;
        b.small[0] = s0.small;
        b.small[1] = s1.small;
    }
    return b;
}
/// c += a b.
///
/// Tensor cores truncate when they add to c (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021), so a long sum loses half an ulp a step,
/// always downwards. With f32 inputs that is seen: the three products of a step, the small ones first, are added up by themselves and the sum is rounded
/// to c as usual. They are one piece of assembly, or the compiler would do all products of a tile first and run out of registers.
FLEX_DEVICE void multiply(float (&c)[4], const A& a, const B& b) {
    if constexpr (kHalf) {
        multiply_halves(c, a.big, b.big[0], b.big[1]);
    } else if constexpr (kElement == Element::TF32) {
        multiply_tf32(c, a.big, b.big[0], b.big[1]);
    } else {
#define FLEX_MMA "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {s0, s1, s2, s3}, "
        asm("{\n\t.reg .f32 s0, s1, s2, s3, zero;\n\tmov.f32 zero, 0f00000000;\n\t" FLEX_MMA
            "{%8, %9, %10, %11}, {%12, %13}, {zero, zero, zero, zero};\n\t" FLEX_MMA
            "{%4, %5, %6, %7}, {%14, %15}, {s0, s1, s2, s3};\n\t" FLEX_MMA
            "{%4, %5, %6, %7}, {%12, %13}, {s0, s1, s2, s3};\n\t"
            "add.rn.f32 %0, %0, s0;\n\tadd.rn.f32 %1, %1, s1;\n\tadd.rn.f32 %2, %2, s2;\n\tadd.rn.f32 %3, %3, s3;\n\t}"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a.big.w[0]), "r"(a.big.w[1]), "r"(a.big.w[2]), "r"(a.big.w[3]), "r"(a.small.w[0]), "r"(a.small.w[1]), "r"(a.small.w[2]),
              "r"(a.small.w[3]), "r"(b.big[0]), "r"(b.big[1]), "r"(b.small[0]), "r"(b.small[1]));
#undef FLEX_MMA
    }
}

}  // namespace flexgpu
