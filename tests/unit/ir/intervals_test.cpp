// Which loads are proven: the ones of the gallery, by name, and the near misses that must not be.
#include <doctest/doctest.h>

#include "ir/intervals.h"
#include "ir/passes.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr uint32_t kN = kBuiltinExtents, kM = kBuiltinExtents + 1;

Dim of(ExtentVar which, int32_t factor = 1, int64_t offset = 0) {
    return {factor, static_cast<int32_t>(which), offset};
}
Dim of(uint32_t extent, int32_t factor = 1, int64_t offset = 0) {
    return {factor, static_cast<int32_t>(extent), offset};
}
Dim fixed(int64_t size) {
    return {0, -1, size};
}

struct Loads {
    Attention a;
    Graph& g = a.graph;
    NodeId b = g.index(IndexVar::B), h = g.index(IndexVar::H), hkv = g.index(IndexVar::Hkv), q = g.index(IndexVar::Q),
           k = g.index(IndexVar::K);
    NodeId n = g.extent(kN), p;

    Loads() {
        a.extents = {"N", "M"};
        Param scalar;
        scalar.name = "p";
        scalar.type = Type::I32;
        a.params.push_back(scalar);
        p = g.scalar(0, Type::I32);
    }
    Loads(const Loads&) = delete;

    NodeId i(int32_t value) { return g.i32(value); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    NodeId load(std::vector<Dim> dims, std::vector<NodeId> indices, ElemType elem = ElemType::F32) {
        Param param;
        param.name = "t" + std::to_string(a.params.size());
        param.is_tensor = true;
        param.elem = elem;
        param.dims = std::move(dims);
        a.params.push_back(param);
        return g.load(static_cast<uint32_t>(a.params.size() - 1), elem, indices);
    }
    unsigned proven(std::vector<Dim> dims, std::vector<NodeId> indices) {
        const NodeId id = load(std::move(dims), std::move(indices));
        return proven_dims(a)[id.value];
    }
};

}  // namespace

TEST_CASE("intervals: indices against their extents") {
    Loads l;
    CHECK(l.proven({of(ExtentVar::H)}, {l.h}) == 1);
    CHECK(l.proven({of(ExtentVar::B), of(ExtentVar::H), of(ExtentVar::Q), of(ExtentVar::K)}, {l.b, l.h, l.q, l.k}) == 15);
    CHECK(l.proven({of(ExtentVar::HKV)}, {l.hkv}) == 1);
    CHECK(l.proven({of(ExtentVar::H)}, {l.hkv}) == 1);  // H = n HKV
    CHECK(l.proven({of(ExtentVar::HKV)}, {l.h}) == 0);
    CHECK(l.proven({of(ExtentVar::Q)}, {l.k}) == 0);
    CHECK(l.proven({of(kN)}, {l.q}) == 0);  // doc: i32[N]
    CHECK(l.proven({fixed(1)}, {l.i(0)}) == 1);
    CHECK(l.proven({fixed(1)}, {l.i(1)}) == 0);
    CHECK(l.proven({fixed(1)}, {l.i(-1)}) == 0);
    CHECK(l.proven({of(ExtentVar::B)}, {l.i(0)}) == 1);  // built-in extents are not 0
    CHECK(l.proven({of(kN)}, {l.i(0)}) == 0);            // free ones may be
}

TEST_CASE("intervals: sums that may wrap prove nothing") {
    Loads l;
    CHECK(l.proven({of(ExtentVar::Q, 1, 1)}, {l.op(Op::Add, {l.q, l.i(1)})}) == 1);  // q + 1 <= Q
    CHECK(l.proven({of(ExtentVar::Q, 1, 2)}, {l.op(Op::Add, {l.q, l.i(2)})}) == 0);  // wraps if Q = INT_MAX
    const NodeId relative = l.op(Op::Sub, {l.k, l.q});
    CHECK(l.proven({of(ExtentVar::K)}, {relative}) == 0);
    CHECK(l.proven({of(ExtentVar::K)}, {l.op(Op::Max, {relative, l.i(0)})}) == 1);
    CHECK(l.proven({of(ExtentVar::K)}, {l.op(Op::Max, {l.op(Op::Sub, {l.k, l.p}), l.i(0)})}) == 0);  // k - p may wrap
    // k - q + Q - 1 lies in [0, K + Q - 1), but the sum of two extents may not fit an i32.
    const NodeId shifted = l.op(Op::Sub, {l.op(Op::Add, {relative, l.g.extent(static_cast<uint32_t>(ExtentVar::Q))}), l.i(1)});
    CHECK(l.proven({of(ExtentVar::Q)}, {shifted}) == 0);
}

