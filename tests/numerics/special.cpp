// Special inputs: sizes at the edges, head layouts, rows with nothing to attend to, values that are not finite, huge scores,
// captured arrays of every type.
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "tests/numerics/checker.h"

namespace numerics {

namespace {

using flex::DType;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int kLargestGpuHeadDim = 256;
// In f32; f16 inputs never hold it.
constexpr double kHuge = static_cast<double>(1e30F);

class Specials {
public:
    explicit Specials(Checker& checker) : checker_(checker) {}

    /// `clauses` is the body of an attention, `params` its parameters.
    void operator()(const std::string& label, const std::string& params, const std::string& clauses, const Case& c,
                    const Checker::Edit& edit = {}, Layout layout = Layout::Dense) {
        if (!checker_.wanted(label)) return;
        if (auto program = open(label, params, clauses)) checker_.check(label, *program, c, ++seed_, edit, layout);
    }
    std::unique_ptr<Program> open(const std::string& label, const std::string& params, const std::string& clauses) {
        auto program = Program::open(label, "import std;\nattention special(" + params + ") {\n" + clauses + "\n}\n", {});
        checker_.expect(program != nullptr, label, "does not compile");
        return program;
    }

private:
    Checker& checker_;
    uint32_t seed_ = 1000;
};

Case case_of(Shape shape, MaskFn mask = {}, ScoreFn score = {}) {
    Case c;
    c.shape = shape;
    c.variant.mask = std::move(mask);
    c.variant.score = std::move(score);
    return c;
}

/// A score clause that only chooses between values, so that it adds no rounding.
Case choice_of(Shape shape, ScoreFn score, MaskFn mask = {}) {
    Case c = case_of(shape, std::move(mask), std::move(score));
    c.variant.score_ops = 0;
    return c;
}

bool is_causal(int, int, int q, int k) {
    return q >= k;
}

void sizes(Checker& checker, Specials& specials) {
    const auto plain = specials.open("sizes", "", "");
    const auto causal = specials.open("sizes causal", "", "mask = causal();");
    if (!plain || !causal) return;
    const bool gpu = checker.options().gpu;
    const std::vector<int> lengths = checker.options().quick          ? std::vector<int>{0, 1, 17}
                                     : gpu && !checker.options().full ? std::vector<int>{0, 1, 17, 129}
                                                                      : std::vector<int>{0, 1, 2, 17, 129};
    checker.take_types_in_turn(true);
    uint32_t seed = 2000;
    int count = 0;
    for (const auto& [d, dv] :
         {std::pair{1, 1}, {3, 3}, {64, 64}, {80, 80}, {128, 128}, {256, 256}, {512, 512}, {64, 128}, {7, 33}, {192, 128}})
        for (const int q : lengths)
            for (const int k : lengths) {
                if (d > kLargestGpuHeadDim && gpu) continue;
                // The longest ones with the largest heads only once in a while: they add time, not cases.
                if (d >= 256 && q == 129 && k == 129 && d != 512) continue;
                Shape s{.b = 1, .h = 2, .hkv = 1, .q = q, .k = k, .d = d, .dv = dv, .kvb = 1};
                const std::string label = "sizes D=" + std::to_string(d) + " DV=" + std::to_string(dv);
                const bool masked = ++count % 2 == 0;
                checker.check(label, masked ? *causal : *plain, case_of(s, masked ? MaskFn{is_causal} : MaskFn{}), ++seed);
            }
    checker.take_types_in_turn(false);
}

void heads(Checker& checker, Specials& specials) {
    const auto program = specials.open("heads", "", "mask = q + h >= k;\nscore = score + f32(h) * f32(q - k) * 0.125;");
    if (!program) return;
    uint32_t seed = 3000;
    checker.take_types_in_turn(true);
    for (const auto& [b, h, hkv, kvb] : {std::tuple{3, 8, 1, 1}, {3, 8, 1, 3}, {2, 6, 3, 1}, {2, 6, 6, 2}, {1, 12, 2, 1}, {2, 5, 1, 2}})
        for (const auto& [q, k] : {std::pair{1, 70}, {19, 45}, {3, 300}})
            for (const Layout layout : {Layout::Dense, Layout::HeadsInner, Layout::Padded})
                checker.check("heads and layouts", *program,
                              case_of(
                                  {.b = b, .h = h, .hkv = hkv, .q = q, .k = k, .d = 20, .dv = 36, .kvb = kvb},
                                  [](int, int hh, int qq, int kk) { return qq + hh >= kk; },
                                  [](int, int hh, int qq, int kk, double x) { return x + hh * (qq - kk) / 8.0; }),
                              ++seed, {}, layout);
    checker.take_types_in_turn(false);
}

void empty_rows(Specials& specials) {
    const Shape s{.b = 2, .h = 4, .hkv = 2, .q = 75, .k = 140, .d = 32, .dv = 32, .kvb = 2};
    specials("rows without keys", "", "mask = q % 3 == 1 and k > q + 5;",
             case_of(s, [](int, int, int q, int k) { return q % 3 == 1 && k > q + 5; }));
    specials("nothing at all", "n: i32 = 0", "mask = k < n;", case_of(s, [](int, int, int, int) { return false; }));
    specials("one key each", "", "mask = k == (q * 7 + h) % K;",
             case_of(s, [s](int, int h, int q, int k) { return k == (q * 7 + h) % s.k; }));
    specials("minus infinity masks", "", "score = if (q + k) % 4 == 0 and q % 5 > 0 then score else -inf;",
             choice_of(s, [](int, int, int q, int k, double x) { return (q + k) % 4 == 0 && q % 5 > 0 ? x : -kInf; }));
}

void not_finite(Specials& specials) {
    const Shape s{.b = 2, .h = 2, .hkv = 2, .q = 70, .k = 150, .d = 24, .dv = 24, .kvb = 2};
    const std::vector<int> length = {37, 101};
    Case padded = case_of(s, [length](int b, int, int, int k) { return k < length[b]; });
    padded.captured = {tensor("len", DType::I32, {2}, length)};
    const auto poison_padding = [s, length](Inputs& in) {
        for (int b = 0; b < s.b; ++b)
            for (int h = 0; h < s.hkv; ++h)
                for (int k = length[b]; k < s.k; ++k)
                    for (int i = 0; i < s.d; ++i) {
                        in.k[((b * s.hkv + h) * s.k + k) * s.d + i] = k % 3 == 0 ? kNaN : k % 3 == 1 ? kInf : -kInf;
                        in.v[((b * s.hkv + h) * s.k + k) * s.dv + i] = k % 2 == 0 ? kNaN : kInf;
                    }
    };
    specials("poison under padding", "len: i32[B]", "mask = padding(len);", padded, poison_padding);
    // The same, where every tile is partial.
    Case scattered = case_of(s, [length](int b, int, int q, int k) { return k < length[b] && (q + k) % 3 != 0; });
    scattered.captured = padded.captured;
    specials("poison in partial tiles", "len: i32[B]", "mask = (q + k) % 3 != 0 and padding(len);", scattered, poison_padding);
    // A score that is NaN or inf exactly where the mask is false.
    specials("poison in the score", "", "score = if k > q then 0.0 / f32(q - q) else score;\nmask = q >= k;",
             choice_of(s, [](int, int, int q, int k, double x) { return k > q ? kNaN : x; }, is_causal));
    // Diagonal poison: key 40 is seen by the rows from 40 on, and by no others.
    specials("nan in a key", "", "mask = causal();", case_of(s, is_causal), [s](Inputs& in) { in.k[40 * s.d + 3] = kNaN; });
    specials("nan in a query", "", "mask = causal();", case_of(s, is_causal), [s](Inputs& in) { in.q[33 * s.d] = kNaN; });
    specials("nan in a value", "", "mask = causal();", case_of(s, is_causal), [s](Inputs& in) { in.v[40 * s.dv + 3] = kNaN; });
    specials("inf in a value", "", "mask = causal();", case_of(s, is_causal), [s](Inputs& in) { in.v[40 * s.dv + 3] = -kInf; });
    specials("inf in a score", "", "score = if q == 9 and k == 5 then inf else score;",
             choice_of(s, [](int, int, int q, int k, double x) { return q == 9 && k == 5 ? kInf : x; }));
    specials("nan in a score", "", "score = if q == 9 and k == 100 then inf - inf else score;",
             choice_of(s, [](int, int, int q, int k, double x) { return q == 9 && k == 100 ? kNaN : x; }));
}

void huge_scores(Specials& specials) {
    const Shape s{.b = 1, .h = 2, .hkv = 1, .q = 40, .k = 200, .d = 16, .dv = 16, .kvb = 1};
    specials("uniform at -1e30", "", "score = -1e30;", choice_of(s, [](int, int, int, int, double) { return -kHuge; }));
    specials("uniform at 1e30", "", "score = 1e30;", choice_of(s, [](int, int, int, int, double) { return kHuge; }));
    specials("uniform at -3e38", "", "score = -3e38;",
             choice_of(s, [](int, int, int, int, double) { return static_cast<double>(-3e38F); }));
    specials("huge and ordinary", "", "score = if k % 50 == 7 then 1e30 else if k % 50 == 8 then -1e30 else score;",
             choice_of(s, [](int, int, int, int k, double x) { return k % 50 == 7   ? kHuge
                                                                      : k % 50 == 8 ? -kHuge
                                                                                    : x; }));
    specials("huge late", "", "score = if k == K - 1 and q % 2 == 0 then 1e30 else score;",
             choice_of(s, [s](int, int, int q, int k, double x) { return k == s.k - 1 && q % 2 == 0 ? kHuge : x; }));
    specials("masked with -1e30", "", "score = if q >= k then score else -1e30;",
             choice_of(s, [](int, int, int q, int k, double x) { return q >= k ? x : -kHuge; }));
    specials("rising scores", "", "score = score + f32(k) * 0.5;",
             case_of(s, {}, [](int, int, int, int k, double x) { return x + k * 0.5; }));
    specials("falling scores", "", "score = score - f32(k) * 4.0;",
             case_of(s, {}, [](int, int, int, int k, double x) { return x - k * 4.0; }));
}

void long_rows(Specials& specials) {
    const Shape s{.b = 1, .h = 1, .hkv = 1, .q = 3, .k = 5003, .d = 64, .dv = 64, .kvb = 1};
    specials("5003 keys", "", "", case_of(s));
    specials("uniform over 5003 keys", "", "score = 0.0 * score;", case_of(s, {}, [](int, int, int, int, double) { return 0.0; }));
}

void scales(Specials& specials) {
    const Shape s{.b = 2, .h = 4, .hkv = 2, .q = 33, .k = 65, .d = 40, .dv = 40, .kvb = 2};
    Case c = case_of(s);
    c.variant.scale = [](int b, int h, int q) { return 0.125 * (h + 1) + 0.25 * b - 0.0625 * (q % 5); };
    specials("scale by b, h and q", "", "scale = 0.125 * f32(h + 1) + 0.25 * f32(b) - 0.0625 * f32(q % 5);", c);
    c.variant.scale = [](int, int, int) { return 0.0; };
    specials("scale of zero", "", "scale = 0.0;", c);
    c.variant.scale = [](int, int, int) { return 1.0; };
    c.variant.score = [](int, int, int, int, double x) { return 0.5 * x; };
    specials("scale of a parameter", "a: f32, half: f32 = 0.5", "scale = a;\nscore = half * score;", [&] {
        Case with = c;
        with.captured = {scalar_f32("a", 1.0F)};
        return with;
    }());
}

/// One array of each type, read with indices that leave the array on both sides, and through one another.
void captured_types(Specials& specials) {
    const Shape s{.b = 1, .h = 2, .hkv = 2, .q = 45, .k = 77, .d = 16, .dv = 16, .kvb = 1};
    Random random(77);
    for (const auto& [name, type, low, high] : {std::tuple{"i32", DType::I32, -100000, 100000},
                                                {"i16", DType::I16, -32768, 32767},
                                                {"i8", DType::I8, -128, 127},
                                                {"u8", DType::U8, 0, 255}}) {
        std::vector<int> values(60);
        for (int& v : values) v = random.integer(low, high);
        Case c = case_of(s, {}, [values](int, int, int q, int k, double x) {
            const int i = k - q;
            return x + (i >= 0 && i < 60 ? values[i] : 0) * 0x1p-10;
        });
        c.captured = {tensor("t", type, {60}, values)};
        specials(std::string("captured ") + name, std::string("t: ") + name + "[N]", "score = score + f32(t[k - q]) * 0.0009765625;", c);
    }
    for (const auto& [name, type] : {std::pair{"f32", DType::F32}, {"f16", DType::F16}, {"bf16", DType::BF16}}) {
        std::vector<double> values(60);
        for (double& v : values) v = rounded(type, random.normal());
        values[7] = rounded(type, 0x1p-20);  // subnormal in f16
        Case c = case_of(s, {}, [values](int, int, int q, int k, double x) {
            const int i = k - q;
            return x + (i >= 0 && i < 60 ? values[i] : 0);
        });
        c.captured = {tensor("t", type, {60}, values)};
        specials(std::string("captured ") + name, std::string("t: ") + name + "[N]", "score = score + t[k - q];", c);
    }
    std::vector<int> next(77), flags(50);
    for (int& n : next) n = random.integer(-20, 90);
    for (int& f : flags) f = random.chance(0.6);
    Case nested = case_of(s, [next, flags](int, int, int q, int k) {
        const int a = next[k] >= 0 && next[k] < 77 ? next[next[k]] : 0;
        const int i = a + q - 20;
        return i >= 0 && i < 50 && flags[i];
    });
    nested.captured = {tensor("next", DType::I32, {77}, next), tensor("flag", DType::Bool, {50}, flags)};
    specials("nested reads", "next: i32[K], flag: bool[N]", "mask = flag[next[next[k]] + q - 20];", nested);
    Case scalars = case_of(s, [](int, int, int, int k) { return k % 3 == 0; }, [](int, int, int, int, double x) { return x * 1.25 + 3; });
    scalars.captured = {scalar_bool("on", true), scalar_f32("a", 1.25F), scalar("m", 3)};
    specials("scalars of each type", "on: bool, a: f32, m: i32, off: bool = false",
             "score = select(off, 0.0, score * a + f32(m));\nmask = on and k % m == 0;", scalars);
}

/// The result does not depend on the number of threads, and a tile that the mask kills costs nothing.
void launches(Checker& checker, Specials& specials) {
    const std::string label = "threads and tiles";
    if (!checker.wanted(label)) return;
    const auto causal = specials.open(label, "", "mask = causal();");
    const auto plain = specials.open(label, "", "");
    const auto none = specials.open(label, "n: i32 = 0", "mask = k < n;");
    if (!causal || !plain || !none) return;
    Random random(5);
    const Shape s{.b = 2, .h = 3, .hkv = 1, .q = 700, .k = 700, .d = 16, .dv = 16, .kvb = 1};
    const Inputs in = random_inputs(random, s, DType::F32);
    const flex::CpuLevel level = flex::host_level();
    const Result one = causal->run(level, DType::F32, in, {}, Layout::Dense, 1);
    const Result all = plain->run(level, DType::F32, in, {}, Layout::Dense, 1);
    for (const int threads : {2, 3, 7}) {
        const Result many = causal->run(level, DType::F32, in, {}, Layout::Dense, threads);
        checker.expect(one.o == many.o && one.lse == many.lse, label, "the result differs with " + std::to_string(threads) + " threads");
    }
    checker.expect(one.error.empty() && all.error.empty(), label, one.error + all.error);
    checker.expect(all.stats.tiles_visited > 0 && all.stats.tiles_full == all.stats.tiles_visited, label,
                   "without a mask every tile is full");
    checker.expect(one.stats.tiles_visited * 10 < all.stats.tiles_visited * 8, label, "causal visits fewer tiles than no mask");
    checker.expect(none->run(level, DType::F32, in, {}).stats.tiles_visited == 0, label, "an empty mask visits no tile");
}

/// The tolerances are tight enough to tell f32 from tf32 (10 bits of fraction), at every head dimension, and those of GPUs too.
void sensitivity(Checker& checker) {
    const std::string label = "tolerance tells tf32";
    if (!checker.wanted(label)) return;
    Random random(11);
    const Precision& precision = checker.options().gpu ? kGpuF32 : kF32;
    for (const int d : {8, 64, 128, 256, 512}) {
        if (checker.options().gpu && d > kLargestGpuHeadDim) continue;
        Inputs in = random_inputs(random, {.b = 1, .h = 1, .hkv = 1, .q = 16, .k = 256, .d = d, .dv = 64, .kvb = 1}, DType::F32);
        const Output exact = attention(in, {}, precision);
        for (auto* values : {&in.q, &in.k})
            for (double& x : *values) x = rounded(DType::F16, x);  // as many bits as tf32 has
        const Output coarse = attention(in, {}, precision);
        double o_ratio = 0, lse_ratio = 0;
        for (size_t i = 0; i < exact.o.size(); ++i) o_ratio = std::max(o_ratio, std::fabs(coarse.o[i] - exact.o[i]) / exact.o_bound[i]);
        for (size_t i = 0; i < exact.lse.size(); ++i)
            lse_ratio = std::max(lse_ratio, std::fabs(coarse.lse[i] - exact.lse[i]) / exact.lse_bound[i]);
        checker.expect(o_ratio > 2 && lse_ratio > 1, label,
                       "at D=" + std::to_string(d) + " its error is only " + std::to_string(o_ratio) + " (o) and " +
                           std::to_string(lse_ratio) + " (lse) of the allowed");
    }
}

}  // namespace

void check_special(Checker& checker) {
    sensitivity(checker);
    Specials specials(checker);
    if (checker.wanted("sizes")) sizes(checker, specials);
    if (checker.wanted("heads and layouts")) heads(checker, specials);
    empty_rows(specials);
    not_finite(specials);
    huge_scores(specials);
    long_rows(specials);
    scales(specials);
    captured_types(specials);
    if (!checker.options().gpu) launches(checker, specials);
}

}  // namespace numerics
