// Rounding against the processor's own directed modes and against exhaustive enumeration; approximate functions against their promised bounds.
#include "emulator/numeric/float.h"

#include <doctest/doctest.h>

#include <cfenv>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "emulator/numeric/approximate.h"

#pragma STDC FENV_ACCESS ON

namespace {

using namespace flexemu::numeric;

struct Random {
    uint64_t state;
    uint64_t next() {
        state = state * 6364136223846793005 + 1442695040888963407;
        uint64_t x = state;
        x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
        return x ^ x >> 33;
    }
};

constexpr Rounding kDirected[] = {Rounding::NearestEven, Rounding::Zero, Rounding::Down, Rounding::Up};
int native(Rounding rounding) {
    switch (rounding) {
        case Rounding::Zero: return FE_TOWARDZERO;
        case Rounding::Down: return FE_DOWNWARD;
        case Rounding::Up: return FE_UPWARD;
        default: return FE_TONEAREST;
    }
}
// Computes with the processor set to the mode; the volatiles keep the compiler from moving the operation out.
template <typename T, typename F>
T in_mode(Rounding rounding, F compute) {
    std::fesetround(native(rounding));
    volatile T result = compute();
    std::fesetround(FE_TONEAREST);
    return result;
}
template <typename T>
bool same(T a, T b) {
    if (a != a) return b != b;
    return std::memcmp(&a, &b, sizeof a) == 0;
}

// Interesting operands: any bits, with exponents often close to each other so that sums cancel, and special values.
float random_f32(Random& random) {
    static constexpr float kSpecial[] = {0.0f,
                                         -0.0f,
                                         1.0f,
                                         -1.0f,
                                         0x1p-149f,
                                         -0x1p-149f,
                                         0x1p-126f,
                                         0x1.fffffcp-127f,
                                         0x1.fffffep127f,
                                         -0x1.fffffep127f,
                                         0x1.fffffep-1f,
                                         std::numeric_limits<float>::infinity(),
                                         -std::numeric_limits<float>::infinity(),
                                         std::numeric_limits<float>::quiet_NaN()};
    const uint64_t r = random.next();
    if (r % 8 == 0) return kSpecial[(r >> 8) % std::size(kSpecial)];
    auto bits = static_cast<uint32_t>(r >> 32);
    if (r % 8 < 5) bits = (bits & 0x807fffff) | static_cast<uint32_t>(120 + (r >> 8) % 14) << 23;
    if (r % 8 == 5) bits &= 0x80ffffff;
    if (r % 64 < 20) bits &= 0xfffff000;
    return std::bit_cast<float>(bits);
}
double random_f64(Random& random) {
    static constexpr double kSpecial[] = {0.0,
                                          -0.0,
                                          1.0,
                                          -1.0,
                                          0x1p-1074,
                                          -0x1p-1074,
                                          0x1p-1022,
                                          0x1.fffffffffffffp1023,
                                          -0x1.fffffffffffffp1023,
                                          std::numeric_limits<double>::infinity(),
                                          -std::numeric_limits<double>::infinity(),
                                          std::numeric_limits<double>::quiet_NaN()};
    const uint64_t r = random.next();
    if (r % 8 == 0) return kSpecial[(r >> 8) % std::size(kSpecial)];
    uint64_t bits = random.next();
    constexpr uint64_t kFraction = (uint64_t{1} << 52) - 1, kSign = uint64_t{1} << 63;
    if (r % 8 < 5) bits = (bits & (kSign | kFraction)) | (1015 + (r >> 8) % 20) << 52;
    if (r % 8 == 5) bits &= kSign | kFraction | uint64_t{7} << 52;
    if (r % 8 == 6) bits = (bits & (kSign | kFraction)) | (480 + (r >> 8) % 60) << 52;
    if (r % 64 < 20) bits &= ~uint64_t{0xffffffff};
    return std::bit_cast<double>(bits);
}

TEST_CASE("f32 arithmetic rounds as the processor does") {
    Random random{1};
    int bad = 0;
    for (int i = 0; i < 200000 && bad < 5; ++i) {
        const float a = random_f32(random), b = random_f32(random), c = random_f32(random);
        for (const Rounding rounding : kDirected) {
            const Mode mode{.rounding = rounding};
            volatile float x = a, y = b, z = c;
            const auto check = [&](const char* name, float got, float want) {
                if (same(got, want)) return;
                ++bad;
                FAIL_CHECK(name << " mode " << static_cast<int>(rounding) << ": " << a << " " << b << " " << c << " gave " << got
                                << ", not " << want);
            };
            check("add", add(a, b, mode), in_mode<float>(rounding, [&] { return x + y; }));
            check("sub", sub(a, b, mode), in_mode<float>(rounding, [&] { return x - y; }));
            check("mul", mul(a, b, mode), in_mode<float>(rounding, [&] { return x * y; }));
            check("div", div(a, b, mode), in_mode<float>(rounding, [&] { return x / y; }));
            check("fma", fma(a, b, c, mode), in_mode<float>(rounding, [&] { return std::fma(float{x}, float{y}, float{z}); }));
            check("sqrt", sqrt(a, mode), in_mode<float>(rounding, [&] { return std::sqrt(float{x}); }));
        }
    }
}

TEST_CASE("f64 arithmetic rounds as the processor does") {
    Random random{2};
    int bad = 0;
    for (int i = 0; i < 200000 && bad < 5; ++i) {
        const double a = random_f64(random), b = random_f64(random), c = random_f64(random);
        for (const Rounding rounding : kDirected) {
            volatile double x = a, y = b, z = c;
            const auto check = [&](const char* name, double got, double want) {
                if (same(got, want)) return;
                ++bad;
                FAIL_CHECK(name << " mode " << static_cast<int>(rounding) << ": " << a << " " << b << " " << c << " gave " << got
                                << ", not " << want);
            };
            check("add", add(a, b, rounding), in_mode<double>(rounding, [&] { return x + y; }));
            check("mul", mul(a, b, rounding), in_mode<double>(rounding, [&] { return x * y; }));
            check("div", div(a, b, rounding), in_mode<double>(rounding, [&] { return x / y; }));
            check("fma", fma(a, b, c, rounding), in_mode<double>(rounding, [&] { return std::fma(double{x}, double{y}, double{z}); }));
            check("sqrt", sqrt(a, rounding), in_mode<double>(rounding, [&] { return std::sqrt(double{x}); }));
        }
    }
}

TEST_CASE("f64 to f32 in all modes") {
    Random random{3};
    for (int i = 0; i < 300000; ++i) {
        double a = random_f64(random);
        if (i % 2 == 0) a = static_cast<double>(random_f32(random)) * (1 + 0x1p-25 * static_cast<double>(random.next() % 64));
        volatile double x = a;
        for (const Rounding rounding : kDirected) {
            const float want = in_mode<float>(rounding, [&] { return static_cast<float>(double{x}); });
            if (!same(to_f32(a, rounding), want)) FAIL("f64 " << a << " to f32, mode " << static_cast<int>(rounding));
        }
    }
}

// All codes of a format, in order, as values: what any rounding must pick from.
void check_format(const Format& format, uint64_t seed, bool satfinite) {
    std::vector<double> values;
    for (uint32_t code = 0; code <= format.largest(); ++code) values.push_back(widen(format, code));
    for (size_t i = 1; i < values.size(); ++i) REQUIRE(values[i] > values[i - 1]);
    REQUIRE(values[0] == 0);
    Random random{seed};
    const auto last = values.size() - 1;
    for (int i = 0; i < 100000; ++i) {
        // A point in or at the ends of one gap: at a value, at its middle, or beside them.
        const size_t at = random.next() % last;
        const double low = values[at], high = values[at + 1], middle = low + (high - low) / 2, nudge = (high - low) * 0x1p-30;
        const double spots[] = {low, low + nudge, middle - nudge, middle, middle + nudge, high - nudge, high};
        const double x = spots[random.next() % 7];
        const bool negative = (random.next() & 1) != 0;
        const auto low_code = static_cast<uint32_t>(at), high_code = low_code + 1;
        const uint32_t sign = negative ? format.sign_bit() : 0;
        for (const Rounding rounding : {Rounding::NearestEven, Rounding::NearestAway, Rounding::Zero, Rounding::Down, Rounding::Up}) {
            uint32_t want = low_code;
            if (x == high)
                want = high_code;
            else if (x != low) {
                if (rounding == Rounding::NearestEven) want = x < middle || (x == middle && low_code % 2 == 0) ? low_code : high_code;
                if (rounding == Rounding::NearestAway) want = x < middle ? low_code : high_code;
                if (rounding == Rounding::Down) want = negative ? high_code : low_code;
                if (rounding == Rounding::Up) want = negative ? low_code : high_code;
            }
            const uint32_t got = round_to(format, negative ? -x : x, rounding, satfinite);
            if (got != (want | sign)) FAIL(x << " mode " << static_cast<int>(rounding) << ": " << got << ", not " << (want | sign));
        }
    }
    // Beyond the largest: half a step more rounds up.
    const double top = values[last], step = top - values[last - 1];
    const uint32_t beyond = satfinite ? format.largest() : format.infinities ? format.infinity() : format.nan();
    CHECK(round_to(format, top + step * 0.49, Rounding::NearestEven, satfinite) == format.largest());
    CHECK(round_to(format, top + step * 0.51, Rounding::NearestEven, satfinite) == beyond);
    CHECK(round_to(format, top * 4, Rounding::Zero, satfinite) == format.largest());
    CHECK(round_to(format, top * 4, Rounding::Up, satfinite) == beyond);
    CHECK(round_to(format, -top * 4, Rounding::Up, satfinite) == (format.sign_bit() | format.largest()));
    CHECK(round_to(format, std::numeric_limits<double>::infinity(), Rounding::NearestEven, satfinite) == beyond);
    CHECK(round_to(format, std::numeric_limits<double>::quiet_NaN(), Rounding::NearestEven, satfinite) == format.nan());
    CHECK(round_to(format, -0.0, Rounding::NearestEven, satfinite) == format.sign_bit());
    CHECK(round_to(format, 0x1p-1074, Rounding::Up, satfinite) == 1);
    CHECK(round_to(format, 0x1p-1074, Rounding::NearestAway, satfinite) == 0);
}

TEST_CASE("narrow formats round to one of their neighbours in every mode") {
    check_format(kF16, 4, false);
    check_format(kBF16, 5, false);
    check_format(kBF16, 5, true);
    check_format(kTF32, 6, true);
    check_format(kE5M2, 7, true);
    check_format(kE4M3, 8, true);
    CHECK(widen(kE4M3, kE4M3.largest()) == 448);
    CHECK(widen(kE5M2, kE5M2.largest()) == 57344);
    CHECK(widen(kF16, kF16.largest()) == 65504);
    CHECK(to_tf32(1.0f + 0x1p-11f, Rounding::NearestAway) == 0x3f802000);
    CHECK(to_tf32(1.0f + 0x1p-11f, Rounding::NearestEven) == 0x3f800000);
    CHECK(to_tf32(canonical_nan(), Rounding::NearestAway) == kCanonicalF32);
}

TEST_CASE("every f16 and bf16 widens exactly") {
    for (uint32_t code = 0; code < 0x10000; ++code) {
        const auto bits = static_cast<uint16_t>(code);
        REQUIRE(same(static_cast<double>(to_f32(F16{bits})), widen(kF16, bits)));
        REQUIRE(same(static_cast<double>(to_f32(BF16{bits})), widen(kBF16, bits)));
        if ((bits & 0x7fff) <= 0x7c00) REQUIRE(to_f16(widen(kF16, bits)).bits == bits);
        if ((bits & 0x7fff) <= 0x7f80) REQUIRE(to_bf16(widen(kBF16, bits)).bits == bits);
    }
}

TEST_CASE("half arithmetic rounds the exact result once") {
    // Exact in 128-bit integers: f16 are multiples of 2^-24 below 2^17, products of 2^-48.
    Random random{9};
    for (int i = 0; i < 300000; ++i) {
        const uint64_t r = random.next();
        const F16 a{static_cast<uint16_t>(r)}, b{static_cast<uint16_t>(r >> 16)}, c{static_cast<uint16_t>(r >> 32)};
        const float x = to_f32(a), y = to_f32(b), z = to_f32(c);
        if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(z)) continue;
        const auto scaled = [](float value) {
            return static_cast<__int128>(static_cast<int64_t>(std::ldexp(static_cast<double>(value), 24)));
        };
        const __int128 product = scaled(x) * scaled(y), sum = product + (scaled(z) << 24);
        const bool negative = sum < 0;
        auto magnitude = static_cast<unsigned __int128>(negative ? -sum : sum);
        // 81 bits to 64 with a sticky bit.
        int exponent = -48;
        while (magnitude >> 60 != 0) magnitude = magnitude >> 1 | (magnitude & 1), ++exponent;
        auto want_value = static_cast<long double>(static_cast<uint64_t>(magnitude));
        // Down to 53 bits, sticky, so that the double holds it.
        auto small = static_cast<uint64_t>(magnitude);
        while (small >> 53 != 0) small = small >> 1 | (small & 1), ++exponent;
        want_value = std::ldexp(static_cast<double>(small), exponent);
        const uint16_t want = to_f16(static_cast<double>(negative ? -want_value : want_value)).bits;
        const uint16_t got = fma(a, b, c).bits;
        if (sum != 0) REQUIRE(got == want);
        REQUIRE(add(a, b).bits == to_f16(static_cast<double>(x) + static_cast<double>(y)).bits);
        REQUIRE(mul(a, b).bits == to_f16(static_cast<double>(x) * static_cast<double>(y)).bits);
    }
    // bf16: c far below the product still decides a tie.
    const BF16 one = to_bf16(1.0), above = to_bf16(1.0 + 0x1p-7), tiny = to_bf16(0x1p-100), half_step = to_bf16(0x1p-8);
    CHECK(add(one, half_step).bits == one.bits);
    CHECK(fma(one, half_step, one).bits == one.bits);
    CHECK(add(above, half_step).bits == to_bf16(1.0 + 0x1p-6).bits);
    const BF16 three = to_bf16(1.5), odd = to_bf16(1.0 + 0x1p-7);  // 1.5 * 1.0078125 = 1.51171875: a tie between two bf16
    CHECK(to_f32(fma(three, odd, BF16{})) == 1.515625f - 0x1p-7f + 0x1p-7f);
    CHECK(to_f32(fma(three, odd, to_bf16(-0x1p-100))) == 1.5078125f);
    CHECK(to_f32(fma(three, odd, tiny)) == 1.515625f);
    CHECK(fma(to_bf16(-1.0), one, BF16{}, {}, true).bits == 0);
    CHECK(fma(F16{0x7e00}, F16{0x3c00}, F16{0}, {}, true).bits == kCanonicalHalf);
}

