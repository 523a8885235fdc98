// Clauses beyond scale, score and mask: sinks, weights that stand by themselves, transformed rows, gated outputs. Each in shapes that take the ways a launch
// can go: many rows, few rows over many keys (split), groups of heads, rows without keys, arrays that are not dense.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/numerics/checker.h"

namespace numerics {

namespace {

using flex::DType;
using Normalize = Variant::Normalize;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// One program on several shapes; targets that lack the clause are left out.
class Clauses {
public:
    explicit Clauses(Checker& checker) : checker_(checker) {}

    void operator()(const std::string& label, const std::string& params, const std::string& clauses, const std::vector<Case>& cases,
                    const Checker::Edit& edit = {}) {
        if (!checker_.wanted(label)) return;
        const auto program = Program::open(label, "import std;\nattention clause(" + params + ") {\n" + clauses + "\n}\n", {});
        checker_.expect(program != nullptr, label, "does not compile");
        if (!program || !(checker_.gpu() ? program->runs_on_gpu() : program->runs_on_cpu())) return;
        checker_.take_types_in_turn(true);
        for (size_t i = 0; i < cases.size(); ++i)
            checker_.check(label, *program, cases[i], ++seed_, edit,
                           i % 3 == 2   ? Layout::Padded
                           : i % 3 == 1 ? Layout::HeadsInner
                                        : Layout::Dense);
        if (!cases.empty())
            checker_.check(label, *program, cases[1 % cases.size()], ++seed_, edit);  // dense, so that the interpreter has it, too
        checker_.take_types_in_turn(false);
    }

private:
    Checker& checker_;
    uint32_t seed_ = 7000;
};

const std::vector<Shape> kShapes = {
    {.b = 2, .h = 4, .hkv = 2, .q = 75, .k = 140, .d = 32, .dv = 48, .kvb = 2},
    {.b = 2, .h = 6, .hkv = 2, .q = 1, .k = 2500, .d = 20, .dv = 24, .kvb = 1},  // few rows: keys are split
    {.b = 1, .h = 3, .hkv = 1, .q = 130, .k = 67, .d = 7, .dv = 5, .kvb = 1},
};

std::vector<Case> cases_of(const Variant& variant, const std::vector<Captured>& captured = {}) {
    std::vector<Case> all;
    for (const Shape& shape : kShapes) {
        Case& c = all.emplace_back();
        c.shape = shape;
        c.variant = variant;
        c.captured = captured;
    }
    return all;
}

bool every_third(int, int, int q, int k) {
    return q % 3 != 1 && (q + k) % 2 == 0;  // every third row has no key
}

Variant sink_of(std::function<double(int, int, int)> sink, MaskFn mask = {}, ScoreFn score = {}) {
    Variant variant;
    variant.sink = std::move(sink);
    variant.mask = std::move(mask);
    variant.score = std::move(score);
    return variant;
}

void sinks(Clauses& run) {
    const std::vector<double> logits = {0.5, -1.25, 3, -8, 0, 20};
    std::vector<Case> by_head = cases_of(sink_of([logits](int, int h, int) { return logits[h]; }));
    for (Case& c : by_head)
        c.captured = {tensor("s", DType::F32, {c.shape.h}, std::vector<double>(logits.begin(), logits.begin() + c.shape.h))};
    run("sink by head", "s: f32[H]", "sink = s[h];", by_head);
    run("sink by row, rows without keys", "", "sink = 0.25 * f32(b + 2 * h) - 0.125 * f32(q); mask = q % 3 != 1 and (q + k) % 2 == 0;",
        cases_of(sink_of([](int b, int h, int q) { return 0.25 * (b + 2 * h) - 0.125 * q; }, every_third)));
    const auto choose = [](double a, double b, double c, double d) {
        return [=](int, int, int q) { return q % 4 == 0 ? a : q % 4 == 1 ? b : q % 4 == 2 ? c : d; };
    };
    run("large sinks", "", "sink = if q % 4 == 0 then 1e30 else if q % 4 == 1 then -1e30 else if q % 4 == 2 then 80.0 else -inf;",
        cases_of(sink_of(choose(static_cast<double>(1e30F), static_cast<double>(-1e30F), 80, -kInf))));
    run("sinks that are not finite", "",
        "sink = if q % 4 == 0 then inf else if q % 4 == 1 then inf - inf else 0.0; mask = q % 3 != 1 and (q + k) % 2 == 0;",
        cases_of(sink_of(choose(kInf, kNaN, 0, 0), every_third)));
    const auto huge = [](double x) { return [x](int, int, int, int, double) { return x; }; };
    Variant low = sink_of([](int, int, int) { return static_cast<double>(-1e30F); }, {}, huge(static_cast<double>(-1e30F)));
    low.score_ops = 0;
    run("a sink among scores of -1e30", "", "sink = -1e30; score = -1e30;", cases_of(low));
}

void each_weight(Clauses& run) {
    Variant sigmoid;
    sigmoid.normalize = Normalize::Sigmoid;
    run("normalize sigmoid", "", "normalize sigmoid;", cases_of(sigmoid));
    sigmoid.mask = every_third;
    sigmoid.score = [](int, int h, int q, int k, double x) { return 4 * x - 0.0625 * (h + 1) * std::abs(q - k); };
    run("normalize sigmoid, masked", "",
        "normalize sigmoid; score = 4 * score - 0.0625 * f32((h + 1) * abs(q - k)); mask = q % 3 != 1 and (q + k) % 2 == 0;",
        cases_of(sigmoid));
    Variant far;
    far.normalize = Normalize::Sigmoid;
    far.score_ops = 0;
    far.score = [](int, int, int, int k, double x) {
        return k % 5 == 0   ? kInf
               : k % 5 == 1 ? -kInf
               : k % 5 == 2 ? static_cast<double>(1e30F)
               : k % 5 == 3 ? static_cast<double>(-1e30F)
                            : x;
    };
    run("normalize sigmoid, infinite scores", "",
        "normalize sigmoid; score = if k % 5 == 0 then inf else if k % 5 == 1 then -inf else if k % 5 == 2 then 1e30 else if k % 5 == 3 "
        "then -1e30 "
        "else score;",
        cases_of(far));
    Variant none;
    none.normalize = Normalize::None;
    run("normalize none", "", "normalize none;", cases_of(none));
    none.mask = every_third;
    none.score = [](int, int, int q, int k, double x) { return k % 7 == 2 ? (q == 0 ? kNaN : 0.0) : k % 7 == 3 ? -kInf : x * x; };
    none.score_ops = 32;
    run("normalize none, masked", "",
        "normalize none; score = if k % 7 == 2 then (if q == 0 then inf - inf else 0.0) else if k % 7 == 3 then -inf else score * score; "
        "mask = q % 3 != 1 and (q + k) % 2 == 0;",
        cases_of(none));
    // What is masked does not matter, whatever stands in V there; a weight of 0 is no mask.
    Variant zero;
    zero.normalize = Normalize::None;
    zero.score_ops = 0;
    zero.mask = [](int, int, int, int k) { return k % 2 == 0; };
    zero.score = [](int, int, int q, int, double x) { return q % 2 == 0 ? 0.0 : x; };
    run("normalize none, poison", "", "normalize none; score = if q % 2 == 0 then -0.0 else score; mask = k % 2 == 0;", cases_of(zero),
        [](Inputs& in) {
            const Shape& s = in.shape;
            for (int64_t row = 0; row < int64_t{s.kvb} * s.hkv * s.k; ++row)
                if (row % s.k % 2 == 1)
                    in.v[row * s.dv] = row % 3 == 0 ? kNaN : kInf;
                else if (row % s.k == 4)
                    in.v[row * s.dv + 1] = kInf;
        });
}

void outputs(Clauses& run) {
    Variant gated;
    gated.mask = every_third;
    gated.output = [](int b, int h, int q, int d, double o) { return o / (1 + std::exp(-0.25 * (d - 8))) + 0.5 * (b + h - q % 3); };
    run("output by position", "",
        "output = o * sigmoid(0.25 * f32(d - 8)) + 0.5 * f32(b + h - q % 3); mask = q % 3 != 1 and (q + k) % 2 == 0;", cases_of(gated));
    std::vector<Case> captured = cases_of({});
    Random random(41);
    for (Case& c : captured) {
        const Shape s = c.shape;
        const Captured gate = random_floats(random, "g", {s.b, s.h, s.q, s.dv});
        std::vector<int> back(s.dv);
        for (int& i : back) i = random.integer(-2, s.dv + 2);
        c.captured = {gate, tensor("back", DType::I32, {s.dv}, back)};
        c.variant.output = [=](int b, int h, int q, int d, double o) {
            const auto at = [&](int i) {
                return i < 0 || i >= s.dv ? 0.0 : gate.values[((static_cast<size_t>(b) * s.h + h) * s.q + q) * s.dv + i];
            };
            return o * at(d) + at(s.dv - 1 - d) + at(back[d]) + at(d + 1);
        };
    }
    run("output by a captured gate", "g: f32[B, H, Q, DV], back: i32[DV]",
        "output = o * g[b, h, q, d] + g[b, h, q, DV - 1 - d] + g[b, h, q, back[d]] + g[b, h, q, d + 1];", captured);
    Variant both;
    both.normalize = Normalize::Sigmoid;
    both.output = [](int, int, int, int, double o) { return std::max(o, 0.0) - 0.5; };
    run("output of sigmoid weights", "", "normalize sigmoid; output = max(o, 0.0) - 0.5;", cases_of(both));
}

/// Pairs of elements at a distance of half a row, turned by captured angles.
void rows(Clauses& run) {
    std::vector<Case> rope;
    Random random(42);
    for (Shape s : kShapes) {
        s.d = s.d / 2 * 2;
        Case& c = rope.emplace_back();
        c.shape = s;
        const int n = std::max(s.q, s.k), half = s.d / 2;
        std::vector<double> cosines(n * half), sines(n * half);
        for (int i = 0; i < n * half; ++i) {
            cosines[i] = rounded(DType::F32, std::cos(i * 0.37));
            sines[i] = rounded(DType::F32, std::sin(i * 0.37));
        }
        c.captured = {tensor("cs", DType::F32, {n, half}, cosines), tensor("sn", DType::F32, {n, half}, sines)};
        const auto turned = [=](int position, int d, const double* row) {
            const int i = position * half + d % half;
            return row[d] * cosines[i] + (d < half ? -row[d + half] : row[d - half]) * sines[i];
        };
        c.variant.query = [=](int, int, int q, int d, const double* row) { return turned(q, d, row); };
        c.variant.key = [=](int, int, int k, int d, const double* row) { return turned(k, d, row); };
        c.variant.mask = [](int, int, int q, int k) { return q + 5 >= k || k % 9 == 0; };
    }
    run("rotary positions", "cs: f32[N, M], sn: f32[N, M]",
        "query = query[d] * cs[q, d % (D // 2)] + (if d < D // 2 then -query[d + D // 2] else query[d - D // 2]) * sn[q, d % (D // 2)];\n"
        "key = key[d] * cs[k, d % (D // 2)] + (if d < D // 2 then -key[d + D // 2] else key[d - D // 2]) * sn[k, d % (D // 2)];\n"
        "mask = q + 5 >= k or k % 9 == 0;",
        rope);
    Variant outside;
    outside.query = [](int b, int h, int q, int d, const double* row) { return (d > 0 ? row[d - 1] : 0.0) * (h + 1) + 0.125 * (q + b); };
    outside.scale = [](int, int, int) { return 0.0625; };
    run("query of its neighbours", "", "scale = 0.0625; query = query[d - 1] * f32(h + 1) + 0.125 * f32(q + b) + query[D] + query[-1];",
        cases_of(outside));
    Variant keys;
    keys.key = [](int b, int hkv, int k, int d, const double* row) { return row[d] * (b + 1) - 0.5 * hkv + 0.03125 * (k % 7); };
    run("key by batch and head", "", "key = key[d] * f32(b + 1) - 0.5 * f32(hkv) + 0.03125 * f32(k % 7);", cases_of(keys));
    std::vector<Case> projected;
    for (const Shape& s : kShapes) {
        Case& c = projected.emplace_back();
        c.shape = s;
        std::vector<double> w(s.d * s.d);
        for (double& x : w) x = random.integer(-4, 4) * 0.125;
        c.captured = {tensor("w", DType::F32, {s.d, s.d}, w)};
        c.variant.query = [w, s](int, int, int, int d, const double* row) {
            double sum = 0;
            for (int i = 0; i < s.d; ++i) sum += row[i] * w[d * s.d + i];
            return sum;
        };
        c.variant.key = [](int, int, int, int d, const double* row) { return row[d] * 0.5; };
        c.variant.sink = [](int, int, int) { return 0.75; };
    }
    run("projected query", "w: f32[D, D]", "query = dot(query[:], w[d, :]); key = key[d] * 0.5; sink = 0.75;", projected);
}

/// Regions that a region of queries attends to; entries that name no region, and one twice.
void blocks(Clauses& run) {
    Random random(43);
    for (const bool shared : {false, true}) {
        std::vector<Case> all;
        for (const Shape& s : kShapes) {
            Case& c = all.emplace_back();
            c.shape = s;
            const int b = shared ? 1 : s.b, h = shared ? 1 : s.h, regions = 6, listed = 3;
            std::vector<int> table(b * h * regions * listed);
            for (int& entry : table) entry = random.integer(-1, regions);
            c.captured = {tensor("r", DType::I32, {b, h, regions, listed}, table)};
            c.variant.mask = [=](int at_b, int at_h, int q, int k) {
                const int of_q = (s.q + regions - 1) / regions, of_k = (s.k + regions - 1) / regions;
                const int row = (((shared ? 0 : at_b) * h + (shared ? 0 : at_h)) * regions + q / of_q) * listed;
                for (int j = 0; j < listed; ++j)
                    if (table[row + j] == k / of_k && q + 100 >= k) return true;
                return false;
            };
        }
        run(shared ? "blocks for all heads" : "blocks", shared ? "r: i32[1, 1, R, J]" : "r: i32[B, H, R, J]",
            "blocks = r; mask = q + 100 >= k;", all);
    }
    // The extents of the list decide at launch whether it is one for all.
    std::vector<Case> free;
    for (const Shape& s : kShapes) {
        Case& c = free.emplace_back();
        c.shape = s;
        c.captured = {tensor("r", DType::I32, {s.b == 1 ? 1 : s.b, 1, 2, 1}, std::vector<int>(static_cast<size_t>(2 * s.b), 1))};
        c.variant.mask = [s](int, int, int, int k) { return k >= (s.k + 1) / 2; };
    }
    run("blocks of free extents", "r: i32[X, Y, R, J]", "blocks = r;", free);
}

}  // namespace

void check_clauses(Checker& checker) {
    Clauses run(checker);
    sinks(run);
    each_weight(run);
    outputs(run);
    rows(run);
    blocks(run);
}

}  // namespace numerics
