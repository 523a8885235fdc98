// cvt between all pairs of types, by definition.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/unit/emulator/float_reference.h"
#include "tests/unit/emulator/trial.h"

using namespace flexemu::test;

namespace {

constexpr size_t kCount = 1024;
__extension__ typedef __int128 Wide;

struct Integer {
    const char* name;
    int width;
    bool is_signed;
    [[nodiscard]] char reg() const { return width <= 16 ? 'h' : width == 32 ? 'r' : 'd'; }
    [[nodiscard]] Wide value(uint64_t bits) const {
        const uint64_t low = width == 64 ? bits : bits & ((uint64_t{1} << width) - 1);
        return is_signed && (low >> (width - 1) & 1) != 0 ? Wide{low} - (Wide{1} << width) : Wide{low};
    }
    [[nodiscard]] Wide most() const { return (Wide{1} << (is_signed ? width - 1 : width)) - 1; }
    [[nodiscard]] Wide least() const { return is_signed ? -most() - 1 : 0; }
    /// As it lies in a register of the width: with its sign.
    [[nodiscard]] uint64_t placed(Wide any, int register_width) const {
        const auto bits = static_cast<uint64_t>(value(static_cast<uint64_t>(any)));
        return register_width == 64 ? bits : bits & ((uint64_t{1} << register_width) - 1);
    }
};
constexpr Integer kIntegers[] = {{"u8", 8, false}, {"u16", 16, false}, {"u32", 32, false}, {"u64", 64, false},
                                 {"s8", 8, true},  {"s16", 16, true},  {"s32", 32, true},  {"s64", 64, true}};

struct Float {
    const char* name;
    Layout layout;
    int width;
    [[nodiscard]] char reg() const { return width == 16 ? 'h' : width == 32 ? 'r' : 'd'; }
};
constexpr Float kFloats[] = {{"f16", kLayoutF16, 16}, {"bf16", kLayoutBF16, 16}, {"f32", kLayoutF32, 32}, {"f64", kLayoutF64, 64}};

int register_width(char reg) {
    return reg == 'h' ? 16 : reg == 'r' ? 32 : 64;
}

Values samples_of(Samples* samples, const Float& kind, size_t count) {
    if (kind.width == 64) {
        // Half of them near f32, so that narrowing sees ordinary values and ties.
        Values values = samples->f64(count), near = samples->f32(count);
        for (size_t i = 0; i < count; i += 2) {
            const uint64_t wide = encode(kLayoutF64, decode(kLayoutF32, near[i]), Round::Nearest);
            values[i] = wide + (samples->random()() % 3 - 1);
        }
        return values;
    }
    if (kind.width == 32) {
        // Near the halves, likewise.
        Values values = samples->f32(count), half = samples->f16(count), brain = samples->bf16(count);
        for (size_t i = 0; i < count; i += 2) {
            const Exact value = i % 4 == 0 ? decode(kLayoutF16, half[i]) : decode(kLayoutBF16, brain[i]);
            values[i] =
                (encode(kLayoutF32, value, Round::Nearest) + (i % 8 < 4 ? 0x1000 : 0x8000) * (i % 3) + (samples->random()() % 3 - 1)) &
                0xffffffff;
        }
        return values;
    }
    return kind.layout.exponent_bits == 5 ? samples->f16(count) : samples->bf16(count);
}

template <typename Reference>
void check(const std::string& text, const Values& values, char from, char to, Reference reference, bool nan_is_open = false) {
    const Values got = run(text, {{fmt::format("{}1", from), values}}, {fmt::format("{}0", to)})[0];
    size_t wrong = 0;
    for (size_t i = 0; i < values.size() && wrong < 3; ++i) {
        const uint64_t expected = reference(values[i]);
        if (got[i] == expected || (nan_is_open && is_nan(kLayoutF64, got[i]) && is_nan(kLayoutF64, expected))) continue;
        ++wrong;
        FAIL_CHECK(fmt::format("{} of {:#x}: {:#x}, expected {:#x}", text, values[i], got[i], expected));
    }
    CHECK(wrong == 0);
}

std::string integral(Round round) {
    return std::string(spelling(round)) + "i";
}

}  // namespace

