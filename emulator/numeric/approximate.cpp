#include "emulator/numeric/approximate.h"

namespace flexemu::numeric {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kPi = 3.14159265358979323846;

/// In (-1, 1), from the bits of an operand.
double noise(uint64_t key) {
    key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9;
    key = (key ^ key >> 27) * 0x94d049bb133111eb;
    key ^= key >> 31;
    return static_cast<double>(static_cast<int64_t>(key >> 11) - (int64_t{1} << 52)) * 0x1p-52;
}
double noise(float a, uint64_t function) {
    return noise(std::bit_cast<uint32_t>(a) | function << 32);
}

/// Spacing of f32 at a magnitude, not below that of subnormals.
double f32_ulp(double value) {
    const int exponent = std::ilogb(value);
    return std::ldexp(1.0, (exponent < -126 ? -126 : exponent) - 23);
}

/// The true value moved by less than bound - 1/2 ulps and rounded: within `bound` ulps.
float within_ulps(double exact, double bound, double where, bool ftz) {
    if (exact == 0 || !std::isfinite(exact)) return canonical(static_cast<float>(exact));
    const float result = static_cast<float>(exact + where * (bound - 0.5) * f32_ulp(exact));
    return ftz ? flush(result) : result;
}
/// Within a relative bound; half an ulp is at most 2^-24 of the value.
float within_relative(double exact, double bound, double where, bool ftz) {
    const float result = static_cast<float>(exact * (1 + where * (bound - 0x1p-24)));
    return canonical(ftz ? flush(result) : result);
}

float clamp_unit(double value) {
    return static_cast<float>(value > 1 ? 1.0 : value < -1 ? -1.0 : value);
}

double sine_bound(double magnitude) {
    if (magnitude <= 2 * kPi) return 0x1.6a09e6p-21;    // 2^-20.5
    if (magnitude <= 100 * kPi) return 0x1.3b2c47p-15;  // 2^-14.7
    return magnitude < 0x1p23 ? magnitude * 0x1p-23 : 1.0;
}

}  // namespace

float ex2_approx(float a, bool ftz) {
    if (a != a) return canonical_nan();
    if (ftz) a = flush(a);
    if (std::fabs(a) < 0x1p-126f) return 1.0f;
    if (a >= 128.0f) return kInfinity;
    if (a < -152.0f) return 0.0f;
    // Powers of two are exact on all GPUs, and libraries count on it.
    if (a == std::rint(a)) {
        const float power = static_cast<float>(std::ldexp(1.0, static_cast<int>(a)));
        return ftz ? flush(power) : power;
    }
    return within_ulps(std::exp2(static_cast<double>(a)), 2.0, noise(a, 1), ftz);
}
F16 ex2_approx(F16 a) {
    const float x = to_f32(a);
    if (x == 0) return to_f16(1.0);
    const double exact = std::exp2(static_cast<double>(x));
    return to_f16(exact * (1 + noise(x, 2) * (0x1.125fbep-10 - 0x1p-11)));  // 2^-9.9, less the rounding
}
BF16 ex2_approx(BF16 a) {
    const float x = to_f32(flush(a));
    if (x == 0) return to_bf16(1.0);
    const double exact = std::exp2(static_cast<double>(x));
    return flush(to_bf16(exact * (1 + noise(x, 3) * (0x1p-7 - 0x1p-8))));
}

float lg2_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (a == 0) return -kInfinity;
    if (!(a > 0)) return canonical_nan();
    if (a == kInfinity) return a;
    const double exact = std::log2(static_cast<double>(a));
    if (a > 0.5f && a < 2.0f) return static_cast<float>(exact + noise(a, 4) * (0x1p-22 - 0x1p-25));
    return within_relative(exact, 0x1p-22, noise(a, 4), false);
}

float rcp_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (a == 0 || std::isinf(a)) return 1.0f / a;
    const double exact = 1.0 / static_cast<double>(a);
    const float result = within_ulps(exact, 1.0, noise(a, 5), ftz);
    // A reciprocal is a power of two only if it is one exactly: the CUDA library's division takes the mantissa alone and counts on it. Next to a power
    // of two the nearest number is another one.
    const bool is_power = (std::bit_cast<uint32_t>(result) & 0x7fffff) == 0 && result != 0 && std::isfinite(result);
    return is_power ? static_cast<float>(exact) : result;
}

float rsqrt_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (a == 0) return std::copysign(kInfinity, a);
    if (!(a > 0)) return canonical_nan();
    if (a == kInfinity) return 0.0f;
    return within_relative(1.0 / std::sqrt(static_cast<double>(a)), 0x1.125fbep-23, noise(a, 6), ftz);
}

