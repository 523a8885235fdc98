// Short ways to write the cases.
#pragma once

#include <cmath>
#include <limits>

#include "tests/language/cases.h"

namespace flexc::language {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The lse of every (q, k = the only one): a list of values, one a query, of an expression that is the score.
inline Case value(std::string section, std::string sentence, const std::string& expression, double expected, std::vector<Array> arrays = {},
                  const std::string& params = {}) {
    Case c;
    c.section = std::move(section);
    c.sentence = std::move(sentence);
    c.source = "attention t(" + params + ") { score = " + expression + "; }";
    c.arrays = std::move(arrays);
    c.expected = {{"lse", {0, 0, 0}, expected}};
    return c;
}

/// A condition that must hold.
inline Case truth(std::string section, std::string sentence, const std::string& condition, std::vector<Array> arrays = {},
                  const std::string& params = {}) {
    return value(std::move(section), std::move(sentence), "f32(" + condition + ")", 1, std::move(arrays), params);
}

/// Which keys a mask keeps for each query: rows of '1' and '.', checked through the uniform softmax of v[k] = 2^k.
inline Case mask_rows(std::string section, std::string sentence, std::string source, Shape shape, const std::vector<std::string>& rows,
                      std::vector<Array> arrays = {}, int32_t b = 0, int32_t h = 0) {
    Case c;
    c.section = std::move(section);
    c.sentence = std::move(sentence);
    c.source = std::move(source);
    c.shape = shape;
    c.arrays = std::move(arrays);
    Array v{"v", {shape.B, shape.HKV, shape.K, 1}, {}};
    for (int32_t i = 0; i < shape.B * shape.HKV; ++i)
        for (int32_t k = 0; k < shape.K; ++k) v.values.push_back(std::exp2(k));
    c.arrays.push_back(v);
    Array zero{
        "q", {shape.B, shape.H, shape.Q, shape.D}, std::vector<double>(static_cast<size_t>(shape.B * shape.H * shape.Q * shape.D), 0.0)};
    c.arrays.push_back(zero);
    for (int32_t q = 0; q < static_cast<int32_t>(rows.size()); ++q) {
        double sum = 0;
        int count = 0;
        for (size_t k = 0; k < rows[static_cast<size_t>(q)].size(); ++k)
            if (rows[static_cast<size_t>(q)][k] == '1') sum += std::exp2(static_cast<double>(k)), ++count;
        c.expected.push_back({"o", {b, h, q, 0}, count ? sum / count : 0});
        c.expected.push_back({"lse", {b, h, q}, std::log(static_cast<double>(count))});
    }
    return c;
}

inline Array scalar(std::string name, double v) {
    return {std::move(name), {}, {v}};
}
inline Array vector(std::string name, std::vector<double> v) {
    const auto n = static_cast<int32_t>(v.size());
    return {std::move(name), {n}, std::move(v)};
}

}  // namespace flexc::language
