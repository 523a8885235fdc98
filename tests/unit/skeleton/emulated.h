// A skeleton's PTX on a device of the emulator, and elements to bytes and back.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "emulator/device.h"

namespace skeleton_test {

// The kernels' parameter is as long as the test variant's arguments need; the skeleton alone declares its bare struct.
inline std::string lengthen_parameters(std::string ptx, size_t bare, size_t more) {
    const std::string from = "_param_0[" + std::to_string(bare) + "]", to = "_param_0[" + std::to_string(bare + more) + "]";
    for (size_t at = 0; (at = ptx.find(from, at)) != std::string::npos; at += to.size()) ptx.replace(at, from.size(), to);
    return ptx;
}

inline std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

struct Loaded {
    flexemu::Device device;
    std::unique_ptr<flexemu::LoadedModule> module;
    std::string error;
    Loaded(const std::string& path, size_t bare, size_t more, bool sm90a = false)
        : Loaded(lengthen_parameters(text_of(path), bare, more), sm90a) {}
    explicit Loaded(const std::string& ptx, bool sm90a = false) : device(properties(sm90a)) { module = device.load(ptx, &error); }
    static flexemu::DeviceProperties properties(bool sm90a) {
        flexemu::DeviceProperties p;
        p.compute_capability = sm90a ? 90 : 80;
        p.max_shared_per_block = (sm90a ? 227 : 163) * 1024;
        return p;
    }
    [[nodiscard]] int32_t function(const std::string& name) const {
        const auto& functions = module->ptx().functions;
        for (size_t i = 0; i < functions.size(); i++)
            if (functions[i].name == name) return int32_t(i);
        return -1;
    }
};

inline std::vector<uint8_t> encode(const std::string& element, const std::vector<float>& x, int64_t rows, int columns, int64_t stride) {
    const size_t size = element == "F32" || element == "TF32" ? 4 : 2;
    std::vector<uint8_t> out(size_t(rows * stride) * size);
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < columns; i++) {
            const float value = x[size_t(r * columns + i)];
            uint8_t* at = &out[size_t(r * stride + i) * size];
            if (size == 4) {
                std::memcpy(at, &value, 4);
            } else if (element == "F16") {
                const auto half = static_cast<_Float16>(value);
                std::memcpy(at, &half, 2);
            } else {
                uint32_t bits;
                std::memcpy(&bits, &value, 4);
                const auto high = uint16_t(bits >> 16);
                std::memcpy(at, &high, 2);
            }
        }
    return out;
}

inline float decode(const std::string& element, const uint8_t* at) {
    float value;
    if (element == "F16") {
        _Float16 half;
        std::memcpy(&half, at, 2);
        return static_cast<float>(half);
    }
    if (element == "BF16") {
        uint16_t high;
        std::memcpy(&high, at, 2);
        const uint32_t bits = uint32_t(high) << 16;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    std::memcpy(&value, at, 4);
    return value;
}

}  // namespace skeleton_test