TEST_CASE("intervals: blocks, clamps and tables") {
    Loads l;
    const NodeId q_mod = l.op(Op::Mod, {l.q, l.i(8)});
    CHECK(l.proven({fixed(8)}, {q_mod}) == 1);
    CHECK(l.proven({of(ExtentVar::Q)}, {q_mod}) == 1);  // q % 8 <= q
    CHECK(l.proven({fixed(7)}, {q_mod}) == 0);
    CHECK(l.proven({fixed(8)}, {l.op(Op::Mod, {l.p, l.i(8)})}) == 1);
    CHECK(l.proven({fixed(8)}, {l.op(Op::Mod, {l.p, l.i(-8)})}) == 0);
    CHECK(l.proven({of(ExtentVar::K)}, {l.op(Op::Mod, {l.p, l.g.extent(static_cast<uint32_t>(ExtentVar::K))})}) == 1);
    CHECK(l.proven({of(kN)}, {l.op(Op::Mod, {l.p, l.n})}) == 0);  // N may be 0
    CHECK(l.proven({of(ExtentVar::Q)}, {l.op(Op::FloorDiv, {l.q, l.i(16)})}) == 1);
    CHECK(l.proven({fixed(16)}, {l.op(Op::BitAnd, {l.p, l.i(15)})}) == 1);
    CHECK(l.proven({fixed(32)}, {l.op(Op::Clamp, {l.p, l.i(0), l.i(31)})}) == 1);
    CHECK(l.proven({fixed(32)}, {l.op(Op::Min, {l.op(Op::Abs, {l.p}), l.i(31)})}) == 0);  // abs(INT_MIN)
    CHECK(l.proven({fixed(32)}, {l.op(Op::Min, {l.op(Op::Abs, {l.op(Op::Sub, {l.k, l.q})}), l.i(31)})}) == 1);
    CHECK(l.proven({fixed(256)}, {l.load({of(ExtentVar::K)}, {l.k}, ElemType::U8)}) == 1);
    CHECK(l.proven({fixed(128)}, {l.load({of(ExtentVar::K)}, {l.k}, ElemType::I8)}) == 0);
    CHECK(l.proven({of(kM)}, {l.load({of(kN)}, {l.q}, ElemType::I32)}) == 0);  // off[doc[q]]
    CHECK(l.proven({fixed(2)}, {l.op(Op::ToI32, {l.op(Op::Lt, {l.q, l.k})})}) == 1);
    CHECK(l.proven({fixed(9)}, {l.op(Op::Shr, {l.op(Op::Clamp, {l.p, l.i(0), l.i(35)}), l.i(2)})}) == 1);
    CHECK(l.proven({fixed(8)}, {l.op(Op::Shr, {l.op(Op::Clamp, {l.p, l.i(0), l.i(35)}), l.i(2)})}) == 0);
}

TEST_CASE("intervals: the guard of another dimension shows that an extent is not 0") {
    Loads l;
    const NodeId slot = l.op(Op::Clamp, {l.op(Op::Sub, {l.k, l.p}), l.i(0), l.op(Op::Sub, {l.n, l.i(1)})});
    CHECK(l.proven({of(kN), of(kN)}, {l.q, slot}) == 2);        // anc[q, clamp(k - P, 0, N - 1)]
    CHECK(l.proven({of(kN)}, {slot}) == 0);                     // nothing guards: N = 0 gives index -1
    CHECK(l.proven({of(kN), of(kN)}, {slot, slot}) == 2 - 1);   // the one that goes first leans on the one that stays
    CHECK(l.proven({of(kM), of(kN)}, {l.q, slot}) == 0);        // M says nothing of N
    CHECK(l.proven({of(kN, 1, 1), of(kN)}, {l.p, slot}) == 0);  // 0 < N + 1 holds for N = 0
}

TEST_CASE("intervals: loop variables") {
    Loads l;
    const auto in_loop = [&](NodeId lo, NodeId hi, Dim dim) {
        const NodeId j = l.g.loop_var(0, lo, hi);
        return l.proven({dim}, {j});
    };
    CHECK(in_loop(l.i(0), l.n, of(kN)) == 1);  // of an empty loop too
    CHECK(in_loop(l.i(0), l.op(Op::Add, {l.q, l.i(1)}), of(ExtentVar::Q)) == 1);
    CHECK(in_loop(l.i(-1), l.n, of(kN)) == 0);
    CHECK(in_loop(l.i(0), l.p, of(kN)) == 0);
    CHECK(in_loop(l.p, l.n, of(kN)) == 0);
    CHECK(in_loop(l.i(0), l.op(Op::Min, {l.p, l.n}), of(kN)) == 1);
}

TEST_CASE("intervals: d runs over D in transforms and over DV in the output") {
    for (const bool both : {false, true}) {
        Loads l;
        const NodeId d = l.g.index(IndexVar::D);
        const NodeId at_d = l.load({of(ExtentVar::DV)}, {d}), at_k = l.load({of(ExtentVar::D)}, {d});
        l.a.output = l.op(Op::Mul, {l.g.out(), at_d});
        if (both) l.a.query = l.op(Op::Mul, {l.g.row_load(ClauseVar::QueryRow, d), at_k});
        CHECK(proven_dims(l.a)[at_d.value] == (both ? 0 : 1));
        CHECK(proven_dims(l.a)[at_k.value] == 0);
    }
}

TEST_CASE("intervals: numeric ranges") {
    Loads l;
    RangeAnalysis ranges(l.a);
    CHECK(ranges.range(l.q).lo == 0);
    CHECK(ranges.range(l.q).hi == 2147483646);
    CHECK(ranges.range(l.op(Op::Sub, {l.q, l.k})).lo == -2147483646);
    CHECK(ranges.range(l.op(Op::Add, {l.q, l.k})).lo == -2147483648);  // may wrap
    CHECK(ranges.range(l.op(Op::Sign, {l.q})).hi == 1);
    CHECK(ranges.range(l.op(Op::Mul, {l.op(Op::Clamp, {l.p, l.i(-3), l.i(4)}), l.i(-10)})).lo == -40);
}
