// The error of the GPU's mathematics, run on the host: the hardware's approximations are exact, or wrong by all that the PTX ISA allows, upwards and
// downwards. Against the C library in double precision, and the bounds that backend/skeletons/nvptx/math.h states.
#include <doctest/doctest.h>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "variant.h"

#define FLEX_NVPTX_APPROXIMATE_H
#define FLEX_MATH inline

namespace flexmath {

static int wrong = 0;  // -1, 0 or 1 times the error that is allowed

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline float off(double exact, double relative) {
    return float(exact * (1 + wrong * relative));
}
inline float approximate_exp2(float x) {
    return off(std::exp2(double(x)), 0x1p-22);
}
inline float approximate_reciprocal(float x) {
    const auto y = float(1 / double(x));
    if (wrong == 0 || std::isinf(x) || x == 0) return y;
    return std::nextafter(y, float(wrong) * std::numeric_limits<float>::infinity());
}
inline float flushed(float x) {
    return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
}
inline float approximate_exp2_of_normal(float x) {
    return flushed(approximate_exp2(flushed(x)));
}
inline float approximate_reciprocal_of_normal(float x) {
    return flushed(approximate_reciprocal(flushed(x)));
}
inline float approximate_rsqrt(float x) {
    return off(1 / std::sqrt(double(x)), 0x1p-22);
}
inline float approximate_tanh(float x) {
    return off(std::tanh(double(x)), 0x1p-11);
}
inline float round_to_even(float x) {
    return std::nearbyint(x);
}
inline float least(float a, float b) {
    return std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b);
}
inline float greatest(float a, float b) {
    return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b);
}

}  // namespace flexmath

#include "backend/skeletons/nvptx/math.h"

using flexc::test::ulp_distance;

