// mov, setp, set, selp, slct.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "tests/unit/emulator/float_reference.h"
#include "tests/unit/emulator/trial.h"

using namespace flexemu::test;

namespace {

constexpr size_t kCount = 1024;

/// How two values of a type compare: less, equal, greater, or not at all.
enum class Order { Less, Equal, Greater, None };

struct Kind {
    const char* name;
    int width;
    char sort;  // b u s f
    Layout layout = kLayoutF32;
    [[nodiscard]] char reg() const { return width == 16 ? 'h' : width == 32 ? 'r' : 'd'; }
};
const Kind kKinds[] = {{"b16", 16, 'b'},
                       {"b32", 32, 'b'},
                       {"b64", 64, 'b'},
                       {"u16", 16, 'u'},
                       {"u32", 32, 'u'},
                       {"u64", 64, 'u'},
                       {"s16", 16, 's'},
                       {"s32", 32, 's'},
                       {"s64", 64, 's'},
                       {"f16", 16, 'f', kLayoutF16},
                       {"bf16", 16, 'f', kLayoutBF16},
                       {"f32", 32, 'f', kLayoutF32},
                       {"f64", 64, 'f', kLayoutF64}};

template <typename T>
Order order_of(T a, T b) {
    return a < b ? Order::Less : a > b ? Order::Greater : a == b ? Order::Equal : Order::None;
}

Order compared(const Kind& kind, uint64_t a, uint64_t b, bool ftz) {
    if (kind.sort == 'f') {
        if (ftz) a = flushed(kind.layout, a), b = flushed(kind.layout, b);
        const Exact x = decode(kind.layout, a), y = decode(kind.layout, b);
        return x.is_nan || y.is_nan ? Order::None : order_of(x.value, y.value);
    }
    if (kind.sort != 's') return order_of(a, b);
    return order_of(static_cast<int64_t>(a << (64 - kind.width)), static_cast<int64_t>(b << (64 - kind.width)));
}

/// The comparisons of the ISA as sets of outcomes.
bool holds(const std::string& comparison, Order order) {
    const bool less = order == Order::Less, equal = order == Order::Equal, greater = order == Order::Greater, none = order == Order::None;
    if (comparison == "eq") return equal;
    if (comparison == "ne") return less || greater;
    if (comparison == "lt" || comparison == "lo") return less;
    if (comparison == "le" || comparison == "ls") return less || equal;
    if (comparison == "gt" || comparison == "hi") return greater;
    if (comparison == "ge" || comparison == "hs") return greater || equal;
    if (comparison == "num") return !none;
    if (comparison == "nan") return none;
    return none || holds(comparison.substr(0, 2), order);  // equ, neu, ltu, ...
}

std::vector<std::string> comparisons(const Kind& kind) {
    std::vector<std::string> names = {"eq", "ne"};
    if (kind.sort != 'b') names.insert(names.end(), {"lt", "le", "gt", "ge"});
    if (kind.sort == 'u') names.insert(names.end(), {"lo", "ls", "hi", "hs"});
    if (kind.sort == 'f') names.insert(names.end(), {"equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"});
    return names;
}

Values samples_of(Samples* samples, const Kind& kind) {
    if (kind.sort != 'f') return samples->bits(kind.width, kCount);
    if (kind.width == 64) return samples->f64(kCount);
    if (kind.width == 32) return samples->f32(kCount);
    return kind.layout.exponent_bits == 5 ? samples->f16(kCount) : samples->bf16(kCount);
}

/// Two columns of which every fourth row is equal.
std::pair<Values, Values> columns(const Kind& kind, uint32_t seed) {
    Samples samples(seed);
    Values a = samples_of(&samples, kind), b = samples_of(&samples, kind);
    for (size_t i = 0; i < kCount; i += 4) b[i] = a[i];
    return {a, b};
}

Values predicates(uint32_t seed) {
    Samples samples(seed);
    Values values(kCount);
    for (uint64_t& value : values) value = samples.random()() & 1;
    return values;
}

}  // namespace

