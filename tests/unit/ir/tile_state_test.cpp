// How sharp the tile states of common masks are. Soundness over random masks is in random_test.cpp; here every tile of a small problem that is empty or full must
// be seen as such, except where a count says how many are not.
#include <limits>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "ir/tile_state.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr int32_t kMax = std::numeric_limits<int32_t>::max(), kMin = std::numeric_limits<int32_t>::min();
constexpr int32_t kQ = 37, kK = 45, kTile = 5;  // odd edges

struct Mask : Scratch {
    NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    Mask() { bindings.extents = {1, 4, 2, kQ, kK, 8, 8}; }

    NodeId i(int32_t value) { return g.i32(value); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    NodeId and_(NodeId a, NodeId b) { return op(Op::And, {a, b}); }
    NodeId causal(NodeId row, NodeId column) { return op(Op::Le, {column, row}); }
    NodeId scalar(int32_t value) { return add_scalar(Type::I32, value); }

    /// Tiles that are empty or full without being seen as such.
    int undecided(NodeId mask, bool optimised_first = true) {
        attention.mask = mask;
        if (optimised_first) optimise(attention);
        const TileState state = tile_state(attention);
        CHECK(verify(attention) == "");
        Evaluator states(attention, bindings, {state.maybe, state.always}), masks(attention, bindings, {attention.mask});
        int missed = 0;
        for (int32_t q0 = 0; q0 < kQ; q0 += kTile)
            for (int32_t k0 = 0; k0 < kK; k0 += kTile) {
                Point tile;
                tile.h = 3;
                tile.q_lo = q0, tile.q_hi = std::min(q0 + kTile, kQ) - 1, tile.k_lo = k0, tile.k_hi = std::min(k0 + kTile, kK) - 1;
                const bool maybe = states.at(tile)[0] != 0, always = states.at(tile)[1] != 0;
                bool any = false, all = true;
                Point point = tile;
                for (point.q = tile.q_lo; point.q <= tile.q_hi; ++point.q)
                    for (point.k = tile.k_lo; point.k <= tile.k_hi; ++point.k) {
                        const bool kept = masks.at(point)[0] != 0;
                        any |= kept;
                        all &= kept;
                    }
                CHECK(any <= maybe);
                CHECK(always <= all);
                missed += (maybe && !any) || (!always && all);
            }
        return missed;
    }
};

#define UNDECIDED(...)                   \
    [&] {                                \
        Mask m;                          \
        return m.undecided(__VA_ARGS__); \
    }()
/// The checks inside alone: no state is wrong.
#define CHECK_SOUND(...) (void)UNDECIDED(__VA_ARGS__)

}  // namespace

TEST_CASE("tile state: causal, windows, prefix") {
    CHECK(UNDECIDED(m.causal(m.q, m.k)) == 0);
    CHECK(UNDECIDED(m.op(Op::Not, {m.causal(m.q, m.k)})) == 0);
    for (const int32_t window : {0, 3, 7, 1000, -5, kMax, kMin}) {
        CAPTURE(window);
        CHECK(UNDECIDED(m.and_(m.op(Op::Le, {m.op(Op::Sub, {m.q, m.k}), m.scalar(window)}), m.causal(m.q, m.k))) == 0);
        CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::Abs, {m.op(Op::Sub, {m.q, m.k})}), m.scalar(window)})) == 0);
        CHECK(UNDECIDED(m.op(Op::Or, {m.op(Op::Lt, {m.k, m.scalar(window)}), m.causal(m.q, m.k)})) == 0);
    }
    for (const int32_t window : {0, 3, 7, 1000, -5})  // written the other way, q - window <= k: decided unless it wraps
        CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::Sub, {m.q, m.scalar(window)}), m.k})) == 0);
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::Add, {m.k, m.scalar(7)}), m.op(Op::Add, {m.q, m.scalar(9)})})) == 0);
}

TEST_CASE("tile state: what both sides share cancels") {
    CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::Sub, {m.q, m.k}), m.op(Op::Add, {m.q, m.i(3)})})) == 0);  // -k <= 3
    CHECK(UNDECIDED(m.op(Op::Eq, {m.op(Op::Sub, {m.op(Op::Add, {m.q, m.k}), m.q}), m.k})) == 0);
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::Mul, {m.q, m.i(3)}), m.op(Op::Add, {m.op(Op::Mul, {m.q, m.i(2)}), m.k})})) == 0);  // q < k
}

