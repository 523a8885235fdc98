// Which of several images that fit a launch is taken: a small table, in order of preference, one line a kind of image and of launch. tuned.cpp has it, with
// the reason of each line, and tuned.def its numbers, which a sweep on a GPU can rewrite: CudaOptions::image and `flexc bench --instance NAME` force one kernel.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/gpu_abi.h"

namespace flex::cuda {

/// What the choice of an image looks at.
struct LaunchFacts {
    int64_t queries = 0, group = 1;  // Q, and query heads of a KV head
    bool mappable = false;           // tensor maps of q, k, v and o can be made (tensor_maps.h)
    bool allow_tf32 = false;
};

/// The largest number of query heads that can share a tile of this image, of a group.
[[nodiscard]] int largest_pack(const flex_gpu_image& image, int64_t group);

/// The smaller, the better; compared member by member.
using Rank = std::array<int64_t, 5>;
[[nodiscard]] Rank rank_of(const flex_gpu_image& image, const LaunchFacts& launch);

}  // namespace flex::cuda