TEST_CASE("flush to zero and saturation") {
    const float tiny = 0x1p-140f, least = 0x1p-126f;
    CHECK(std::bit_cast<uint32_t>(mul(-tiny, 0x1p30f, {.ftz = true})) == 0x80000000);
    CHECK(mul(-tiny, 0x1p30f) == -0x1p-110f);
    CHECK(std::bit_cast<uint32_t>(mul(-least, 0.5f, {.ftz = true})) == 0x80000000);
    CHECK(fma(1.0f, tiny, 1.0f, {.rounding = Rounding::Up, .ftz = true}) == 1.0f);
    CHECK(fma(1.0f, tiny, 1.0f, {.rounding = Rounding::Up}) > 1.0f);
    CHECK(add(3.0f, 1.0f, {.sat = true}) == 1.0f);
    CHECK(std::bit_cast<uint32_t>(add(-3.0f, 1.0f, {.sat = true})) == 0);
    CHECK(std::bit_cast<uint32_t>(mul(std::numeric_limits<float>::infinity(), 0.0f, {.sat = true})) == 0);
    CHECK(std::bit_cast<uint32_t>(mul(std::numeric_limits<float>::infinity(), 0.0f)) == kCanonicalF32);
    CHECK(add(F16{0x0001}, F16{0x0001}, {.ftz = true}).bits == 0);
    CHECK(add(F16{0x4000}, F16{0x3c00}, {.sat = true}).bits == 0x3c00);
    CHECK(sub(F16{0x7e00}, F16{0x3c00}, {.sat = true}).bits == 0);
}

