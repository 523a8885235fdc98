// What the GPU hooks say of a variant as a whole: properties, scale, and tile states with their summaries, on the emulated device.
// The values of score and mask are compared wherever the CPU's are (variant.h).
#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>

#include "backend/lowering/score_range.h"
#include "gpu_variant.h"
#include "ir/passes.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using test::Tile;
using test::Variant;

namespace {

enum Property { kPlainScore = 1, kDefaultScale = 2, kNoMask = 4, kMaskByHead = 8, kScoreMayHide = 16, kLongScore = 32, kLongMask = 64 };

size_t points(const Variant& v) {
    return size_t(v.extents[0]) * size_t(v.extents[1]) * size_t(v.extents[3]) * size_t(v.extents[4]);
}

test::GpuHooks hooks_of(const Variant& v, const std::vector<Tile>& tiles = {}) {
    auto hooks = test::run_on_gpu(v, std::vector<float>(points(v), 0.5f), tiles);
    REQUIRE_MESSAGE(hooks.fault.empty(), hooks.fault);
    REQUIRE(hooks.score.size() == points(v));
    return hooks;
}

}  // namespace

TEST_CASE("GPU hooks give values: a point by hand") {
    Variant v({1, 2, 1, 3, 5, 8, 8});
    const NodeId slope = v.load(v.tensor(ir::ElemType::F32, {2}, {0.5, -2}), {v.h});
    const NodeId distance = v.make(Op::ToF32, {v.make(Op::Sub, {v.k, v.q})});
    v.attention.score = v.make(Op::Add, {v.score, v.make(Op::Mul, {slope, distance})});
    v.attention.mask = v.make(Op::Le, {v.k, v.q});
    const auto hooks = hooks_of(v);
    CHECK(hooks.score[(1 * 3 + 2) * 5 + 4] == 0.5f - 2.0f * 2);
    CHECK(hooks.score[(0 * 3 + 2) * 5 + 0] == 0.5f - 0.5f * 2);
    for (int q = 0; q < 3; q++)
        for (int k = 0; k < 5; k++) CHECK(hooks.mask[size_t(q * 5 + k)] == float(k <= q));
}

TEST_CASE("GPU properties") {
    {
        Variant v;
        CHECK(hooks_of(v).properties == (kPlainScore | kDefaultScale | kNoMask));
    }
    {
        Variant v;  // a mask that reads no head, a score that is bounded
        v.attention.mask = v.make(Op::Le, {v.k, v.q});
        v.attention.score = v.make(Op::Tanh, {v.score});
        v.attention.scale = v.g.f32(0.25f);
        const auto hooks = hooks_of(v);
        CHECK(hooks.properties == 0);
        CHECK(std::all_of(hooks.scale.begin(), hooks.scale.end(), [](float scale) { return scale == 0.25f; }));
    }
    {
        Variant v;
        v.attention.mask = v.make(Op::Le, {v.k, v.make(Op::Add, {v.q, v.hkv})});
        CHECK(hooks_of(v).properties == (kPlainScore | kDefaultScale | kMaskByHead));
    }
    {
        Variant v;  // through a summary only
        const uint32_t doc = v.tensor(ir::ElemType::I32, {4, 37}, std::vector<double>(4 * 37, 1));
        v.attention.mask = v.make(Op::Eq, {v.load(doc, {v.h, v.k}), v.g.i32(1)});
        CHECK(hooks_of(v).properties == (kPlainScore | kDefaultScale | kMaskByHead));
    }
    {
        Variant v;
        const NodeId j = v.g.loop_var(0, v.g.i32(0), v.q);
        v.attention.mask = v.g.reduce(Op::ReduceAny, j, v.make(Op::Eq, {j, v.k}));
        NodeId x = v.score;
        for (int i = 0; i < 6; i++) x = v.make(Op::Sin, {x});
        v.attention.score = x;
        CHECK(hooks_of(v).properties == (kDefaultScale | kLongScore | kLongMask));
    }
}