float sqrt_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (a == 0 || a == kInfinity) return a;
    if (!(a > 0)) return canonical_nan();
    return within_relative(std::sqrt(static_cast<double>(a)), 0x1p-23, noise(a, 7), ftz);
}

float sin_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (a == 0) return a;
    if (!std::isfinite(a)) return canonical_nan();
    if (std::fabs(a) < 0x1p-126f) return a;
    const double x = static_cast<double>(a), bound = sine_bound(std::fabs(x));
    const float result = clamp_unit(std::sin(x) + noise(a, 8) * (bound - 0x1p-25));
    return ftz ? flush(result) : result;
}
float cos_approx(float a, bool ftz) {
    if (ftz) a = flush(a);
    if (std::fabs(a) < 0x1p-126f) return 1.0f;
    if (!std::isfinite(a)) return canonical_nan();
    const double x = static_cast<double>(a), bound = sine_bound(std::fabs(x));
    const float result = clamp_unit(std::cos(x) + noise(a, 9) * (bound - 0x1p-25));
    return ftz ? flush(result) : result;
}

float tanh_approx(float a) {
    if (a != a) return canonical_nan();
    if (std::fabs(a) < 0x1p-126f) return a;
    if (std::isinf(a)) return std::copysign(1.0f, a);
    return clamp_unit(std::tanh(static_cast<double>(a)) * (1 + noise(a, 10) * (0x1p-11 - 0x1p-24)));
}
F16 tanh_approx(F16 a) {
    const float x = to_f32(a);
    if ((a.bits & 0x7c00) == 0) return a;
    if (std::isinf(x)) return to_f16(std::copysign(1.0, static_cast<double>(x)));
    const double exact = std::tanh(static_cast<double>(x)),
                 moved = exact + noise(x, 11) * (0x1.025087p-11 - 0x1p-12);  // 2^-10.987, less the rounding
    return x != x ? F16{kCanonicalHalf} : to_f16(static_cast<double>(clamp_unit(moved)));
}
BF16 tanh_approx(BF16 a) {
    // Rounding alone takes the whole bound.
    const float x = to_f32(a);
    return (a.bits & 0x7f80) == 0 ? a : to_bf16(std::tanh(static_cast<double>(x)));
}

float div_full(float a, float b, bool ftz) {
    if (ftz) a = flush(a), b = flush(b);
    const double exact = static_cast<double>(a) / static_cast<double>(b);
    const uint64_t key = std::bit_cast<uint32_t>(a) | uint64_t{std::bit_cast<uint32_t>(b)} << 32;
    return within_ulps(exact, 2.0, noise(key ^ 13), ftz);
}
float div_approx(float a, float b, bool ftz) {
    if (ftz) a = flush(a), b = flush(b);
    const float magnitude = std::fabs(b);
    // Subnormal divisors are scaled, and their quotients as good as others: fmod of the CUDA library needs it.
    if (magnitude > 0 && magnitude <= 0x1p126f && std::isfinite(a)) return div_full(a, b, ftz);
    // The reciprocal of a larger b counts as zero, as for infinity: infinity by it is NaN.
    const float reciprocal = magnitude > 0x1p126f ? std::copysign(0.0f, b) : rcp_approx(b, ftz);
    return finish(a * reciprocal, {.rounding = Rounding::NearestEven, .ftz = ftz, .sat = false});
}

namespace {
double upper_half(double value) {
    return std::bit_cast<double>(std::bit_cast<uint64_t>(value) & 0xffffffff00000000);
}
double flush_f64(double value) {
    return std::fabs(value) < 0x1p-1022 ? std::copysign(0.0, value) : value;
}
}  // namespace

double rcp_approx_f64(double a) {
    if (a != a) return std::numeric_limits<double>::quiet_NaN();
    a = flush_f64(upper_half(a));
    if (a == 0 || std::isinf(a)) return 1.0 / a;
    // Cutting the lower half off costs up to 2^-20.
    return flush_f64(upper_half(1.0 / a * (1 + noise(std::bit_cast<uint64_t>(a) ^ 14) * 0x1p-21)));
}
double rsqrt_approx_f64(double a) {
    if (a != a) return std::numeric_limits<double>::quiet_NaN();
    a = flush_f64(upper_half(a));
    if (a == 0) return std::copysign(std::numeric_limits<double>::infinity(), a);
    if (a < 0) return std::numeric_limits<double>::quiet_NaN();
    if (std::isinf(a)) return 0.0;
    return upper_half(1.0 / std::sqrt(a) * (1 + noise(std::bit_cast<uint64_t>(a) ^ 15) * 0x1p-21));
}

}  // namespace flexemu::numeric
