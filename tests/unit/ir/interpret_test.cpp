// The interpreter of whole attentions: values against a formula written out here, and every sentence of the language on masks, NaN, infinities and
// empty rows.
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "tests/unit/ir/eval.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

/// B = 1, H = 1, one query, D = DV = 1 with q = 1 and scale 1: the scores are the keys.
struct Row : Scratch {
    AttentionInput input;
    Row(std::vector<double> scores, std::vector<double> values) {
        bindings.extents = {1, 1, 1, 1, static_cast<int32_t>(scores.size()), 1, 1};
        attention.scale = g.f32(1);
        input.q = {1};
        input.k = std::move(scores);
        input.v = std::move(values);
    }
    /// mask[k], a captured tensor.
    void keep(std::vector<double> mask) {
        const NodeId k = g.index(IndexVar::K);
        const auto size = static_cast<int32_t>(mask.size());
        attention.mask = g.load(add_tensor(ElemType::Bool, {size}, std::move(mask)), ElemType::Bool, std::span(&k, 1));
    }
    AttentionOutput run() { return interpret(attention, bindings, input); }
};

#define CHECK_CLOSE(a, b) CHECK((a) == doctest::Approx(b).epsilon(1e-13))

}  // namespace

TEST_CASE("interpret: softmax of a row") {
    Row row({1, 2, 4}, {10, 20, 40});
    const AttentionOutput out = row.run();
    const double sum = std::exp(1) + std::exp(2) + std::exp(4);
    CHECK_CLOSE(out.o[0], (10 * std::exp(1) + 20 * std::exp(2) + 40 * std::exp(4)) / sum);
    CHECK_CLOSE(out.lse[0], std::log(sum));
    CHECK(out.max_score[0] == 4);
}

TEST_CASE("interpret: what stands under a false mask does not matter") {
    for (const double bad : {kNaN, kInf, -kInf}) {
        Row row({1, bad, 4}, {10, bad, 40});
        row.keep({1, 0, 1});
        const AttentionOutput out = row.run();
        CHECK_CLOSE(out.o[0], (10 * std::exp(1) + 40 * std::exp(4)) / (std::exp(1) + std::exp(4)));
        CHECK_CLOSE(out.lse[0], std::log(std::exp(1) + std::exp(4)));
    }
}

TEST_CASE("interpret: a score of -inf is the same as masked, also for V") {
    Row row({1, -kInf, 4}, {10, kNaN, 40});
    CHECK_CLOSE(row.run().o[0], (10 * std::exp(1) + 40 * std::exp(4)) / (std::exp(1) + std::exp(4)));
}

TEST_CASE("interpret: NaN and +inf under a true mask make the row NaN") {
    for (const double bad : {kNaN, kInf}) {
        Row row({1, bad, 4}, {10, 20, 40});
        const AttentionOutput out = row.run();
        CHECK(std::isnan(out.o[0]));
        CHECK(std::isnan(out.lse[0]));
        CHECK(std::isnan(out.max_score[0]));
    }
    Row value({1, 2}, {kNaN, 1});
    CHECK(std::isnan(value.run().o[0]));
    CHECK_CLOSE(value.run().lse[0], std::log(std::exp(1) + std::exp(2)));
}

TEST_CASE("interpret: a NaN stays in the rows that attend to it") {
    Scratch s;
    s.bindings.extents = {1, 1, 1, 3, 3, 1, 1};
    s.attention.mask = s.g.make(Op::Le, {s.g.index(IndexVar::K), s.g.index(IndexVar::Q)});
    AttentionInput input;
    input.q = {1, 1, 1};
    input.k = {1, 1, kNaN};
    input.v = {1, kNaN, 3};
    const AttentionOutput out = interpret(s.attention, s.bindings, input);
    CHECK(out.o[0] == 1);
    CHECK(std::isnan(out.o[1]));
    CHECK(out.lse[1] == doctest::Approx(1 + std::log(2)));
    CHECK(std::isnan(out.lse[2]));
}

