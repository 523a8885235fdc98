// The tile of a bulk tensor copy: which bytes of the tensor lie where in shared memory.
//
// A box begins at coordinates that may lie anywhere, also outside of the tensor, and takes ceil(box / element stride) elements in each dimension. In shared memory
// they lie densely, dimension 0 innermost. With a swizzle, the 16-byte chunks of each line are then permuted: the chunk's number within the span is xored with the number of
// the line, both taken from bits of the shared address, so the pattern repeats each 256, 512 or 1024 bytes of shared memory, wherever the tile begins.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "emulator/tensor_map.h"

namespace flexemu {

/// A run of bytes of a tile.
struct TileRun {
    uint64_t global = 0;  // address; of no meaning outside of the tensor
    uint32_t shared = 0;  // from the start of the tile, before the swizzle
    uint32_t bytes = 0;
    bool is_inside = false;
};

inline constexpr uint32_t kSwizzleChunk = 16;

/// What is wrong with a map, in words: the driver makes none of which this says anything, kernels may. Empty: nothing.
[[nodiscard]] std::string tensor_map_error(const TensorMap& map);
/// Elements that the box takes in a dimension.
[[nodiscard]] uint32_t tile_elements(const TensorMap& map, int dim);
/// Bytes of the tile in shared memory, those outside of the tensor included.
[[nodiscard]] uint32_t tile_bytes(const TensorMap& map);
/// The runs of a box, in the order of shared memory; neighbours that continue one another are one.
void tile_runs(const TensorMap& map, const int32_t* coordinates, std::vector<TileRun>* runs);
/// Where a byte of a tile lies.
[[nodiscard]] uint32_t swizzled(const TensorMap& map, uint32_t shared_address);
/// Bytes between repetitions of the pattern within a line: 128, 64 or 32; 0 without a swizzle.
[[nodiscard]] uint32_t swizzle_span(const TensorMap& map);

}  // namespace flexemu
