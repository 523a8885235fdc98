// Reductions: each operation with bounds and bodies that are the same for all keys or not, empty ranges, nesting, and what a body
// shares with its surroundings.
#include <doctest/doctest.h>

#include "variant.h"

using namespace flexc;
using ir::ElemType;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

constexpr Op kReductions[] = {Op::ReduceSum, Op::ReduceMin, Op::ReduceMax, Op::ReduceAny, Op::ReduceAll};

std::vector<double> sawtooth(size_t count) {
    std::vector<double> values;
    for (size_t i = 0; i < count; i++) values.push_back(double(int(i * 29 % 41) - 17));
    return values;
}

struct Bounds {
    const char* name;
    NodeId lo, hi;
};

std::vector<Bounds> bounds(Variant& v) {
    const auto i = [&](int32_t value) { return v.g.i32(value); };
    return {{"constant", i(0), i(5)},
            {"empty", i(3), i(3)},
            {"reversed", i(5), i(2)},
            {"row", i(-2), v.q},
            {"key", i(0), v.make(Op::Mod, {v.k, i(7)})},
            {"band", v.make(Op::Sub, {v.k, i(2)}), v.make(Op::Add, {v.make(Op::Min, {v.q, v.k}), i(2)})},
            {"end of i32", v.make(Op::Add, {v.make(Op::Mod, {v.k, i(3)}), i(INT32_MAX - 4)}), i(INT32_MAX)}};
}

}  // namespace

TEST_CASE("reductions over uniform and varying ranges and bodies") {
    for (const Op op : kReductions)
        for (size_t form = 0; form < 7; form++)
            for (const int body : {0, 1, 2}) {
                if (body != 1 && op != Op::ReduceSum) continue;
                Variant v({1, 2, 1, 9, 37, 8, 8});
                const Bounds range = bounds(v)[form];
                CAPTURE(ir::info(op).name);
                CAPTURE(range.name);
                CAPTURE(body);
                const uint32_t t = v.tensor(ElemType::I32, {37}, sawtooth(37));
                const NodeId j = v.g.loop_var(0, range.lo, range.hi);
                NodeId element = v.load(t, {j});
                if (body == 1) element = v.load(t, {v.make(Op::Add, {v.k, j})});
                if (body == 2) element = v.make(Op::Mul, {v.load(t, {v.make(Op::BitAnd, {j, v.g.i32(15)})}), v.make(Op::Sub, {v.q, v.h})});
                if (op == Op::ReduceAny || op == Op::ReduceAll) {
                    v.attention.mask = v.g.reduce(op, j, v.make(Op::Lt, {element, v.g.i32(3)}));
                    v.attention.score = v.make(Op::Select, {v.attention.mask, v.score, v.g.f32(0)});
                } else {
                    const NodeId whole = v.g.reduce(op, j, element);
                    const NodeId real = v.g.reduce(op, j, v.make(Op::ToF32, {element}));
                    v.attention.score = v.make(Op::Add, {real, v.make(Op::ToF32, {v.make(Op::Mod, {whole, v.g.i32(1000)})})});
                    v.attention.mask = v.make(Op::Le, {whole, v.g.i32(1)});
                }
                test::check_hooks(v);
            }
}

TEST_CASE("nested reductions, and values that a body shares") {
    Variant v({2, 4, 2, 6, 37, 8, 8});
    const uint32_t t = v.tensor(ElemType::F32, {6, 37}, sawtooth(6 * 37));
    const auto i = [&](int32_t value) { return v.g.i32(value); };
    const NodeId j = v.g.loop_var(0, i(0), v.make(Op::Add, {v.make(Op::Mod, {v.k, i(4)}), i(1)}));
    const NodeId n = v.g.loop_var(1, j, v.make(Op::Add, {j, v.make(Op::Mod, {v.q, i(3)})}));
    const NodeId invariant = v.load(t, {v.q, v.k});  // of both loops
    const NodeId inner_sum = v.g.reduce(Op::ReduceSum, n, v.make(Op::Mul, {v.load(t, {j, v.make(Op::Add, {n, v.h})}), invariant}));
    const NodeId outer = v.g.reduce(Op::ReduceMax, j, v.make(Op::Add, {inner_sum, v.make(Op::ToF32, {j})}));
    const NodeId again = v.g.reduce(Op::ReduceSum, j, v.make(Op::Mul, {inner_sum, v.g.f32(0.5f)}));  // the same inner loop, elsewhere
    v.attention.score = v.make(Op::Add, {v.make(Op::Add, {outer, again}), invariant});

    const NodeId first = v.g.loop_var(0, i(0), v.q), second = v.g.loop_var(1, i(0), v.h);
    const NodeId scores = v.load(t, {first, second});
    v.attention.mask =
        v.g.reduce(Op::ReduceAny, first, v.g.reduce(Op::ReduceAll, second, v.make(Op::Lt, {scores, v.make(Op::ToF32, {v.k})})));
    test::check_hooks(v);
}

TEST_CASE("more values of a row than it has slots") {
    Variant v({1, 2, 1, 4, 37, 8, 8});
    const uint32_t t = v.tensor(ElemType::F32, {37}, sawtooth(37));
    NodeId sum = v.score;
    for (int32_t i = 0; i < 150; i++) {
        const NodeId of_row = v.load(t, {v.make(Op::Add, {v.q, v.g.i32(i)})});
        sum = v.make(Op::Add, {v.make(Op::Mul, {sum, v.g.f32(0.5f)}), of_row});
    }
    v.attention.score = sum;
    test::check_hooks(v);
}

TEST_CASE("a deep expression, so long that code generation takes its linear path") {
    Variant v({1, 1, 1, 2, 19, 8, 8});
    NodeId x = v.k;
    for (int32_t i = 0; i < 1500; i++) x = v.make(i % 2 ? Op::Add : Op::BitXor, {x, v.make(Op::Add, {v.q, v.g.i32(i)})});
    v.attention.score = v.make(Op::ToF32, {v.make(Op::Shr, {x, v.g.i32(8)})});
    v.attention.mask = v.make(Op::Lt, {x, v.g.i32(100)});
    test::check_hooks(v);
}
