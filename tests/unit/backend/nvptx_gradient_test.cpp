// The gradient hooks of the GPU on the emulated device, against the derivatives by hand; and which kernels an image of a backward pass has.
#include <doctest/doctest.h>
#include <cmath>
#include <functional>
#include <set>

#include "gpu_variant.h"
#include "ir/gradient.h"
#include "ir/gradient_sums.h"
#include "ir/passes.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

struct At {
    int32_t b, h, q, k;
    double score;
};
/// Adds to element `offset` of a parameter's gradient.
using Add = std::function<void(uint32_t param, int64_t offset, double adjoint)>;

struct Expected {
    std::function<double(const At&)> derivative;
    std::function<void(const At&, const Add&)> adjoints;
    std::function<void(const At&, const Add&)> scale_adjoints;  // of a row
};

std::vector<double> numbers(size_t count, int seed) {
    std::vector<double> values;
    for (size_t i = 0; i < count; i++) values.push_back(double((i * 7 + size_t(seed) * 5) % 17) / 8.0 - 1.0);
    return values;
}

void differentiate(Variant& v) {
    for (ir::Param& param : v.attention.params)
        if (param.is_tensor && ir::widened(param.elem) == ir::Type::F32) param.grad = true;
    ir::differentiate(v.attention);
    ir::optimise(v.attention);
}

test::GpuGradients check_gradients(Variant& v, const Expected& expected) {
    differentiate(v);
    const int32_t batch = v.extents[0], heads = v.extents[1], queries = v.extents[3], keys = v.extents[4];
    std::vector<float> score, ds, d_scale;
    for (int32_t i = 0; i < batch * heads * queries * keys; i++) {
        score.push_back(float(i % 13) / 4.0f - 1.5f);
        ds.push_back(i % 5 == 2 ? 0.0f : float(i % 11) / 8.0f - 0.5f);
    }
    for (int32_t i = 0; i < batch * heads * queries; i++) d_scale.push_back(float(i % 7) / 4.0f - 0.75f);
    const auto got = test::run_gradients_on_gpu(v, score, ds, d_scale);
    REQUIRE_MESSAGE(got.fault.empty(), got.fault);

    std::vector<std::vector<double>> want;
    std::vector<size_t> number;
    size_t gradients = 0;
    for (size_t i = 0; i < v.attention.params.size(); i++) {
        want.emplace_back(got.d_params[i].size(), 0.0);
        number.push_back(gradients);
        if (v.attention.params[i].grad) gradients++;
    }
    size_t point = 0, row = 0;
    for (int32_t b = 0; b < batch; b++)
        for (int32_t h = 0; h < heads; h++)
            for (int32_t q = 0; q < queries; q++, row++) {
                std::vector<double> bounds(test::GpuGradients::kBounds, 0.0);
                double factor = 0;
                const Add add = [&](uint32_t param, int64_t offset, double adjoint) {
                    want[param].at(size_t(offset)) += factor * adjoint;
                    bounds[std::min(number[param], bounds.size() - 1)] += std::fabs(factor * adjoint);
                };
                for (int32_t k = 0; k < keys; k++, point++) {
                    const At at{b, h, q, k, double(score[point])};
                    CHECK(std::fabs(got.derivative[point] - expected.derivative(at)) <= 1e-5 * (1 + std::fabs(expected.derivative(at))));
                    factor = double(ds[point]);
                    if (factor != 0) expected.adjoints(at, add);
                }
                factor = double(d_scale[row]);
                if (expected.scale_adjoints) expected.scale_adjoints({b, h, q, 0, 0}, add);
                for (size_t i = 0; i < bounds.size(); i++) {
                    const double bound = double(got.bounds[row * bounds.size() + i]);
                    CHECK(std::fabs(bound - bounds[i]) <= 1e-4 * (1 + bounds[i]));
                }
            }
    for (size_t i = 0; i < want.size(); i++)
        for (size_t j = 0; j < want[i].size(); j++) {
            CAPTURE(i);
            CAPTURE(j);
            CHECK(std::fabs(double(got.d_params[i][j]) - want[i][j]) <= 1e-4 * (1 + std::fabs(want[i][j])));
        }
    return got;
}

constexpr int kByRow = 1, kByKey = 2, kByHead = 3;

std::multiset<int> kinds(const test::GpuGradients& got) {
    return {got.kinds.begin(), got.kinds.end()};
}

}  // namespace

