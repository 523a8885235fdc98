// Elementwise mathematics on vectors of f32, for all finite and non-finite arguments, as generated code uses it.
// Subnormal arguments and results are honoured. Where C's function of the same name has a special case (a NaN, an infinity, a pole, a
// negative base), this has it too; NaN payloads and the exception flags are not kept.
//
// Largest error seen over all classes of arguments, in units in the last place of the exact result, which
// tests/unit/backend/math_test.cpp asserts on every level it can execute (levels without FMA round more often):
//
//   function  avx2, avx512  generic     method
//   exp2        1.0           1.25      round to n + r, polynomial of degree 6 in r, scaled by 2^n in two steps
//   exp         1.0           1.0       x = n ln 2 + r with ln 2 in two parts, degree 7
//   log         1.0           1.0       exponent and mantissa in [sqrt 1/2, sqrt 2), degree 9
//   log2        1.5           1.5       the same, with log2 e split so that no bit is lost
//   tanh        2.75          3.0       -t / (2 + t) of t = exp(-2|x|) - 1, degree 6
//   sigmoid     2.25          2.25      e / (1 + e) of e = exp(-|x|), turned round for x >= 0
//   sin, cos    0.6           0.6       reduction by pi/2 and polynomial in f64; beyond 2^20 in 128-bit integers
//   tan         0.6           0.6       sin / cos in f64
//   erf         1.25          1.25      odd polynomial, or 1 - exp(polynomial)
//   pow         0.6           0.6       2^(y log2 x) in f64
//   sqrt 0.5, rsqrt 1.5, tanh_approx as tanh; floor, ceil, round exact
#pragma once

#include "backend/skeletons/cpu/lanes.h"