TEST_CASE("interpret: an empty row gives 0, lse and max_score -inf") {
    Row masked({1, 2}, {kNaN, 5});
    masked.keep({0, 0});
    Row minus_inf({-kInf, -kInf}, {1, 2});
    Row none({}, {});
    for (Row* row : {&masked, &minus_inf, &none}) {
        const AttentionOutput out = row->run();
        CHECK(out.o[0] == 0);
        CHECK(out.lse[0] == -kInf);
        CHECK(out.max_score[0] == -kInf);
    }
}

TEST_CASE("interpret: scores of -1e30 are finite: uniform") {
    Row row({-1e30, -1e30, -1e30, -1e30}, {1, 2, 3, 6});
    const AttentionOutput out = row.run();
    CHECK(out.o[0] == 3);
    CHECK(out.lse[0] == doctest::Approx(-1e30));
    CHECK(out.max_score[0] == -1e30);
}

TEST_CASE("interpret: huge scores do not overflow") {
    Row row({5000, 5001}, {0, 1});
    CHECK_CLOSE(row.run().o[0], 1 / (1 + std::exp(-1)));
    CHECK_CLOSE(row.run().lse[0], 5001 + std::log1p(std::exp(-1)));
}

TEST_CASE("interpret: the scale defaults to 1 / sqrt(D), and score() is scale * product") {
    Scratch s;
    s.bindings.extents = {1, 1, 1, 1, 1, 4, 1};
    s.attention.score = s.g.make(Op::Mul, {s.g.score(), s.g.score()});
    AttentionInput input;
    input.q = {1, 2, 3, 4};
    input.k = {1, 1, 1, 1};
    input.v = {1};
    CHECK(interpret(s.attention, s.bindings, input).lse[0] == 25);
    s.attention.scale = s.g.f32(0.25f);
    CHECK(interpret(s.attention, s.bindings, input).lse[0] == 6.25);
}

TEST_CASE("interpret: the score of the gallery: softcap of alibi, grouped heads, one KV batch") {
    Rng rng(7);
    Scratch s;
    const int B = 2, H = 4, HKV = 2, Q = 3, K = 5, D = 2, DV = 3;
    s.bindings.extents = {B, H, HKV, Q, K, D, DV};
    Graph& g = s.g;
    const NodeId h = g.index(IndexVar::H), q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    const std::vector<double> slopes = {0.5, 0.25, -1, 2};
    const NodeId slope = g.load(s.add_tensor(ElemType::F32, {H}, slopes), ElemType::F32, std::span(&h, 1));
    const NodeId biased = g.make(Op::Add, {g.score(), g.make(Op::Mul, {slope, g.make(Op::ToF32, {g.make(Op::Sub, {k, q})})})});
    const NodeId cap = s.add_scalar(Type::F32, 3.0);
    s.attention.score = g.make(Op::Mul, {cap, g.make(Op::Tanh, {g.make(Op::Div, {biased, cap})})});
    s.attention.mask = g.make(Op::Le, {k, g.make(Op::Add, {q, g.i32(1)})});
    for (const int kv_batch : {1, 2}) {
        AttentionInput input;
        input.kv_batch = kv_batch;
        const auto fill = [&](std::vector<double>& x, int n) {
            x.resize(static_cast<size_t>(n));
            for (double& e : x) e = rng.between(-100, 100) * 0.01;
        };
        fill(input.q, B * H * Q * D);
        fill(input.k, kv_batch * HKV * K * D);
        fill(input.v, kv_batch * HKV * K * DV);
        const AttentionOutput out = interpret(s.attention, s.bindings, input);
        for (int b = 0; b < B; ++b)
            for (int hh = 0; hh < H; ++hh)
                for (int i = 0; i < Q; ++i) {
                    const int row = (b * H + hh) * Q + i, kv = ((kv_batch == 1 ? 0 : b) * HKV + hh / 2) * K;
                    double sum = 0, o[3] = {};
                    for (int j = 0; j < K && j <= i + 1; ++j) {
                        double dot = 0;
                        for (int d = 0; d < D; ++d)
                            dot += input.q[static_cast<size_t>(row * D + d)] * input.k[static_cast<size_t>((kv + j) * D + d)];
                        const double weight =
                            std::exp(3 * std::tanh((dot / std::sqrt(2.0) + slopes[static_cast<size_t>(hh)] * (j - i)) / 3));
                        sum += weight;
                        for (int d = 0; d < DV; ++d) o[d] += weight * input.v[static_cast<size_t>((kv + j) * DV + d)];
                    }
                    CHECK_CLOSE(out.lse[static_cast<size_t>(row)], std::log(sum));
                    for (int d = 0; d < DV; ++d) CHECK_CLOSE(out.o[static_cast<size_t>(row * DV + d)], o[d] / sum);
                }
    }
}