TEST_CASE("integers to integers, into registers of every width") {
    for (const Integer& from : kIntegers) {
        Samples samples(static_cast<uint32_t>(from.width));
        for (const Integer& to : kIntegers) {
            for (const char source : {'h', 'r', 'd'}) {
                for (const char destination : {'h', 'r', 'd'}) {
                    // Registers may be wider than the types.
                    if (register_width(source) < from.width || register_width(destination) < to.width) continue;
                    const Values values = samples.bits(register_width(source), 256);
                    check(fmt::format("cvt.{}.{} {}0, {}1;", to.name, from.name, destination, source), values, source, destination,
                          [&](uint64_t bits) { return to.placed(from.value(bits), register_width(destination)); });
                    check(fmt::format("cvt.sat.{}.{} {}0, {}1;", to.name, from.name, destination, source), values, source, destination,
                          [&](uint64_t bits) {
                              return to.placed(std::clamp(from.value(bits), to.least(), to.most()), register_width(destination));
                          });
                }
            }
        }
    }
}

TEST_CASE("integers to floats") {
    for (const Integer& from : kIntegers) {
        for (const Float& to : kFloats) {
            if (from.width == 8 && to.layout.mantissa_bits == 7) continue;
            Samples samples(static_cast<uint32_t>(from.width + to.width));
            const Values values = samples.bits(register_width(from.reg()), kCount);
            for (const Round round : kRounds) {
                const auto value = [&](uint64_t bits) { return encode(to.layout, exact(static_cast<Quad>(from.value(bits))), round); };
                check(fmt::format("cvt.{}.{}.{} {}0, {}1;", spelling(round), to.name, from.name, to.reg(), from.reg()), values, from.reg(),
                      to.reg(), value);
                if (to.layout.mantissa_bits == 7) continue;
                check(fmt::format("cvt.{}.sat.{}.{} {}0, {}1;", spelling(round), to.name, from.name, to.reg(), from.reg()), values,
                      from.reg(), to.reg(), [&](uint64_t bits) { return saturated(to.layout, value(bits)); });
            }
        }
    }
}

TEST_CASE("floats to integers") {
    for (const Float& from : kFloats) {
        for (const Integer& to : kIntegers) {
            if (to.width == 8 && from.layout.mantissa_bits == 7) continue;
            Samples samples(static_cast<uint32_t>(3 * from.width + to.width));
            const Values values = samples_of(&samples, from, kCount);
            for (const Round round : kRounds) {
                for (const bool ftz : {false, true}) {
                    if (ftz && from.width != 32) continue;
                    check(fmt::format("cvt.{}{}.{}.{} {}0, {}1;", integral(round), ftz ? ".ftz" : "", to.name, from.name, to.reg(),
                                      from.reg()),
                          values, from.reg(), to.reg(), [&](uint64_t bits) {
                              const Exact value = decode(from.layout, ftz ? flushed(from.layout, bits) : bits);
                              const int width = register_width(to.reg());
                              if (value.is_nan) return from.width == 64 || to.width == 64 ? to.placed(Wide{1} << (to.width - 1), width) : 0;
                              const Quad rounded = whole(value.value, round);
                              if (rounded <= static_cast<Quad>(to.least())) return to.placed(to.least(), width);
                              if (rounded >= static_cast<Quad>(to.most())) return to.placed(to.most(), width);
                              return to.placed(static_cast<Wide>(rounded), width);
                          });
                }
            }
        }
    }
}

