#include "emulator/machine/tensor_tile.h"

#include <fmt/format.h>

#include <algorithm>

namespace flexemu {

std::string tensor_map_error(const TensorMap& map) {
    const auto element = static_cast<uint64_t>(tensor_map_element_bytes(map.type));
    if (element == 0) return fmt::format("there is no element type {}", map.type);
    if (map.interleave > 2 || map.swizzle > 3 || map.fill > 1) return "an unknown interleave, swizzle or fill mode";
    const bool is_interleaved = map.interleave != 0;
    const uint64_t unit = map.interleave == 2 ? 32 : 16;
    if (map.rank < (is_interleaved ? 3 : 1) || map.rank > TensorMap::kMaxRank) return fmt::format("a rank of {}", map.rank);
    if (map.address == 0 || map.address % unit != 0)
        return fmt::format("the tensor's address {:#x} is no multiple of {}", map.address, unit);
    for (int i = 0; i < map.rank; ++i) {
        if (map.box[i] == 0 || map.box[i] > 256) return fmt::format("box dimension {} is {}: it must be from 1 to 256", i, map.box[i]);
        if (map.element_strides[i] == 0 || map.element_strides[i] > 8)
            return fmt::format("element stride {} is {}: it must be from 1 to 8", i, map.element_strides[i]);
        if (i + 1 < map.rank && (map.strides[i] % unit != 0 || map.strides[i] >= uint64_t{1} << 40))
            return fmt::format("stride {} is {} bytes: it must be a multiple of {} below 2^40", i, map.strides[i], unit);
    }
    if (map.interleave == 2 && map.swizzle != 1) return "an interleave of 32 bytes goes with a swizzle of 32 bytes";
    const uint64_t row = map.box[0] * element;
    if (!is_interleaved && row % 16 != 0) return fmt::format("the box's rows of {} bytes are no multiple of 16", row);
    if (!is_interleaved && map.swizzle != 0 && row > swizzle_span(map))
        return fmt::format("the box's rows of {} bytes are longer than the swizzle's {}", row, swizzle_span(map));
    constexpr int kFirstFloat = 6;
    if (map.fill != 0 && map.type < kFirstFloat) return "integers cannot be filled with NaN";
    return {};
}

uint32_t tile_elements(const TensorMap& map, int dim) {
    // Dimension 0 has no stride.
    const uint32_t stride = dim == 0 ? 1U : std::max<uint32_t>(map.element_strides[dim], 1);
    return (map.box[dim] + stride - 1) / stride;
}

uint32_t tile_bytes(const TensorMap& map) {
    auto bytes = static_cast<uint32_t>(tensor_map_element_bytes(map.type));
    for (int dim = 0; dim < map.rank; ++dim) bytes *= tile_elements(map, dim);
    return bytes;
}

void tile_runs(const TensorMap& map, const int32_t* coordinates, std::vector<TileRun>* runs) {
    const auto element = static_cast<uint32_t>(tensor_map_element_bytes(map.type));
    uint32_t counts[TensorMap::kMaxRank] = {1, 1, 1, 1, 1}, at[TensorMap::kMaxRank] = {};
    for (int dim = 0; dim < map.rank; ++dim) counts[dim] = tile_elements(map, dim);
    // The same part of each row lies within the tensor.
    const auto row = static_cast<int64_t>(counts[0]), extent = static_cast<int64_t>(map.extent(0));
    const int64_t first = std::clamp<int64_t>(-int64_t{coordinates[0]}, 0, row);
    const int64_t last = std::clamp<int64_t>(extent - coordinates[0], first, row);
    uint32_t shared = 0;
    const auto add = [&](uint64_t global, int64_t elements, bool is_inside) {
        if (elements == 0) return;
        const uint32_t bytes = static_cast<uint32_t>(elements) * element;
        if (!runs->empty() && runs->back().is_inside == is_inside && (!is_inside || runs->back().global + runs->back().bytes == global)) {
            runs->back().bytes += bytes;
        } else {
            runs->push_back({global, shared, bytes, is_inside});
        }
        shared += bytes;
    };
    runs->clear();
    while (true) {
        bool is_inside = true;
        uint64_t global = map.address;
        for (int dim = 1; dim < map.rank; ++dim) {
            const int64_t place = int64_t{coordinates[dim]} + int64_t{at[dim]} * map.element_strides[dim];
            is_inside &= place >= 0 && place < static_cast<int64_t>(map.extent(dim));
            global += static_cast<uint64_t>(place) * map.strides[dim - 1];
        }
        if (is_inside) {
            add(0, first, false);
            add(global + static_cast<uint64_t>(coordinates[0] + first) * element, last - first, true);
            add(0, row - last, false);
        } else {
            add(0, row, false);
        }
        int dim = 1;
        while (dim < map.rank && ++at[dim] == counts[dim]) at[dim++] = 0;
        if (dim >= map.rank) return;
    }
}

uint32_t swizzle_span(const TensorMap& map) {
    constexpr uint32_t kSpans[] = {0, 32, 64, 128};
    return map.swizzle < 4 ? kSpans[map.swizzle] : 0;
}

uint32_t swizzled(const TensorMap& map, uint32_t shared_address) {
    const uint32_t span = swizzle_span(map);
    if (span == 0) return shared_address;
    const uint32_t chunks = span / kSwizzleChunk - 1;
    return shared_address ^ (shared_address >> 7 & chunks) << 4;
}

}  // namespace flexemu
