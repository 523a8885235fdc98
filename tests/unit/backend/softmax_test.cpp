// The softmax step, block after block, against plain double precision: weights, sums, maxima and rescaling, and what
// becomes of NaN, infinities, masked rows, tails and scores that are huge. Ends with an attention over one value column.
#include <doctest/doctest.h>
#include <cmath>
#include <limits>
#include <random>

#include "variant.h"

using namespace flexc;
using ir::ElemType;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
    const char* name;
    float (*score)(int row, int key);
    bool (*keep)(int row, int key);
};

bool all(int, int) {
    return true;
}
float waves(int row, int key) {
    return 4 * std::sin(float(row * 31 + key) * 0.7f);
}

const Case kCases[] = {
    {"ordinary", waves, all},
    {"causal", waves, [](int row, int key) { return key <= row * 9; }},
    {"nothing kept", waves, [](int, int) { return false; }},
    {"rows without keys", waves, [](int row, int) { return row % 2 == 0; }},
    {"one key, late", waves, [](int, int key) { return key == 90; }},
    {"masked with -inf", [](int row, int key) { return (row + key) % 3 ? -kInf : waves(row, key); }, all},
    {"only -inf", [](int, int) { return -kInf; }, all},
    {"-1e30", [](int, int) { return -1e30f; }, all},
    {"huge", [](int row, int key) { return key % 2   ? 3e38f
                                           : row % 2 ? -3e38f
                                                     : 1e38f; }, all},
    {"rising", [](int, int key) { return float(key) * 12; }, all},
    {"falling", [](int, int key) { return float(-key) * 12; }, all},
    {"NaN in one row", [](int row, int key) { return row == 2 && key == 17 ? kNan : waves(row, key); }, all},
    {"NaN in the last column", [](int row, int key) { return row == 1 && key == 96 ? kNan : waves(row, key); }, all},
    {"NaN and inf under the mask", [](int, int key) { return key % 4 == 1   ? kNan
                                                             : key % 4 == 2 ? kInf
                                                                            : float(key) * 0.01f; },
     [](int, int key) { return key % 4 == 0; }},
    {"+inf in one row", [](int row, int key) { return row == 3 && key == 40 ? kInf : waves(row, key); }, all},
    {"+inf and -inf", [](int row, int key) { return row == 0 ? (key % 2 ? kInf : -kInf) : waves(row, key); }, all},
    {"equal", [](int, int) { return 1.25f; }, all},
    {"subnormal", [](int, int key) { return float(key) * 1e-42f; }, all},
};

}  // namespace