TEST_CASE("scores that may be -inf") {
    struct Case {
        const char* name;
        bool hides;
        NodeId (*make)(Variant&);
    };
    const auto distance = [](Variant& v) { return v.make(Op::ToF32, {v.make(Op::Sub, {v.k, v.q})}); };
    static const auto far = distance;
    const Case cases[] = {
        {"as it is", false, [](Variant& v) { return v.score; }},
        {"twice", false, [](Variant& v) { return v.make(Op::Mul, {v.score, v.g.f32(2)}); }},
        {"squared", false, [](Variant& v) { return v.make(Op::Mul, {v.score, v.score}); }},
        {"cubed", true, [](Variant& v) { return v.make(Op::Mul, {v.score, v.make(Op::Mul, {v.score, v.score})}); }},
        {"a bias that is computed", false,
         [](Variant& v) { return v.make(Op::Add, {v.score, v.make(Op::Mul, {v.make(Op::Exp2, {v.g.f32(-3)}), far(v)})}); }},
        {"a bias that is captured", true,
         [](Variant& v) { return v.make(Op::Add, {v.score, v.load(v.tensor(ir::ElemType::F32, {4}, {1, 2, 3, 4}), {v.h})}); }},
        {"a scalar that is captured", true, [](Variant& v) { return v.make(Op::Add, {v.score, v.scalar_f32(1)}); }},
        {"an integer that is captured", false, [](Variant& v) { return v.make(Op::Add, {v.score, v.make(Op::ToF32, {v.scalar_i32(1)})}); }},
        {"capped", false,
         [](Variant& v) {
             const NodeId ratio = v.make(Op::Div, {v.score, v.g.f32(30)});
             return v.make(Op::Mul, {v.make(Op::Tanh, {ratio}), v.g.f32(30)});
         }},
        {"hidden by hand", true, [](Variant& v) { return v.make(Op::Select, {v.make(Op::Le, {v.k, v.q}), v.score, v.g.f32(-INFINITY)}); }},
        {"a finite mask", false, [](Variant& v) { return v.make(Op::Select, {v.make(Op::Le, {v.k, v.q}), v.score, v.g.f32(-1e30f)}); }},
        {"clamped from below", false, [](Variant& v) { return v.make(Op::Max, {v.make(Op::Log, {v.score}), v.g.f32(-1e4f)}); }},
        {"log", true, [](Variant& v) { return v.make(Op::Log, {v.score}); }},
        {"log of one or more", false,
         [](Variant& v) { return v.make(Op::Log, {v.make(Op::Add, {v.g.f32(1), v.make(Op::Abs, {v.score})})}); }},
        {"inverse root of zero", true, [](Variant& v) { return v.make(Op::Rsqrt, {v.make(Op::Neg, {v.make(Op::Abs, {v.score})})}); }},
        {"divided by what may be 0", true, [](Variant& v) { return v.make(Op::Div, {v.score, far(v)}); }},
        {"the greatest of nothing", true,
         [](Variant& v) {
             const NodeId j = v.g.loop_var(0, v.g.i32(0), v.q);
             return v.g.reduce(Op::ReduceMax, j, v.make(Op::ToF32, {j}));
         }},
        {"the difference of infinities", true,
         [](Variant& v) { return v.make(Op::Sub, {v.make(Op::Exp, {v.score}), v.make(Op::Exp, {v.score})}); }},
    };
    for (const Case& each : cases) {
        CAPTURE(each.name);
        Variant v;
        v.attention.score = each.make(v);
        CHECK(codegen::score_may_hide(v.attention) == each.hides);
    }
}

TEST_CASE("a score that is proven never to be -inf is not, at random") {
    int proven = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        CAPTURE(seed);
        ir::testing::Rng rng(seed + 5000);
        ir::Attention attention = ir::testing::random_params();
        ir::testing::ExprOptions options;
        options.score = true;
        attention.score = ir::testing::ExprGenerator(attention, rng, options).value(ir::Type::F32, 4);
        attention.mask = attention.graph.boolean(true);
        const ir::Bindings bindings = ir::testing::random_bindings(attention, rng);
        if (codegen::score_may_hide(attention)) continue;
        proven++;
        ir::Evaluator evaluator(attention, bindings, {attention.score}, ir::Arithmetic::F32);
        for (int i = 0; i < 200; i++) {
            ir::Point point;
            point.b = rng.between(0, bindings.extents[0] - 1), point.h = rng.between(0, bindings.extents[1] - 1);
            point.q = rng.between(0, bindings.extents[3] - 1), point.k = rng.between(0, bindings.extents[4] - 1);
            point.score = std::ldexp(double(rng.between(-8, 8)), rng.between(0, 96));
            CHECK(evaluator.at(point)[0] != -INFINITY);
        }
    }
    MESSAGE(proven << " of 400 proven");
    CHECK(proven > 40);
}

