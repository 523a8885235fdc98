// Properties over random expressions. Each test fails if the analysis or pass under it is unsound; how many cases it really decides is checked too, so
// that an analysis which gives up always does not pass.
#include <bit>
#include <cmath>
#include <cstdlib>

#include <doctest/doctest.h>

#include "ir/intervals.h"
#include "ir/passes.h"
#include "ir/reads.h"
#include "ir/tile_state.h"
#include "ir/variance.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

/// FLEXC_RANDOM_FACTOR=20 runs twenty times as many cases.
uint64_t cases(uint64_t usual) {
    const char* factor = std::getenv("FLEXC_RANDOM_FACTOR");
    return usual * (factor ? std::max<uint64_t>(std::strtoull(factor, nullptr, 10), 1) : 1);
}

bool same_value(double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

Attention random_attention(Rng& rng, int depth, ExprOptions options = {}) {
    Attention attention = random_params();
    options.score = false;
    attention.mask =
        rng.chance(50) ? ExprGenerator(attention, rng, options).mask(2) : ExprGenerator(attention, rng, options).value(Type::Bool, depth);
    options.score = true;
    attention.score = ExprGenerator(attention, rng, options).value(Type::F32, depth);
    return attention;
}

}  // namespace

TEST_CASE("random: print and parse_text round-trip") {
    for (uint64_t seed = 0; seed < cases(1000); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        const Attention attention = random_attention(rng, 5);
        REQUIRE(verify(attention) == "");
        const std::string text = print(attention);
        std::string error;
        const auto again = parse_text(text, &error);
        REQUIRE_MESSAGE(again.has_value(), error);
        REQUIRE(print(*again) == text);
    }
}

TEST_CASE("random: every pass keeps every value to the last bit") {
    size_t shrunk = 0;
    for (uint64_t seed = 0; seed < cases(4000); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        const Attention before = random_attention(rng, 5);
        Attention after = before;
        const Bindings bindings = random_bindings(before, rng);
        Evaluator expected(before, bindings, {before.score, before.mask}, Arithmetic::F32);
        std::vector<Point> points;
        std::vector<std::vector<double>> values;
        for (int i = 0; i < 12; ++i) {
            points.push_back(random_point(bindings, rng));
            values.push_back(expected.at(points.back()));
        }
        optimise(after, [&](std::string_view pass, const Attention& now) {
            REQUIRE_MESSAGE(verify(now) == "", pass);
            Evaluator actual(now, bindings, {now.score, now.mask}, Arithmetic::F32);
            for (size_t i = 0; i < points.size(); ++i) {
                const std::vector<double>& got = actual.at(points[i]);
                for (size_t root = 0; root < 2; ++root)
                    REQUIRE_MESSAGE(same_value(got[root], values[i][root]), pass, " root ", root, ": ", values[i][root], " became ",
                                    got[root], "\n", print(before), "\nnow\n", print(now));
            }
        });
        shrunk += after.graph.size() < before.graph.size();
    }
    CHECK(shrunk > 3000);
}

TEST_CASE("random: passes keep values at larger depth") {
    for (uint64_t seed = 0; seed < cases(150); ++seed) {
        CAPTURE(seed);
        Rng rng(seed + 1'000'000);
        const Attention before = random_attention(rng, 9);
        Attention after = before;
        optimise(after);
        const Bindings bindings = random_bindings(before, rng);
        Evaluator expected(before, bindings, {before.score, before.mask}, Arithmetic::F32);
        Evaluator actual(after, bindings, {after.score, after.mask}, Arithmetic::F32);
        for (int i = 0; i < 4; ++i) {
            const Point point = random_point(bindings, rng);
            const std::vector<double>& want = expected.at(point);
            const std::vector<double>& got = actual.at(point);
            REQUIRE(same_value(want[0], got[0]));
            REQUIRE(same_value(want[1], got[1]));
        }
    }
}

TEST_CASE("random: the evaluator keeps only what did not move") {
    for (uint64_t seed = 0; seed < cases(1500); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        const Attention attention = random_attention(rng, 5);
        const Bindings bindings = random_bindings(attention, rng);
        Evaluator kept(attention, bindings, {attention.score, attention.mask});
        for (int i = 0; i < 6; ++i) {
            const Point point = random_point(bindings, rng);
            Evaluator fresh(attention, bindings, {attention.score, attention.mask});
            const std::vector<double>& want = fresh.at(point);
            const std::vector<double>& got = kept.at(point);
            REQUIRE(same_value(want[0], got[0]));
            REQUIRE(same_value(want[1], got[1]));
        }
    }
}