TEST_CASE("min and max") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::signbit(min(0.0f, -0.0f)));
    CHECK(std::signbit(min(-0.0f, 0.0f)));
    CHECK(!std::signbit(max(-0.0f, 0.0f)));
    CHECK(max(nan, 3.0f) == 3.0f);
    CHECK(min(-3.0f, nan) == -3.0f);
    CHECK(std::bit_cast<uint32_t>(max(nan, 3.0f, {.nan = true})) == kCanonicalF32);
    CHECK(std::bit_cast<uint32_t>(max(nan, nan)) == kCanonicalF32);
    CHECK(max(-5.0f, 3.0f, {.xorsign_abs = true}) == -5.0f);
    CHECK(min(-5.0f, -3.0f, {.xorsign_abs = true}) == 3.0f);
    CHECK(std::bit_cast<uint32_t>(max(0x1p-130f, -0x1p-140f, {.ftz = true})) == 0);
    CHECK(max(F16{0x7e00}, F16{0x3c00}, {.nan = true}).bits == kCanonicalHalf);
    CHECK(min(BF16{0xbf80}, BF16{0x3f80}).bits == 0xbf80);
    CHECK(min(std::numeric_limits<double>::quiet_NaN(), -2.0) == -2.0);
    Random random{10};
    for (int i = 0; i < 10000; ++i) {
        const float a = random_f32(random), b = random_f32(random);
        if (a != a || b != b || a == b) continue;
        REQUIRE(min(a, b) == (a < b ? a : b));
        REQUIRE(max(a, b) == (a < b ? b : a));
    }
}

