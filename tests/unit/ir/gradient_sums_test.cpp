// How gradients of captured tensors are summed, by the indices of their reads.
#include "ir/gradient_sums.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "ir/gradient.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

using enum GradientSum;

struct Reads : Scratch {
    NodeId b = g.index(IndexVar::B), h = g.index(IndexVar::H), q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    NodeId sum = g.score();
    uint32_t plane = tensor({9, 9});

    uint32_t tensor(std::vector<int32_t> dims) {
        size_t count = 1;
        for (const int32_t dim : dims) count *= size_t(dim);
        const uint32_t id = add_tensor(ElemType::F32, dims, std::vector<double>(count, 1.0));
        attention.params[id].grad = true;
        return id;
    }
    NodeId at(NodeId i, NodeId j) { return g.load(plane, ElemType::F32, std::vector<NodeId>{i, j}); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    void read(NodeId i, NodeId j) { sum = op(Op::Add, {sum, at(i, j)}); }
    const Attention& done() {
        attention.score = sum;
        differentiate(attention);
        return attention;
    }
};

/// The ways of all reads, by the places' indices.
GradientSum of(const Reads& r, const GradientSums& sums, NodeId i, NodeId j) {
    const auto& reads = r.attention.gradient->score_reads;
    for (size_t n = 0; n < reads.size(); ++n)
        if (r.g.operand(reads[n].load, 0) == i && r.g.operand(reads[n].load, 1) == j) return sums.score_reads[n];
    FAIL("no such read");
    return Element;
}

}  // namespace

TEST_CASE("gradient sums follow what a place depends on") {
    Reads r;
    const NodeId zero = r.g.i32(0), distance = r.op(Op::Sub, {r.q, r.k}), next = r.op(Op::Add, {r.k, r.q});
    const NodeId from_score = r.op(Op::ToI32, {r.g.score()});
    for (const auto& [i, j] :
         {std::pair{r.b, r.h}, {r.h, r.q}, {r.h, r.k}, {r.q, r.k}, {r.k, r.q}, {zero, distance}, {r.h, next}, {zero, from_score}})
        r.read(i, j);
    const Attention& attention = r.done();
    const GradientSums cpu = cpu_gradient_sums(attention), gpu = gpu_gradient_sums(attention);
    CHECK(of(r, cpu, r.b, r.h) == Row);
    CHECK(of(r, gpu, r.b, r.h) == Head);
    CHECK(of(r, cpu, r.h, r.q) == Row);
    CHECK(of(r, gpu, r.h, r.q) == Row);
    CHECK(of(r, cpu, r.h, r.k) == Neighbours);
    CHECK(of(r, gpu, r.h, r.k) == Key);
    CHECK(of(r, cpu, r.q, r.k) == Neighbours);
    CHECK(of(r, gpu, r.q, r.k) == Element);
    CHECK(of(r, cpu, r.k, r.q) == Element);
    CHECK(of(r, cpu, zero, distance) == Neighbours);
    CHECK(of(r, gpu, zero, distance) == Element);
    CHECK(of(r, cpu, r.h, next) == Neighbours);
    CHECK(of(r, cpu, zero, from_score) == Element);
    CHECK(of(r, gpu, zero, from_score) == Element);
}

TEST_CASE("gradient sums: places for a few, those of heads first; reads in loops have none") {
    Reads r;
    for (int i = 0; i < 9; ++i) r.read(r.g.i32(i), r.q);
    r.read(r.b, r.h);
    r.read(r.h, r.k);
    const NodeId j = r.g.loop_var(0, r.g.i32(0), r.g.i32(3));
    r.sum = r.op(Op::Add, {r.sum, r.g.reduce(Op::ReduceSum, j, r.at(j, j))});
    const Attention& attention = r.done();
    const GradientSums cpu = cpu_gradient_sums(attention), gpu = gpu_gradient_sums(attention);
    CHECK(of(r, gpu, r.b, r.h) == Head);
    CHECK(of(r, gpu, j, j) == Element);
    CHECK(of(r, cpu, j, j) == Vector);
    CHECK(std::count(gpu.score_reads.begin(), gpu.score_reads.end(), Row) == kGpuSums - 1);
    CHECK(std::count(cpu.score_reads.begin(), cpu.score_reads.end(), Row) == kCpuRowSums);
    CHECK(std::count(cpu.score_reads.begin(), cpu.score_reads.end(), Vector) == 10 - kCpuRowSums + 1);
    CHECK(cpu.score_reads.size() == 12);
}

TEST_CASE("gradient sums of the scale") {
    Reads r;
    r.attention.scale = r.at(r.h, r.q);
    const Attention& attention = r.done();
    CHECK(gpu_gradient_sums(attention).scale_reads == std::vector{Scale});
    CHECK(cpu_gradient_sums(attention).scale_reads == std::vector{Scale});
    CHECK(gpu_gradient_sums(attention).score_reads.empty());
}
