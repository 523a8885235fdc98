// The description of a compiled attention: plain data that says what a launch takes and how its shapes relate.
// The compiler writes it, the runtime checks every launch against it. The same for CPU and GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "runtime/tensor.h"

namespace flex {

/// One extent: multiplier * extents[extent] + offset, or the constant `offset` when extent < 0.
struct DimDesc {
    int32_t multiplier = 0;
    int32_t extent = -1;
    int64_t offset = 0;
};

/// Every read of a tensor has among its indices exactly b, exactly h (or hkv), exactly k: then different batches, heads or keys read different elements, and
/// their gradients need no common sum.
inline constexpr uint8_t kApartByBatch = 1, kApartByHead = 2, kApartByKey = 4;

struct ParamDesc {
    std::string name;
    bool is_tensor = false;
    DType dtype = DType::F32;   // scalars: F32, I32 or Bool
    std::vector<DimDesc> dims;  // tensors
    bool grad = false;
    bool has_default = false;
    uint32_t default_bits = 0;
    uint8_t apart = 0;  // of a `grad` tensor: a sum of kApartBy...
};

struct ExtentRule {
    DimDesc left, right;
    std::string reason;
};

struct KernelDesc {
    std::string name;
    std::vector<ParamDesc> params;
    std::vector<std::string> extents;  // the free extents; id = 7 + position. 0..6 are B H HKV Q K D DV
    std::vector<ExtentRule> rules;

    /// "N + 1", "2 * K", "128"
    [[nodiscard]] std::string dim_text(const DimDesc& dim) const;
};

}  // namespace flex