TEST_CASE("setp with all comparisons") {
    uint32_t seed = 0;
    for (const Kind& kind : kKinds) {
        const char c = kind.reg();
        const std::string ra = fmt::format("{}1", c), rb = fmt::format("{}2", c);
        for (const std::string& comparison : comparisons(kind)) {
            for (const bool ftz : {false, true}) {
                if (ftz && (kind.sort != 'f' || kind.width == 64 || kind.layout.mantissa_bits == 7)) continue;
                const auto [a, b] = columns(kind, ++seed);
                const Values p2 = predicates(seed);
                const std::string flush = ftz ? ".ftz" : "";
                const bool half = kind.sort == 'f' && kind.width == 16;
                const std::string text = fmt::format(
                    "setp.{0}{1}.{2} p0{5}, {3}, {4}; setp.{0}.and{1}.{2} p3, {3}, {4}, p2; setp.{0}.or{1}.{2} p4, {3}, {4}, !p2; "
                    "setp.{0}.xor{1}.{2} "
                    "p5{6}, {3}, {4}, p2;",
                    comparison, flush, kind.name, ra, rb, half ? "" : "|p1", half ? "" : "|p6");
                std::vector<std::string> outputs = {"p0", "p3", "p4", "p5"};
                if (!half) outputs.insert(outputs.end(), {"p1", "p6"});
                const auto got = run(text, {{ra, a}, {rb, b}, {"p2", p2}}, outputs);
                size_t wrong = 0;
                for (size_t i = 0; i < kCount; ++i) {
                    const bool bit = holds(comparison, compared(kind, a[i], b[i], ftz)), c2 = p2[i] != 0;
                    wrong += got[0][i] != (bit ? 1U : 0U);
                    wrong += got[1][i] != (bit && c2 ? 1U : 0U);
                    wrong += got[2][i] != (bit || !c2 ? 1U : 0U);
                    wrong += got[3][i] != (bit != c2 ? 1U : 0U);
                    if (half) continue;
                    wrong += got[4][i] != (bit ? 0U : 1U);
                    wrong += got[5][i] != (!bit != c2 ? 1U : 0U);
                }
                CHECK_MESSAGE(wrong == 0, text);
            }
        }
    }
}

TEST_CASE("setp and set of pairs") {
    for (const auto& [type, layout] : {std::pair{"f16", kLayoutF16}, {"bf16", kLayoutBF16}}) {
        const Kind kind{type, 16, 'f', layout};
        const uint64_t one = encode(layout, exact(1), Round::Nearest);
        for (const std::string& comparison : comparisons(kind)) {
            const auto [al, bl] = columns(kind, 1);
            const auto [ah, bh] = columns(kind, 2);
            const Values p2 = predicates(5);
            Samples samples(0);
            const std::string text = fmt::format(
                "setp.{0}.{1}x2 p0|p1, r1, r2; setp.{0}.and.{1}x2 p3|p4, r1, r2, p2; set.{0}.{1}x2.{1}x2 r0, r1, r2; set.{0}.or.u32.{1}x2 "
                "r3, r1, r2, p2;",
                comparison, type);
            const auto got =
                run(text, {{"r1", samples.pairs(al, ah)}, {"r2", samples.pairs(bl, bh)}, {"p2", p2}}, {"p0", "p1", "p3", "p4", "r0", "r3"});
            size_t wrong = 0;
            for (size_t i = 0; i < kCount; ++i) {
                const bool low = holds(comparison, compared(kind, al[i], bl[i], false)),
                           high = holds(comparison, compared(kind, ah[i], bh[i], false)), c = p2[i] != 0;
                wrong += got[0][i] != (low ? 1U : 0U);
                wrong += got[1][i] != (high ? 1U : 0U);
                wrong += got[2][i] != (low && c ? 1U : 0U);
                wrong += got[3][i] != (high && c ? 1U : 0U);
                wrong += got[4][i] != ((low ? one : 0) | (high ? one << 16 : 0));
                wrong += got[5][i] != ((low || c ? 0xffffU : 0U) | (high || c ? 0xffff0000U : 0U));
            }
            CHECK_MESSAGE(wrong == 0, text);
        }
    }
}