TEST_CASE("integers from floats") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    CHECK(to_integer(nan, Rounding::Zero, 32, true, false) == 0);
    CHECK(to_integer(nan, Rounding::Zero, 32, true, true) == 0x80000000);
    CHECK(to_integer(nan, Rounding::Zero, 64, false, false) == uint64_t{1} << 63);
    CHECK(to_integer(infinity, Rounding::Zero, 64, true, false) == ~uint64_t{0} >> 1);
    CHECK(to_integer(-infinity, Rounding::Zero, 64, true, false) == uint64_t{1} << 63);
    CHECK(to_integer(infinity, Rounding::Zero, 64, false, true) == ~uint64_t{0});
    CHECK(to_integer(-0.75, Rounding::Down, 32, true, false) == 0xffffffff);
    CHECK(to_integer(-0.75, Rounding::Down, 32, false, false) == 0);
    CHECK(to_integer(300.0, Rounding::Zero, 8, false, false) == 255);
    CHECK(to_integer(-300.0, Rounding::Zero, 8, true, false) == 0x80);
    CHECK(to_integer(2147483647.5, Rounding::NearestEven, 32, true, true) == 0x7fffffff);
    CHECK(to_integer(4294967295.0, Rounding::NearestEven, 32, false, true) == 0xffffffff);
    const double halves[] = {0.5, 1.5, 2.5, -0.5, -1.5, -2.5};
    const int64_t even[] = {0, 2, 2, 0, -2, -2};
    for (size_t i = 0; i < 6; ++i) CHECK(static_cast<int64_t>(to_integer(halves[i], Rounding::NearestEven, 64, true, true)) == even[i]);
    Random random{11};
    for (int i = 0; i < 100000; ++i) {
        double a = random_f64(random);
        volatile double x = a;
        for (const Rounding rounding : kDirected)
            REQUIRE(same(round_to_integral(a, rounding), in_mode<double>(rounding, [&] { return std::nearbyint(double{x}); })));
    }
}

