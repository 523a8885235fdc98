// Integer instructions against plain C++.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "tests/unit/emulator/trial.h"

using namespace flexemu::test;

namespace {

__extension__ typedef __int128 Wide;

constexpr size_t kCount = 2048;

int width_of(const std::string& name) {
    switch (name[0]) {
        case 'p': return 1;
        case 'h': return 16;
        case 'r': return 32;
        default: return 64;
    }
}

uint64_t low(uint64_t value, int width) {
    return width == 64 ? value : value & ((uint64_t{1} << width) - 1);
}
int64_t sign(uint64_t value, int width) {
    return static_cast<int64_t>(value << (64 - width)) >> (64 - width);
}

/// A type of the width: values as the instruction sees them.
struct Kind {
    const char* name;
    int width;
    bool is_signed;
    [[nodiscard]] Wide value(uint64_t bits) const { return is_signed ? Wide{sign(bits, width)} : Wide{low(bits, width)}; }
    [[nodiscard]] uint64_t bits(Wide value) const { return low(static_cast<uint64_t>(value), width); }
    [[nodiscard]] char reg() const { return width == 16 ? 'h' : width == 32 ? 'r' : 'd'; }
    [[nodiscard]] Wide most() const { return is_signed ? (Wide{1} << (width - 1)) - 1 : (Wide{1} << width) - 1; }
    [[nodiscard]] Wide least() const { return is_signed ? -(Wide{1} << (width - 1)) : 0; }
};
constexpr Kind kKinds[] = {{"u16", 16, false}, {"u32", 32, false}, {"u64", 64, false},
                           {"s16", 16, true},  {"s32", 32, true},  {"s64", 64, true}};

/// Runs on samples of the source registers and compares output 0 with `reference(sources...)`.
template <typename Reference>
void check(const std::string& text, const std::vector<std::string>& sources, const std::vector<std::string>& outputs, Reference reference) {
    Samples samples(static_cast<uint32_t>(std::hash<std::string>()(text)));
    std::vector<Input> inputs;
    for (const std::string& name : sources) {
        const int width = width_of(name);
        inputs.push_back({name, samples.bits(width, kCount)});
        if (width == 1)
            for (uint64_t& value : inputs.back().values) value &= 1;
    }
    const auto results = run(text, inputs, outputs);
    size_t wrong = 0;
    for (size_t i = 0; i < kCount && wrong < 3; ++i) {
        std::vector<uint64_t> values;
        for (const Input& input : inputs) values.push_back(input.values[i]);
        const std::vector<uint64_t> expected = reference(values);
        for (size_t j = 0; j < outputs.size(); ++j) {
            if (results[j][i] == low(expected[j], width_of(outputs[j]))) continue;
            ++wrong;
            FAIL_CHECK(fmt::format("{} of {:#x}: {} is {:#x}, expected {:#x}", text, fmt::join(values, ", "), outputs[j], results[j][i],
                                   low(expected[j], width_of(outputs[j]))));
        }
    }
    CHECK(wrong == 0);
}
using V = const std::vector<uint64_t>&;
using R = std::vector<uint64_t>;

std::string op3(const Kind& kind, const std::string& opcode) {
    const char c = kind.reg();
    return fmt::format("{}.{} {}0, {}1, {}2;", opcode, kind.name, c, c, c);
}
std::vector<std::string> registers(char c, int first, int count) {
    std::vector<std::string> names;
    for (int i = first; i < first + count; ++i) names.push_back(fmt::format("{}{}", c, i));
    return names;
}

}  // namespace

