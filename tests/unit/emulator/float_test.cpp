// Floating-point arithmetic, minima, approximate functions and properties.
#include "tests/unit/emulator/float_reference.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <functional>
#include <optional>

#include "tests/unit/emulator/trial.h"

using namespace flexemu::test;

namespace {

constexpr size_t kCount = 1536;

struct Kind {
    const char* name;
    char reg;
    Layout layout;
    bool pair;
};
constexpr Kind kKinds[] = {
    {"f32", 'r', kLayoutF32, false},  {"f64", 'd', kLayoutF64, false},   {"f16", 'h', kLayoutF16, false},
    {"f16x2", 'r', kLayoutF16, true}, {"bf16", 'h', kLayoutBF16, false}, {"bf16x2", 'r', kLayoutBF16, true},
};

Values samples_of(Samples* samples, const Layout& layout, size_t count) {
    switch (layout.exponent_bits * 100 + layout.mantissa_bits) {
        case 823: return samples->f32(count);
        case 1152: return samples->f64(count);
        case 510: return samples->f16(count);
        default: return samples->bf16(count);
    }
}

using Reference = std::function<uint64_t(const std::vector<uint64_t>&)>;

/// `reference` works on single values; pairs are taken apart here. NaN results are compared by bits but for f64, where the payload is open.
void check(const std::string& text, const Kind& kind, int sources, const Reference& reference, const std::string& target = "sm_90") {
    Samples samples(static_cast<uint32_t>(std::hash<std::string>()(text)));
    std::vector<Input> inputs;
    for (int i = 1; i <= sources; ++i) {
        Values values = samples_of(&samples, kind.layout, kCount);
        if (kind.pair) values = samples.pairs(values, samples_of(&samples, kind.layout, kCount));
        inputs.push_back({fmt::format("{}{}", kind.reg, i), std::move(values)});
    }
    // Sums that cancel.
    if (sources > 1)
        for (size_t i = 0; i < kCount; i += 16)
            inputs[1].values[i] =
                inputs[0].values[i] ^ (kind.pair ? 0x80008000 : uint64_t{1} << (kind.layout.exponent_bits + kind.layout.mantissa_bits));
    const Values results = run(text, inputs, {fmt::format("{}0", kind.reg)}, target)[0];
    size_t wrong = 0;
    for (size_t i = 0; i < kCount && wrong < 3; ++i) {
        for (int half = 0; half < (kind.pair ? 2 : 1); ++half) {
            std::vector<uint64_t> values;
            for (const Input& input : inputs) values.push_back(kind.pair ? input.values[i] >> (16 * half) & 0xffff : input.values[i]);
            const uint64_t got = kind.pair ? results[i] >> (16 * half) & 0xffff : results[i], expected = reference(values);
            if (got == expected || (kind.reg == 'd' && is_nan(kind.layout, got) && is_nan(kind.layout, expected))) continue;
            ++wrong;
            FAIL_CHECK(fmt::format("{} of {:#x}: {:#x}, expected {:#x}", text, fmt::join(values, ", "), got, expected));
        }
    }
    CHECK(wrong == 0);
}

std::string instruction(const std::string& opcode, const Kind& kind, int sources) {
    std::string text = fmt::format("{}.{} {}0", opcode, kind.name, kind.reg);
    for (int i = 1; i <= sources; ++i) text += fmt::format(", {}{}", kind.reg, i);
    return text + ";";
}

struct Variant {
    Round round;
    bool ftz, sat, relu;
};

/// The modifiers of a variant, in the order of the ISA.
std::string suffix(const Variant& variant, bool with_round) {
    std::string text;
    if (with_round) text += std::string(".") + spelling(variant.round);
    if (variant.ftz) text += ".ftz";
    if (variant.sat) text += ".sat";
    if (variant.relu) text += ".relu";
    return text;
}

std::vector<Variant> variants(const Kind& kind, bool with_relu) {
    std::vector<Variant> result;
    const bool is_f64 = kind.reg == 'd', is_f32 = kind.layout.mantissa_bits == 23, is_f16 = kind.layout.exponent_bits == 5;
    for (const Round round : kRounds) {
        if (!is_f32 && !is_f64 && round != Round::Nearest) continue;
        result.push_back({round, false, false, false});
        if (is_f32 || is_f16) {
            result.push_back({round, true, false, false});
            result.push_back({round, true, true, false});
            result.push_back({round, false, true, false});
        }
        if (with_relu && !is_f32 && !is_f64) result.push_back({round, false, false, true});
    }
    return result;
}

/// Operands flushed, the exact result rounded, then .ftz, .sat, .relu.
uint64_t finished(const Kind& kind, const Variant& variant, const Exact& value) {
    uint64_t bits = encode(kind.layout, value, variant.round);
    if (variant.ftz) bits = flushed(kind.layout, bits);
    if (variant.sat) bits = saturated(kind.layout, bits);
    if (variant.relu && !is_nan(kind.layout, bits) && !(decode(kind.layout, bits).value > 0)) bits = 0;
    return bits;
}
Exact operand(const Kind& kind, const Variant& variant, uint64_t bits) {
    return decode(kind.layout, variant.ftz ? flushed(kind.layout, bits) : bits);
}
Exact negated(Exact value) {
    return {-value.value, -value.rest, value.is_nan};
}

}  // namespace

