// The arithmetic of i32 as ops.def states it: total, wrapping, flooring. Used wherever the compiler computes with constants.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace flexc::ir::scalar {

inline constexpr int32_t kIntMin = std::numeric_limits<int32_t>::min();
inline constexpr int32_t kIntMax = std::numeric_limits<int32_t>::max();

[[nodiscard]] constexpr int32_t wrap(int64_t value) {
    return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(value)));
}
[[nodiscard]] constexpr int32_t add(int32_t a, int32_t b) {
    return wrap(int64_t{a} + b);
}
[[nodiscard]] constexpr int32_t sub(int32_t a, int32_t b) {
    return wrap(int64_t{a} - b);
}
[[nodiscard]] constexpr int32_t mul(int32_t a, int32_t b) {
    return wrap(int64_t{a} * b);
}
[[nodiscard]] constexpr int32_t neg(int32_t a) {
    return wrap(-int64_t{a});
}
[[nodiscard]] constexpr int32_t abs(int32_t a) {
    return a < 0 ? neg(a) : a;
}
[[nodiscard]] constexpr int32_t sign(int32_t a) {
    return (a > 0) - (a < 0);
}

[[nodiscard]] constexpr int32_t floordiv(int32_t a, int32_t b) {
    if (b == 0) return 0;
    const int64_t quotient = int64_t{a} / b;
    const bool inexact = int64_t{a} % b != 0;
    return wrap(quotient - (inexact && (a < 0) != (b < 0) ? 1 : 0));
}
[[nodiscard]] constexpr int32_t mod(int32_t a, int32_t b) {
    if (b == 0) return 0;
    const int64_t rest = int64_t{a} % b;
    return static_cast<int32_t>(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}
[[nodiscard]] constexpr int32_t shl(int32_t a, int32_t count) {
    return count < 0 || count > 31 ? 0 : static_cast<int32_t>(static_cast<uint32_t>(a) << count);
}
[[nodiscard]] constexpr int32_t shr(int32_t a, int32_t count) {
    return a >> (count < 0 || count > 31 ? 31 : count);
}

/// Truncates and saturates; NaN gives 0.
[[nodiscard]] inline int32_t from_float(double value) {
    if (std::isnan(value)) return 0;
    if (value >= 2147483647.0) return kIntMax;
    if (value <= -2147483648.0) return kIntMin;
    return static_cast<int32_t>(value);
}

/// min and max of floats: NaN if either is, -0 below +0.
template <typename F>
[[nodiscard]] F min(F a, F b) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
    if (a == b) return std::signbit(a) ? a : b;
    return a < b ? a : b;
}
template <typename F>
[[nodiscard]] F max(F a, F b) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
    if (a == b) return std::signbit(a) ? b : a;
    return a < b ? b : a;
}
/// min(max(x, lo), hi)
template <typename F>
[[nodiscard]] F clamp(F x, F lo, F hi) {
    return scalar::min(scalar::max(x, lo), hi);
}
template <typename F>
[[nodiscard]] F sign_of(F x) {
    return std::isnan(x) ? x : static_cast<F>((x > 0) - (x < 0));
}

}  // namespace flexc::ir::scalar
