// Random variants: compiled hooks against the evaluator to the last bit (functions with rounding of their own are left out, since one unit
// may decide a later comparison), and the promises of tile states and key ranges against the mask itself.
#include <doctest/doctest.h>
#include <cstdlib>

#include "ir/passes.h"
#include "tests/unit/ir/random_expr.h"
#include "variant.h"

using namespace flexc;
using test::Layout;
using test::Variant;

namespace {

/// FLEXC_RANDOM_FACTOR=20 runs twenty times as many cases.
uint64_t cases(uint64_t usual) {
    const char* factor = std::getenv("FLEXC_RANDOM_FACTOR");
    return usual * (factor ? std::max<uint64_t>(std::strtoull(factor, nullptr, 10), 1) : 1);
}

Layout layout_of(uint64_t seed) {
    return Layout(seed % 3);
}

/// Every point against mask_row; then tiles against its elements.
void check_tiles(const Variant& v, const flex_cpu_kernel& kernel, ir::testing::Rng& rng, int* skips, int* fulls, int* narrowed) {
    const int32_t queries = v.extents[3], keys = v.extents[4];
    flex::PackedArgs packed;
    packed.c = *v.args();
    REQUIRE(flex::prepare(kernel, 1, &packed).ok());
    const flex_args* args = &packed.c;
    for (int32_t b = 0; b < v.extents[0]; b++)
        for (int32_t h = 0; h < v.extents[1]; h++) {
            std::vector<std::vector<uint8_t>> mask{size_t(queries), std::vector<uint8_t>(size_t(keys))};
            for (int32_t q = 0; q < queries; q++) kernel.mask_row(v.args(), b, h, q, 0, keys, mask[size_t(q)].data());
            for (int i = 0; i < 12; i++) {
                const int32_t q0 = rng.between(0, queries - 1), q1 = rng.between(q0 + 1, queries);
                const int32_t k0 = rng.between(0, keys - 1), k1 = rng.between(k0 + 1, keys);
                int kept = 0, all = 0;
                for (int32_t q = q0; q < q1; q++)
                    for (int32_t k = k0; k < k1; k++) kept += mask[size_t(q)][size_t(k)], all++;
                const int32_t state = kernel.tile_state(args, b, h, q0, q1, k0, k1);
                REQUIRE((state == FLEX_TILE_SKIP || state == FLEX_TILE_PARTIAL || state == FLEX_TILE_FULL));
                if (state == FLEX_TILE_SKIP) REQUIRE(kept == 0);
                if (state == FLEX_TILE_FULL) REQUIRE(kept == all);
                *skips += state == FLEX_TILE_SKIP;
                *fulls += state == FLEX_TILE_FULL;
                int32_t range[2] = {-1, -1};
                kernel.kv_range(args, b, h, q0, q1, range);
                REQUIRE(0 <= range[0]);
                REQUIRE(range[0] <= range[1]);
                REQUIRE(range[1] <= keys);
                *narrowed += range[0] > 0 || range[1] < keys;
                for (int32_t q = q0; q < q1; q++)
                    for (int32_t k = 0; k < keys; k++)
                        if (mask[size_t(q)][size_t(k)]) REQUIRE((range[0] <= k && k < range[1]));
                kernel.q_range(args, b, h, k0, k1, range);
                REQUIRE(0 <= range[0]);
                REQUIRE(range[0] <= range[1]);
                REQUIRE(range[1] <= queries);
                *narrowed += range[0] > 0 || range[1] < queries;
                for (int32_t q = 0; q < queries; q++)
                    for (int32_t k = k0; k < k1; k++)
                        if (mask[size_t(q)][size_t(k)]) REQUIRE((range[0] <= q && q < range[1]));
            }
        }
}

}  // namespace

TEST_CASE("random variants to the last bit") {
    for (uint64_t seed = 0; seed < cases(30); seed++) {
        CAPTURE(seed);
        ir::testing::Rng rng(seed);
        ir::Attention attention = ir::testing::random_params();
        ir::testing::ExprOptions options;
        options.functions = false;
        attention.mask = ir::testing::ExprGenerator(attention, rng, options).value(ir::Type::Bool, 6);
        options.score = true;
        attention.score = ir::testing::ExprGenerator(attention, rng, options).value(ir::Type::F32, 6);
        if (seed % 2) ir::optimise(attention);
        ir::Bindings bindings = ir::testing::random_bindings(attention, rng);
        Variant v(std::move(attention), bindings, layout_of(seed));
        test::check_hooks(v);
    }
}

TEST_CASE("random masks: tile states, key ranges and query ranges hold") {
    int skips = 0, fulls = 0, narrowed = 0;
    for (uint64_t seed = 0; seed < cases(30); seed++) {
        CAPTURE(seed);
        ir::testing::Rng rng(seed + 1000000);
        ir::Attention attention = ir::testing::random_params();
        ir::testing::ExprOptions options;
        options.functions = false;
        attention.mask = ir::testing::ExprGenerator(attention, rng, options).mask(2);
        attention.score = attention.graph.score();
        if (seed % 2) ir::optimise(attention);
        const ir::Bindings bindings = ir::testing::random_bindings(attention, rng);
        Variant v(std::move(attention), bindings, layout_of(seed));
        for (const flex::CpuLevel level : test::levels()) {
            const auto kernel = v.compile(level);
            REQUIRE(kernel);
            check_tiles(v, kernel->table(), rng, &skips, &fulls, &narrowed);
        }
    }
    MESSAGE("skip " << skips << ", full " << fulls << ", ranges narrowed " << narrowed);
    CHECK(skips > 300);
    CHECK(fulls > 300);
    CHECK(narrowed > 300);
}

TEST_CASE("the key range of a window is the window, and so is the query range") {
    Variant v({1, 1, 1, 5000, 5000, 8, 8});
    const ir::NodeId distance = v.make(ir::Op::Sub, {v.q, v.k});
    v.attention.mask = v.make(ir::Op::And, {v.make(ir::Op::Le, {v.g.i32(0), distance}), v.make(ir::Op::Le, {distance, v.scalar_i32(100)})});
    for (const flex::CpuLevel level : test::levels()) {
        const auto kernel = v.compile(level);
        REQUIRE(kernel);
        for (const int32_t q : {0, 1, 99, 100, 101, 1000, 2048, 4936, 4999}) {
            int32_t range[2];
            kernel->table().kv_range(v.args(), 0, 0, q, std::min(q + 64, 5000), range);
            CHECK(range[0] == std::max(q - 100, 0));
            CHECK(range[1] == std::min(q + 64, 5000));
            kernel->table().q_range(v.args(), 0, 0, q, std::min(q + 64, 5000), range);
            CHECK(range[0] == q);
            CHECK(range[1] == std::min(q + 164, 5000));
        }
        CHECK(kernel->table().tile_state(v.args(), 0, 0, 200, 264, 0, 100) == FLEX_TILE_SKIP);
        CHECK(kernel->table().tile_state(v.args(), 0, 0, 200, 232, 131, 201) == FLEX_TILE_FULL);
        CHECK(kernel->table().tile_state(v.args(), 0, 0, 200, 232, 130, 201) == FLEX_TILE_PARTIAL);
    }
}
