// Mathematics of f32 for generated code on a GPU, one value at a time, for all finite and non-finite arguments. Where C's function of the
// same name has a special case (a NaN, an infinity, a pole, a negative base), this has it too. No library is linked: what the hardware approximates
// (approximate.h) is made good where its error would show, and used as it is elsewhere.
//
// Largest error over all classes of arguments, in units in the last place of the exact result, with approximations as wrong as the PTX ISA allows;
// tests/unit/backend/nvptx_math_test.cpp asserts it:
//
//   exp2        5      ex2 itself, which is within 2 on hardware
//   exp         6      ex2 of the product with log2 e, and a factor for what its rounding lost
//   log, log2   1, 1.25 exponent and mantissa in [sqrt 1/2, sqrt 2), polynomial of degree 9
//   tanh        3      odd polynomial below 0.55, else 1 - 2 / (exp(2 |x|) + 1)
//   tanh_approx        relative 2^-10.9, one instruction
//   sigmoid     8      1 / (1 + exp(-x)); what is below 2^-126 may be 0
//   sin, cos    1.5    reduction by pi/2 in three parts; beyond 2^16 in integers, by a function that is not inlined
//   tan         5
//   erf         2      odd polynomial, or 1 - exp(polynomial)
//   pow         1      exp(y log x), the logarithm and the product in two floats; whole powers that f32 holds are exact
//   rsqrt       0.51   one step of Newton's iteration, its residue exact
//   floor, ceil, round exact; sqrt and division are correctly rounded instructions that the compiler emits itself; what is divided by the same for all keys is within 1
#pragma once

#include <stdint.h>

#include "backend/skeletons/nvptx/approximate.h"

