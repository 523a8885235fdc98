// An attention as images for GPUs: PTX for every target and type asked for, through the cache.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backend/nvptx/compile.h"
#include "driver/compiler.h"

namespace flexc {

/// What decides which of several images a launch takes (runtime/cuda/tuned.h).
struct LaunchShape {
    int64_t queries = 0, group = 1;  // Q, and query heads of a KV head
    bool mappable = false;           // rows of q, k, v and o are multiples of 16 bytes
    // Of the device.
    int compute_capability = 80, shared_per_block = 166912;
};

struct ImageOptions {
    std::vector<nvptx::Arch> archs = {nvptx::Arch::Sm80};
    std::vector<flex::DType> dtypes = {flex::DType::BF16};
    int head_dim = 128, v_head_dim = 128;  // the largest D and DV wanted
    bool allow_tf32 = false;
    bool atomic = false;   // of backward images
    std::string instance;  // of forward images: this one alone
    bool use_cache = true;
    std::filesystem::path cache_dir;      // empty: as for KernelOptions
    std::optional<LaunchShape> only_for;  // leaves out images that a launch of this shape will not take
};

/// The GPU target of this name; nothing for "cpu" and what does not exist.
[[nodiscard]] std::optional<nvptx::Arch> gpu_target(std::string_view name);
/// "the targets are `cpu`, ...", to help with one that does not exist.
[[nodiscard]] std::string known_targets();

/// The options with the instance that serves them. That of another architecture whose code runs there, where the own one has none or takes less captured.
/// Nothing after a report: a clause that the target lacks, more captured than a launch can pass, or a head dimension beyond its kernels.
[[nodiscard]] std::optional<nvptx::Options> resolve(Session& session, const ir::Attention& attention, const nvptx::Options& options);
/// Whether there is a backward pass, which passes more and has kernels of its own. False after a report.
[[nodiscard]] bool can_compile_backward(Session& session, const ir::Attention& attention, const nvptx::Options& options);

/// The instance that a launch of this shape takes, where images of all targets are there; of `options` the type and head dimensions are read. Null if none does.
[[nodiscard]] const nvptx::Instance* choose_for(const nvptx::Options& options, const LaunchShape& shape);

/// The image of one instance, as `resolve` gives it; of `options` the members about the cache are read. Clears Phases::cached if it is made anew.
[[nodiscard]] nvptx::Image compile_image(Session& session, const ir::Attention& attention, const nvptx::Options& target,
                                         const ImageOptions& options);

[[nodiscard]] nvptx::BackwardImage compile_backward_image(Session& session, const ir::Attention& attention, const nvptx::Options& target,
                                                          const ImageOptions& options);

/// For each type and architecture an image for long queries and, where there is one, another for short queries, none twice; or the one that `only_for` takes.
/// Nothing after a report.
[[nodiscard]] std::optional<std::vector<nvptx::Image>> compile_images(Session& session, const ir::Attention& attention,
                                                                      const ImageOptions& options);

/// For each type an image of the backward pass, which every architecture runs; `attention.gradient` must be set. Nothing after a report.
[[nodiscard]] std::optional<std::vector<nvptx::BackwardImage>> compile_backward_images(Session& session, const ir::Attention& attention,
                                                                                       const ImageOptions& options);

}  // namespace flexc