TEST_CASE("the reference rounds like the processor") {
    Samples samples(1);
    const Values a = samples.f64(4000), b = samples.f64(4000);
    for (size_t i = 0; i < a.size(); ++i) {
        const double x = std::bit_cast<double>(a[i]), y = std::bit_cast<double>(b[i]);
        const auto same = [](uint64_t bits, double value) {
            return std::bit_cast<double>(bits) == value || (is_nan(kLayoutF64, bits) && value != value);
        };
        const Exact ex = decode(kLayoutF64, a[i]), ey = decode(kLayoutF64, b[i]);
        CHECK(same(encode(kLayoutF64, sum(ex, ey, Round::Nearest), Round::Nearest), x + y));
        CHECK(same(encode(kLayoutF64, product(ex, ey), Round::Nearest), x * y));
        CHECK(same(encode(kLayoutF64, quotient(ex, ey), Round::Nearest), x / y));
        CHECK(same(encode(kLayoutF64, sum(product(ex, ey), decode(kLayoutF64, a[(i + 1) % a.size()]), Round::Nearest), Round::Nearest),
                   std::fma(x, y, std::bit_cast<double>(a[(i + 1) % a.size()]))));
        const float narrow = static_cast<float>(x);
        const auto bits = static_cast<uint32_t>(encode(kLayoutF32, ex, Round::Nearest));
        CHECK((std::bit_cast<float>(bits) == narrow || narrow != narrow));
    }
}

TEST_CASE("add, sub, mul, fma") {
    for (const Kind& kind : kKinds) {
        for (const Variant& variant : variants(kind, false)) {
            const auto in = [=](uint64_t bits) { return operand(kind, variant, bits); };
            check(instruction("add" + suffix(variant, true), kind, 2), kind, 2,
                  [=](const auto& v) { return finished(kind, variant, sum(in(v[0]), in(v[1]), variant.round)); });
            check(instruction("sub" + suffix(variant, true), kind, 2), kind, 2,
                  [=](const auto& v) { return finished(kind, variant, sum(in(v[0]), negated(in(v[1])), variant.round)); });
            check(instruction("mul" + suffix(variant, true), kind, 2), kind, 2,
                  [=](const auto& v) { return finished(kind, variant, product(in(v[0]), in(v[1]))); });
        }
        for (const Variant& variant : variants(kind, true)) {
            const auto in = [=](uint64_t bits) { return operand(kind, variant, bits); };
            check(instruction("fma" + suffix(variant, true), kind, 3), kind, 3,
                  [=](const auto& v) { return finished(kind, variant, sum(product(in(v[0]), in(v[1])), in(v[2]), variant.round)); });
        }
    }
    const Kind& f32 = kKinds[0];
    const auto in = [&](uint64_t bits) { return decode(f32.layout, bits); };
    check("add.f32 r0, r1, r2;", f32, 2,
          [&](const auto& v) { return encode(f32.layout, sum(in(v[0]), in(v[1]), Round::Nearest), Round::Nearest); });
    check("mad.rz.f32 r0, r1, r2, r3;", f32, 3,
          [&](const auto& v) { return encode(f32.layout, sum(product(in(v[0]), in(v[1])), in(v[2]), Round::Zero), Round::Zero); });
}