TEST_CASE("set") {
    uint32_t seed = 100;
    struct Result {
        const char* name;
        char reg;
        uint64_t yes;
    };
    for (const Kind& kind : kKinds) {
        const bool half = kind.sort == 'f' && kind.width == 16;
        std::vector<Result> results = {{"u32", 'r', 0xffffffff}, {"s32", 'r', 0xffffffff}};
        if (half) {
            results.push_back({"u16", 'h', 0xffff});
            results.push_back({kind.name, 'h', encode(kind.layout, exact(1), Round::Nearest)});
        } else {
            results.push_back({"f32", 'r', 0x3f800000});
            results.push_back({"f16", 'h', 0x3c00});
        }
        for (const Result& result : results) {
            for (const std::string& comparison : comparisons(kind)) {
                const auto [a, b] = columns(kind, ++seed);
                const Values p1 = predicates(seed);
                const std::string ra = fmt::format("{}1", kind.reg()), rb = fmt::format("{}2", kind.reg()),
                                  out = fmt::format("{}3", result.reg), second = fmt::format("{}4", result.reg);
                const std::string text = fmt::format("set.{0}.{1}.{2} {3}, {4}, {5}; set.{0}.xor.{1}.{2} {6}, {4}, {5}, p1;", comparison,
                                                     result.name, kind.name, out, ra, rb, second);
                const auto got = run(text, {{ra, a}, {rb, b}, {"p1", p1}}, {out, second});
                size_t wrong = 0;
                for (size_t i = 0; i < kCount; ++i) {
                    const bool bit = holds(comparison, compared(kind, a[i], b[i], false));
                    wrong += got[0][i] != (bit ? result.yes : 0);
                    wrong += got[1][i] != (bit != (p1[i] != 0) ? result.yes : 0);
                }
                CHECK_MESSAGE(wrong == 0, text);
            }
        }
    }
}

TEST_CASE("selp and slct") {
    for (const int width : {16, 32, 64}) {
        const char c = width == 16 ? 'h' : width == 32 ? 'r' : 'd';
        Samples samples(static_cast<uint32_t>(width));
        const Values a = samples.bits(width, kCount), b = samples.bits(width, kCount), by_integer = samples.bits(32, kCount),
                     by_float = samples.f32(kCount), p = predicates(9);
        for (const char sort : {'b', 'u', 's', 'f'}) {
            if (sort == 'f' && width == 16) continue;
            const std::string type = fmt::format("{}{}", sort, width);
            const auto chosen = [&](const std::string& opcode, const std::string& by, const Values& selector, const auto& takes_a) {
                const std::string text = fmt::format("{0} {1}0, {1}1, {1}2, {2};", opcode, c, by);
                const std::string name = by[0] == '!' ? by.substr(1) : by;
                const Values got =
                    run(text, {{fmt::format("{}1", c), a}, {fmt::format("{}2", c), b}, {name, selector}}, {fmt::format("{}0", c)})[0];
                size_t wrong = 0;
                for (size_t i = 0; i < kCount; ++i) wrong += got[i] != (takes_a(selector[i]) ? a[i] : b[i]);
                CHECK_MESSAGE(wrong == 0, text);
            };
            const auto not_negative = [](uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)) >= 0; };
            chosen("selp." + type, "p1", p, [](uint64_t x) { return x != 0; });
            chosen("selp." + type, "!p1", p, [](uint64_t x) { return x == 0; });
            chosen("slct." + type + ".s32", "r6", by_integer, [](uint64_t x) { return static_cast<int32_t>(x) >= 0; });
            chosen("slct." + type + ".f32", "r6", by_float, not_negative);
            chosen("slct.ftz." + type + ".f32", "r6", by_float, [&](uint64_t x) { return not_negative(flushed(kLayoutF32, x)); });
        }
    }
}