TEST_CASE("floats to floats") {
    for (const Float& from : kFloats) {
        for (const Float& to : kFloats) {
            Samples samples(static_cast<uint32_t>(5 * from.width + to.width));
            const Values values = samples_of(&samples, from, 2 * kCount);
            const bool narrows =
                from.layout.mantissa_bits > to.layout.mantissa_bits || (from.width == 16 && to.width == 16 && from.name != to.name);
            const bool same = from.name == to.name, bfloat = from.layout.mantissa_bits == 7 || to.layout.mantissa_bits == 7;
            for (const Round round : kRounds) {
                if (!narrows && round != Round::Nearest) continue;
                const std::string mode = narrows ? std::string(".") + spelling(round) : "";
                const auto reference = [&](uint64_t bits, bool ftz) {
                    const Exact value = decode(from.layout, ftz && from.width == 32 ? flushed(kLayoutF32, bits) : bits);
                    const uint64_t result = encode(to.layout, value, round);
                    return ftz && to.width == 32 ? flushed(kLayoutF32, result) : result;
                };
                const auto text = [&](const std::string& flags) {
                    return fmt::format("cvt{}{}.{}.{} {}0, {}1;", mode, flags, to.name, from.name, to.reg(), from.reg());
                };
                // Widening, NaN keeps its payload or not: they are left out of the samples.
                Values ordered = values;
                if (!narrows) std::erase_if(ordered, [&](uint64_t bits) { return is_nan(from.layout, bits); });
                check(text(""), ordered, from.reg(), to.reg(), [&](uint64_t bits) { return reference(bits, false); }, to.width == 64);
                if (from.width == 32 || to.width == 32) {
                    check(
                        text(".ftz"), ordered, from.reg(), to.reg(), [&](uint64_t bits) { return reference(bits, true); }, to.width == 64);
                }
                if (!bfloat) {
                    check(text(".sat"), values, from.reg(), to.reg(),
                          [&](uint64_t bits) { return saturated(to.layout, reference(bits, false)); });
                }
                if (from.width != 32 || to.width != 16 || (round != Round::Nearest && round != Round::Zero)) continue;
                const auto relu = [&](uint64_t bits) { return is_nan(to.layout, bits) || decode(to.layout, bits).value > 0 ? bits : 0; };
                check(text(".relu"), values, from.reg(), to.reg(), [&](uint64_t bits) { return relu(reference(bits, false)); });
                check(text(".satfinite"), values, from.reg(), to.reg(),
                      [&](uint64_t bits) { return encode(to.layout, decode(from.layout, bits), round, true); });
            }
            if (!same) continue;
            for (const Round round : kRounds) {
                Values ordered = values;
                std::erase_if(ordered, [&](uint64_t bits) { return is_nan(from.layout, bits); });
                check(fmt::format("cvt.{}.{}.{} {}0, {}1;", integral(round), to.name, from.name, to.reg(), from.reg()), ordered, from.reg(),
                      to.reg(),
                      [&](uint64_t bits) { return encode(to.layout, exact(whole(decode(from.layout, bits).value, round)), round); });
            }
        }
    }
}

TEST_CASE("tf32") {
    Samples samples(32);
    const Values values = samples_of(&samples, kFloats[2], 4 * kCount);
    // The bits of a tf32 are the upper ones of an f32; NaN is the canonical one.
    const auto placed = [](uint64_t bits) { return is_nan(kLayoutTF32, bits) ? 0x7fffffff : bits << 13; };
    check("cvt.rna.tf32.f32 r0, r1;", values, 'r', 'r',
          [&](uint64_t bits) { return placed(encode(kLayoutTF32, decode(kLayoutF32, bits), Round::Away)); });
    check("cvt.rn.tf32.f32 r0, r1;", values, 'r', 'r',
          [&](uint64_t bits) { return placed(encode(kLayoutTF32, decode(kLayoutF32, bits), Round::Nearest)); });
    check("cvt.rz.tf32.f32 r0, r1;", values, 'r', 'r',
          [&](uint64_t bits) { return placed(encode(kLayoutTF32, decode(kLayoutF32, bits), Round::Zero)); });
    check("cvt.rn.relu.tf32.f32 r0, r1;", values, 'r', 'r', [&](uint64_t bits) {
        const Exact value = decode(kLayoutF32, bits);
        return value.is_nan || value.value > 0 ? placed(encode(kLayoutTF32, value, Round::Nearest)) : 0;
    });
}