TEST_CASE("div, rcp, sqrt") {
    for (const Kind& kind : {kKinds[0], kKinds[1]}) {
        for (const Variant& variant : variants(kind, false)) {
            if (variant.sat) continue;
            const auto in = [=](uint64_t bits) { return operand(kind, variant, bits); };
            check(instruction("div" + suffix(variant, true), kind, 2), kind, 2,
                  [=](const auto& v) { return finished(kind, variant, quotient(in(v[0]), in(v[1]))); });
            check(instruction("rcp" + suffix(variant, true), kind, 1), kind, 1,
                  [=](const auto& v) { return finished(kind, variant, quotient(exact(1), in(v[0]))); });
            check(instruction("sqrt" + suffix(variant, true), kind, 1), kind, 1, [=](const auto& v) {
                const Exact value = in(v[0]);
                if (value.is_nan || value.value < 0) return encode(kind.layout, {0, 0, true}, variant.round);
                if (value.value == 0 || value.value - value.value != 0) return finished(kind, variant, value);
                // Newton's iteration from the root of a double that is near; the rest comes from comparing the square.
                int scale = 0;
                Quad scaled = value.value;
                for (; scaled < 1; scale -= 1) scaled *= 4;
                for (; scaled >= 4; scale += 1) scaled /= 4;
                auto root = static_cast<Quad>(std::sqrt(static_cast<double>(scaled)));
                for (int i = 0; i < 3; ++i) root = (root + scaled / root) / 2;
                // Cut to 64 bits, so that its square is exact enough to compare.
                constexpr Quad kGrid = 0x1p64;
                root = static_cast<Quad>(static_cast<unsigned __int128>(root * kGrid)) / kGrid;
                Exact result = exact(root);
                const Quad half = static_cast<Quad>(static_cast<uint64_t>(root * 0x1p32)) / 0x1p32, low = root - half;
                const Quad remainder = ((scaled - half * half) - 2 * half * low) - low * low;
                result.rest = remainder > 0 ? 1 : remainder < 0 ? -1 : 0;
                for (; scale < 0; ++scale) result.value /= 2;
                for (; scale > 0; --scale) result.value *= 2;
                return finished(kind, variant, result);
            });
        }
    }
}

TEST_CASE("min and max") {
    for (const Kind& kind : kKinds) {
        const bool is_f64 = kind.reg == 'd';
        for (const bool is_min : {true, false}) {
            for (const bool nan : {false, true}) {
                for (const bool xorsign : {false, true}) {
                    for (const bool ftz : {false, true}) {
                        if (is_f64 && (nan || xorsign || ftz)) continue;
                        if (ftz && kind.layout.mantissa_bits == 7) continue;
                        const uint64_t sign_bit = uint64_t{1} << (kind.layout.exponent_bits + kind.layout.mantissa_bits);
                        const std::string opcode = fmt::format("{}{}{}{}", is_min ? "min" : "max", ftz ? ".ftz" : "", nan ? ".NaN" : "",
                                                               xorsign ? ".xorsign.abs" : "");
                        check(instruction(opcode, kind, 2), kind, 2, [=](const auto& v) {
                            uint64_t a = ftz ? flushed(kind.layout, v[0]) : v[0], b = ftz ? flushed(kind.layout, v[1]) : v[1];
                            const bool a_nan = is_nan(kind.layout, a), b_nan = is_nan(kind.layout, b);
                            if ((a_nan && b_nan) || (nan && (a_nan || b_nan))) return sign_bit - 1;
                            const uint64_t sign = xorsign ? (a ^ b) & sign_bit : 0;
                            if (xorsign) a &= ~sign_bit, b &= ~sign_bit;
                            if (a_nan) return sign | b;
                            if (b_nan) return sign | a;
                            const Quad x = decode(kind.layout, a).value, y = decode(kind.layout, b).value;
                            const bool a_first = x < y || (x == y && (a & sign_bit) != 0);
                            return sign | (a_first == is_min ? a : b);
                        });
                    }
                }
            }
        }
    }
}

