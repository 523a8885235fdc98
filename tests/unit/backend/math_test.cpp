// The error of the vector mathematics on every level that this machine executes, against the C library in double precision,
// and the bounds that backend/skeletons/cpu/math.h states.
#include <doctest/doctest.h>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "variant.h"

using namespace flexc;
using ir::NodeId;
using ir::Op;
using test::Variant;

namespace {

struct Function {
    Op op;
    double (*exact)(double);
    double fma_bound, generic_bound;
};

double sigmoid(double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

const Function kFunctions[] = {
    {Op::Exp2, [](double x) { return std::exp2(x); }, 1.0, 1.25},
    {Op::Exp, [](double x) { return std::exp(x); }, 1.0, 1.0},
    {Op::Log, [](double x) { return std::log(x); }, 1.0, 1.0},
    {Op::Log2, [](double x) { return std::log2(x); }, 1.5, 1.5},
    {Op::Tanh, [](double x) { return std::tanh(x); }, 2.75, 3.0},
    {Op::TanhApprox, [](double x) { return std::tanh(x); }, 2.75, 3.0},
    {Op::Sigmoid, sigmoid, 2.25, 2.25},
    {Op::Sin, [](double x) { return std::sin(x); }, 0.6, 0.6},
    {Op::Cos, [](double x) { return std::cos(x); }, 0.6, 0.6},
    {Op::Tan, [](double x) { return std::tan(x); }, 0.6, 0.6},
    {Op::Erf, [](double x) { return std::erf(x); }, 1.25, 1.25},
    {Op::Sqrt, [](double x) { return std::sqrt(x); }, 0.5, 0.5},
    {Op::Rsqrt, [](double x) { return 1 / std::sqrt(x); }, 1.5, 1.5},
    {Op::Floor, [](double x) { return std::floor(x); }, 0, 0},
    {Op::Ceil, [](double x) { return std::ceil(x); }, 0, 0},
    {Op::Round, [](double x) { return std::nearbyint(x); }, 0, 0},
};

/// Every exponent and sign densely, the interesting ranges more densely, and all special values.
std::vector<float> sample() {
    std::vector<float> x;
    for (uint32_t i = 0; i < 1u << 18; i++) x.push_back(std::bit_cast<float>(i * 16411u));  // all bit patterns, evenly
    std::mt19937 random(1);
    for (const float range : {1.0f, 3.0f, 12.0f, 105.0f, 1e4f, 2e6f})
        for (int i = 0; i < 40000; i++) x.push_back(std::uniform_real_distribution<float>(-range, range)(random));
    for (int i = 0; i < 40000; i++) x.push_back(std::uniform_real_distribution<float>(0.5f, 2.0f)(random));
    // Near multiples of pi/2, where the reduction of an angle loses most.
    for (int n = 1; n < 20000; n++)
        for (int near = -1; near <= 1; near++)
            x.push_back(std::bit_cast<float>(std::bit_cast<int32_t>(float(n * 1.57079632679489661923)) + near));
    const float inf = std::numeric_limits<float>::infinity();
    for (const float s : {0.0f, -0.0f, inf, -inf, std::nanf(""), 1.0f, -1.0f, 0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
                          16367173.0f * 0x1p72f})
        x.push_back(s);
    while (x.size() % 16) x.push_back(0);
    return x;
}

}  // namespace

TEST_CASE("error of the functions of one operand") {
    const std::vector<float> x = sample();
    for (const Function& f : kFunctions) {
        Variant v({1, 1, 1, 1, int32_t(x.size()), 8, 8});
        v.attention.score = v.make(f.op, {v.score});
        for (const flex::CpuLevel level : test::levels()) {
            const auto kernel = v.compile(level);
            REQUIRE(kernel);
            std::vector<float> y = x;
            kernel->table().score_row(v.args(), 0, 0, 0, 0, int32_t(y.size()), y.data());
            double worst = 0;
            float worst_at = 0;
            for (size_t i = 0; i < x.size(); i++) {
                const double error = test::ulp_distance(y[i], f.exact(x[i]));
                if (error > worst) worst = error, worst_at = x[i];
                if (y[i] == 0 && f.exact(x[i]) == 0) CHECK(std::signbit(y[i]) == std::signbit(f.exact(x[i])));
            }
            const std::string text = std::string(ir::info(f.op).name) + " on " + flex::name(level) + ": " + std::to_string(worst) +
                                     " ulp at " + std::to_string(worst_at);
            MESSAGE(text);
            CHECK_MESSAGE(worst <= (level == flex::CpuLevel::Generic ? f.generic_bound : f.fma_bound), text);
        }
    }
}

TEST_CASE("error of pow, and its special cases") {
    std::vector<double> base, power;
    const double inf = std::numeric_limits<double>::infinity();
    const double special[] = {0.0,  -0.0,  1.0,       -1.0,         2.0,   -2.0,   0.5,    -0.5,       3.0,
                              -3.0, inf,   -inf,      std::nan(""), 1e-40, -1e-40, 0x1p24, 0x1p24 + 2, 16777215.0,
                              1e30, -1e30, 0.9999999, 1.0000001,    2.5,   -2.5,   100.0,  -101.0};
    for (const double x : special)
        for (const double y : special) base.push_back(float(x)), power.push_back(float(y));
    std::mt19937 random(2);
    for (int i = 0; i < 100000; i++) {
        base.push_back(std::bit_cast<float>(uint32_t(random() & 0x7fffffff)));
        if (std::isnan(base.back())) base.back() = 1.5;
        const double limit = 150 / std::max(1e-6, std::abs(std::log2(base.back())));
        power.push_back(float(std::uniform_real_distribution<double>(-limit, limit)(random)));
    }
    for (int i = 0; i < 20000; i++) {
        base.push_back(float(std::uniform_real_distribution<double>(-20, 20)(random)));
        power.push_back(double(int(random() % 41) - 20));
    }
    const auto n = int32_t(base.size());
    Variant v({1, 1, 1, 1, n, 8, 8});
    const uint32_t p = v.tensor(ir::ElemType::F32, {n}, power);
    v.attention.score = v.make(Op::Pow, {v.score, v.load(p, {v.k})});
    for (const flex::CpuLevel level : test::levels()) {
        const auto kernel = v.compile(level);
        REQUIRE(kernel);
        std::vector<float> y(base.begin(), base.end());
        kernel->table().score_row(v.args(), 0, 0, 0, 0, n, y.data());
        double worst = 0;
        for (size_t i = 0; i < y.size(); i++) {
            const double exact = std::pow(double(float(base[i])), double(float(power[i])));
            const double error = test::ulp_distance(y[i], exact);
            worst = std::max(worst, error);
            const bool right = error <= 0.6 && (y[i] != 0 || exact != 0 || std::signbit(y[i]) == std::signbit(exact));
            if (!right) {
                CAPTURE(base[i]);
                CAPTURE(power[i]);
                CAPTURE(y[i]);
                CAPTURE(exact);
                CHECK(right);
            }
        }
        const std::string text = std::string("pow on ") + flex::name(level) + ": " + std::to_string(worst) + " ulp";
        MESSAGE(text);
    }
}