TEST_CASE("packed conversions: the first operand is the upper half") {
    Samples samples(2);
    const Values a = samples_of(&samples, kFloats[2], 4 * kCount), b = samples_of(&samples, kFloats[2], 4 * kCount);
    const auto pack = [&](const std::string& text, char to, int width, const auto& half) {
        const Values got = run(text, {{"r1", a}, {"r2", b}}, {fmt::format("{}0", to)})[0];
        size_t wrong = 0;
        for (size_t i = 0; i < a.size() && wrong < 3; ++i) {
            const uint64_t expected = half(a[i]) << width | half(b[i]);
            if (got[i] == expected) continue;
            ++wrong;
            FAIL_CHECK(fmt::format("{} of {:#x}, {:#x}: {:#x}, expected {:#x}", text, a[i], b[i], got[i], expected));
        }
        CHECK(wrong == 0);
    };
    const auto relu = [](const Layout& layout, uint64_t bits) { return is_nan(layout, bits) || decode(layout, bits).value > 0 ? bits : 0; };
    for (const auto& [name, layout] : {std::pair{"f16x2", kLayoutF16}, {"bf16x2", kLayoutBF16}}) {
        for (const Round round : {Round::Nearest, Round::Zero}) {
            const auto half = [&](uint64_t bits) { return encode(layout, decode(kLayoutF32, bits), round); };
            pack(fmt::format("cvt.{}.{}.f32 r0, r1, r2;", spelling(round), name), 'r', 16, half);
            pack(fmt::format("cvt.{}.relu.{}.f32 r0, r1, r2;", spelling(round), name), 'r', 16,
                 [&](uint64_t bits) { return relu(layout, half(bits)); });
        }
    }
    for (const auto& [name, layout] : {std::pair{"e4m3x2", kLayoutE4M3}, {"e5m2x2", kLayoutE5M2}}) {
        const auto half = [&](uint64_t bits) { return encode(layout, decode(kLayoutF32, bits), Round::Nearest, true); };
        pack(fmt::format("cvt.rn.satfinite.{}.f32 h0, r1, r2;", name), 'h', 8, half);
        pack(fmt::format("cvt.rn.satfinite.relu.{}.f32 h0, r1, r2;", name), 'h', 8,
             [&](uint64_t bits) { return relu(layout, half(bits)); });
        // To and from pairs of f16, all codes.
        Values halves(65536), codes(65536);
        for (size_t i = 0; i < halves.size(); ++i) {
            halves[i] = i | (65535 - i) << 16;
            codes[i] = i;
        }
        const auto narrow = [&](uint64_t bits) { return encode(layout, decode(kLayoutF16, bits), Round::Nearest, true); };
        check(fmt::format("cvt.rn.satfinite.{}.f16x2 h0, r1;", name), halves, 'r', 'h',
              [&](uint64_t bits) { return narrow(bits & 0xffff) | narrow(bits >> 16) << 8; });
        const auto wide = [&](uint64_t bits) { return encode(kLayoutF16, decode(layout, bits), Round::Nearest); };
        check(fmt::format("cvt.rn.f16x2.{} r0, h1;", name), codes, 'h', 'r',
              [&](uint64_t bits) { return wide(bits & 0xff) | wide(bits >> 8) << 16; });
    }
}