TEST_CASE("softmax over blocks") {
    constexpr int kKeys = 97, kHeads = 3, kQueries = 4, kRows = kHeads * kQueries;
    for (const flex::CpuLevel level : test::levels()) {
        for (const bool in_clause : {false, true}) {  // scores given in the block, or made by the score clause
            for (const Case& c : kCases) {
                CAPTURE(flex::name(level));
                CAPTURE(c.name);
                CAPTURE(in_clause);
                Variant v({1, kHeads, 1, kQueries, kKeys, 8, 8});
                std::vector<double> scores, keeps;
                bool full = true;
                for (int row = 0; row < kRows; row++)
                    for (int key = 0; key < kKeys; key++) {
                        scores.push_back(c.score(row, key));
                        keeps.push_back(c.keep(row, key));
                        full = full && c.keep(row, key);
                    }
                const uint32_t keep = v.tensor(ElemType::Bool, {kHeads, kQueries, kKeys}, keeps);
                v.attention.mask = v.load(keep, {v.h, v.q, v.k});
                if (in_clause) v.attention.score = v.load(v.tensor(ElemType::F32, {kHeads, kQueries, kKeys}, scores), {v.h, v.q, v.k});
                const auto kernel = v.compile(level);
                REQUIRE(kernel);
                const int lanes = flex::lanes(level);

                for (const std::vector<int>& cuts : {std::vector<int>{97}, {64, 97}, {1, 2, 50, 97}, {16, 32, 48, 64, 80, 96, 97}}) {
                    CAPTURE(cuts.size());
                    std::vector<float> m(kRows, -kInf), l(kRows, 0), alpha(kRows, -1);
                    std::vector<double> o(kRows, 0);
                    int k0 = 0;
                    for (const int end : cuts) {
                        const int cols = end - k0;
                        const int64_t ld = (cols + lanes - 1) / lanes * lanes + lanes;
                        std::vector<float> s(size_t(kRows * ld + 1), kNan);
                        for (int row = 0; row < kRows; row++)
                            for (int i = 0; i < cols; i++)
                                s[size_t(1 + row * ld + i)] = in_clause ? 0 : float(scores[size_t(row * kKeys + k0 + i)]);
                        const bool mark = end % 3 != 0;
                        flex_block block{v.args(),     0,  0,        0,        kQueries,    kRows, k0, cols, full && end % 2, mark,
                                         s.data() + 1, ld, m.data(), l.data(), alpha.data()};
                        kernel->table().softmax(&block);
                        for (int row = 0; row < kRows; row++) {
                            o[size_t(row)] *= alpha[size_t(row)];
                            const float* p = s.data() + 1 + row * ld;
                            for (int i = 0; i < cols; i++) {
                                const double score = scores[size_t(row * kKeys + k0 + i)];
                                const bool attends = keeps[size_t(row * kKeys + k0 + i)] != 0 && score != -kInf;
                                if (mark)
                                    CHECK((p[i] == 0 && std::signbit(p[i])) == !attends);
                                else if (!attends)
                                    CHECK(p[i] == 0);
                                if (attends) o[size_t(row)] += double(p[i]) * (k0 + i + 1);
                            }
                            for (int i = cols; i % lanes; i++) CHECK((p[i] == 0 && std::signbit(p[i]) >= mark));
                        }
                        k0 = end;
                    }
                    for (int row = 0; row < kRows; row++) {
                        CAPTURE(row);
                        double top = -kInf, sum = 0, dot = 0;
                        bool poisoned = false;
                        for (int key = 0; key < kKeys; key++) {
                            const double score = scores[size_t(row * kKeys + key)];
                            if (!keeps[size_t(row * kKeys + key)]) continue;
                            poisoned = poisoned || std::isnan(score) || score == kInf;
                            top = std::max(top, score);
                        }
                        const size_t r = size_t(row);
                        if (poisoned) {
                            CHECK((std::isnan(m[r]) && std::isnan(l[r]) && std::isnan(o[r])));
                            continue;
                        }
                        CHECK(m[r] == float(top));
                        for (int key = 0; key < kKeys; key++) {
                            const double score = scores[size_t(row * kKeys + key)];
                            if (!keeps[size_t(row * kKeys + key)] || score == -kInf) continue;
                            const double p = std::exp(score - top);
                            sum += p;
                            dot += p * (key + 1);
                        }
                        CHECK(l[r] == doctest::Approx(sum).epsilon(2e-6));
                        if (sum > 0) CHECK(o[r] / l[r] == doctest::Approx(dot / sum).epsilon(2e-6));
                        if (sum == 0) CHECK(o[r] == 0);
                    }
                }
            }
        }
    }
}

TEST_CASE("scale: the clause, or 1 / sqrt(D)") {
    Variant v({2, 3, 1, 4, 5, 80, 8});
    for (const flex::CpuLevel level : test::levels()) {
        const auto kernel = v.compile(level);
        CHECK(kernel->table().scale(v.args(), 0, 0, 0) == float(1 / std::sqrt(80.0)));
    }
    v.attention.scale = v.make(Op::Add, {v.make(Op::ToF32, {v.make(Op::Add, {v.h, v.q})}),
                                         v.make(Op::Div, {v.scalar_f32(3), v.make(Op::ToF32, {v.extent(ir::ExtentVar::D)})})});
    for (const flex::CpuLevel level : test::levels()) {
        const auto kernel = v.compile(level);
        CHECK(kernel->table().scale(v.args(), 1, 2, 3) == 5 + 3.0f / 80);
    }
}
