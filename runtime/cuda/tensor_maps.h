// Tensor maps of a launch: what runtime/gpu_abi.h says of flex_gpu_tensors, as the driver is asked for it (cuTensorMapEncodeTiled). The maps go into the
// kernel's parameter, so a captured launch keeps them; encoding one takes the driver well below a microsecond and calls nothing on the device.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/cuda/driver.h"
#include "runtime/cuda/plan.h"

namespace flex::cuda {

/// A map of a [B, heads, N, columns] array, dimensions innermost first; strides in bytes, of all dimensions but the first.
struct MapRequest {
    static constexpr size_t kRank = 4;
    int type = 0;  // CUtensorMapDataType
    uint64_t address = 0;
    std::array<uint64_t, kRank> extents{};
    std::array<uint64_t, kRank - 1> strides{};
    std::array<uint32_t, kRank> box{};
    int swizzle = 0;  // CUtensorMapSwizzle
};
struct MapRequests {
    MapRequest q, k, v, o;
};

/// Whether arrays like these can have maps, whatever the image.
[[nodiscard]] bool are_mappable(const AttentionArrays& arrays);

/// The maps of a plan whose image takes some. False where none can be made.
bool map_requests(const Problem& problem, const Plan& plan, MapRequests* out);

/// The second parameter of such an image's forward kernel. Where the driver refuses a map of these arrays, is_mapped is 0, as where none can be made.
Status make_tensors(const Driver& driver, const Problem& problem, const CudaOptions& options, const Plan& plan, flex_gpu_tensors* out);

}  // namespace flex::cuda