TEST_CASE("GPU gradients: reads by head, row, key and both") {
    Variant v;  // B 2, H 4, HKV 2, Q 5, K 37
    const uint32_t head = v.tensor(ir::ElemType::F32, {4}, numbers(4, 1)), rows = v.tensor(ir::ElemType::F32, {4, 5}, numbers(20, 2));
    const uint32_t keys = v.tensor(ir::ElemType::F16, {2, 37}, numbers(74, 3)),
                   both = v.tensor(ir::ElemType::F32, {5, 37}, numbers(185, 4));
    const NodeId r = v.load(rows, {v.h, v.q}), key = v.load(keys, {v.hkv, v.k});
    v.attention.score = v.make(
        Op::Add, {v.make(Op::Mul, {v.score, v.load(head, {v.h})}), v.make(Op::Add, {v.make(Op::Mul, {r, key}), v.load(both, {v.q, v.k})})});
    const auto got = check_gradients(v, {[&](const At& at) { return numbers(4, 1)[size_t(at.h)]; },
                                         [&](const At& at, const Add& add) {
                                             add(head, at.h, at.score);
                                             add(rows, at.h * 5 + at.q, numbers(74, 3)[size_t(at.h / 2 * 37 + at.k)]);
                                             add(keys, at.h / 2 * 37 + at.k, numbers(20, 2)[size_t(at.h * 5 + at.q)]);
                                             add(both, at.q * 37 + at.k, 1);
                                         },
                                         {}});
    CHECK(kinds(got) == std::multiset<int>{0, kByRow, kByKey, kByHead});
    CHECK(got.scatters);
}

TEST_CASE("GPU gradients: places out of range take nothing, and are no part of a bound") {
    Variant v;
    const uint32_t t = v.tensor(ir::ElemType::F32, {9}, numbers(9, 1));
    const NodeId distance = v.make(Op::Add, {v.make(Op::Sub, {v.q, v.k}), v.g.i32(4)});
    v.attention.score =
        v.make(Op::Add, {v.make(Op::Add, {v.score, v.load(t, {distance})}), v.load(t, {v.make(Op::Sub, {v.h, v.g.i32(2)})})});
    const auto got = check_gradients(v, {[](const At&) { return 1.0; },
                                         [&](const At& at, const Add& add) {
                                             const int i = at.q - at.k + 4;
                                             if (i >= 0 && i < 9) add(t, i, 1);
                                             if (at.h >= 2) add(t, at.h - 2, 1);
                                         },
                                         {}});
    CHECK(kinds(got) == std::multiset<int>{0, 0, 0, kByHead});
}

TEST_CASE("GPU gradients: reads in reductions are added once an iteration") {
    Variant v;
    const uint32_t x = v.tensor(ir::ElemType::F32, {5, 6}, numbers(30, 1)), y = v.tensor(ir::ElemType::F32, {37, 6}, numbers(222, 2));
    const uint32_t z = v.tensor(ir::ElemType::F32, {8}, numbers(8, 3));
    const NodeId j = v.g.loop_var(0, v.g.i32(0), v.make(Op::Add, {v.make(Op::Mod, {v.k, v.g.i32(5)}), v.g.i32(3)}));
    const NodeId dot = v.g.reduce(Op::ReduceSum, j, v.make(Op::Mul, {v.load(x, {v.q, j}), v.load(y, {v.k, j})}));
    const NodeId i = v.g.loop_var(0, v.h, v.g.i32(7));
    const NodeId chain = v.g.reduce(Op::ReduceSum, i, v.load(z, {i}));
    v.attention.score = v.make(Op::Add, {v.make(Op::Mul, {v.score, chain}), dot});
    const auto inside = [&](int at) { return at < 6; };
    const auto got = check_gradients(v, {[&](const At& at) {
                                             double sum = 0;
                                             for (int n = at.h; n < 7; n++) sum += numbers(8, 3)[size_t(n)];
                                             return sum;
                                         },
                                         [&](const At& at, const Add& add) {
                                             for (int n = 0; n < at.k % 5 + 3; n++) {
                                                 if (!inside(n)) continue;
                                                 add(x, at.q * 6 + n, numbers(222, 2)[size_t(at.k * 6 + n)]);
                                                 add(y, at.k * 6 + n, numbers(30, 1)[size_t(at.q * 6 + n)]);
                                             }
                                             for (int n = at.h; n < 7; n++) add(z, n, at.score);
                                         },
                                         {}});
    CHECK(kinds(got) == std::multiset<int>{0, 0, 0, 0});
    CHECK(got.scatters);
}