TEST_CASE("floats from integers") {
    Random random{12};
    for (int i = 0; i < 200000; ++i) {
        uint64_t bits = random.next() >> (random.next() % 64);
        if (i % 3 == 0) bits = ~bits;
        volatile uint64_t u = bits;
        volatile auto s = static_cast<int64_t>(bits);
        const bool negative = s < 0;
        const uint64_t magnitude = negative ? ~bits + 1 : bits;
        for (const Rounding rounding : kDirected) {
            REQUIRE(integer_to_f64(negative, magnitude, rounding) ==
                    in_mode<double>(rounding, [&] { return static_cast<double>(int64_t{s}); }));
            REQUIRE(integer_to_f32(negative, magnitude, rounding) ==
                    in_mode<float>(rounding, [&] { return static_cast<float>(int64_t{s}); }));
            if (bits >> 63 == 0) continue;
            // The compiler's own conversion of large unsigned numbers is right in the nearest mode alone.
            if (rounding == Rounding::NearestEven) REQUIRE(integer_to_f64(false, bits, rounding) == static_cast<double>(uint64_t{u}));
        }
    }
    CHECK(integer_to(kF16, false, 70000, Rounding::NearestEven) == kF16.infinity());
    CHECK(integer_to(kF16, true, 70000, Rounding::NearestEven, true) == (0x8000u | kF16.largest()));
    CHECK(integer_to(kBF16, false, 257, Rounding::NearestEven) == to_bf16(256).bits);
    CHECK(integer_to(kF32, false, (uint64_t{1} << 63) + (uint64_t{1} << 39) + 1, Rounding::NearestEven) == 0x5f000001);
    CHECK(integer_to(kF32, false, (uint64_t{1} << 63) + (uint64_t{1} << 39), Rounding::NearestEven) == 0x5f000000);
}