namespace flexmath {

constexpr float kInfinity = __builtin_inff();
constexpr float kLog2eHigh = 1.44269502e+00f, kLog2eLow = 1.92596303e-08f;

FLEX_MATH float fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
FLEX_MATH float abs(float x) {
    return __builtin_fabsf(x);
}
FLEX_MATH int32_t bits(float x) {
    return __builtin_bit_cast(int32_t, x);
}
FLEX_MATH float from_bits(int32_t x) {
    return __builtin_bit_cast(float, x);
}
/// Of a magnitude that is not negative: one instruction, where LLVM makes six of copysign.
FLEX_MATH float with_sign_of(float magnitude, float x) {
    return from_bits(bits(magnitude) | (bits(x) & INT32_MIN));
}

// x log2 e in two floats; the low one is at most 2^-17 where the result is finite. The clamp keeps infinities out, and NaN in.
FLEX_MATH float exp(float x) {
    x = greatest(least(x, 110.0f), -110.0f);
    const float high = x * kLog2eHigh;
    const float low = fma(x, kLog2eLow, fma(x, kLog2eHigh, -high));
    return approximate_exp2(high) * fma(low, 0.693147181f, 1.0f);
}

// x = 2^e (1 + f) with f in [sqrt 1/2 - 1, sqrt 2 - 1), and log(1 + f) - f + f^2 / 2 as `tail`; for positive finite x.
struct LogParts {
    float e, f, tail;
};
FLEX_MATH LogParts log_parts(float x) {
    const bool subnormal = x < 0x1p-126f;
    const int32_t b = bits(subnormal ? x * 0x1p23f : x) - 0x3f3504f3;  // sqrt 1/2
    const int32_t e = b >> 23;
    const float f = from_bits((b & 0x7fffff) + 0x3f3504f3) - 1.0f;
    const float z = f * f;
    float p = fma(f, 7.0376836292e-2f, -1.1514610310e-1f);
    p = fma(p, f, 1.1676998740e-1f);
    p = fma(p, f, -1.2420140846e-1f);
    p = fma(p, f, 1.4249322787e-1f);
    p = fma(p, f, -1.6668057665e-1f);
    p = fma(p, f, 2.0000714765e-1f);
    p = fma(p, f, -2.4999993993e-1f);
    p = fma(p, f, 3.3333331174e-1f);
    return {float(subnormal ? e - 23 : e), f, p * f * z};
}
FLEX_MATH float log_special(float x, float result) {
    result = x == 0.0f ? -kInfinity : result;
    result = x < 0.0f ? __builtin_nanf("") : result;
    return x < kInfinity ? result : x;  // +inf and NaN
}
FLEX_MATH float log(float x) {
    const LogParts parts = log_parts(x);
    float y = fma(parts.e, -2.12194440e-4f, parts.tail);
    y = fma(parts.f * parts.f, -0.5f, y);
    return log_special(x, fma(parts.e, 0.693359375f, parts.f + y));
}
FLEX_MATH float log2(float x) {
    const LogParts parts = log_parts(x);
    const float y = fma(parts.f * parts.f, -0.5f, parts.tail);
    constexpr float kLog2eLess1 = 0.44269504088896340736f;
    float z = fma(parts.f, kLog2eLess1, y * kLog2eLess1);
    z = z + y;
    z = z + parts.f;
    return log_special(x, z + parts.e);
}

FLEX_MATH float tanh(float x) {
    const float a = abs(x);
    const float e = approximate_exp2_of_normal(a * 2.88539008f);
    const float large = fma(approximate_reciprocal_of_normal(e + 1.0f), -2.0f, 1.0f);
    const float s = x * x;
    float p = fma(s, 1.57394409e-2f, -5.23025282e-2f);
    p = fma(p, s, 1.33152416e-1f);
    p = fma(p, s, -3.33327681e-1f);
    const float small = fma(p * s, a, a);
    return with_sign_of(a < 0.55f ? small : large, x);
}

FLEX_MATH float sigmoid(float x) {
    return approximate_reciprocal_of_normal(1.0f + exp(-x));
}

FLEX_MATH float erf(float x) {
    const float t = abs(x);
    const float s = x * x;
    float r = fma(-1.72853470e-5f, t, 3.83197126e-4f);
    const float u = fma(-3.88396438e-3f, t, 2.42546219e-2f);
    r = fma(r, s, u);
    r = fma(r, t, -1.06777877e-1f);
    r = fma(r, t, -6.34846687e-1f);
    r = fma(r, t, -1.28717512e-1f);
    r = fma(r, t, -t);
    // Beyond 4 the polynomial is of no use.
    const float large = t > 4.0f ? 1.0f : 1.0f - approximate_exp2_of_normal(r * 1.44269504f);
    float p = fma(-5.96761703e-4f, s, 4.99119423e-3f);
    p = fma(p, s, -2.67681349e-2f);
    p = fma(p, s, 1.12819925e-1f);
    p = fma(p, s, -3.76125336e-1f);
    p = fma(p, s, 1.28379166e-1f);
    return t > 0.927734375f ? with_sign_of(large, x) : fma(p, x, x);
}

// An angle less the nearest multiple of pi/2, and which multiple (mod 4).
struct Reduced {
    float r;
    int32_t quadrant;
};

/// For finite |x| >= 1: |x| = m 2^(e - 23) with m < 2^24. Of 2/pi the bits that give multiples of 4 are left out; the next 96 give m 2/pi mod 4 as a
/// fixed-point number of which 2 bits are the quadrant and the others the angle, of which at least 30 bits are significant however near x is to a
/// multiple of pi/2.
__attribute__((noinline)) inline uint64_t reduce_large(float x) {
    // The bits of 2/pi after the point, preceded by 32 zero bits.
    constexpr uint32_t kTwoOverPi[8] = {0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
    const int32_t e = (bits(x) >> 23 & 0xff) - 127;  // 0 to 127
    const uint32_t m = (uint32_t(bits(x)) & 0x7fffff) | 0x800000;
    // Weight of the first bit that is kept: 2^(1 - (e - 23)) times the unit of m; so m times it is below 4. In kTwoOverPi bit 32 has weight 1/2.
    const int32_t first = e + 7;  // at most 134: four words and a shift
    uint32_t word[4] = {};
    for (int32_t i = 0; i < 5; i++) {
        const int32_t from = first / 32 + i;
        uint32_t value = 0;
        for (int32_t j = 0; j < 8; j++) value = from == j ? kTwoOverPi[j] : value;  // no table in memory
        if (i < 4) word[i] |= first % 32 ? value << (first % 32) : value;
        if (i > 0) word[i - 1] |= first % 32 ? value >> (32 - first % 32) : 0;
    }
    // m times 96 bits, kept to the 96 bits below weight 4 (bits above are multiples of 4).
    const uint64_t low = uint64_t(m) * word[2] + (uint64_t(m) * word[3] >> 32);
    const uint64_t middle = uint64_t(m) * word[1] + (low >> 32);
    const uint32_t high = uint32_t(m * word[0] + uint32_t(middle >> 32));
    uint64_t fraction = uint64_t(high) << 32 | uint32_t(middle);  // 2 bits of quadrant, 62 of angle
    int32_t quadrant = int32_t(fraction >> 62);
    fraction <<= 2;
    fraction |= uint32_t(low) >> 30;
    // To the nearest multiple: from [0, 1) to [-1/2, 1/2).
    const bool above = fraction >> 63 != 0;
    if (above) {
        quadrant++;
        fraction = ~fraction;
    }
    // Normalised to 32 bits, then in f32: two floats times pi/2.
    const int32_t zeros = fraction == 0 ? 63 : __builtin_clzll(fraction);
    fraction <<= zeros;
    const auto top = uint32_t(fraction >> 32);
    const float head = float(top & 0xffffff00u), rest = float(top & 0xffu);  // both exact
    const float unit = from_bits((127 - 32 - zeros) << 23);
    const float product = head * 1.57079637f;
    float r = fma(head, 1.57079637f, -product);
    r = fma(head, -4.37113883e-8f, r);
    r = (product + fma(rest, 1.57079637f, r)) * unit;
    r = above ? -r : r;
    if (x < 0.0f) {
        r = -r;
        quadrant = -quadrant;
    }
    return uint64_t(uint32_t(quadrant & 3)) << 32 | uint32_t(bits(r));
}

FLEX_MATH Reduced reduce_angle(float x) {
    if (abs(x) >= 0x1p16f && abs(x) < kInfinity) {
        const uint64_t large = reduce_large(x);
        return {from_bits(int32_t(uint32_t(large))), int32_t(large >> 32)};
    }
    const float shifted = fma(x, 0.636619772f, 0x1.8p23f);
    const float n = shifted - 0x1.8p23f;
    float r = fma(n, -1.57079637f, x);
    r = fma(n, 4.37113883e-8f, r);
    r = fma(n, 1.71512451e-15f, r);
    return {r, bits(shifted)};
}

FLEX_MATH float sin_polynomial(float r) {
    const float z = r * r;
    float p = fma(z, 2.86567956e-6f, -1.98559923e-4f);
    p = fma(p, z, 8.33338592e-3f);
    p = fma(p, z, -1.66666672e-1f);
    return fma(p * z, r, r);
}
FLEX_MATH float cos_polynomial(float r) {
    const float z = r * r;
    float p = fma(z, 2.44677067e-5f, -1.38877297e-3f);
    p = fma(p, z, 4.16666567e-2f);
    p = fma(p, z, -5.00000000e-1f);
    return fma(p, z, 1.0f);
}
FLEX_MATH float quadrant_value(Reduced a) {
    const float value = a.quadrant & 1 ? cos_polynomial(a.r) : sin_polynomial(a.r);
    return from_bits(bits(value) ^ (a.quadrant & 2) << 30);
}
FLEX_MATH float sin(float x) {
    const float y = quadrant_value(reduce_angle(x));
    return x == 0.0f ? x : y;  // keeps -0
}
FLEX_MATH float cos(float x) {
    Reduced a = reduce_angle(x);
    a.quadrant++;
    return quadrant_value(a);
}
FLEX_MATH float tan(float x) {
    const Reduced a = reduce_angle(x);
    const float s = sin_polynomial(a.r), c = cos_polynomial(a.r);
    const bool odd = a.quadrant & 1;
    const float y = (odd ? -c : s) * approximate_reciprocal(odd ? s : c);
    return x == 0.0f ? x : y;
}

struct Pair {
    float high, low;
};
// log(x) of positive finite x in two floats, relative error 2^-30: 2 atanh(q) of q = (m - 1) / (m + 1).
FLEX_MATH Pair log_pair(float x) {
    const bool subnormal = x < 0x1p-126f;
    const int32_t b = bits(subnormal ? x * 0x1p23f : x) - 0x3f3504f3;
    const auto e = float((b >> 23) - (subnormal ? 23 : 0));
    const float m = from_bits((b & 0x7fffff) + 0x3f3504f3);
    const float above = m + 1.0f, below = m - 1.0f;
    const float inverse = approximate_reciprocal(above);
    const float q = inverse * below;
    const float q_low = inverse * fma(q, -below, fma(q, -2.0f, below));
    const float s = q * q;
    float p = fma(s, 0.1293334961f, 0.1419928074f);
    p = fma(p, s, 0.2000148296f);
    p = fma(p, s, 0.3333332539f);
    const float s_low = fma(q, q_low + q_low, fma(q, q, -s));
    const float cube = s * q;
    const float cube_low = fma(s, q_low, fma(s_low, q, fma(s, q, -cube)));
    const float tail = fma(p, cube, fma(p, cube_low, q_low));
    const float twice = 2.0f * q;
    const float t = fma(0.693147182f, e, twice);
    const float lost = twice - fma(-0.693147182f, e, t);
    const float low = fma(-1.90465421e-9f, e, fma(2.0f, tail, lost));
    const float high = t + low;
    return {high, (t - high) + low};
}

// exp(high + low) for |high| <= 110 and |low| an ulp of it: 2^n exp(r), within 0.7 units and exact where the result is, such as 2^10, as C's powf has it.
FLEX_MATH float exp_of_pair(float high, float low) {
    constexpr float kShift = 0x1.8p23f;  // n stands in the last bits of a float of this size
    const float shifted = fma(high, kLog2eHigh, kShift);
    const float n = shifted - kShift;
    const float a = fma(n, -0.693145752f, high), b = fma(n, -1.42860677e-6f, low);  // log 2 in two parts, of which the first is exact
    const float r = a + b, r_low = (a - r) + b;
    float p = fma(r, 1.98412698e-4f, 1.38888889e-3f);
    p = fma(p, r, 8.33333333e-3f);
    p = fma(p, r, 4.16666667e-2f);
    p = fma(p, r, 1.66666667e-1f);
    p = fma(p, r, 0.5f);
    const float value = 1.0f + (r + fma(p * r, r, r_low));
    const int32_t e = bits(shifted) - bits(kShift);
    return value * from_bits(((e >> 1) + 127) << 23) * from_bits((e - (e >> 1) + 127) << 23);
}

__attribute__((noinline)) inline float pow(float x, float y) {
    const float ax = abs(x);
    const Pair l = log_pair(ax > 0.0f && ax < kInfinity ? ax : 1.0f);
    // y log x in two floats, the high one clamped so that neither overflows; NaN stays.
    const float bound = greatest(least(l.high * y, 110.0f), -110.0f);
    const bool clamped = !(abs(l.high * y) <= 110.0f);
    const float rest = clamped ? 0.0f : fma(l.low, y, fma(l.high, y, -bound));
    const float sum = bound + rest;
    float result = exp_of_pair(sum, (bound - sum) + rest);  // of a positive finite base
    const bool to_zero = y < 0.0f;
    result = ax == 0.0f ? (to_zero ? kInfinity : 0.0f) : result;
    result = ax == kInfinity ? (to_zero ? 0.0f : kInfinity) : result;
    result = ax == 1.0f && abs(y) == kInfinity ? 1.0f : result;
    // A negative base: odd integers keep its sign, a y that is no integer has no value unless the base is 0 or inf.
    const bool whole = round_to_even(y) == y;  // infinities count as even integers
    const float half = 0.5f * y;
    const bool odd = whole && abs(y) < 0x1p24f && round_to_even(half) != half;
    result = bits(x) < 0 && odd ? -result : result;
    result = x < 0.0f && ax < kInfinity && !whole ? __builtin_nanf("") : result;
    result = x != x || y != y ? x + y : result;
    return x == 1.0f || y == 0.0f ? 1.0f : result;
}

// With p + p_low = x r exactly, 1 - x r^2 = 1 - p r - p_low r.
FLEX_MATH float rsqrt(float x) {
    const float r = approximate_rsqrt(x);
    const float p = x * r;
    const float p_low = fma(x, r, -p);
    const float residue = fma(-p_low, r, fma(-p, r, 1.0f));
    const float refined = fma(0.5f * r, residue, r);
    return abs(residue) < 1.0f ? refined : r;  // 0, inf, NaN, negative
}

}  // namespace flexmath