namespace flexmath {

constexpr float kInf = __builtin_inff();

FLEX_INLINE F nan_like(F x) {
    return x + from_bits(I(0x7fc00000));
}

#if FLEX_HAS_FMA  // the levels with FMA have a rounding instruction too
FLEX_INLINE F floor(F x) {
    return __builtin_elementwise_floor(x);
}
FLEX_INLINE F ceil(F x) {
    return __builtin_elementwise_ceil(x);
}
FLEX_INLINE F round(F x) {
    return __builtin_elementwise_roundeven(x);
}
FLEX_INLINE D round(D x) {
    return __builtin_elementwise_roundeven(x);
}
#else
// Adding and subtracting 2^23 (f64: 2^52) rounds to an integer, half to even; larger values are integers already.
FLEX_INLINE F round(F x) {
    const F sign = from_bits(sign_bit(x) | bits(F(0x1p23f)));
    const F r = (x + sign) - sign;
    return select(abs(x) < 0x1p23f, from_bits(bits(r) | sign_bit(x)), x);
}
FLEX_INLINE F floor(F x) {
    const F r = round(x);
    return from_bits(bits(select(r > x, r - 1.0f, r)) | (sign_bit(x)));
}
FLEX_INLINE F ceil(F x) {
    const F r = round(x);
    return from_bits(bits(select(r < x, r + 1.0f, r)) | (sign_bit(x)));
}
FLEX_INLINE D round(D x) {
    return (x + 0x1.8p52) - 0x1.8p52;
}  // only for |x| < 2^51
#endif

// 2^n for -126 <= n <= 127.
FLEX_INLINE F power_of_two(I n) {
    return from_bits((n + 127) << 23);
}

// p * 2^n for n in [-152, 130], correct at both ends of the range: one factor could overflow or lose bits too early.
FLEX_INLINE F scale(F p, I n) {
    const I half = n >> 1;
    return p * power_of_two(half) * power_of_two(n - half);
}

FLEX_INLINE F exp2_polynomial(F r) {
    F p = madd(r, F(1.535336181e-04f), F(1.339887445e-03f));
    p = madd(p, r, F(9.618437358e-03f));
    p = madd(p, r, F(5.550332471e-02f));
    p = madd(p, r, F(2.402264791e-01f));
    p = madd(p, r, F(6.931472029e-01f));
    return madd(p, r, F(1.0f));
}

FLEX_INLINE F exp2(F x) {
    x = select(x > 129.0f, F(129.0f), select(x < -151.0f, F(-151.0f), x));  // keeps NaN
    const F n = (x + 0x1.8p23f) - 0x1.8p23f;
    return scale(exp2_polynomial(x - n), bits(x + 0x1.8p23f) - 0x4b400000);
}

// The weight exp(s - m) of a softmax, for s <= m or NaN; weights below 2^-125 are 0, never subnormal: those cost a hundred cycles each
// in the products that follow. Relative error 1.7e-7, of which the polynomial of degree 5, minimax among those with the value 1 at 0, has
// 9e-8; without FMA and for the rounding of s - m, 6e-8 |s - m| more. The difference is taken before anything else, so s = m gives 1 however
// large both are.
FLEX_INLINE F weight(F s, F m) {
    constexpr float kLog2e = 1.44269504088896340736f;
    F x = s - m;
    x = select(x < -87.3f, F(-87.3f), x);         // 2^-125.95: its factor is 0; keeps NaN
    constexpr float kShift = 0x1.8p23f + 126.0f;  // the low bits of x log2 e + kShift are the biased exponent of half the power of two
    const F shifted = madd(x, F(kLog2e), F(kShift));
    const F r = madd(x, F(kLog2e), kShift - shifted);
    F p = madd(r, F(2 * 1.326472731e-03f), F(2 * 9.671512991e-03f));
    p = madd(p, r, F(2 * 5.550733581e-02f));
    p = madd(p, r, F(2 * 2.402224243e-01f));
    p = madd(p, r, F(2 * 6.931470037e-01f));
    p = madd(p, r, F(2.0f));
    return p * from_bits(bits(shifted) << 23);
}

FLEX_INLINE F exp(F x) {
    x = select(x > 89.0f, F(89.0f), select(x < -104.5f, F(-104.5f), x));
    const F shifted = madd(x, F(1.44269504f), F(0x1.8p23f));
    const F n = shifted - 0x1.8p23f;
    F r = madd(n, F(-0.693359375f), x);  // exact: 10 bits times 8
    r = madd(n, F(2.12194440e-4f), r);
    F p = madd(r, F(1.979029835e-04f), F(1.394470363e-03f));
    p = madd(p, r, F(8.333497341e-03f));
    p = madd(p, r, F(4.166629436e-02f));
    p = madd(p, r, F(1.666666587e-01f));
    p = madd(p, r, F(5.000000068e-01f));
    p = madd(p, r * r, r) + 1.0f;
    return scale(p, bits(shifted) - 0x4b400000);
}

// x = 2^e (1 + f) with f in [sqrt 1/2 - 1, sqrt 2 - 1), and log(1 + f) - f as `tail`; for positive finite x.
struct LogParts {
    F e, f, tail;
};
FLEX_INLINE LogParts log_parts(F x) {
    const I subnormal = x < 0x1p-126f;
    const I b = bits(select(subnormal, x * 0x1p23f, x)) - 0x3f3504f3;  // sqrt 1/2
    const I e = b >> 23;
    const F f = from_bits((b & 0x7fffff) + 0x3f3504f3) - 1.0f;
    const F z = f * f;
    F p = madd(f, F(7.0376836292e-2f), F(-1.1514610310e-1f));
    p = madd(p, f, F(1.1676998740e-1f));
    p = madd(p, f, F(-1.2420140846e-1f));
    p = madd(p, f, F(1.4249322787e-1f));
    p = madd(p, f, F(-1.6668057665e-1f));
    p = madd(p, f, F(2.0000714765e-1f));
    p = madd(p, f, F(-2.4999993993e-1f));
    p = madd(p, f, F(3.3333331174e-1f));
    return {to_float(select(subnormal, e - 23, e)), f, p * f * z};
}
FLEX_INLINE F log_special(F x, F result) {
    result = select(x == 0.0f, F(-kInf), result);
    result = select(x < 0.0f, F(__builtin_nanf("")), result);
    return select(x < kInf, result, x);  // +inf and NaN
}
FLEX_INLINE F log(F x) {
    const LogParts parts = log_parts(x);
    F y = madd(parts.e, F(-2.12194440e-4f), parts.tail);
    y = madd(parts.f * parts.f, F(-0.5f), y);
    return log_special(x, madd(parts.e, F(0.693359375f), parts.f + y));
}
FLEX_INLINE F log2(F x) {
    const LogParts parts = log_parts(x);
    const F y = madd(parts.f * parts.f, F(-0.5f), parts.tail);
    constexpr float kLog2eLess1 = 0.44269504088896340736f;
    F z = y * kLog2eLess1;
    z = madd(parts.f, F(kLog2eLess1), z);
    z = z + y;
    z = z + parts.f;
    return log_special(x, z + parts.e);
}

// n / d for d in [1, 2], to 0.6 ulp.
FLEX_INLINE F divide(F n, F d) {
#if FLEX_LANES == 16
    // A division of 16 floats occupies the divider for 16 cycles; this takes 6.
    const F estimate = __builtin_ia32_rcp14ps512_mask(d, F(0.0f), 0xffff);
    const F inverse = madd(estimate, madd(-d, estimate, F(1.0f)), estimate);
    const F quotient = n * inverse;
    return madd(madd(-d, quotient, n), inverse, quotient);
#else
    return n / d;
#endif
}

// With t = exp(-2 |x|) - 1, tanh |x| = -t / (2 + t): t = 2^n (2^r - 1) + (2^n - 1) is small where tanh is, and as accurate.
FLEX_INLINE F tanh(F x) {
    constexpr float kScale = -2.0f * 1.44269504088896340736f;
    F a = abs(x);
    a = select(a > 10.0f, F(10.0f), a);  // keeps NaN
    const F shifted = madd(a, F(kScale), F(0x1.8p23f + 127.0f));
    const F r = madd(a, F(kScale), (0x1.8p23f + 127.0f) - shifted);
    F q = madd(r, F(1.540351223e-04f), F(1.339073526e-03f));
    q = madd(q, r, F(9.618237615e-03f));
    q = madd(q, r, F(5.550357327e-02f));
    q = madd(q, r, F(2.402264923e-01f));
    q = madd(r, F(6.931471825e-01f), q * r * r);
    const F power = from_bits(bits(shifted) << 23);
    const F t = madd(power, q, power - 1.0f);
    return from_bits(bits(abs(divide(t, 2.0f + t))) | sign_bit(x));  // of -0 too
}

FLEX_INLINE F sigmoid(F x) {
    const F e = exp(-abs(x));
    return select(x >= 0.0f, F(1.0f), e) / (1.0f + e);
}

FLEX_INLINE F erf(F x) {
    const F t = abs(x);
    const F s = x * x;
    F r = madd(F(-1.72853470e-5f), t, F(3.83197126e-4f));
    const F u = madd(F(-3.88396438e-3f), t, F(2.42546219e-2f));
    r = madd(r, s, u);
    r = madd(r, t, F(-1.06777877e-1f));
    r = madd(r, t, F(-6.34846687e-1f));
    r = madd(r, t, F(-1.28717512e-1f));
    r = madd(r, t, -t);
    const F large = select(t > 4.0f, F(1.0f), 1.0f - exp(r));
    F p = madd(F(-5.96761703e-4f), s, F(4.99119423e-3f));
    p = madd(p, s, F(-2.67681349e-2f));
    p = madd(p, s, F(1.12819925e-1f));
    p = madd(p, s, F(-3.76125336e-1f));
    p = madd(p, s, F(1.28379166e-1f));
    return select(t > 0.927734375f, from_bits(bits(large) | sign_bit(x)), madd(p, x, x));
}

// An angle less the nearest multiple of pi/2, and which multiple (mod 4).
struct Reduced {
    D r;
    I quadrant;
};

// The bits of 2/pi after the point, preceded by 64 zero bits.
constexpr uint64_t kTwoOverPi[5] = {0, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561};

// One large angle: |x| = m 2^e with m < 2^24. Bits of 2/pi of weight 2^(2-e) and above give multiples of 4 quadrants and are left
// out; the next 88 bits give the product below 4 to within 2^-62.
FLEX_INLINE void reduce_large(float x, double* r, int32_t* quadrant) {
    const uint32_t b = __builtin_bit_cast(uint32_t, x);
    const uint64_t m = (b & 0x7fffff) | 0x800000;
    const int e = int((b >> 23) & 0xff) - 150;
    const int first = 64 + e - 2;  // position in kTwoOverPi of the bit of weight 2^(1-e), from 0
    const int word = first >> 6, shift = first & 63;
    const unsigned __int128 high = kTwoOverPi[word], middle = kTwoOverPi[word + 1];
    const uint64_t low = kTwoOverPi[word + 2 < 5 ? word + 2 : 4];
    unsigned __int128 window = (high << 64) | middle;
    window = shift == 0 ? window : (window << shift) | (low >> (64 - shift));
    window >>= 40;                                         // 88 bits
    const unsigned __int128 product = (window * m) << 40;  // a fraction of 4: the top 2 bits are the quadrant
    const unsigned __int128 rounded = product + ((unsigned __int128)1 << 125);
    const int32_t n = int32_t(uint64_t(rounded >> 126));
    const int64_t fraction = int64_t(uint64_t((product - ((unsigned __int128)n << 126)) >> 64));  // in units of 2^-62
    const double angle = double(fraction) * 0x1.921fb54442d18p-62;                                // pi/2 * 2^-62
    const bool negative = (b >> 31) != 0;
    *r = negative ? -angle : angle;
    *quadrant = negative ? -n : n;
}

static __attribute__((noinline, cold)) void reduce_large_lanes(const float* x, double* r, int32_t* quadrant) {
    for (int i = 0; i < kLanes; i++) {
        const float magnitude = __builtin_fabsf(x[i]);
        if (magnitude >= 0x1p20f && magnitude < kInf) reduce_large(x[i], r + i, quadrant + i);
    }
}

FLEX_INLINE Reduced reduce_angle(F x) {
    const D wide = to_double(select(abs(x) < 0x1p20f, x, x - x));  // inf becomes NaN; large ones are done again
    const D shifted = wide * 0.63661977236758134308 + 0x1.8p52;
    const D n = shifted - 0x1.8p52;
    D r = madd(n, D(-0x1.921fb544p0), wide);  // 33 bits of pi/2: the product is exact
    r = madd(n, D(-0x1.0b4611a626331p-34), r);
    I quadrant = narrow(bits(shifted));
    if (any((abs(x) >= 0x1p20f) & (abs(x) < kInf))) {
        float lane_x[kLanes];
        double lane_r[kLanes];
        int32_t lane_quadrant[kLanes];
        FLEX_UNROLL
        for (int i = 0; i < kLanes; i++) lane_x[i] = x[i], lane_r[i] = r[i], lane_quadrant[i] = quadrant[i];
        reduce_large_lanes(lane_x, lane_r, lane_quadrant);
        FLEX_UNROLL
        for (int i = 0; i < kLanes; i++) r[i] = lane_r[i], quadrant[i] = lane_quadrant[i];
    }
    return {r, quadrant};
}

FLEX_INLINE D sin_polynomial(D r) {
    const D z = r * r;
    D p = madd(z, D(1.0 / 6227020800.0), D(-1.0 / 39916800.0));
    p = madd(p, z, D(1.0 / 362880.0));
    p = madd(p, z, D(-1.0 / 5040.0));
    p = madd(p, z, D(1.0 / 120.0));
    p = madd(p, z, D(-1.0 / 6.0));
    return madd(p * z, r, r);
}
FLEX_INLINE D cos_polynomial(D r) {
    const D z = r * r;
    D p = madd(z, D(-1.0 / 87178291200.0), D(1.0 / 479001600.0));
    p = madd(p, z, D(-1.0 / 3628800.0));
    p = madd(p, z, D(1.0 / 40320.0));
    p = madd(p, z, D(-1.0 / 720.0));
    p = madd(p, z, D(1.0 / 24.0));
    p = madd(p, z, D(-0.5));
    return madd(p, z, D(1.0));
}
FLEX_INLINE F quadrant_value(Reduced a) {
    const F value = to_float(select(widen((a.quadrant & 1) != 0), cos_polynomial(a.r), sin_polynomial(a.r)));
    return from_bits(bits(value) ^ ((a.quadrant & 2) << 30));
}
FLEX_INLINE F sin(F x) {
    const F y = quadrant_value(reduce_angle(x));
    return select(x == 0.0f, x, y);  // keeps -0
}
FLEX_INLINE F cos(F x) {
    Reduced a = reduce_angle(x);
    a.quadrant = a.quadrant + 1;
    return quadrant_value(a);
}
FLEX_INLINE F tan(F x) {
    const Reduced a = reduce_angle(x);
    const D s = sin_polynomial(a.r), c = cos_polynomial(a.r);
    const L odd = widen((a.quadrant & 1) != 0);
    const F y = to_float(select(odd, -c, s) / select(odd, s, c));
    return select(x == 0.0f, x, y);
}

// log2 of positive finite x to within 2^-45.
FLEX_INLINE D log2_wide(F x) {
    const L b = bits(to_double(x)) - 0x3fe6a09e667f3bcd;  // sqrt 1/2; every f32 is a normal f64
    const D e = to_double(narrow(b >> 52));
    const D m = from_bits((b & 0xfffffffffffff) + 0x3fe6a09e667f3bcd);
    const D s = (m - 1.0) / (m + 1.0);
    const D z = s * s;
    D p = madd(z, D(1.0 / 17.0), D(1.0 / 15.0));
    p = madd(p, z, D(1.0 / 13.0));
    p = madd(p, z, D(1.0 / 11.0));
    p = madd(p, z, D(1.0 / 9.0));
    p = madd(p, z, D(1.0 / 7.0));
    p = madd(p, z, D(1.0 / 5.0));
    p = madd(p, z, D(1.0 / 3.0));
    p = madd(p * z, s, s);
    return madd(p, D(2.88539008177792681472), e);
}
// 2^t for |t| < 1000.
FLEX_INLINE D exp2_wide(D t) {
    const D shifted = t + 0x1.8p52;
    const D r = (t - (shifted - 0x1.8p52)) * 0.69314718055994530942;
    D p = madd(r, D(1.0 / 39916800.0), D(1.0 / 3628800.0));
    p = madd(p, r, D(1.0 / 362880.0));
    p = madd(p, r, D(1.0 / 40320.0));
    p = madd(p, r, D(1.0 / 5040.0));
    p = madd(p, r, D(1.0 / 720.0));
    p = madd(p, r, D(1.0 / 120.0));
    p = madd(p, r, D(1.0 / 24.0));
    p = madd(p, r, D(1.0 / 6.0));
    p = madd(p, r, D(0.5));
    p = madd(p, r, D(1.0));
    p = madd(p, r, D(1.0));
    return p * from_bits((bits(shifted) + 1023) << 52);
}

FLEX_INLINE F pow(F x, F y) {
    const F ax = abs(x);
    D t = to_double(y) * log2_wide(select((ax > 0.0f) & (ax < kInf), ax, F(1.0f)));
    t = select(t > 300.0, D(300.0), select(t < -300.0, D(-300.0), t));
    F result = to_float(exp2_wide(t));  // of a positive finite base
    const I yields_zero = y < 0.0f;
    result = select(ax == 0.0f, select(yields_zero, F(kInf), F(0.0f)), result);
    result = select(ax == kInf, select(yields_zero, F(0.0f), F(kInf)), result);
    // An infinite y with a base of 0 or inf is right already; t is +-300 or NaN (base 1) for the others.
    result = select((ax == 1.0f) & (abs(y) == kInf), F(1.0f), result);
    // A negative base: odd integers keep its sign, a y that is no integer has no value unless the base is 0 or inf.
    const I whole = round(y) == y;  // infinities count as even integers
    const F half = 0.5f * y;
    const I odd = whole & (abs(y) < 0x1p24f) & (round(half) != half);
    const I negative = bits(x) < 0;
    result = select(negative & odd, -result, result);
    result = select((x < 0.0f) & (ax < kInf) & ~whole, F(__builtin_nanf("")), result);
    result = select((x != x) | (y != y), x + y, result);
    return select((x == 1.0f) | (y == 0.0f), F(1.0f), result);
}

}  // namespace flexmath