TEST_CASE("random: a value does not change with an index outside of its variance") {
    size_t checked = 0;
    for (uint64_t seed = 0; seed < cases(1500); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        const Attention attention = random_attention(rng, 4);
        const Bindings bindings = random_bindings(attention, rng);
        const std::vector<Variance> varies = variance(attention.graph);
        std::vector<NodeId> roots;
        for (uint32_t i = 0; i < attention.graph.size(); ++i)
            if (attention.graph.free_loops(NodeId{i}) == 0) roots.push_back(NodeId{i});
        Evaluator evaluator(attention, bindings, roots);
        const Point from = random_point(bindings, rng);
        const std::vector<double> before = evaluator.at(from);
        Point to = from;
        const Point other = random_point(bindings, rng);
        Variance moved = 0;
        switch (rng.below(5)) {
            case 0: to.b = other.b, moved = kVariesB; break;
            case 1: to.h = other.h, moved = kVariesH; break;
            case 2: to.q = other.q, moved = kVariesQ; break;
            case 3: to.k = other.k, moved = kVariesK; break;
            default: to.score = other.score, moved = kVariesScore; break;
        }
        Evaluator again(attention, bindings, roots);
        const std::vector<double>& after = again.at(to);
        for (size_t i = 0; i < roots.size(); ++i) {
            if (varies[roots[i].value] & moved) continue;
            ++checked;
            REQUIRE(same_value(before[i], after[i]));
        }
    }
    CHECK(checked > 10'000);
}

namespace {

/// The extremes of an i32 value over the loops around it: INT_MAX and INT_MIN if there are none.
std::pair<NodeId, NodeId> extremes(Graph& graph, NodeId id) {
    NodeId least = id, most = id;
    while (graph.free_loops(id) != 0) {
        const auto depth = static_cast<uint32_t>(31 - std::countl_zero(graph.free_loops(id)));
        NodeId variable;
        std::vector<NodeId> stack = {id};
        while (!variable.valid()) {
            const NodeId at = stack.back();
            stack.pop_back();
            if (!(graph.free_loops(at) >> depth & 1)) continue;
            if (graph[at].op == Op::LoopVar && graph[at].payload == depth) variable = at;
            for (const NodeId operand : graph.operands(at)) stack.push_back(operand);
        }
        least = graph.reduce(Op::ReduceMin, variable, least);
        most = graph.reduce(Op::ReduceMax, variable, most);
        // Both have the same variables free from here on.
        id = least;
    }
    return {least, most};
}

}  // namespace

TEST_CASE("random: a proven index is in range wherever the guards of the others hold") {
    size_t proven_count = 0, dims_count = 0;
    for (uint64_t seed = 0; seed < cases(6000); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        Attention attention = random_attention(rng, 5);
        const std::vector<uint8_t> proven = proven_dims(attention);
        const Bindings bindings = random_bindings(attention, rng);
        struct Check {
            uint32_t load;
            size_t dim;
        };
        std::vector<Check> checks;
        std::vector<NodeId> roots;
        const auto count = static_cast<uint32_t>(proven.size());
        for (uint32_t i = 0; i < count; ++i) {
            const Node node = attention.graph[NodeId{i}];
            if (node.op != Op::Load) continue;
            dims_count += node.operand_count;
            const unsigned all = (1u << node.operand_count) - 1;
            for (size_t dim = 0; dim < node.operand_count; ++dim) {
                if (!(proven[i] >> dim & 1)) continue;
                ++proven_count;
                // A proof that leans on other guards is checked only if these hold everywhere, so where no extent is 0.
                if (proven[i] != all && (bindings.extents[kFreeN] == 0 || bindings.extents[kFreeM] == 0)) continue;
                const auto [least, most] = extremes(attention.graph, attention.graph.operand(NodeId{i}, dim));
                checks.push_back({i, dim});
                roots.push_back(least);
                roots.push_back(most);
            }
        }
        if (roots.empty()) continue;
        Evaluator evaluator(attention, bindings, roots);
        for (int i = 0; i < 10; ++i) {
            const std::vector<double>& values = evaluator.at(random_point(bindings, rng));
            for (size_t c = 0; c < checks.size(); ++c) {
                const uint32_t param = attention.graph[NodeId{checks[c].load}].payload;
                const double least = values[2 * c], most = values[2 * c + 1];
                if (least == std::numeric_limits<int32_t>::max() && most == std::numeric_limits<int32_t>::min()) continue;  // no trip
                REQUIRE(least >= 0);
                REQUIRE(most < bindings.tensors[param].dim[checks[c].dim]);
            }
        }
    }
    CHECK(proven_count > 300);
    CHECK(proven_count < dims_count);
}

namespace {

struct Counts {
    size_t tiles = 0, skip = 0, full = 0, decided = 0, uniform = 0;
};

/// Compares the state of random tiles with all their elements.
void check_tiles(const Attention& attention, const TileState& state, const Bindings& bindings, Rng& rng, int tiles, Counts& counts) {
    Evaluator states(attention, bindings, {state.maybe, state.always});
    Evaluator masks(attention, bindings, {attention.mask});
    std::vector<NodeId> summary_roots;
    for (const Summary& summary : state.summaries) summary_roots.push_back(summary.value);
    Evaluator summary_values(attention, bindings, summary_roots);
    std::vector<int32_t> summaries(2 * state.summaries.size());
    for (int t = 0; t < tiles; ++t) {
        Point tile = random_point(bindings, rng);
        tile.q_lo = tile.q, tile.k_lo = tile.k;
        const int32_t rows = rng.between(1, 5), columns = rng.between(1, 5);
        tile.q_hi =
            static_cast<int32_t>(std::min<int64_t>(int64_t{tile.q_lo} + rows, bindings.extents[static_cast<size_t>(ExtentVar::Q)]) - 1);
        tile.k_hi =
            static_cast<int32_t>(std::min<int64_t>(int64_t{tile.k_lo} + columns, bindings.extents[static_cast<size_t>(ExtentVar::K)]) - 1);
        for (size_t s = 0; s < state.summaries.size(); ++s) {
            Point at = tile;
            int32_t& i = state.summaries[s].of_keys ? at.k : at.q;
            const int32_t last = state.summaries[s].of_keys ? tile.k_hi : tile.q_hi;
            summaries[2 * s] = std::numeric_limits<int32_t>::max();
            summaries[2 * s + 1] = std::numeric_limits<int32_t>::min();
            for (;; ++i) {
                const auto value = static_cast<int32_t>(summary_values.at(at)[s]);
                summaries[2 * s] = std::min(summaries[2 * s], value);
                summaries[2 * s + 1] = std::max(summaries[2 * s + 1], value);
                if (i == last) break;
            }
        }
        tile.summaries = summaries;
        const bool maybe = states.at(tile)[0] != 0, always = states.at(tile)[1] != 0;
        bool any = false, all = true;
        Point point = tile;
        for (point.q = tile.q_lo;; ++point.q) {
            for (point.k = tile.k_lo;; ++point.k) {
                const bool kept = masks.at(point)[0] != 0;
                any |= kept;
                all &= kept;
                if (point.k == tile.k_hi) break;
            }
            if (point.q == tile.q_hi) break;
        }
        if ((any && !maybe) || (always && !all)) {
            INFO("rows ", tile.q_lo, " to ", tile.q_hi, ", columns ", tile.k_lo, " to ", tile.k_hi, ", maybe %", state.maybe.value,
                 ", always %", state.always.value, "\n", print(attention));
            REQUIRE(any <= maybe);
            REQUIRE(always <= all);
        }
        ++counts.tiles;
        counts.skip += !maybe;
        counts.full += always;
        counts.decided += !maybe || always;
        counts.uniform += !any || all;
    }
}

}  // namespace

TEST_CASE("random: tile states agree with all elements of the tile") {
    Counts counts;
    for (uint64_t seed = 0; seed < cases(20'000); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        Attention attention = random_params();
        ExprGenerator generator(attention, rng);
        attention.mask = rng.chance(80) ? generator.mask(2) : generator.value(Type::Bool, 4);
        attention.score = attention.graph.score();
        if (rng.chance(50)) optimise(attention);
        const TileState state = tile_state(attention);
        if (seed % 50 == 0) {
            REQUIRE(verify(attention) == "");
            const Reads allowed = reads_bit(IndexVar::B) | reads_bit(IndexVar::H) | reads_bit(IndexVar::Hkv) | reads_bit(TileBound::QLo) |
                                  reads_bit(TileBound::QHi) | reads_bit(TileBound::KLo) | reads_bit(TileBound::KHi);
            const std::vector<Reads> read = reads(attention.graph);
            REQUIRE((read[state.maybe.value] & ~allowed) == 0);
            REQUIRE((read[state.always.value] & ~allowed) == 0);
        }
        check_tiles(attention, state, random_bindings(attention, rng), rng, 6, counts);
    }
    MESSAGE(counts.tiles, " tiles, ", counts.skip, " skip, ", counts.full, " full; ", counts.decided, " decided of ", counts.uniform,
            " uniform ones");
    CHECK(counts.skip > counts.tiles / 10);
    CHECK(counts.full > counts.tiles / 10);
    CHECK(counts.decided > counts.uniform * 6 / 10);
}

TEST_CASE("random: tile states are sound where i32 is about to wrap") {
    Counts counts;
    for (uint64_t seed = 0; seed < cases(6000); ++seed) {
        CAPTURE(seed);
        Rng rng(seed);
        Attention attention = random_params();
        ExprOptions options;
        options.loads = false;
        ExprGenerator generator(attention, rng, options);
        attention.mask = generator.mask(2);
        attention.score = attention.graph.score();
        const TileState state = tile_state(attention);
        Bindings bindings = random_bindings(attention, rng);
        for (InterpTensor& tensor : bindings.tensors) std::fill(tensor.dim.begin(), tensor.dim.end(), 0);  // all loads give 0
        bindings.extents[static_cast<size_t>(ExtentVar::Q)] = std::numeric_limits<int32_t>::max() - rng.between(0, 3);
        bindings.extents[static_cast<size_t>(ExtentVar::K)] = std::numeric_limits<int32_t>::max() - rng.between(0, 3);
        check_tiles(attention, state, bindings, rng, 6, counts);
    }
    CHECK(counts.decided > counts.uniform / 10);
}