TEST_CASE("add, sub, mul, div, rem, min, max of integers") {
    for (const Kind& kind : kKinds) {
        const char c = kind.reg();
        const std::vector<std::string> in = registers(c, 1, 2), out = registers(c, 0, 1);
        check(op3(kind, "add"), in, out, [&](V v) { return R{kind.bits(kind.value(v[0]) + kind.value(v[1]))}; });
        check(op3(kind, "sub"), in, out, [&](V v) { return R{kind.bits(kind.value(v[0]) - kind.value(v[1]))}; });
        check(op3(kind, "mul.lo"), in, out, [&](V v) { return R{low(v[0] * v[1], kind.width)}; });
        check(op3(kind, "mul.hi"), in, out, [&](V v) {
            if (kind.width < 64 || kind.is_signed) return R{kind.bits((kind.value(v[0]) * kind.value(v[1])) >> kind.width)};
            // Unsigned 64 x 64 by halves.
            const uint64_t al = v[0] & 0xffffffff, ah = v[0] >> 32, bl = v[1] & 0xffffffff, bh = v[1] >> 32;
            const uint64_t middle = ah * bl + (al * bl >> 32), other = al * bh + (middle & 0xffffffff);
            return R{ah * bh + (middle >> 32) + (other >> 32)};
        });
        check(op3(kind, "min"), in, out, [&](V v) { return R{kind.bits(std::min(kind.value(v[0]), kind.value(v[1])))}; });
        check(op3(kind, "max"), in, out, [&](V v) { return R{kind.bits(std::max(kind.value(v[0]), kind.value(v[1])))}; });
        check(op3(kind, "div"), in, out,
              [&](V v) { return R{kind.value(v[1]) == 0 ? ~uint64_t{0} : kind.bits(kind.value(v[0]) / kind.value(v[1]))}; });
        check(op3(kind, "rem"), in, out,
              [&](V v) { return R{kind.value(v[1]) == 0 ? v[0] : kind.bits(kind.value(v[0]) % kind.value(v[1]))}; });
        if (kind.is_signed) {
            check(fmt::format("abs.{} {}0, {}1;", kind.name, c, c), registers(c, 1, 1), out, [&](V v) {
                const Wide value = kind.value(v[0]);
                return R{kind.bits(value < 0 ? -value : value)};
            });
            check(fmt::format("neg.{} {}0, {}1;", kind.name, c, c), registers(c, 1, 1), out,
                  [&](V v) { return R{kind.bits(-kind.value(v[0]))}; });
        }
    }
    const Kind s32 = kKinds[4];
    const auto clamp32 = [](Wide value) { return R{static_cast<uint64_t>(std::clamp<Wide>(value, INT32_MIN, INT32_MAX))}; };
    check("add.sat.s32 r0, r1, r2;", {"r1", "r2"}, {"r0"}, [&](V v) { return clamp32(s32.value(v[0]) + s32.value(v[1])); });
    check("sub.sat.s32 r0, r1, r2;", {"r1", "r2"}, {"r0"}, [&](V v) { return clamp32(s32.value(v[0]) - s32.value(v[1])); });
    check("max.relu.s32 r0, r1, r2;", {"r1", "r2"}, {"r0"},
          [&](V v) { return R{static_cast<uint64_t>(std::max<Wide>({s32.value(v[0]), s32.value(v[1]), 0}))}; });
}

