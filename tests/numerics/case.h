// One test case of the gallery: the shape, what is captured, and the same variant in C++ for the oracle.
//
// The C++ side is written from the definition in the paper or in the gallery's list, on purpose in other terms than the .flex file
// (sets built by loops, positions kept from the generator), so that a slip in one is not repeated in the other.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "runtime/tensor.h"
#include "tests/numerics/oracle.h"

namespace numerics {

/// A captured array or scalar (empty shape) by the name of its parameter. Floats hold values that their type represents exactly.
struct Captured {
    std::string name;
    flex::DType dtype = flex::DType::F32;
    std::vector<int64_t> shape;
    std::vector<double> values;
};

struct Case {
    Shape shape;
    std::vector<Captured> captured;
    std::map<std::string, std::string> consts;  // values of `const` parameters
    Variant variant;
    bool inexact_constants = false;  // the program has constants that are not exact in f32
};

class Random {
public:
    explicit Random(uint32_t seed) : engine_(seed) {}
    /// In [lo, hi], both included.
    int integer(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(engine_); }
    bool chance(double p) { return std::bernoulli_distribution(p)(engine_); }
    double normal() { return std::normal_distribution<double>()(engine_); }
    /// A normal number that f32 represents exactly.
    double normal_f32() { return static_cast<double>(static_cast<float>(normal())); }

private:
    std::mt19937 engine_;
};

[[nodiscard]] inline Captured scalar(std::string name, int value) {
    return {std::move(name), flex::DType::I32, {}, {static_cast<double>(value)}};
}
[[nodiscard]] inline Captured scalar_f32(std::string name, float value) {
    return {std::move(name), flex::DType::F32, {}, {static_cast<double>(value)}};
}
[[nodiscard]] inline Captured scalar_bool(std::string name, bool value) {
    return {std::move(name), flex::DType::Bool, {}, {value ? 1.0 : 0.0}};
}
/// An integer or bool tensor from any container of integers.
template <class Values>
[[nodiscard]] Captured tensor(std::string name, flex::DType dtype, std::vector<int64_t> shape, const Values& values) {
    return {std::move(name), dtype, std::move(shape), std::vector<double>(values.begin(), values.end())};
}
[[nodiscard]] Captured random_floats(Random& random, std::string name, std::vector<int64_t> shape);

/// A gallery file and the two (or more) cases it is tested with.
struct GalleryTest {
    std::string file;  // without .flex
    std::function<Case(Random&, int which)> make;
    int cases = 2;
};

[[nodiscard]] std::vector<GalleryTest> mask_tests();
[[nodiscard]] std::vector<GalleryTest> score_tests();

}  // namespace numerics