TEST_CASE("mov, packing and unpacking") {
    Samples samples(4);
    const Values d1 = samples.bits(64, kCount), d2 = samples.bits(64, kCount), r1 = samples.bits(32, kCount), h1 = samples.bits(16, kCount);
    const auto all = [&](const std::string& text, const std::vector<std::string>& outputs, const auto& reference) {
        const auto got = run(text, {{"d1", d1}, {"d2", d2}, {"r1", r1}, {"h1", h1}}, outputs);
        size_t wrong = 0;
        for (size_t i = 0; i < kCount; ++i) {
            const std::vector<uint64_t> expected = reference(i);
            for (size_t j = 0; j < outputs.size(); ++j) wrong += got[j][i] != expected[j];
        }
        CHECK_MESSAGE(wrong == 0, text);
    };
    using R = std::vector<uint64_t>;
    all("mov.u16 h0, h1; mov.f32 r0, r1; mov.s64 d0, d1;", {"h0", "r0", "d0"}, [&](size_t i) { return R{h1[i], r1[i], d1[i]}; });
    all("mov.b64 {r2, r3}, d1;", {"r2", "r3"}, [&](size_t i) { return R{d1[i] & 0xffffffff, d1[i] >> 32}; });
    all("mov.b64 {_, r3}, d1;", {"r3"}, [&](size_t i) { return R{d1[i] >> 32}; });
    all("mov.b64 {r1, r2}, d1; mov.b64 d1, {r2, r1};", {"d1"}, [&](size_t i) { return R{d1[i] << 32 | d1[i] >> 32}; });
    all("mov.b64 {h2, h3, h4, h5}, d1; mov.b64 d0, {h5, h4, h3, h2};", {"h2", "h5", "d0"}, [&](size_t i) {
        return R{d1[i] & 0xffff, d1[i] >> 48, d1[i] << 48 | (d1[i] & 0xffff0000) << 16 | (d1[i] >> 16 & 0xffff0000) | d1[i] >> 48};
    });
    all("mov.b32 {h2, h3}, r1; mov.b32 r2, {h3, h1};", {"h2", "h3", "r2"},
        [&](size_t i) { return R{r1[i] & 0xffff, r1[i] >> 16, r1[i] >> 16 | h1[i] << 16}; });
    all("mov.b32 {c0, c1, c2, c3}, r1; mov.b32 r2, {c3, c2, c1, c0}; mov.b16 h2, {c1, c3};", {"r2", "h2"}, [&](size_t i) {
        return R{(r1[i] & 0xff) << 24 | (r1[i] & 0xff00) << 8 | (r1[i] >> 8 & 0xff00) | r1[i] >> 24,
                 (r1[i] >> 8 & 0xff) | (r1[i] >> 16 & 0xff00)};
    });
    all("mov.b128 q0, {d1, d2}; mov.b128 q1, q0; mov.b128 {d3, d4}, q1; mov.b128 {r2, r3, r4, r5}, q0;",
        {"d3", "d4", "r2", "r3", "r4", "r5"},
        [&](size_t i) { return R{d1[i], d2[i], d1[i] & 0xffffffff, d1[i] >> 32, d2[i] & 0xffffffff, d2[i] >> 32}; });
    all("mov.b32 r0, -1; mov.b16 h0, 0x12345; mov.f32 r2, 1.5; mov.b64 d0, {r0, 7};", {"r0", "h0", "r2", "d0"},
        [&](size_t) { return R{0xffffffff, 0x2345, 0x3fc00000, 0x7ffffffff}; });
    all("setp.ne.b32 p1, r1, 0; mov.pred p2, p1; mov.pred p3, 1;", {"p2", "p3"}, [&](size_t i) { return R{r1[i] != 0 ? 1U : 0U, 1}; });
}

TEST_CASE("guards leave other lanes alone") {
    Values values(100), guard(100);
    for (size_t i = 0; i < values.size(); ++i) {
        values[i] = i;
        guard[i] = i % 3 == 0;
    }
    const auto got = run("@p1 add.u32 r1, r1, 1000; @!p1 mov.b64 {r2, r3}, d1; @p1 setp.eq.u32 p2|p3, r1, r1;",
                         {{"r1", values},
                          {"p1", guard},
                          {"r2", values},
                          {"r3", values},
                          {"d1", Values(100, 5)},
                          {"p2", Values(100, 0)},
                          {"p3", Values(100, 1)}},
                         {"r1", "r2", "r3", "p2", "p3"});
    for (size_t i = 0; i < values.size(); ++i) {
        const bool on = i % 3 == 0;
        CHECK(got[0][i] == (on ? i + 1000 : i));
        CHECK(got[1][i] == (on ? i : 5));
        CHECK(got[2][i] == (on ? i : 0));
        CHECK(got[3][i] == (on ? 1 : 0));
        CHECK(got[4][i] == (on ? 0 : 1));
    }
}

TEST_CASE("refused comparisons and moves") {
    CHECK(refusal("setp.lt.b32 p0, r1, r2;").find("only compared by `.eq` and `.ne`") != std::string::npos);
    CHECK(refusal("setp.lo.s32 p0, r1, r2;").find("has no comparison") != std::string::npos);
    CHECK(refusal("setp.ltu.u32 p0, r1, r2;").find("has no comparison") != std::string::npos);
    CHECK(refusal("setp.eq.s32 p0, r1, r2, p1;").find("takes 3 operands, found 4") != std::string::npos);
    CHECK(refusal("mov.f16 h0, h1;").find("`mov` is not known with type `.f16`") != std::string::npos);
    CHECK(refusal("mov.b64 {r1, r2, r3}, d1;").find("has no 3 parts") != std::string::npos);
    CHECK(refusal("mov.b64 d0, r1;").find("needs 64 bits here") != std::string::npos);
    CHECK(refusal("selp.b32 r0, r1, r2, r3;").find("needs 1 bits here") != std::string::npos);
}