TEST_CASE("wide and accumulating products") {
    for (const Kind& kind : kKinds) {
        const char c = kind.reg(), w = kind.width == 16 ? 'r' : 'd';
        if (kind.width < 64) {
            check(fmt::format("mul.wide.{} {}0, {}1, {}2;", kind.name, w, c, c), registers(c, 1, 2), registers(w, 0, 1),
                  [&](V v) { return R{low(static_cast<uint64_t>(kind.value(v[0]) * kind.value(v[1])), 2 * kind.width)}; });
            check(fmt::format("mad.wide.{} {}0, {}1, {}2, {}3;", kind.name, w, c, c, w),
                  {registers(c, 1, 1)[0], registers(c, 2, 1)[0], registers(w, 3, 1)[0]}, registers(w, 0, 1),
                  [&](V v) { return R{low(static_cast<uint64_t>(kind.value(v[0]) * kind.value(v[1])) + v[2], 2 * kind.width)}; });
            check(fmt::format("mad.hi.{} {}0, {}1, {}2, {}3;", kind.name, c, c, c, c), registers(c, 1, 3), registers(c, 0, 1),
                  [&](V v) { return R{kind.bits(((kind.value(v[0]) * kind.value(v[1])) >> kind.width) + kind.value(v[2]))}; });
        }
        check(fmt::format("mad.lo.{} {}0, {}1, {}2, {}3;", kind.name, c, c, c, c), registers(c, 1, 3), registers(c, 0, 1),
              [&](V v) { return R{low(v[0] * v[1] + v[2], kind.width)}; });
        check(fmt::format("sad.{} {}0, {}1, {}2, {}3;", kind.name, c, c, c, c), registers(c, 1, 3), registers(c, 0, 1), [&](V v) {
            const Wide difference = kind.value(v[0]) - kind.value(v[1]);
            return R{kind.bits(kind.value(v[2]) + (difference < 0 ? -difference : difference))};
        });
    }
    const Kind s32 = kKinds[4];
    check("mad.hi.sat.s32 r0, r1, r2, r3;", {"r1", "r2", "r3"}, {"r0"}, [&](V v) {
        return R{
            static_cast<uint64_t>(std::clamp<Wide>(((s32.value(v[0]) * s32.value(v[1])) >> 32) + s32.value(v[2]), INT32_MIN, INT32_MAX))};
    });
    for (const bool is_signed : {false, true}) {
        const char* type = is_signed ? "s32" : "u32";
        const auto product = [=](V v) {
            return is_signed ? sign(v[0], 24) * sign(v[1], 24) : static_cast<int64_t>(low(v[0], 24) * low(v[1], 24));
        };
        check(fmt::format("mul24.lo.{} r0, r1, r2;", type), {"r1", "r2"}, {"r0"},
              [=](V v) { return R{static_cast<uint64_t>(product(v))}; });
        check(fmt::format("mul24.hi.{} r0, r1, r2;", type), {"r1", "r2"}, {"r0"},
              [=](V v) { return R{static_cast<uint64_t>(product(v) >> 16)}; });
        check(fmt::format("mad24.lo.{} r0, r1, r2, r3;", type), {"r1", "r2", "r3"}, {"r0"},
              [=](V v) { return R{static_cast<uint64_t>(product(v)) + v[2]}; });
    }
    check("mad24.hi.sat.s32 r0, r1, r2, r3;", {"r1", "r2", "r3"}, {"r0"}, [&](V v) {
        return R{static_cast<uint64_t>(std::clamp<int64_t>(
            sign(static_cast<uint64_t>(sign(v[0], 24) * sign(v[1], 24)) >> 16, 32) + sign(v[2], 32), INT32_MIN, INT32_MAX))};
    });
}