TEST_CASE("abs, neg, copysign, testp") {
    for (const Kind& kind : kKinds) {
        const uint64_t sign_bit = uint64_t{1} << (kind.layout.exponent_bits + kind.layout.mantissa_bits);
        for (const bool ftz : {false, true}) {
            if (ftz && (kind.reg == 'd' || kind.layout.mantissa_bits == 7)) continue;
            const auto in = [=](uint64_t bits) { return ftz ? flushed(kind.layout, bits) : bits; };
            check(instruction(ftz ? "abs.ftz" : "abs", kind, 1), kind, 1, [=](const auto& v) { return in(v[0]) & ~sign_bit; });
            check(instruction(ftz ? "neg.ftz" : "neg", kind, 1), kind, 1, [=](const auto& v) { return in(v[0]) ^ sign_bit; });
        }
        if (kind.layout.mantissa_bits < 23) continue;
        check(instruction("copysign", kind, 2), kind, 2, [=](const auto& v) { return (v[0] & sign_bit) | (v[1] & ~sign_bit); });
        Samples samples(7);
        const Values values = samples_of(&samples, kind.layout, kCount);
        const auto property = [&](const char* name, const std::function<bool(Quad, uint64_t)>& holds) {
            const Values got =
                run(fmt::format("testp.{}.{} p0, {}1;", name, kind.name, kind.reg), {{fmt::format("{}1", kind.reg), values}}, {"p0"})[0];
            for (size_t i = 0; i < kCount; ++i)
                CHECK_MESSAGE(got[i] == static_cast<uint64_t>(holds(decode(kind.layout, values[i]).value, values[i])), name, " ",
                              values[i]);
        };
        const auto nan = [&](uint64_t bits) { return is_nan(kind.layout, bits); };
        const auto infinite = [&](uint64_t bits) {
            return (bits & ~sign_bit) == encode(kind.layout, exact(Quad{1} / Quad{0}), Round::Nearest);
        };
        const auto subnormal = [&](uint64_t bits) { return (bits & ~sign_bit) != 0 && flushed(kind.layout, bits) != bits; };
        property("finite", [&](Quad, uint64_t bits) { return !nan(bits) && !infinite(bits); });
        property("infinite", [&](Quad, uint64_t bits) { return infinite(bits); });
        property("number", [&](Quad, uint64_t bits) { return !nan(bits); });
        property("notanumber", [&](Quad, uint64_t bits) { return nan(bits); });
        property("normal", [&](Quad, uint64_t bits) { return !nan(bits) && !infinite(bits) && !subnormal(bits); });
        property("subnormal", [&](Quad, uint64_t bits) { return subnormal(bits); });
    }
}

