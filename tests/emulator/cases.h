// Programs whose kernels others' compilers made, with inputs and what must come out. A case is one launch or a few of one PTX file.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "tests/emulator/gpu.h"

namespace emulator_test {

struct Case {
    std::string name, file;        // file: without folder and .ptx
    std::string (*run)(Gpu& gpu);  // "" if all is right, else a fault or the first wrong number
    std::string mutated;           // name of the kernel for mutations; empty: not worth it
};
std::vector<Case> nvcc_cases();
std::vector<Case> hopper_cases();  // of nvcc, for sm_90a alone
std::vector<Case> product_cases();
std::vector<Case> triton_cases();

/// bfloat16, rounded to nearest even; for finite numbers.
struct BFloat {
    uint16_t bits = 0;
    BFloat() = default;
    explicit BFloat(float value) {
        uint32_t word;
        std::memcpy(&word, &value, sizeof word);
        bits = static_cast<uint16_t>((word + 0x7FFF + (word >> 16 & 1)) >> 16);
    }
    explicit operator float() const {
        uint32_t word = uint32_t{bits} << 16;
        float value;
        std::memcpy(&value, &word, sizeof value);
        return value;
    }
    explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

/// Numbers for inputs, the same everywhere.
class Numbers {
public:
    explicit Numbers(uint64_t seed) : engine_(seed) {}
    uint32_t bits() { return static_cast<uint32_t>(engine_()); }
    int below(int bound) { return static_cast<int>(engine_() % static_cast<uint64_t>(bound)); }
    float uniform(float low, float high) { return low + (high - low) * static_cast<float>(engine_() >> 40) * 0x1p-24f; }
    template <typename T = float>
    std::vector<T> uniforms(size_t count, float low = -1, float high = 1) {
        std::vector<T> values(count);
        for (T& each : values) each = T(uniform(low, high));
        return values;
    }
    std::vector<int> integers(size_t count, int bound) {
        std::vector<int> values(count);
        for (int& each : values) each = below(bound);
        return values;
    }

private:
    std::mt19937_64 engine_;
};

template <typename T>
std::string number_text(T value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
    return text;
}

/// The first element that differs by more than absolute + relative * |right|; NaN equals NaN.
template <typename T, typename U>
std::string compare(const std::string& what, const std::vector<T>& got, const std::vector<U>& right, double absolute = 0,
                    double relative = 0) {
    for (size_t i = 0; i < right.size(); ++i) {
        auto a = static_cast<double>(got[i]), b = static_cast<double>(right[i]);
        bool same = a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= absolute + relative * std::fabs(b);
        if (!same) return what + "[" + std::to_string(i) + "] is " + number_text(a) + ", must be " + number_text(b);
    }
    return "";
}

}  // namespace emulator_test