TEST_CASE("GPU tile states hold for random masks") {
    int skips = 0, fulls = 0, summaries = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        CAPTURE(seed);
        ir::testing::Rng rng(seed + 2000000);
        ir::Attention attention = ir::testing::random_params();
        ir::testing::ExprOptions options;
        options.functions = false;
        attention.mask = ir::testing::ExprGenerator(attention, rng, options).mask(2);
        attention.score = attention.graph.score();
        if (seed % 2) ir::optimise(attention);
        const ir::Bindings bindings = ir::testing::random_bindings(attention, rng);
        Variant v(std::move(attention), bindings, test::Layout(seed % 3));
        const int32_t queries = v.extents[3], keys = v.extents[4];
        std::vector<Tile> tiles;
        for (int32_t b = 0; b < v.extents[0]; b++)
            for (int32_t h = 0; h < v.extents[1]; h++)
                for (int i = 0; i < 12; i++) {
                    const int32_t q_lo = rng.between(0, queries - 1), k_lo = rng.between(0, keys - 1);
                    tiles.push_back({b, h, q_lo, rng.between(q_lo, queries - 1), k_lo, rng.between(k_lo, keys - 1)});
                }
        const auto hooks = hooks_of(v, tiles);
        summaries += !nvptx::compile(v.attention, test::probe(), nullptr).summary_flags.empty();
        REQUIRE(hooks.states.size() == tiles.size());
        for (size_t i = 0; i < tiles.size(); i++) {
            const Tile& t = tiles[i];
            bool some = false, all = true;
            for (int32_t q = t.q_lo; q <= t.q_hi; q++)
                for (int32_t k = t.k_lo; k <= t.k_hi; k++) {
                    const bool keep =
                        hooks.mask[((size_t(t.b) * size_t(v.extents[1]) + size_t(t.h)) * size_t(queries) + size_t(q)) * size_t(keys) +
                                   size_t(k)] != 0;
                    some = some || keep;
                    all = all && keep;
                }
            if (hooks.states[i] == FLEX_TILE_SKIP) CHECK(!some);
            if (hooks.states[i] == FLEX_TILE_FULL) CHECK(all);
            CHECK((hooks.states[i] >= FLEX_TILE_SKIP && hooks.states[i] <= FLEX_TILE_FULL));
            skips += hooks.states[i] == FLEX_TILE_SKIP;
            fulls += hooks.states[i] == FLEX_TILE_FULL;
        }
    }
    MESSAGE("skip " << skips << ", full " << fulls << ", with summaries " << summaries);
    CHECK(skips > 100);
    CHECK(fulls > 100);
    CHECK(summaries > 5);
}

TEST_CASE("GPU summaries of long documents are tight to a block") {
    constexpr int32_t kLength = 5000;
    Variant v({1, 1, 1, kLength, kLength, 8, 8});
    std::vector<double> ids(kLength);
    for (size_t i = 0; i < ids.size(); i++) ids[i] = double(i / 1250);
    const uint32_t doc = v.free_tensor(ir::ElemType::I32, kLength, ids);
    v.attention.mask = v.make(Op::Eq, {v.load(doc, {v.q}), v.load(doc, {v.k})});
    std::vector<Tile> tiles;
    for (const int32_t k : {0, 1152, 1249, 1250, 1280, 2500, 4999}) tiles.push_back({0, 0, 1280, 1407, k, std::min(k + 63, kLength - 1)});
    tiles.push_back({0, 0, 0, 4999, 0, 4999});
    tiles.push_back({0, 0, 1280, 2400, 2528, 4999});
    const std::vector<int32_t> expected = {0, 0, 1, 1, 2, 1, 0, 1, 0};  // blocks of 32 hold both 1249 and 1250, 2499 and 2500
    CHECK(test::run_on_gpu(v, {}, tiles).states == expected);
}
