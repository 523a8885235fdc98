// Non-owning view of a strided array: what users hand to a launch. C++17, no dependencies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace flex {

enum class DType : uint8_t { F32, F16, BF16, I32, I16, I8, U8, Bool };

[[nodiscard]] constexpr size_t size_of(DType type) {
    switch (type) {
        case DType::F32:
        case DType::I32: return 4;
        case DType::F16:
        case DType::BF16:
        case DType::I16: return 2;
        case DType::I8:
        case DType::U8:
        case DType::Bool: return 1;
    }
    return 0;
}
[[nodiscard]] const char* name(DType type);

inline constexpr int kMaxRank = 8;

/// A view: `data` points at element [0, 0, ...]; strides count elements and may be 0 or negative.
struct Tensor {
    void* data = nullptr;
    DType dtype = DType::F32;
    int rank = 0;
    std::array<int64_t, kMaxRank> shape{};
    std::array<int64_t, kMaxRank> stride{};

    [[nodiscard]] static Tensor contiguous(void* data, DType dtype, std::initializer_list<int64_t> shape);
};

}  // namespace flex