double ulp32(double value) {
    const int exponent = std::ilogb(value);
    return std::ldexp(1.0, (exponent < -126 ? -126 : exponent) - 23);
}

struct Worst {
    double error = 0, part_inexact = 0;
};
// Runs over operands of a range and returns the largest error in units of the bound, and how often the result is not the nearest.
template <typename Approximate, typename Exact, typename Bound>
Worst worst_of(float low, float high, Approximate approximate, Exact exact, Bound bound) {
    Worst worst;
    Random random{13};
    int count = 0, moved = 0;
    for (int i = 0; i < 40000; ++i, ++count) {
        const double t = static_cast<double>(random.next() >> 11) * 0x1p-53;
        const float x = i % 2 == 0 || low <= 0
                            ? static_cast<float>(static_cast<double>(low) + t * (static_cast<double>(high) - static_cast<double>(low)))
                            : static_cast<float>(std::exp(std::log(low) + t * (std::log(high) - std::log(low))));
        const double want = exact(static_cast<double>(x)), got = static_cast<double>(approximate(x));
        const double error = std::fabs(got - want) / bound(static_cast<double>(x), want);
        if (error > worst.error) worst.error = error;
        if (static_cast<float>(want) != static_cast<float>(got)) ++moved;
    }
    worst.part_inexact = static_cast<double>(moved) / count;
    return worst;
}