TEST_CASE("carries") {
    // 128-bit arithmetic of two 64-bit halves, and 64 bits of 32.
    check("add.cc.u64 d4, d0, d2; addc.u64 d5, d1, d3;", {"d0", "d1", "d2", "d3"}, {"d4", "d5"}, [](V v) {
        const uint64_t sum = v[0] + v[2];
        return R{sum, v[1] + v[3] + (sum < v[0] ? 1 : 0)};
    });
    check("sub.cc.u64 d4, d0, d2; subc.u64 d5, d1, d3;", {"d0", "d1", "d2", "d3"}, {"d4", "d5"},
          [](V v) { return R{v[0] - v[2], v[1] - v[3] - (v[0] < v[2] ? 1 : 0)}; });
    check("add.cc.u32 r4, r0, r3; addc.cc.u32 r5, r1, r3; addc.u32 r6, 0, 0;", {"r0", "r1", "r3"}, {"r4", "r5", "r6"}, [](V v) {
        const uint64_t first = v[0] + v[2], second = v[1] + v[2] + (first >> 32);
        return R{first, second, second >> 32};
    });
    check("sub.cc.s32 r4, r0, r3; subc.cc.s32 r5, r1, r3; subc.s32 r6, 0, 0;", {"r0", "r1", "r3"}, {"r4", "r5", "r6"}, [](V v) {
        const uint64_t first = v[0] - v[2], second = v[1] - v[2] - (first >> 63);
        return R{first, second, 0 - (second >> 63)};
    });
    // An addition reads a subtraction's carry: set where nothing was borrowed. And the other way round.
    check("sub.cc.u32 r4, r0, r1; addc.u32 r5, 0, 0;", {"r0", "r1"}, {"r4", "r5"},
          [](V v) { return R{v[0] - v[1], v[0] < v[1] ? 0U : 1U}; });
    check("add.cc.u32 r4, r0, r1; subc.u32 r5, 0, 0;", {"r0", "r1"}, {"r4", "r5"},
          [](V v) { return R{v[0] + v[1], (v[0] + v[1]) >> 32 != 0 ? 0 : ~uint64_t{0}}; });
    check("mad.lo.cc.u32 r4, r0, r1, r2; madc.hi.cc.u32 r5, r0, r1, r3; addc.u32 r6, 0, 0;", {"r0", "r1", "r2", "r3"}, {"r4", "r5", "r6"},
          [](V v) {
              const uint64_t first = low(v[0] * v[1], 32) + v[2], second = (v[0] * v[1] >> 32) + v[3] + (first >> 32);
              return R{first, second, second >> 32};
          });
    check("mad.lo.cc.s64 d4, d0, d1, d2; madc.hi.s64 d5, d0, d1, d3;", {"d0", "d1", "d2", "d3"}, {"d4", "d5"}, [](V v) {
        const Wide product = Wide{static_cast<int64_t>(v[0])} * static_cast<int64_t>(v[1]);
        const uint64_t first = static_cast<uint64_t>(product) + v[2];
        return R{first, static_cast<uint64_t>(product >> 64) + v[3] + (first < v[2] ? 1 : 0)};
    });
}

TEST_CASE("logic") {
    for (const auto& [type, c] : {std::pair{"pred", 'p'}, {"b16", 'h'}, {"b32", 'r'}, {"b64", 'd'}}) {
        const std::vector<std::string> in = registers(c, 1, 2), out = registers(c, 0, 1);
        check(fmt::format("and.{} {}0, {}1, {}2;", type, c, c, c), in, out, [](V v) { return R{v[0] & v[1]}; });
        check(fmt::format("or.{} {}0, {}1, {}2;", type, c, c, c), in, out, [](V v) { return R{v[0] | v[1]}; });
        check(fmt::format("xor.{} {}0, {}1, {}2;", type, c, c, c), in, out, [](V v) { return R{v[0] ^ v[1]}; });
        check(fmt::format("not.{} {}0, {}1;", type, c, c), registers(c, 1, 1), out, [](V v) { return R{~v[0]}; });
        if (c != 'p')
            check(fmt::format("cnot.{} {}0, {}1;", type, c, c), registers(c, 1, 1), out, [](V v) { return R{v[0] == 0 ? 1U : 0U}; });
    }
    check("and.pred p0, p1, !p2;", {"p1", "p2"}, {"p0"}, [](V v) { return R{v[0] & ~v[1]}; });
    for (const uint32_t table : {0x00U, 0x80U, 0xe8U, 0x96U, 0xcaU, 0x1bU, 0xfeU, 0xffU}) {
        const auto value = [=](V v) {
            uint32_t result = 0;
            for (int i = 0; i < 32; ++i) result |= (table >> ((v[0] >> i & 1) << 2 | (v[1] >> i & 1) << 1 | (v[2] >> i & 1)) & 1) << i;
            return result;
        };
        check(fmt::format("lop3.b32 r0, r1, r2, r3, {};", table), {"r1", "r2", "r3"}, {"r0"}, [=](V v) { return R{value(v)}; });
        check(fmt::format("lop3.or.b32 r0|p0, r1, r2, r3, {}, p1;", table), {"r1", "r2", "r3", "p1"}, {"r0", "p0"},
              [=](V v) { return R{value(v), static_cast<uint64_t>(value(v) != 0 || v[3] != 0)}; });
        check(fmt::format("lop3.and.b32 _|p0, r1, r2, r3, {}, !p1;", table), {"r1", "r2", "r3", "p1"}, {"p0"},
              [=](V v) { return R{static_cast<uint64_t>(value(v) != 0 && v[3] == 0)}; });
    }
}

