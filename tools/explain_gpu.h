// What `flexc explain` says of GPU kernels: which ones a shape and type choose, their tiles and shared memory, and, where ptxas is there to be asked, registers, spills and how many
// blocks a multiprocessor holds.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "driver/gpu_images.h"
#include "tools/cli.h"
#include "tools/report.h"

namespace flexc::tools {

struct GpuKernelFacts {
    std::string what;                   // "forward", "backward, dq", ...
    std::string symbol;                 // in the PTX; empty: it was not compiled
    int threads = 0, shared_bytes = 0;  // of a block
    // From ptxas; -1: not known.
    int registers = -1, spill_bytes = -1, stack_bytes = -1, blocks = -1;
};

/// The kernels of one target.
struct GpuTargetFacts {
    nvptx::Options target;
    const nvptx::Instance* forward = nullptr;           // null: none is large enough
    const nvptx::BackwardInstance* backward = nullptr;  // likewise, or the attention has no gradient
    std::vector<GpuKernelFacts> kernels;                // those that take the time
};

struct GpuExplanation {
    std::vector<std::string> unsupported;  // clauses; where there are any, nothing else is known
    std::vector<GpuTargetFacts> targets;
    std::string unknown;  // why registers are not known; empty: they are
};

/// `extents`: of a launch, if they are known; else D comes from --shape, or is 128, as `flexc build` has it. `ptxas`: empty to look for it, `none` not to ask.
[[nodiscard]] GpuExplanation explain_gpu(const ir::Attention& attention, const InputOptions& input, std::optional<flex::DType> dtype,
                                         const std::optional<std::vector<int32_t>>& extents, bool has_gradient,
                                         const std::filesystem::path& ptxas);

/// Blocks of a kernel that a multiprocessor of `target` ("sm_80") holds at once; 0 if it holds none, -1 for a target that is not known.
[[nodiscard]] int resident_blocks(std::string_view target, int threads, int registers, int shared_bytes);

[[nodiscard]] std::string gpu_page(const GpuExplanation& gpu);
/// Of the first target; the others stand in it under their names.
[[nodiscard]] Json gpu_page_json(const GpuExplanation& gpu);

}  // namespace flexc::tools