TEST_CASE("all halves, and f32 near them") {
    Values all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    const auto widened = [](const Layout& layout, uint64_t bits) { return encode(kLayoutF32, decode(layout, bits), Round::Nearest); };
    Values finite = all;
    std::erase_if(finite, [](uint64_t bits) { return is_nan(kLayoutF16, bits); });
    check("cvt.f32.f16 r0, h1;", finite, 'h', 'r', [&](uint64_t bits) { return widened(kLayoutF16, bits); });
    for (const uint64_t step : {0, 0x0fff, 0x1000, 0x1001}) {
        Values values;
        for (const uint64_t bits : finite) values.push_back((widened(kLayoutF16, bits) + step) & 0xffffffff);
        check("cvt.rn.f16.f32 h0, r1;", values, 'r', 'h',
              [&](uint64_t bits) { return encode(kLayoutF16, decode(kLayoutF32, bits), Round::Nearest); });
    }
    for (const uint64_t step : {0, 0x7fff, 0x8000, 0x8001}) {
        Values values;
        for (const uint64_t bits : all) values.push_back(bits << 16 | step);
        check("cvt.rn.bf16.f32 h0, r1;", values, 'r', 'h',
              [&](uint64_t bits) { return encode(kLayoutBF16, decode(kLayoutF32, bits), Round::Nearest); });
    }
}

TEST_CASE("cvt.pack") {
    Samples samples(6);
    const Values a = samples.bits(32, kCount), b = samples.bits(32, kCount), c = samples.bits(32, kCount);
    for (const auto& [name, width, is_signed] : {std::tuple{"u16", 16, false},
                                                 {"s16", 16, true},
                                                 {"u8", 8, false},
                                                 {"s8", 8, true},
                                                 {"u4", 4, false},
                                                 {"s4", 4, true},
                                                 {"u2", 2, false},
                                                 {"s2", 2, true}}) {
        const std::string text = width == 16 ? fmt::format("cvt.pack.sat.{}.s32 r0, r1, r2;", name)
                                             : fmt::format("cvt.pack.sat.{}.s32.b32 r0, r1, r2, r3;", name);
        const Values got = run(text, {{"r1", a}, {"r2", b}, {"r3", c}}, {"r0"})[0];
        const int64_t most = (int64_t{1} << (is_signed ? width - 1 : width)) - 1, least = is_signed ? -most - 1 : 0;
        const uint64_t mask = (uint64_t{1} << width) - 1;
        size_t wrong = 0;
        for (size_t i = 0; i < kCount; ++i) {
            const auto limited = [&](uint64_t value) {
                return static_cast<uint64_t>(std::clamp<int64_t>(static_cast<int32_t>(value), least, most)) & mask;
            };
            const uint64_t rest = width == 16 ? 0 : c[i] << (2 * width);
            wrong += got[i] != ((limited(b[i]) | limited(a[i]) << width | rest) & 0xffffffff);
        }
        CHECK_MESSAGE(wrong == 0, text);
    }
}

TEST_CASE("refused conversions") {
    CHECK(refusal("cvt.s32.f32 r0, r1;").find("needs a rounding like `.rzi`") != std::string::npos);
    CHECK(refusal("cvt.f32.s32 r0, r1;").find("needs a rounding like `.rn`") != std::string::npos);
    CHECK(refusal("cvt.f16.f32 h0, r1;").find("needs a rounding like `.rn`") != std::string::npos);
    CHECK(refusal("cvt.rn.f64.f32 d0, r1;").find("nothing is rounded here") != std::string::npos);
    CHECK(refusal("cvt.rn.e4m3x2.f32 h0, r1, r2;").find("needs `.satfinite`") != std::string::npos);
    CHECK(refusal("cvt.rn.bf16.s32 h0, r1;", "sm_80").find("needs `.target sm_90` or later") != std::string::npos);
    CHECK(refusal("cvt.rn.bf16.f32 h0, r1;", "sm_80").empty());
    CHECK(refusal("cvt.rs.f16x2.f32 r0, r1, r2, r3;") != "");
    CHECK(refusal("cvt.u32.u64 h0, d1;").find("needs 32 bits here") != std::string::npos);
}