TEST_CASE("tile state: blocks") {
    const auto block = [](Mask& m, NodeId x, int32_t n) { return m.op(Op::FloorDiv, {x, m.i(n)}); };
    for (const int32_t n : {5, 10, 7, 1}) {
        CAPTURE(n);
        CHECK(UNDECIDED(m.op(Op::Eq, {block(m, m.q, n), block(m, m.k, n)})) == 0);
        CHECK(UNDECIDED(m.op(Op::Le, {block(m, m.k, n), block(m, m.q, n)})) == 0);
    }
    // batchify(causal, n) where tiles lie in blocks.
    for (const int32_t n : {5, 10, 20})
        CHECK(UNDECIDED(m.and_(m.op(Op::Eq, {block(m, m.q, n), block(m, m.k, n)}),
                               m.causal(m.op(Op::Mod, {m.q, m.i(n)}), m.op(Op::Mod, {m.k, m.i(n)})))) == 0);
    // And where they do not, with a divisor of the launch: remainders of equal quotients compare as the numbers do.
    for (const int32_t n : {7, 13, 1}) {
        CAPTURE(n);
        CHECK(UNDECIDED([&] {
                  const NodeId divisor = m.scalar(n);
                  return m.and_(m.op(Op::Eq, {m.op(Op::FloorDiv, {m.q, divisor}), m.op(Op::FloorDiv, {m.k, divisor})}),
                                m.causal(m.op(Op::Mod, {m.q, divisor}), m.op(Op::Mod, {m.k, divisor})));
              }()) == 0);
    }
    for (const int32_t n : {0, -3, kMin}) {
        CAPTURE(n);
        CHECK_SOUND([&] {
            const NodeId divisor = m.scalar(n);
            return m.and_(m.op(Op::Eq, {m.op(Op::FloorDiv, {m.q, divisor}), m.op(Op::FloorDiv, {m.k, divisor})}),
                          m.causal(m.op(Op::Mod, {m.q, divisor}), m.op(Op::Mod, {m.k, divisor})));
        }());
    }
    // The same with shifts and ands.
    CHECK(UNDECIDED(m.op(Op::Eq, {m.op(Op::Shr, {m.q, m.i(2)}), m.op(Op::Shr, {m.k, m.i(2)})})) == 0);
    CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::BitAnd, {m.k, m.i(63)}), m.op(Op::BitAnd, {m.q, m.i(63)})})) == 0);
    CHECK(UNDECIDED(m.op(Op::Eq, {m.op(Op::FloorDiv, {m.q, m.scalar(10)}), m.op(Op::FloorDiv, {m.k, m.scalar(10)})})) == 0);
    CHECK(UNDECIDED(m.op(Op::Eq, {m.op(Op::Mod, {m.k, m.i(1)}), m.i(0)})) == 0);
    // natten in one dimension
    CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::Abs, {m.op(Op::Sub, {m.op(Op::Clamp, {m.q, m.i(6), m.i(30)}), m.k})}), m.i(6)})) == 0);
}

