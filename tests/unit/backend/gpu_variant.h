// The hooks of a variant as PTX, on the emulated device, through the probe skeleton (probe.cpp).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "backend/nvptx/compile.h"
#include "variant.h"

namespace flexc::test {

/// The probe as an instance, with the element type and tile that a test does not look at.
const nvptx::Instance& probe();

struct GpuHooks {
    std::vector<float> score, mask;  // [B, H, Q, K]
    std::vector<float> scale;        // [B, H, Q]
    uint32_t properties = 0;
    std::vector<int32_t> states;
    std::string fault;  // not empty: the emulator objected
};
/// b, h, and the inclusive ends of a tile.
struct Tile {
    int32_t b, h, q_lo, q_hi, k_lo, k_hi;
};

/// Runs the hooks at all points with these raw scores (none: at no point), and the tile state of each tile. Captured tensors are read where they lie: the device knows
/// their elements and nothing beside.
GpuHooks run_on_gpu(const Variant& variant, const std::vector<float>& raw, const std::vector<Tile>& tiles = {});

/// The backward probe (gradient_probe.cpp).
const nvptx::BackwardInstance& gradient_probe();

struct GpuGradients {
    static constexpr size_t kBounds = 8;       // a row: kMostGradients of backend/skeletons/nvptx/hooks.h
    std::vector<float> derivative;             // [B, H, Q, K]
    std::vector<float> bounds;                 // [B, H, Q, kBounds]
    std::vector<std::vector<float>> d_params;  // by parameter
    std::vector<int32_t> kinds;                // of the summed reads; 0: there are fewer
    bool scatters = false;
    std::string fault;
};
/// The gradient hooks at all points, [B, H, Q, K] each; d_scale [B, H, Q].
GpuGradients run_gradients_on_gpu(const Variant& variant, const std::vector<float>& score, const std::vector<float>& ds,
                                  const std::vector<float>& d_scale);

}  // namespace flexc::test
