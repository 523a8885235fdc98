// The gradients of whole attentions against central differences of the interpreter.
#include "ir/interpret_gradient.h"

#include <cmath>

#include <doctest/doctest.h>

#include "ir/gradient.h"
#include "ir/passes.h"
#include "tests/unit/ir/eval.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr int32_t kB = 2, kH = 4, kHkv = 2, kQ = 5, kK = 6, kD = 3, kDv = 4;

struct Whole : Scratch {
    Rng rng{7};
    AttentionInput input;
    GradientInput loss;
    NodeId b = g.index(IndexVar::B), h = g.index(IndexVar::H), q = g.index(IndexVar::Q), k = g.index(IndexVar::K), s = g.score();

    Whole() {
        bindings.extents = {kB, kH, kHkv, kQ, kK, kD, kDv};
        input.kv_batch = 1;
        input.q = numbers(kB * kH * kQ * kD);
        input.k = numbers(kHkv * kK * kD);
        input.v = numbers(kHkv * kK * kDv);
        loss.d_o = numbers(kB * kH * kQ * kDv);
        loss.d_lse = numbers(kB * kH * kQ);
        loss.d_max_score = numbers(kB * kH * kQ);
    }
    std::vector<double> numbers(int n) {
        std::vector<double> out;
        for (int i = 0; i < n; ++i) out.push_back(rng.between(-999, 999) / 600.0);
        return out;
    }
    uint32_t grad_tensor(std::vector<int32_t> dims) {
        int n = 1;
        for (const int32_t dim : dims) n *= dim;
        const uint32_t param = add_tensor(ElemType::F32, dims, numbers(n));
        attention.params[param].grad = true;
        return param;
    }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    NodeId at(uint32_t tensor, std::initializer_list<NodeId> indices) {
        return g.load(tensor, ElemType::F32, std::vector<NodeId>(indices));
    }
    NodeId causal() { return op(Op::Le, {k, q}); }

    double value() {
        const AttentionOutput out = interpret(attention, bindings, input);
        double sum = 0;
        for (size_t i = 0; i < out.o.size(); ++i) sum += out.o[i] * loss.d_o[i];
        for (size_t i = 0; i < out.lse.size(); ++i)
            if (std::isfinite(out.lse[i])) sum += out.lse[i] * loss.d_lse[i] + out.max_score[i] * loss.d_max_score[i];
        return sum;
    }
    void check_array(const char* name, std::vector<double>& array, const std::vector<double>& exact) {
        CAPTURE(name);
        REQUIRE(array.size() == exact.size());
        double worst = 0, largest = 0;
        for (size_t i = 0; i < array.size(); ++i) {
            const double kept = array[i], step = 1e-5;
            array[i] = kept + step;
            const double above = value();
            array[i] = kept - step;
            const double below = value();
            array[i] = kept;
            worst = std::max(worst, std::fabs(exact[i] - (above - below) / (2 * step)));
            largest = std::max(largest, std::fabs(exact[i]));
        }
        CHECK(worst < 1e-8 * std::max(largest, 1.0) + 1e-8);
        CHECK(largest > 0);
    }
    void check() {
        optimise(attention);
        differentiate(attention);
        optimise(attention);
        REQUIRE(verify(attention) == "");
        REQUIRE(no_gradient(attention).empty());
        const GradientOutput out = interpret_gradient(attention, bindings, input, loss);
        check_array("q", input.q, out.dq);
        check_array("k", input.k, out.dk);
        check_array("v", input.v, out.dv);
        for (size_t i = 0; i < attention.params.size(); ++i)
            if (attention.params[i].grad) check_array(attention.params[i].name.c_str(), bindings.tensors[i].values, out.d_params[i]);
    }
};

}  // namespace

TEST_CASE("gradients of an attention: plain, causal, capped") {
    Whole plain;
    plain.check();
    Whole causal;
    causal.attention.mask = causal.causal();
    causal.attention.score = causal.op(Op::Mul, {causal.op(Op::Tanh, {causal.s}), causal.g.f32(2)});
    causal.check();
}

TEST_CASE("gradients of an attention: captured tensors") {
    Whole a;  // by h; by (h, q); by a bucket of q - k, read out of range too; by (b, h, q, k); in two places
    const uint32_t slope = a.grad_tensor({kH}), rows = a.grad_tensor({kH, kQ}), bucket = a.grad_tensor({4}),
                   full = a.grad_tensor({kB, kH, kQ, kK});
    NodeId score = a.op(Op::Add, {a.s, a.op(Op::Mul, {a.at(slope, {a.h}), a.op(Op::ToF32, {a.op(Op::Sub, {a.k, a.q})})})});
    score = a.op(Op::Mul, {score, a.at(rows, {a.h, a.q})});
    score = a.op(Op::Add, {score, a.at(bucket, {a.op(Op::Sub, {a.q, a.k})})});
    score = a.op(Op::Add, {score, a.op(Op::Mul, {a.at(full, {a.b, a.h, a.q, a.k}), a.at(bucket, {a.k})})});
    a.attention.score = score;
    a.attention.mask = a.op(Op::Or, {a.causal(), a.op(Op::Lt, {a.k, a.g.i32(2)})});
    a.check();
}

