// Vectors of the CPU skeletons: kLanes floats, and the integer and double vectors of the same length, as clang vector
// extensions. The build compiles each skeleton once a level with FLEX_LANES and FLEX_HAS_FMA set; nothing below the
// vector types knows the instruction set. Comparisons give I, -1 or 0 a lane. No code here may need libm, memcpy or memset:
// the objects made from it are linked without any library.
#pragma once

#include <stdint.h>

#ifndef FLEX_LANES
#error "FLEX_LANES is set by the build"
#endif

constexpr int kLanes = FLEX_LANES;

using F = float __attribute__((ext_vector_type(FLEX_LANES)));
using I = int32_t __attribute__((ext_vector_type(FLEX_LANES)));
using U = uint32_t __attribute__((ext_vector_type(FLEX_LANES)));
using D = double __attribute__((ext_vector_type(FLEX_LANES)));
using L = int64_t __attribute__((ext_vector_type(FLEX_LANES)));

// In memory only the alignment of an element is assumed.
struct __attribute__((packed, aligned(4), may_alias)) UnalignedF {
    F v;
};

#define FLEX_INLINE static inline __attribute__((always_inline))
#define FLEX_UNROLL _Pragma("clang loop unroll(full)")

FLEX_INLINE F load(const float* p) {
    return reinterpret_cast<const UnalignedF*>(p)->v;
}
FLEX_INLINE void store(float* p, F v) {
    reinterpret_cast<UnalignedF*>(p)->v = v;
}

FLEX_INLINE I bits(F v) {
    return __builtin_bit_cast(I, v);
}
FLEX_INLINE F from_bits(I v) {
    return __builtin_bit_cast(F, v);
}
FLEX_INLINE L bits(D v) {
    return __builtin_bit_cast(L, v);
}
FLEX_INLINE D from_bits(L v) {
    return __builtin_bit_cast(D, v);
}

FLEX_INLINE F splat(float x) {
    return F(x);
}
FLEX_INLINE F to_float(I v) {
    return __builtin_convertvector(v, F);
}
FLEX_INLINE F to_float(D v) {
    return __builtin_convertvector(v, F);
}
FLEX_INLINE D to_double(F v) {
    return __builtin_convertvector(v, D);
}
FLEX_INLINE D to_double(I v) {
    return __builtin_convertvector(v, D);
}
FLEX_INLINE I to_int(F v) {
    return __builtin_convertvector(v, I);
}
FLEX_INLINE L widen(I v) {
    return __builtin_convertvector(v, L);
}
FLEX_INLINE I narrow(L v) {
    return __builtin_convertvector(v, I);
}

FLEX_INLINE F select(I condition, F yes, F no) {
    return condition ? yes : no;
}
FLEX_INLINE I select(I condition, I yes, I no) {
    return condition ? yes : no;
}
FLEX_INLINE D select(L condition, D yes, D no) {
    return condition ? yes : no;
}
FLEX_INLINE bool any(I condition) {
    return __builtin_reduce_or(condition) != 0;
}

// The second operand where either is NaN, as the instructions minps and maxps.
FLEX_INLINE F min(F a, F b) {
    return select(a < b, a, b);
}
FLEX_INLINE F max(F a, F b) {
    return select(a > b, a, b);
}

// a * b + c, rounded once where the level has FMA, else twice.
template <class V>
FLEX_INLINE V madd(V a, V b, V c) {
#if FLEX_HAS_FMA
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

FLEX_INLINE F abs(F x) {
    return from_bits(bits(x) & 0x7fffffff);
}
FLEX_INLINE I sign_bit(F x) {
    return bits(x) & int32_t(0x80000000);
}

// The horizontal reductions halve the vector: one order on every compiler.
template <class V>
FLEX_INLINE float reduce_max(V v) {
    if constexpr (sizeof(V) == 2 * sizeof(float)) {
        return v.x > v.y ? v.x : v.y;
    } else {
        const auto lo = v.lo, hi = v.hi;
        return reduce_max(lo > hi ? lo : hi);
    }
}
template <class V>
FLEX_INLINE float reduce_sum(V v) {
    if constexpr (sizeof(V) == 2 * sizeof(float)) {
        return v.x + v.y;
    } else {
        return reduce_sum(v.lo + v.hi);
    }
}