TEST_CASE("GPU gradients: the scale, with nothing of the score") {
    Variant v;
    const uint32_t x = v.tensor(ir::ElemType::F32, {4}, numbers(4, 1)), y = v.tensor(ir::ElemType::BF16, {4, 3}, numbers(12, 2));
    v.attention.scale = v.make(Op::Mul, {v.load(x, {v.h}), v.load(y, {v.h, v.q})});  // y has no row 3 and 4
    const auto got = check_gradients(v, {[](const At&) { return 1.0; }, [](const At&, const Add&) {},
                                         [&](const At& at, const Add& add) {
                                             add(x, at.h, at.q < 3 ? numbers(12, 2)[size_t(at.h * 3 + at.q)] : 0);
                                             if (at.q < 3) add(y, at.h * 3 + at.q, numbers(4, 1)[size_t(at.h)]);
                                         }});
    CHECK(!got.scatters);
}

TEST_CASE("GPU gradients: more reads than can be summed, more gradients than have bounds") {
    Variant v;
    std::vector<uint32_t> params;
    NodeId sum = v.score;
    for (int i = 0; i < 11; i++) {
        params.push_back(v.tensor(ir::ElemType::F32, {5}, numbers(5, i)));
        sum = v.make(Op::Add, {sum, v.load(params.back(), {v.q})});
    }
    v.attention.score = sum;
    const auto got = check_gradients(v, {[](const At&) { return 1.0; },
                                         [&](const At& at, const Add& add) {
                                             for (const uint32_t param : params) add(param, at.q, 1);
                                         },
                                         {}});
    CHECK(kinds(got) == std::multiset<int>{kByRow, kByRow, kByRow, kByRow});
    CHECK(got.scatters);
}

TEST_CASE("GPU gradients: an infinite contribution is added, and not to a bound") {
    Variant v({1, 1, 1, 2, 3, 8, 8});
    const uint32_t x = v.tensor(ir::ElemType::F32, {2, 3}, std::vector<double>(6, 0.0));
    v.attention.score = v.make(Op::Add, {v.score, v.make(Op::Sqrt, {v.load(x, {v.q, v.k})})});  // 1 / (2 sqrt(0)) = inf
    differentiate(v);
    const auto got = test::run_gradients_on_gpu(v, std::vector<float>(6, 0.0f), {1, 0, -1, 0, 0, 0}, {0, 0});
    REQUIRE_MESSAGE(got.fault.empty(), got.fault);
    CHECK(got.d_params[x][0] == INFINITY);
    CHECK(got.d_params[x][1] == 0);
    CHECK(got.d_params[x][2] == -INFINITY);
    CHECK(got.bounds[0] == 0);
    CHECK(got.bounds[test::GpuGradients::kBounds] == 0);
}

TEST_CASE("backward images have the kernels that they need") {
    const auto image_of = [](Variant& v, bool atomic) {
        differentiate(v);
        return nvptx::compile_backward(v.attention, test::gradient_probe(), atomic, nullptr);
    };
    {
        Variant v;
        const auto image = image_of(v, false);
        const std::string name = v.attention.name + "_backward_";
        CHECK(image.rows.symbol == name + "rows");
        CHECK(image.queries.symbol == name + "queries");
        CHECK(image.keys.symbol == name + "keys");
        CHECK(image.summarise.symbol.empty());
        CHECK(image.scale.symbol.empty());
        CHECK(image.finish.symbol.empty());
        CHECK(image.rows.threads == 128);
        CHECK(image.ptx.find("backward_scale") == std::string::npos);
    }
    {
        Variant v;
        const uint32_t doc = v.tensor(ir::ElemType::I32, {37}, std::vector<double>(37, 1));
        v.attention.mask = v.make(Op::Eq, {v.load(doc, {v.k}), v.g.i32(1)});
        v.attention.scale = v.load(v.tensor(ir::ElemType::F32, {4}, numbers(4, 1)), {v.h});
        const auto image = image_of(v, true);
        const std::string name = v.attention.name + "_backward_";
        CHECK(image.atomic);
        CHECK(image.queries.symbol.empty());
        CHECK(image.keys.symbol == name + "keys");
        CHECK(image.summarise.symbol == name + "summarise");
        CHECK(image.scale.symbol == name + "scale");
        CHECK(image.finish.symbol == name + "finish");
        CHECK(image.summary_flags.size() == 1);
        CHECK(image.ptx.find("backward_queries") == std::string::npos);
        CHECK(image.ptx.find(".entry " + name + "keys(") != std::string::npos);
        CHECK(image.ptx.find("keys_atomic") == std::string::npos);
    }
}