TEST_CASE("interpret: a sink is a logit in the denominator") {
    Row row({1, 2}, {10, 20});
    row.attention.sink = row.g.f32(3);
    const AttentionOutput out = row.run();
    const double sum = std::exp(1) + std::exp(2) + std::exp(3);
    CHECK_CLOSE(out.o[0], (10 * std::exp(1) + 20 * std::exp(2)) / sum);
    CHECK_CLOSE(out.lse[0], std::log(sum));
    CHECK(out.max_score[0] == 2);
    row.keep({0, 0});
    CHECK(row.run().o[0] == 0);
    CHECK_CLOSE(row.run().lse[0], 3);
    CHECK(row.run().max_score[0] == -kInf);
}

TEST_CASE("interpret: normalize sigmoid and none") {
    Row row({1, -kInf, 2}, {10, kNaN, 20});
    row.attention.normalize = Normalize::Sigmoid;
    CHECK_CLOSE(row.run().o[0], 10 / (1 + std::exp(-1)) + 20 / (1 + std::exp(-2)));
    CHECK_CLOSE(row.run().lse[0], std::log(std::exp(1) + std::exp(2)));
    row.attention.normalize = Normalize::None;
    CHECK(row.run().o[0] == 50);
}

TEST_CASE("interpret: output, query and key") {
    Scratch s;
    s.bindings.extents = {1, 1, 1, 1, 2, 2, 2};
    Graph& g = s.g;
    const NodeId d = g.index(IndexVar::D), k = g.index(IndexVar::K);
    s.attention.scale = g.f32(1);
    // Swap the query's elements; multiply row k of the key by k + 1.
    s.attention.query = g.row_load(ClauseVar::QueryRow, g.make(Op::Sub, {g.i32(1), d}));
    s.attention.key = g.make(Op::Mul, {g.row_load(ClauseVar::KeyRow, d), g.make(Op::ToF32, {g.make(Op::Add, {k, g.i32(1)})})});
    s.attention.output = g.make(Op::Add, {g.out(), g.make(Op::ToF32, {d})});
    AttentionInput input;
    input.q = {1, 2};
    input.k = {0.5, 0.25, 0.5, 0.25};  // with the swapped query: 1.25, then 2.5
    input.v = {1, 2, 3, 4};
    const AttentionOutput out = interpret(s.attention, s.bindings, input);
    const double w = std::exp(1.25) / (std::exp(1.25) + std::exp(2.5));
    CHECK_CLOSE(out.lse[0], std::log(std::exp(1.25) + std::exp(2.5)));
    CHECK_CLOSE(out.o[0], w * 1 + (1 - w) * 3);
    CHECK_CLOSE(out.o[1], w * 2 + (1 - w) * 4 + 1);
    s.attention.mask = g.boolean(false);
    CHECK(interpret(s.attention, s.bindings, input).o[1] == 1);  // the clause applies to 0
}

