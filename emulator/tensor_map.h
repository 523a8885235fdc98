// The 128 bytes that cuTensorMapEncodeTiled makes and bulk tensor copies read. The real layout is not public; this one is the emulator's own, and the
// driver that writes it and the machine that reads it both include it from here.
#pragma once

#include <cstdint>
#include <cstring>

namespace flexemu {

struct TensorMap {
    static constexpr uint32_t kMagic = 0x70614D54;  // "TMap"
    static constexpr int kMaxRank = 5;

    uint32_t magic = kMagic;
    uint8_t type = 0;  // a CUtensorMapDataType
    uint8_t rank = 0;
    uint8_t interleave = 0, swizzle = 0, promotion = 0, fill = 0;  // the enumerations of the driver API
    uint8_t reserved[6] = {};
    uint64_t address = 0;
    uint64_t strides[kMaxRank - 1] = {};  // bytes, of dimensions 1 and up; dimension 0 is dense
    uint32_t dims[kMaxRank] = {};         // less one: an extent may be 2^32
    uint16_t box[kMaxRank] = {};          // elements of the tile in each dimension, at most 256
    uint8_t element_strides[kMaxRank] = {};
    uint8_t padding[37] = {};

    [[nodiscard]] uint64_t extent(int dim) const { return uint64_t{dims[dim]} + 1; }
};
static_assert(sizeof(TensorMap) == 128);

/// Bytes of an element of a CUtensorMapDataType; 0 if there is no such type.
[[nodiscard]] constexpr int tensor_map_element_bytes(int type) {
    constexpr int kBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
    return type >= 0 && type < 13 ? kBytes[type] : 0;
}

/// False if the bytes are no tensor map.
[[nodiscard]] inline bool decode(const void* bytes, TensorMap* out) {
    std::memcpy(out, bytes, sizeof *out);
    return out->magic == TensorMap::kMagic && out->rank >= 1 && out->rank <= TensorMap::kMaxRank;
}

}  // namespace flexemu