TEST_CASE("gradients of an attention: reads in reductions and in the scale") {
    Whole a;
    const uint32_t x = a.grad_tensor({kQ, 3}), y = a.grad_tensor({kK, 3}), scale = a.grad_tensor({kH});
    const NodeId j = a.g.loop_var(0, a.g.i32(0), a.g.i32(9));  // beyond the tensors: reads 0
    const NodeId product = a.op(Op::Mul, {a.at(x, {a.q, j}), a.at(y, {a.k, j})});
    a.attention.score = a.op(Op::Add, {a.s, a.g.reduce(Op::ReduceSum, j, product)});
    a.attention.scale = a.op(Op::Mul, {a.at(scale, {a.h}), a.g.f32(0.5f)});
    a.check();

    Whole nested;
    const uint32_t u = nested.grad_tensor({3}), v = nested.grad_tensor({4});
    const NodeId outer = nested.g.loop_var(0, nested.g.i32(0), nested.g.i32(3));
    const NodeId inner = nested.g.loop_var(1, outer, nested.g.i32(4));
    const NodeId sum = nested.g.reduce(Op::ReduceSum, inner, nested.op(Op::Mul, {nested.at(u, {outer}), nested.at(v, {inner})}));
    nested.attention.score = nested.op(Op::Mul, {nested.s, nested.g.reduce(Op::ReduceSum, outer, sum)});
    nested.check();
}

TEST_CASE("gradients of an attention: rows without keys, and what a mask hides") {
    Whole a;
    a.attention.mask = a.op(Op::Lt, {a.k, a.q});  // row 0 sees nothing
    a.check();
    // NaN and inf under the mask (keys 4 and 5 are seen by no query but the last).
    a.attention.mask = a.op(Op::Lt, {a.k, a.g.i32(4)});
    optimise(a.attention);
    differentiate(a.attention);
    const GradientOutput clean = interpret_gradient(a.attention, a.bindings, a.input, a.loss);
    for (size_t head = 0; head < kHkv; ++head)
        for (size_t d = 0; d < kD; ++d) {
            a.input.k[(head * kK + 4) * kD + d] = std::nan("");
            a.input.v[(head * kK + 5) * kDv + d] = HUGE_VAL;
        }
    const GradientOutput hidden = interpret_gradient(a.attention, a.bindings, a.input, a.loss);
    CHECK(clean.dq == hidden.dq);
    CHECK(clean.dk == hidden.dk);
    CHECK(clean.dv == hidden.dv);
}

TEST_CASE("gradients of an attention: keys that attain the maximum share its derivative") {
    Whole a;
    a.attention.mask = a.op(Op::Or, {a.op(Op::Eq, {a.k, a.g.i32(2)}), a.op(Op::Eq, {a.k, a.g.i32(3)})});
    for (size_t head = 0; head < kHkv; ++head)
        for (size_t d = 0; d < kD; ++d) a.input.k[(head * kK + 3) * kD + d] = a.input.k[(head * kK + 2) * kD + d];
    // Of two equal keys, a central difference moves one: up it is the maximum, down it is not.
    a.check();
    Whole e;
    // Nothing but the maximum: three keys of four that see the same score have a third each.
    e.attention.mask = e.op(Op::Lt, {e.k, e.g.i32(4)});
    e.attention.score = e.op(Op::Select, {e.op(Op::Eq, {e.k, e.g.i32(1)}), e.op(Op::Sub, {e.s, e.g.f32(1)}), e.s});
    optimise(e.attention);
    differentiate(e.attention);
    for (double& x : e.input.k) x = 0.5;
    std::fill(e.loss.d_o.begin(), e.loss.d_o.end(), 0.0);
    std::fill(e.loss.d_lse.begin(), e.loss.d_lse.end(), 0.0);
    const GradientOutput out = interpret_gradient(e.attention, e.bindings, e.input, e.loss);
    for (size_t k = 0; k < kK; ++k)
        for (size_t d = 0; d < kD; ++d) {
            double want = 0;
            for (size_t row = 0; row < kB * kH * kQ; ++row)
                if (row / kQ % kH / (kH / kHkv) == 0) want += e.loss.d_max_score[row] * e.input.q[row * kD + d] / std::sqrt(3.0) / 3;
            CHECK(out.dk[k * kD + d] == doctest::Approx(k == 1 || k > 3 ? 0.0 : want));
        }
}