TEST_CASE("approximate functions use their bound and keep it") {
    const auto relative = [](int exponent) { return [exponent](double, double want) { return std::ldexp(std::fabs(want), exponent); }; };
    const auto ulps = [](double count) { return [count](double, double want) { return count * ulp32(want); }; };
    const auto check = [](const char* name, Worst worst) {
        CAPTURE(name);
        CHECK(worst.error <= 1.0);
        CHECK(worst.error > 0.8);
        CHECK(worst.part_inexact > 0.2);
    };
    check("ex2", worst_of(-130, 127, [](float x) { return ex2_approx(x, false); }, [](double x) { return std::exp2(x); }, ulps(2)));
    check("rcp", worst_of(1e-30f, 1e30f, [](float x) { return rcp_approx(x, false); }, [](double x) { return 1 / x; }, ulps(1)));
    check("rsqrt", worst_of(
                       1e-30f, 1e30f, [](float x) { return rsqrt_approx(x, false); }, [](double x) { return 1 / std::sqrt(x); },
                       [](double, double want) { return want * std::exp2(-22.9); }));
    check("sqrt",
          worst_of(1e-30f, 1e30f, [](float x) { return sqrt_approx(x, false); }, [](double x) { return std::sqrt(x); }, relative(-23)));
    check("lg2 near one", worst_of(
                              0.5001f, 1.9999f, [](float x) { return lg2_approx(x, false); }, [](double x) { return std::log2(x); },
                              [](double, double) { return 0x1p-22; }));
    check("lg2", worst_of(2.0f, 1e30f, [](float x) { return lg2_approx(x, false); }, [](double x) { return std::log2(x); }, relative(-22)));
    check("sin", worst_of(
                     -6.28f, 6.28f, [](float x) { return sin_approx(x, false); }, [](double x) { return std::sin(x); },
                     [](double, double) { return std::exp2(-20.5); }));
    check("cos", worst_of(
                     -314.0f, 314.0f, [](float x) { return cos_approx(x, false); }, [](double x) { return std::cos(x); },
                     [](double x, double) { return std::exp2(std::fabs(x) <= 6.2831853 ? -20.5 : -14.7); }));
    check("tanh", worst_of(-4.0f, 4.0f, [](float x) { return tanh_approx(x); }, [](double x) { return std::tanh(x); }, relative(-11)));
    check("div", worst_of(
                     1e-20f, 1e20f, [](float x) { return div_approx(1.7f, x, false); },
                     [](double x) { return static_cast<double>(1.7f) / x; }, ulps(2)));
    check("div.full", worst_of(
                          1e-38f, 1e38f, [](float x) { return div_full(1e-3f, x, false); },
                          [](double x) { return static_cast<double>(1e-3f) / x; }, ulps(2)));
    for (uint32_t code = 0; code < 0x10000; ++code) {
        const F16 h{static_cast<uint16_t>(code)};
        const BF16 b{static_cast<uint16_t>(code)};
        const auto hx = static_cast<double>(to_f32(h)), bx = static_cast<double>(to_f32(b));
        if (std::isfinite(hx)) REQUIRE(std::fabs(static_cast<double>(to_f32(tanh_approx(h))) - std::tanh(hx)) <= std::exp2(-10.987));
        if (std::isfinite(bx) && std::fabs(bx) > 1e-37)
            REQUIRE(std::fabs(static_cast<double>(to_f32(tanh_approx(b))) / std::tanh(bx) - 1) <= 0x1p-8);
        if (hx >= -14 && hx < 15.9) REQUIRE(std::fabs(static_cast<double>(to_f32(ex2_approx(h))) / std::exp2(hx) - 1) <= std::exp2(-9.9));
        if (bx >= -120 && bx < 127) REQUIRE(std::fabs(static_cast<double>(to_f32(ex2_approx(b))) / std::exp2(bx) - 1) <= 0x1p-7);
    }
}