namespace {

struct Function {
    const char* name;
    float (*computed)(float);
    double (*exact)(double);
    double bound;
    double least = 0;  // smaller results may be 0
};

double sigmoid(double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

const Function kFunctions[] = {
    {"exp2", flexmath::approximate_exp2, [](double x) { return std::exp2(x); }, 5},
    {"exp", flexmath::exp, [](double x) { return std::exp(x); }, 6},
    {"log", flexmath::log, [](double x) { return std::log(x); }, 1},
    {"log2", flexmath::log2, [](double x) { return std::log2(x); }, 1.25},
    {"tanh", flexmath::tanh, [](double x) { return std::tanh(x); }, 3},
    {"sigmoid", flexmath::sigmoid, sigmoid, 8, 0x1p-126},
    {"sin", flexmath::sin, [](double x) { return std::sin(x); }, 1.5},
    {"cos", flexmath::cos, [](double x) { return std::cos(x); }, 1.5},
    {"tan", flexmath::tan, [](double x) { return std::tan(x); }, 5},
    {"erf", flexmath::erf, [](double x) { return std::erf(x); }, 2},
    {"rsqrt", flexmath::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.51},
};

/// Every exponent and sign densely, the interesting ranges more densely, and all special values.
std::vector<float> sample() {
    std::vector<float> x;
    for (uint32_t i = 0; i < 1u << 18; i++) x.push_back(std::bit_cast<float>(i * 16411u));  // all bit patterns, evenly
    std::mt19937 random(1);
    for (const float range : {1.0f, 3.0f, 12.0f, 105.0f, 1e4f, 2e6f})
        for (int i = 0; i < 40000; i++) x.push_back(std::uniform_real_distribution<float>(-range, range)(random));
    for (int i = 0; i < 40000; i++) x.push_back(std::uniform_real_distribution<float>(0.5f, 2.0f)(random));
    // Near multiples of pi/2, where the reduction of an angle loses most, and on both sides of where its method changes.
    for (int n = 1; n < 60000; n++)
        for (int near = -1; near <= 1; near++)
            x.push_back(std::bit_cast<float>(std::bit_cast<int32_t>(float(n * 1.57079632679489661923)) + near));
    const float inf = std::numeric_limits<float>::infinity();
    for (const float s : {0.0f, -0.0f, inf, -inf, flexmath::kNan, 1.0f, -1.0f, 0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
                          0.55f, 0x1p16f, 16367173.0f * 0x1p72f})
        x.push_back(s);
    return x;
}

}  // namespace

TEST_CASE("GPU mathematics: error of the functions of one operand") {
    const std::vector<float> x = sample();
    for (const Function& f : kFunctions)
        for (const int wrong : {-1, 0, 1}) {
            flexmath::wrong = wrong;
            double worst = 0;
            float worst_at = 0;
            for (const float at : x) {
                const double exact = f.exact(at);
                const float y = f.computed(at);
                if (y == 0 && exact == 0) CHECK(std::signbit(y) == std::signbit(exact));
                if (y == 0 && std::abs(exact) < f.least) continue;
                const double error = ulp_distance(y, exact);
                if (error > worst) worst = error, worst_at = at;
            }
            const std::string text = std::string(f.name) + ", approximations " + std::to_string(wrong) + ": " + std::to_string(worst) +
                                     " ulp at " + std::to_string(worst_at);
            MESSAGE(text);
            CHECK_MESSAGE(worst <= f.bound, text);
        }
}

TEST_CASE("GPU mathematics: pow, and its special cases") {
    std::vector<float> base, power;
    const float inf = std::numeric_limits<float>::infinity();
    const float special[] = {0.0f,  -0.0f,  1.0f,       -1.0f,          2.0f,   -2.0f,   0.5f,    -0.5f,       3.0f,
                             -3.0f, inf,    -inf,       flexmath::kNan, 1e-40f, -1e-40f, 0x1p24f, 0x1p24f + 2, 16777215.0f,
                             1e30f, -1e30f, 0.9999999f, 1.0000001f,     2.5f,   -2.5f,   100.0f,  -101.0f};
    for (const float x : special)
        for (const float y : special) base.push_back(x), power.push_back(y);
    std::mt19937 random(2);
    for (int i = 0; i < 100000; i++) {
        base.push_back(std::bit_cast<float>(uint32_t(random() & 0x7fffffff)));
        if (std::isnan(base.back())) base.back() = 1.5f;
        const double limit = 150 / std::max(1e-6, std::abs(std::log2(double(base.back()))));
        power.push_back(float(std::uniform_real_distribution<double>(-limit, limit)(random)));
    }
    for (int i = 0; i < 20000; i++) {
        base.push_back(float(std::uniform_real_distribution<double>(-20, 20)(random)));
        power.push_back(float(int(random() % 41) - 20));
    }
    for (const int wrong : {-1, 0, 1}) {
        flexmath::wrong = wrong;
        double worst = 0;
        for (size_t i = 0; i < base.size(); i++) {
            const double exact = std::pow(double(base[i]), double(power[i]));
            const float y = flexmath::pow(base[i], power[i]);
            const double error = ulp_distance(y, exact);
            worst = std::max(worst, error);
            const bool right = error <= 1 && (y != 0 || exact != 0 || std::signbit(y) == std::signbit(exact));
            if (right) continue;
            CAPTURE(base[i]);
            CAPTURE(power[i]);
            CAPTURE(y);
            CAPTURE(exact);
            CHECK(right);
        }
        for (int b = -40; b <= 40; b++)
            for (double e = 1, exact = b; e <= 24 && std::abs(exact) <= 0x1p24; e++, exact *= b) {
                CHECK(flexmath::pow(float(b), float(e)) == float(exact));
                if (b == 0) break;
            }
        const std::string text = "pow, approximations " + std::to_string(wrong) + ": " + std::to_string(worst) + " ulp";
        MESSAGE(text);
    }
}

TEST_CASE("GPU mathematics: the default scale is 1 / sqrt(D) rounded once") {
    for (const int wrong : {-1, 0, 1}) {
        flexmath::wrong = wrong;
        for (int d = 1; d <= 256; d++) CHECK(flexmath::rsqrt(float(d)) == float(1 / std::sqrt(double(d))));
    }
}