TEST_CASE("shifts") {
    for (const int width : {16, 32, 64}) {
        const char c = width == 16 ? 'h' : width == 32 ? 'r' : 'd';
        const std::vector<std::string> in = {fmt::format("{}1", c), "r2"}, out = registers(c, 0, 1);
        const auto text = [&](const char* opcode) { return fmt::format("{}{} {}0, {}1, r2;", opcode, width, c, c); };
        const auto bits = static_cast<uint64_t>(width);
        check(text("shl.b"), in, out, [=](V v) { return R{v[1] >= bits ? 0 : v[0] << v[1]}; });
        check(text("shr.b"), in, out, [=](V v) { return R{v[1] >= bits ? 0 : v[0] >> v[1]}; });
        check(text("shr.u"), in, out, [=](V v) { return R{v[1] >= bits ? 0 : v[0] >> v[1]}; });
        check(text("shr.s"), in, out, [=](V v) { return R{static_cast<uint64_t>(sign(v[0], width) >> std::min(v[1], bits - 1))}; });
    }
    for (const bool wrap : {false, true}) {
        const char* mode = wrap ? "wrap" : "clamp";
        const auto amount = [=](uint64_t c) { return wrap ? c % 32 : std::min<uint64_t>(c, 32); };
        check(fmt::format("shf.l.{}.b32 r0, r1, r2, r3;", mode), {"r1", "r2", "r3"}, {"r0"}, [=](V v) {
            const uint64_t n = amount(v[2]);
            return R{n == 0 ? v[1] : v[1] << n | v[0] >> (32 - n)};
        });
        check(fmt::format("shf.r.{}.b32 r0, r1, r2, r3;", mode), {"r1", "r2", "r3"}, {"r0"}, [=](V v) {
            const uint64_t n = amount(v[2]);
            return R{n == 0 ? v[0] : v[1] << (32 - n) | v[0] >> n};
        });
        check(fmt::format("bmsk.{}.b32 r0, r1, r2;", mode), {"r1", "r2"}, {"r0"}, [=](V v) {
            uint64_t mask = 0;
            for (uint64_t i = amount(v[0]); i < std::min<uint64_t>(amount(v[0]) + amount(v[1]), 32); ++i) mask |= uint64_t{1} << i;
            return R{mask};
        });
        check(fmt::format("szext.{}.u32 r0, r1, r2;", mode), {"r1", "r2"}, {"r0"},
              [=](V v) { return R{low(v[0], static_cast<int>(amount(v[1])))}; });
        check(fmt::format("szext.{}.s32 r0, r1, r2;", mode), {"r1", "r2"}, {"r0"},
              [=](V v) { return R{amount(v[1]) == 0 ? 0 : static_cast<uint64_t>(sign(v[0], static_cast<int>(amount(v[1]))))}; });
    }
}

TEST_CASE("bit fields") {
    for (const Kind& kind : {kKinds[1], kKinds[2], kKinds[4], kKinds[5]}) {
        const char c = kind.reg();
        check(fmt::format("bfe.{} {}0, {}1, r2, r3;", kind.name, c, c), {fmt::format("{}1", c), "r2", "r3"}, registers(c, 0, 1), [&](V v) {
            // The loop of the ISA.
            const int msb = kind.width - 1, position = static_cast<int>(v[1] & 0xff), length = static_cast<int>(v[2] & 0xff);
            uint64_t fill = 0, result = 0;
            if (kind.is_signed && length != 0) fill = v[0] >> std::min(position + length - 1, msb) & 1;
            for (int i = 0; i <= msb; ++i) result |= (i < length && position + i <= msb ? v[0] >> (position + i) & 1 : fill) << i;
            return R{result};
        });
        if (kind.is_signed) continue;
        check(fmt::format("bfi.b{} {}0, {}1, {}2, r3, r4;", kind.width, c, c, c),
              {fmt::format("{}1", c), fmt::format("{}2", c), "r3", "r4"}, registers(c, 0, 1), [&](V v) {
                  const int msb = kind.width - 1, position = static_cast<int>(v[2] & 0xff), length = static_cast<int>(v[3] & 0xff);
                  uint64_t result = v[1];
                  for (int i = 0; i < length && position + i <= msb; ++i) {
                      result &= ~(uint64_t{1} << (position + i));
                      result |= (v[0] >> i & 1) << (position + i);
                  }
                  return R{result};
              });
    }
}