TEST_CASE("tile state: captures") {
    std::vector<double> lengths = {12}, heads = {1, 2, 3, 40}, blocks;
    for (int i = 0; i < 8 * 9; ++i) blocks.push_back(i % 3 == 0);
    CHECK(UNDECIDED(m.op(Op::Lt, {m.k, [&] {
                                      const NodeId b = m.g.index(IndexVar::B);
                                      return m.g.load(m.add_tensor(ElemType::I32, {1}, lengths), ElemType::I32, std::span(&b, 1));
                                  }()})) == 0);
    CHECK(UNDECIDED(m.op(Op::Le, {m.op(Op::Sub, {m.q, m.k}), [&] {
                                      const NodeId h = m.g.index(IndexVar::H);
                                      return m.g.load(m.add_tensor(ElemType::I32, {4}, heads), ElemType::I32, std::span(&h, 1));
                                  }()})) == 0);
    // A block map whose blocks are the tiles.
    CHECK(UNDECIDED([&] {
              const std::array<NodeId, 2> at = {m.op(Op::FloorDiv, {m.q, m.i(kTile)}), m.op(Op::FloorDiv, {m.k, m.i(kTile)})};
              return m.g.load(m.add_tensor(ElemType::Bool, {8, 9}, blocks), ElemType::Bool, at);
          }()) == 0);
    // Routing: any(j: list[q // t, j] == k // t).
    std::vector<double> list;
    for (int i = 0; i < 8 * 3; ++i) list.push_back((i * 5) % 9);
    CHECK(UNDECIDED([&] {
              const NodeId j = m.g.loop_var(0, m.i(0), m.scalar(3));
              const std::array<NodeId, 2> at = {m.op(Op::FloorDiv, {m.q, m.i(kTile)}), j};
              const NodeId entry = m.g.load(m.add_tensor(ElemType::I32, {8, 3}, list), ElemType::I32, at);
              return m.g.reduce(Op::ReduceAny, j, m.op(Op::Eq, {entry, m.op(Op::FloorDiv, {m.k, m.i(kTile)})}));
          }()) == 0);
    // The same with blocks that are smaller than the tiles: each entry that a tile touches is compared.
    std::vector<double> far_apart;
    for (int i = 0; i < 13; ++i)
        far_apart.insert(far_apart.end(), {static_cast<double>(i % 2 ? 0 : 14), static_cast<double>((i * 7) % 15)});
    CHECK(UNDECIDED([&] {
              const NodeId j = m.g.loop_var(0, m.i(0), m.scalar(2));
              const std::array<NodeId, 2> at = {m.op(Op::FloorDiv, {m.q, m.i(3)}), j};
              const NodeId entry = m.g.load(m.add_tensor(ElemType::I32, {13, 2}, far_apart), ElemType::I32, at);
              return m.g.reduce(Op::ReduceAny, j, m.op(Op::Eq, {entry, m.op(Op::FloorDiv, {m.k, m.i(3)})}));
          }()) == 0);
}

TEST_CASE("tile state: floats") {
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::Mul, {m.op(Op::ToF32, {m.op(Op::Sub, {m.q, m.k})}), m.g.f32(-0.5f)}), m.g.f32(3.25f)})) == 0);
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::Div, {m.op(Op::ToF32, {m.k}), m.add_scalar(Type::F32, 0.0)}), m.g.f32(1)})) >
          0);  // may be NaN: undecided
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::ToF32, {m.q}), m.add_scalar(Type::F32, nan)})) == 0);  // false everywhere
    CHECK(UNDECIDED(m.op(Op::Ne, {m.op(Op::ToF32, {m.q}), m.add_scalar(Type::F32, nan)})) == 0);  // true everywhere
}

TEST_CASE("tile state: values that wrap in every element or in some") {
    // abs(INT_MIN) is INT_MIN, below 0.
    CHECK_SOUND(m.op(Op::Lt, {m.op(Op::Abs, {m.op(Op::Min, {m.op(Op::Sub, {m.q, m.k}), m.scalar(kMin)})}), m.i(0)}));
    // The minimum over j of q - k + p + j, of which some wrap to below 0.
    CHECK_SOUND([&] {
        const NodeId j = m.g.loop_var(0, m.i(0), m.scalar(6));
        const NodeId sum = m.op(Op::Add, {m.op(Op::Add, {m.op(Op::Sub, {m.q, m.k}), m.scalar(kMax - 3)}), j});
        return m.op(Op::Lt, {m.g.reduce(Op::ReduceMin, j, sum), m.i(0)});
    }());
    // (q - k) * p for a p that makes it wrap.
    CHECK_SOUND(m.op(Op::Lt, {m.op(Op::Mul, {m.op(Op::Sub, {m.q, m.k}), m.scalar(1 << 29)}), m.i(0)}));
}

TEST_CASE("tile state: constants and uniform masks are themselves") {
    for (const bool value : {false, true}) {
        Mask m;
        m.attention.mask = m.g.boolean(value);
        const TileState state = tile_state(m.attention);
        CHECK(m.g.as_bool(state.maybe) == value);
        CHECK(m.g.as_bool(state.always) == value);
    }
    Mask m;
    m.attention.mask = m.add_scalar(Type::Bool, 1);
    const TileState state = tile_state(m.attention);
    CHECK(state.maybe == m.attention.mask);
    CHECK(state.always == m.attention.mask);
}

TEST_CASE("tile state: what is not understood is undecided, not wrong") {
    CHECK(UNDECIDED(m.op(Op::Lt, {m.g.f32(2), m.op(Op::Sin, {m.op(Op::ToF32, {m.q})})})) > 0);
    CHECK(UNDECIDED(m.op(Op::Lt, {m.op(Op::Mul, {m.q, m.k}), m.i(-1)})) > 0);
}