TEST_CASE("interpret: emits") {
    Scratch s;
    s.bindings.extents = {1, 1, 1, 2, 3, 1, 1};
    Graph& g = s.g;
    const NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    s.attention.scale = g.f32(1);
    s.attention.mask = g.make(Op::Le, {k, g.make(Op::Add, {q, g.i32(1)})});
    s.attention.emits = {{"entropy", Emit::Kind::Mean, g.make(Op::Neg, {g.make(Op::Log, {g.weight()})})},
                         {"position", Emit::Kind::Mean, g.make(Op::ToF32, {k})},
                         {"map", Emit::Kind::ColumnSum, g.make(Op::ToF32, {g.make(Op::Add, {q, g.i32(1)})})}};
    AttentionInput input;
    input.q = {1, 2};
    input.k = {0.5, 1, -4000};  // the last underflows to a weight of 0
    input.v = {1, 2, 3};
    const AttentionOutput out = interpret(s.attention, s.bindings, input);
    const double p0 = 1 / (1 + std::exp(0.5)), p1 = 1 / (1 + std::exp(1.0));  // of key 0, by query
    const auto entropy = [](double p) { return -p * std::log(p) - (1 - p) * std::log(1 - p); };
    REQUIRE(out.emits.size() == 3);
    CHECK(out.emits[0].first == "entropy");
    CHECK_CLOSE(out.emits[0].second[0], entropy(p0));
    CHECK_CLOSE(out.emits[0].second[1], entropy(p1));
    CHECK_CLOSE(out.emits[1].second[1], 1 - p1);
    REQUIRE(out.emits[2].second.size() == 3);
    CHECK_CLOSE(out.emits[2].second[0], 1 * p0 + 2 * p1);
    CHECK_CLOSE(out.emits[2].second[1], 1 * (1 - p0) + 2 * (1 - p1));
    CHECK(out.emits[2].second[2] == 0);
}

TEST_CASE("interpret: blocks") {
    Scratch s;
    s.bindings.extents = {1, 1, 1, 5, 7, 1, 1};  // regions of 3 queries and of 4 keys
    s.attention.blocks = s.add_tensor(ElemType::I32, {1, 1, 2, 3}, {1, 1, -1, 0, 2, 1});
    s.attention.mask = s.g.make(Op::Ne, {s.g.index(IndexVar::K), s.g.i32(5)});
    s.attention.scale = s.g.f32(0);
    AttentionInput input;
    input.q.assign(5, 1);
    input.k.assign(7, 1);
    input.v = {1, 2, 3, 4, 5, 6, 7};
    const AttentionOutput out = interpret(s.attention, s.bindings, input);
    CHECK_CLOSE(out.o[0], (5 + 7) / 2.0);  // region 1, without key 5
    CHECK_CLOSE(out.o[2], 6);
    CHECK_CLOSE(out.o[3], (1 + 2 + 3 + 4 + 5 + 7) / 6.0);
    CHECK_CLOSE(out.lse[4], std::log(6));
}

TEST_CASE("interpret: nothing to do, and cancelling") {
    Scratch s;
    for (const auto& extents : {std::vector<int32_t>{1, 1, 1, 0, 3, 1, 1}, std::vector<int32_t>{0, 1, 1, 2, 3, 1, 1}}) {
        s.bindings.extents = extents;
        AttentionInput input;
        input.kv_batch = 1;
        input.k.assign(3, 1);
        input.v.assign(3, 1);
        CHECK(interpret(s.attention, s.bindings, input).o.empty());
    }
    Row row({1, 2}, {1, 2});
    int polls = 0;
    const AttentionOutput out = interpret(row.attention, row.bindings, row.input, [&] { return ++polls == 1; });
    CHECK(polls == 1);
    CHECK(out.lse[0] == -kInf);
}