TEST_CASE("counting bits") {
    for (const int width : {32, 64}) {
        const char c = width == 32 ? 'r' : 'd';
        const std::vector<std::string> in = registers(c, 1, 1);
        const auto text = [&](const char* opcode) { return fmt::format("{}{} r0, {}1;", opcode, width, c); };
        const auto highest = [=](uint64_t value) {
            for (int i = width - 1; i >= 0; --i)
                if ((value >> i & 1) != 0) return i;
            return -1;
        };
        check(text("popc.b"), in, {"r0"}, [](V v) {
            uint64_t count = 0;
            for (int i = 0; i < 64; ++i) count += v[0] >> i & 1;
            return R{count};
        });
        check(text("clz.b"), in, {"r0"}, [=](V v) { return R{static_cast<uint64_t>(width - 1 - highest(v[0]))}; });
        check(text("bfind.u"), in, {"r0"}, [=](V v) { return R{static_cast<uint64_t>(highest(v[0]))}; });
        check(text("bfind.shiftamt.u"), in, {"r0"},
              [=](V v) { return R{static_cast<uint64_t>(highest(v[0]) < 0 ? -1 : width - 1 - highest(v[0]))}; });
        check(text("bfind.s"), in, {"r0"},
              [=](V v) { return R{static_cast<uint64_t>(highest(low(sign(v[0], width) < 0 ? ~v[0] : v[0], width)))}; });
        check(fmt::format("brev.b{} {}0, {}1;", width, c, c), in, registers(c, 0, 1), [=](V v) {
            uint64_t result = 0;
            for (int i = 0; i < width; ++i) result |= (v[0] >> i & 1) << (width - 1 - i);
            return R{result};
        });
    }
    check("and.b32 r2, r2, 31; shl.b32 r3, r3, 26; shr.s32 r3, r3, 26; fns.b32 r0, r1, r2, r3;", {"r1", "r2", "r3"}, {"r0"}, [](V v) {
        const int base = static_cast<int>(v[1] & 31), offset = static_cast<int>(sign(v[2], 6));
        if (offset == 0) return R{(v[0] >> base & 1) != 0 ? static_cast<uint64_t>(base) : ~uint64_t{0}};
        int left = std::abs(offset);
        for (int i = base; i >= 0 && i < 32; i += offset > 0 ? 1 : -1)
            if ((v[0] >> i & 1) != 0 && --left == 0) return R{static_cast<uint64_t>(i)};
        return R{~uint64_t{0}};
    });
}