TEST_CASE("special values of approximate functions") {
    const float infinity = std::numeric_limits<float>::infinity(), nan = canonical_nan(), tiny = 0x1p-140f;
    const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
    CHECK(ex2_approx(-infinity, false) == 0.0f);
    CHECK(ex2_approx(infinity, false) == infinity);
    CHECK(ex2_approx(-0.0f, false) == 1.0f);
    CHECK(ex2_approx(-tiny, false) == 1.0f);
    CHECK(ex2_approx(-130.0f, true) == 0.0f);
    CHECK(ex2_approx(-130.0f, false) > 0.0f);
    CHECK(bits(ex2_approx(nan, false)) == kCanonicalF32);
    CHECK(lg2_approx(-0.0f, false) == -infinity);
    CHECK(lg2_approx(-1.0f, false) != lg2_approx(-1.0f, false));
    CHECK(lg2_approx(-tiny, true) == -infinity);
    CHECK(lg2_approx(-tiny, false) != lg2_approx(-tiny, false));
    CHECK(std::fabs(lg2_approx(tiny, false) + 140.0f) < 1e-4f);
    CHECK(lg2_approx(infinity, false) == infinity);
    CHECK(bits(rcp_approx(-infinity, false)) == 0x80000000);
    CHECK(rcp_approx(-0.0f, false) == -infinity);
    CHECK(rcp_approx(-tiny, true) == -infinity);
    CHECK(bits(rcp_approx(0x1.8p127f, true)) == 0);
    CHECK(rsqrt_approx(-0.0f, false) == -infinity);
    CHECK(rsqrt_approx(infinity, false) == 0.0f);
    CHECK(rsqrt_approx(-1.0f, false) != rsqrt_approx(-1.0f, false));
    CHECK(rsqrt_approx(-tiny, true) == -infinity);
    CHECK(bits(sqrt_approx(-0.0f, false)) == 0x80000000);
    CHECK(sqrt_approx(-1.0f, false) != sqrt_approx(-1.0f, false));
    CHECK(bits(sin_approx(-0.0f, false)) == 0x80000000);
    CHECK(sin_approx(infinity, false) != sin_approx(infinity, false));
    CHECK(cos_approx(tiny, true) == 1.0f);
    CHECK(cos_approx(-infinity, true) != cos_approx(-infinity, true));
    CHECK(tanh_approx(-infinity) == -1.0f);
    CHECK(bits(tanh_approx(-0.0f)) == 0x80000000);
    CHECK(tanh_approx(tiny) == tiny);
    CHECK(tanh_approx(F16{0xfc00}).bits == 0xbc00);
    CHECK(tanh_approx(F16{0x7e01}).bits == kCanonicalHalf);
    CHECK(ex2_approx(BF16{0xff80}).bits == 0);
    CHECK(ex2_approx(F16{0x7c00}).bits == 0x7c00);
    CHECK(div_approx(1.0f, 0.0f, false) == infinity);
    CHECK(bits(div_approx(-1.0f, 0x1.8p126f, false)) == 0x80000000);
    CHECK(div_approx(infinity, 0x1.8p126f, false) != div_approx(infinity, 0x1.8p126f, false));
    CHECK(div_full(0x1p127f, 0x1.8p126f, false) > 1.3f);
    CHECK(rcp_approx_f64(-0.0) == -std::numeric_limits<double>::infinity());
    CHECK(std::fabs(rcp_approx_f64(3.0) * 3.0 - 1) < 0x1p-19);
    CHECK((std::bit_cast<uint64_t>(rsqrt_approx_f64(3.7)) & 0xffffffff) == 0);
    CHECK(std::fabs(rsqrt_approx_f64(3.7) * std::sqrt(3.7) - 1) < 0x1p-19);
}

}  // namespace
