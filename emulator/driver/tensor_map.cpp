// Tensor maps: the driver's checks of what bulk tensor copies may be told, and the descriptor.
#include "emulator/tensor_map.h"

#include "emulator/driver/call.h"
#include "emulator/machine/tensor_tile.h"

using namespace flexemu;

namespace {

/// What the numbers of the descriptor could not hold.
bool fits(int rank, const uint64_t* dims, const uint32_t* box, const uint32_t* element_strides) {
    for (int i = 0; i < rank; ++i)
        if (dims[i] == 0 || dims[i] > uint64_t{1} << 32 || box[i] > 256 || element_strides[i] > 8) return false;
    return true;
}

}  // namespace

extern "C" {

CUresult cuTensorMapEncodeTiled(CUtensorMap* out, CUtensorMapDataType type, uint32_t rank, void* address, const uint64_t* dims,
                                const uint64_t* strides, const uint32_t* box, const uint32_t* element_strides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
    FLEXEMU_CALL(Driver);
    if (driver.settings.device.compute_capability < 90) return CUDA_ERROR_NOT_SUPPORTED;
    if (!out || reinterpret_cast<uintptr_t>(out) % 64 || rank == 0 || rank > TensorMap::kMaxRank) return CUDA_ERROR_INVALID_VALUE;
    if (!dims || !box || !element_strides || (rank > 1 && !strides) || tensor_map_element_bytes(type) == 0) return CUDA_ERROR_INVALID_VALUE;
    if (interleave < CU_TENSOR_MAP_INTERLEAVE_NONE || interleave > CU_TENSOR_MAP_INTERLEAVE_32B) return CUDA_ERROR_INVALID_VALUE;
    if (swizzle < CU_TENSOR_MAP_SWIZZLE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B) return CUDA_ERROR_INVALID_VALUE;
    if (promotion < CU_TENSOR_MAP_L2_PROMOTION_NONE || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) return CUDA_ERROR_INVALID_VALUE;
    if (fill < CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || fill > CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA)
        return CUDA_ERROR_INVALID_VALUE;
    TensorMap map;
    map.type = static_cast<uint8_t>(type);
    map.rank = static_cast<uint8_t>(rank);
    map.interleave = static_cast<uint8_t>(interleave);
    map.swizzle = static_cast<uint8_t>(swizzle);
    map.promotion = static_cast<uint8_t>(promotion);
    map.fill = static_cast<uint8_t>(fill);
    map.address = reinterpret_cast<uint64_t>(address);
    if (!fits(map.rank, dims, box, element_strides)) return CUDA_ERROR_INVALID_VALUE;
    for (uint32_t i = 0; i < rank; ++i) {
        map.dims[i] = static_cast<uint32_t>(dims[i] - 1);
        map.box[i] = static_cast<uint16_t>(box[i]);
        map.element_strides[i] = static_cast<uint8_t>(element_strides[i]);
        if (i + 1 < rank) map.strides[i] = strides[i];
    }
    if (!tensor_map_error(map).empty()) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(out, &map, sizeof map);
    return CUDA_SUCCESS;
}

CUresult cuTensorMapReplaceAddress(CUtensorMap* out, void* address) {
    FLEXEMU_CALL(Driver);
    TensorMap map;
    if (!out || reinterpret_cast<uintptr_t>(out) % 64 || !address || !decode(out, &map)) return CUDA_ERROR_INVALID_VALUE;
    if (reinterpret_cast<uint64_t>(address) % (map.interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16)) return CUDA_ERROR_INVALID_VALUE;
    map.address = reinterpret_cast<uint64_t>(address);
    std::memcpy(out, &map, sizeof map);
    return CUDA_SUCCESS;
}
}