TEST_CASE("prmt in all modes") {
    const auto byte = [](V v, uint64_t index) { return (index < 4 ? v[0] >> (8 * index) : v[1] >> (8 * (index - 4))) & 0xff; };
    check("prmt.b32 r0, r1, r2, r3;", {"r1", "r2", "r3"}, {"r0"}, [&](V v) {
        uint64_t result = 0;
        for (int i = 0; i < 4; ++i) {
            const uint64_t selector = v[2] >> (4 * i) & 15, value = byte(v, selector & 7);
            result |= (selector < 8 ? value : (value & 0x80) != 0 ? 0xff : 0) << (8 * i);
        }
        return R{result};
    });
    struct Mode {
        const char* name;
        int bytes[4][4];  // highest first, as the ISA prints them
    };
    constexpr Mode kModes[] = {
        {"f4e", {{3, 2, 1, 0}, {4, 3, 2, 1}, {5, 4, 3, 2}, {6, 5, 4, 3}}},
        {"b4e", {{5, 6, 7, 0}, {6, 7, 0, 1}, {7, 0, 1, 2}, {0, 1, 2, 3}}},
        {"rc8", {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}}},
        {"ecl", {{3, 2, 1, 0}, {3, 2, 1, 1}, {3, 2, 2, 2}, {3, 3, 3, 3}}},
        {"ecr", {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 1, 0}, {3, 2, 1, 0}}},
        {"rc16", {{1, 0, 1, 0}, {3, 2, 3, 2}, {1, 0, 1, 0}, {3, 2, 3, 2}}},
    };
    for (const Mode& mode : kModes) {
        check(fmt::format("prmt.b32.{} r0, r1, r2, r3;", mode.name), {"r1", "r2", "r3"}, {"r0"}, [&](V v) {
            uint64_t result = 0;
            for (int i = 0; i < 4; ++i) result = result << 8 | byte(v, static_cast<uint64_t>(mode.bytes[v[2] & 3][i]));
            return R{result};
        });
    }
}

TEST_CASE("dot products of bytes") {
    for (const bool a_signed : {false, true}) {
        for (const bool b_signed : {false, true}) {
            const std::string types = fmt::format("{}32.{}32 r0, r1, r2, r3;", a_signed ? 's' : 'u', b_signed ? 's' : 'u');
            const auto part = [](uint64_t value, int at, int bits, bool is_signed) {
                return is_signed ? sign(value >> at, bits) : static_cast<int64_t>(low(value >> at, bits));
            };
            check("dp4a." + types, {"r1", "r2", "r3"}, {"r0"}, [=](V v) {
                int64_t sum = static_cast<int64_t>(v[2]);
                for (int i = 0; i < 32; i += 8) sum += part(v[0], i, 8, a_signed) * part(v[1], i, 8, b_signed);
                return R{static_cast<uint64_t>(sum)};
            });
            for (const bool high : {false, true}) {
                check(fmt::format("dp2a.{}.", high ? "hi" : "lo") + types, {"r1", "r2", "r3"}, {"r0"}, [=](V v) {
                    int64_t sum = static_cast<int64_t>(v[2]);
                    for (int i = 0; i < 2; ++i) sum += part(v[0], 16 * i, 16, a_signed) * part(v[1], 8 * i + (high ? 16 : 0), 8, b_signed);
                    return R{static_cast<uint64_t>(sum)};
                });
            }
        }
    }
}

TEST_CASE("pairs of 16-bit integers") {
    const auto halves = [](V v, const auto& f, bool is_signed) {
        const auto get = [&](uint64_t value) { return is_signed ? sign(value, 16) : static_cast<int64_t>(low(value, 16)); };
        return R{low(static_cast<uint64_t>(f(get(v[0]), get(v[1]))), 16) |
                 low(static_cast<uint64_t>(f(get(v[0] >> 16), get(v[1] >> 16))), 16) << 16};
    };
    for (const bool is_signed : {false, true}) {
        const std::string type = is_signed ? "s16x2 r0, r1, r2;" : "u16x2 r0, r1, r2;";
        check("add." + type, {"r1", "r2"}, {"r0"}, [=](V v) { return halves(v, [](int64_t a, int64_t b) { return a + b; }, is_signed); });
        check("min." + type, {"r1", "r2"}, {"r0"},
              [=](V v) { return halves(v, [](int64_t a, int64_t b) { return std::min(a, b); }, is_signed); });
        check("max." + type, {"r1", "r2"}, {"r0"},
              [=](V v) { return halves(v, [](int64_t a, int64_t b) { return std::max(a, b); }, is_signed); });
    }
    check("min.relu.s16x2 r0, r1, r2;", {"r1", "r2"}, {"r0"},
          [=](V v) { return halves(v, [](int64_t a, int64_t b) { return std::max<int64_t>(std::min(a, b), 0); }, true); });
}

