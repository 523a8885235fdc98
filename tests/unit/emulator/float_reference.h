// Floating point by its definition, slowly: values are f128 with the sign of what was cut off, and rounding divides by the spacing of the format.
#pragma once

#include <cstdint>

namespace flexemu::test {

__extension__ typedef __float128 Quad;

enum class Round { Nearest, Away, Zero, Down, Up };
inline constexpr Round kRounds[] = {Round::Nearest, Round::Zero, Round::Down, Round::Up};
/// ".rn", ".rz", ".rm", ".rp" and with an `i`.
const char* spelling(Round round);

/// A number with infinitely many digits, as far as rounding to 64 or fewer bits can tell: `rest` is the sign of exact - value.
struct Exact {
    Quad value = 0;
    int rest = 0;
    bool is_nan = false;
};
Exact exact(Quad value);
/// Sums; the sign of an exact zero depends on the rounding.
Exact sum(Exact a, Exact b, Round round);
Exact product(Exact a, Exact b);
Exact quotient(Exact a, Exact b);

struct Layout {
    int exponent_bits, mantissa_bits;
    bool infinities = true;
};
inline constexpr Layout kLayoutF16{5, 10}, kLayoutBF16{8, 7}, kLayoutTF32{8, 10}, kLayoutF32{8, 23}, kLayoutF64{11, 52}, kLayoutE5M2{5, 2},
    kLayoutE4M3{4, 3, false};

Exact decode(const Layout& layout, uint64_t bits);
/// NaN is the canonical one: all ones but the sign. `saturate_finite`: overflow gives the largest number.
uint64_t encode(const Layout& layout, Exact value, Round round, bool saturate_finite = false);
/// The nearest whole number of the mode, as a value.
Quad whole(Quad value, Round round);
bool is_nan(const Layout& layout, uint64_t bits);
/// Subnormal bits become a zero of their sign.
uint64_t flushed(const Layout& layout, uint64_t bits);
/// [0, 1], NaN and -0 to +0.
uint64_t saturated(const Layout& layout, uint64_t bits);

}  // namespace flexemu::test