TEST_CASE("approximate functions keep to their bounds") {
    struct Function {
        const char* text;
        double (*exact)(double);
        double relative, absolute;  // either may hold
        double from, to;
    };
    const Function kFunctions[] = {
        {"ex2.approx", [](double x) { return std::exp2(x); }, 0x1p-21, 0, -100, 100},
        {"lg2.approx", [](double x) { return std::log2(x); }, 0x1p-21, 0x1p-21, 1e-30, 1e30},
        {"rcp.approx", [](double x) { return 1 / x; }, 0x1p-22, 0, -1e6, 1e6},
        {"rsqrt.approx", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22, 0, 0.001, 1e6},
        {"sqrt.approx", [](double x) { return std::sqrt(x); }, 0x1p-22, 0, 0, 1e6},
        {"sin.approx", [](double x) { return std::sin(x); }, 0, 0x1p-20, -6.28, 6.28},
        {"cos.approx", [](double x) { return std::cos(x); }, 0, 0x1p-20, -6.28, 6.28},
    };
    Samples samples(3);
    for (const Function& function : kFunctions) {
        Values values(kCount);
        for (uint64_t& value : values) {
            value = std::bit_cast<uint32_t>(static_cast<float>(
                function.from + (function.to - function.from) * static_cast<double>(samples.random()() % 1000003) / 1000003));
        }
        for (const char* ftz : {"", ".ftz"}) {
            const std::string text = fmt::format("{}{}.f32 r0, r1;", function.text, ftz);
            const Values got = run(text, {{"r1", values}}, {"r0"})[0];
            for (size_t i = 0; i < kCount; ++i) {
                const double x = static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(values[i])));
                const double y = static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(got[i]))), expected = function.exact(x);
                const double error = std::fabs(y - expected);
                CHECK_MESSAGE((error <= function.absolute || error <= function.relative * std::fabs(expected) || y == expected), text,
                              " of ", x, ": ", y, ", ", expected);
            }
        }
    }
    const auto one = [](const std::string& text, const std::string& in, uint64_t bits, const std::string& out) {
        return run(text, {{in, {bits}}}, {out})[0][0];
    };
    CHECK(one("ex2.approx.f32 r0, r1;", "r1", 0xff800000, "r0") == 0);
    CHECK(one("ex2.approx.f32 r0, r1;", "r1", 0, "r0") == 0x3f800000);
    CHECK(one("ex2.approx.ftz.f32 r0, r1;", "r1", std::bit_cast<uint32_t>(-130.0F), "r0") == 0);
    CHECK(one("ex2.approx.f32 r0, r1;", "r1", std::bit_cast<uint32_t>(-130.0F), "r0") != 0);
    CHECK(one("ex2.approx.ftz.f32 r0, r1;", "r1", std::bit_cast<uint32_t>(-3.0F), "r0") == std::bit_cast<uint32_t>(0.125F));
    CHECK(one("lg2.approx.f32 r0, r1;", "r1", 0, "r0") == 0xff800000);
    CHECK(one("rcp.approx.ftz.f32 r0, r1;", "r1", 1, "r0") == 0x7f800000);
    CHECK(one("rcp.approx.f32 r0, r1;", "r1", 0x3fffffff, "r0") == 0x3f000001);  // no power of two
    CHECK(one("rcp.approx.f32 r0, r1;", "r1", 0x40800000, "r0") == 0x3e800000);
    CHECK(std::fabs(std::bit_cast<double>(one("rsqrt.approx.ftz.f64 d0, d1;", "d1", std::bit_cast<uint64_t>(0.25), "d0")) - 2) <
          0x1p-19 * 2);
    CHECK(std::fabs(std::bit_cast<double>(one("rcp.approx.ftz.f64 d0, d1;", "d1", std::bit_cast<uint64_t>(8.0), "d0")) - 0.125) <
          0x1p-19 * 0.125);
    CHECK(one("tanh.approx.f32 r0, r1;", "r1", 0x7f800000, "r0") == 0x3f800000);
    CHECK(
        std::fabs(static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(one("tanh.approx.f32 r0, r1;", "r1", 0x3f000000, "r0")))) -
                  std::tanh(0.5)) < 0x1p-11);
    // Pairs: both halves, each as the scalar form gives it.
    for (const char* opcode : {"ex2.approx", "tanh.approx"}) {
        for (const auto& [scalar, low, high] : {std::tuple{"f16", 0x3800U, 0xbc00U}, {"bf16", 0x3f00U, 0xbf80U}}) {
            const std::string spelled =
                fmt::format("{}{}.{}", opcode, std::string(scalar) == "bf16" && opcode[0] == 'e' ? ".ftz" : "", scalar);
            const uint64_t both = one(fmt::format("{}x2 r0, r1;", spelled), "r1", high << 16 | low, "r0");
            CHECK((both & 0xffff) == one(spelled + " h0, h1;", "h1", low, "h0"));
            CHECK((both >> 16) == one(spelled + " h0, h1;", "h1", high, "h0"));
            CHECK((both & 0xffff) != (both >> 16));
        }
    }
    // 3 / 2, and the same of subnormals.
    const uint64_t of_subnormals = one("div.approx.f32 r0, r1, 0f00000010;", "r1", 0x00000018, "r0") - 0x3fc00000 + 2;
    CHECK(of_subnormals <= 4);
    for (const char* text : {"div.approx.f32 r0, r1, 0f40000000;", "div.full.ftz.f32 r0, r1, 0f40000000;"}) {
        const uint64_t from_1_5 = one(text, "r1", 0x40400000, "r0") - 0x3fc00000 + 2;
        CHECK(from_1_5 <= 4);
    }
}

TEST_CASE("refused float instructions") {
    CHECK(refusal("add.rn.sat.f64 d0, d1, d2;").find("`.sat` is not known") != std::string::npos);
    CHECK(refusal("fma.f32 r0, r1, r2, r3;").find("needs a rounding like `.rn`") != std::string::npos);
    CHECK(refusal("add.rz.f16 h0, h1, h2;").find("halves are rounded by `.rn` alone") != std::string::npos);
    CHECK(refusal("add.bf16 h0, h1, h2;", "sm_80").find("needs `.target sm_90` or later") != std::string::npos);
    CHECK(refusal("ex2.f32 r0, r1;").find("`ex2` needs `.approx`") != std::string::npos);
    CHECK(refusal("sqrt.approx.f64 d0, d1;").find("of f64 there is") != std::string::npos);
    CHECK(refusal("max.NaN.f64 d0, d1, d2;").find("`.NaN` is not known") != std::string::npos);
    CHECK(refusal("sin.approx.ftz.f32 r0, r1;").empty());
}