TEST_CASE("video instructions on bytes and halves") {
    for (const int bits : {8, 16}) {
        const int parts = 32 / bits;
        for (const char a_type : {'u', 's'}) {
            for (const char d_type : {'u', 's'}) {
                const int64_t most = (int64_t{1} << (d_type == 's' ? bits - 1 : bits)) - 1, least = d_type == 's' ? -most - 1 : 0;
                const auto reference = [=](V v, const auto& f, bool saturate, bool accumulate) {
                    uint64_t packed = 0;
                    int64_t total = static_cast<int64_t>(v[2]);
                    for (int i = 0; i < 32; i += bits) {
                        const auto part = [&](uint64_t value) {
                            return a_type == 's' ? sign(value >> i, bits) : static_cast<int64_t>(low(value >> i, bits));
                        };
                        int64_t value = f(part(v[0]), part(v[1]));
                        if (saturate) value = std::clamp(value, least, most);
                        packed |= low(static_cast<uint64_t>(value), bits) << i;
                        total += value;
                    }
                    return R{accumulate ? static_cast<uint64_t>(total) : packed};
                };
                const auto text = [&](const char* name, const char* flags) {
                    return fmt::format("{0}{1}.{2}32.{3}32.{3}32{4} r0, r1, r2, r3;", name, parts, d_type, a_type, flags);
                };
                const std::vector<std::string> in = {"r1", "r2", "r3"}, out = {"r0"};
                const auto add = [](int64_t a, int64_t b) { return a + b; };
                const auto difference = [](int64_t a, int64_t b) { return std::abs(a - b); };
                const auto least_of = [](int64_t a, int64_t b) { return std::min(a, b); };
                check(text("vadd", ""), in, out, [=](V v) { return reference(v, add, false, false); });
                check(text("vadd", ".sat"), in, out, [=](V v) { return reference(v, add, true, false); });
                check(text("vsub", ".sat"), in, out,
                      [=](V v) { return reference(v, [](int64_t a, int64_t b) { return a - b; }, true, false); });
                check(text("vabsdiff", ""), in, out, [=](V v) { return reference(v, difference, false, false); });
                check(text("vabsdiff", ".add"), in, out, [=](V v) { return reference(v, difference, false, true); });
                check(text("vmin", ".add"), in, out, [=](V v) { return reference(v, least_of, false, true); });
                check(text("vmax", ""), in, out,
                      [=](V v) { return reference(v, [](int64_t a, int64_t b) { return std::max(a, b); }, false, false); });
            }
        }
    }
}

TEST_CASE("refused integer instructions name what they do not know") {
    CHECK(refusal("add.s32.foo r0, r1, r2;").find("`.foo` is not known in `add.s32.foo`") != std::string::npos);
    CHECK(refusal("add.s32 r0, r1;").find("`add.s32` takes 3 operands, found 2") != std::string::npos);
    CHECK(refusal("add.s64 d0, r1, d2;").find("`r1` is a .b32 register, `add.s64` needs 64 bits here") != std::string::npos);
    CHECK(refusal("mul.s32 r0, r1, r2;").find("`mul` of integers needs `.lo`, `.hi` or `.wide`") != std::string::npos);
    CHECK(refusal("add.sat.u32 r0, r1, r2;").find("`.sat` needs `.s32`") != std::string::npos);
    CHECK(refusal("lop3.b32 r0, r1, r2, r3, 256;").find("it must be from 0 to 255") != std::string::npos);
    CHECK(refusal("max.s16x2 r0, r1, r2;", "sm_80").find("needs `.target sm_90` or later") != std::string::npos);
    CHECK(refusal("vadd.s32.s32.s32 r0, r1, r2;").find("vadd") != std::string::npos);
    CHECK(refusal("shl.s32 r0, r1, r2;").find("`shl` is not known with type `.s32`") != std::string::npos);
    CHECK(refusal("not.b32 !p0, r1;") != "");
    CHECK(refusal("shr.s32 r0, r1, r2;").empty());
}
