// An attention as images for GPUs: PTX for every target and type asked for, through the cache.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backend/nvptx/compile.h"
#include "driver/compiler.h"

namespace flexc {

/// What decides between the images for long and for short queries (flex::cuda::choose_image).
struct LaunchShape {
    int64_t queries = 0, group = 1;  // Q, and query heads of a KV head
    int shared_per_block = 0;        // what the device has
};

struct ImageOptions {
    nvptx::Arch arch = nvptx::Arch::Sm80;
    std::vector<flex::DType> dtypes = {flex::DType::BF16};
    int head_dim = 128, v_head_dim = 128;  // the largest D and DV wanted
    bool allow_tf32 = false;
    bool atomic = false;  // of backward images
    bool use_cache = true;
    std::filesystem::path cache_dir;      // empty: as for KernelOptions
    std::optional<LaunchShape> only_for;  // leaves out images that a launch of this shape will not take
};

/// The GPU target of this name; nothing for "cpu" and what does not exist.
[[nodiscard]] std::optional<nvptx::Arch> gpu_target(std::string_view name);

/// False after a report: a clause that the target lacks, more captured than a launch can pass, or a head dimension beyond its kernels.
[[nodiscard]] bool can_compile(Session& session, const ir::Attention& attention, const nvptx::Options& options);
/// The same of the backward pass, which passes more and has kernels of its own.
[[nodiscard]] bool can_compile_backward(Session& session, const ir::Attention& attention, const nvptx::Options& options);

/// The image of one instance, where can_compile has said so; of `options` the members about the cache are read. Clears Phases::cached if it is made anew.
[[nodiscard]] nvptx::Image compile_image(Session& session, const ir::Attention& attention, const nvptx::Options& target,
                                         const ImageOptions& options);

[[nodiscard]] nvptx::BackwardImage compile_backward_image(Session& session, const ir::Attention& attention, const nvptx::Options& target,
                                                          const ImageOptions& options);

/// For each type an image for long queries and, where the target has one, another for short queries; or what `only_for` needs of them. Nothing after a report.
[[nodiscard]] std::optional<std::vector<nvptx::Image>> compile_images(Session& session, const ir::Attention& attention,
                                                                      const ImageOptions& options);

/// For each type an image of the backward pass; `attention.gradient` must be set. Nothing after a report.
[[nodiscard]] std::optional<std::vector<nvptx::BackwardImage>> compile_backward_images(Session& session, const ir::Attention& attention,
                                                                                       const ImageOptions& options);

}  // namespace flexc
