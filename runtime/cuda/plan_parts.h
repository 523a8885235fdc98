// What the plans of forward and backward passes share: the choice of an image, summaries, and the parts of the kernels' parameter. For plan.cpp and
// backward_plan.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "runtime/cuda/plan.h"

namespace flex::cuda {

inline constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
inline constexpr int64_t kMaxGridSide = 65535;           // of y and z
inline constexpr int64_t kMapRows = 64;                  // of a box of the maps of q and o (runtime/gpu_abi.h)
inline constexpr int64_t kMostWords = int64_t{1} << 58;  // of a workspace: no product of its extents leaves 63 bits

inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
/// Where a part of the workspace may begin.
inline size_t align_up(size_t n) {
    constexpr size_t kSectionAlignment = 256;
    return (n + kSectionAlignment - 1) / kSectionAlignment * kSectionAlignment;
}
inline Status unsupported(std::string text) {
    return Status(Code::Unsupported, std::move(text));
}

inline int capability_of(const char* target) {
    Target parsed;
    parse_target(target, &parsed);
    return parsed.capability;
}

/// The image of the lowest rank among those that fit the problem and the device; Unsupported, in words, if there is none. `subject` and `none` begin the
/// sentence: "`x` was compiled for ...", "`x` was not compiled for ...".
template <class Image, class SharedBytes, class Rank>
Status choose_fitting(const Problem& problem, const DeviceFacts& device, const std::string& subject, const std::string& none,
                      const Image* const* images, size_t count, SharedBytes shared_bytes, Rank rank, const Image** out) {
    using Images = std::vector<const Image*>;
    const DType type = problem.arrays.q.dtype;
    const int64_t d = problem.head_dim(), dv = problem.v_head_dim();
    Images list(images, images + count);
    // "sm_80, sm_90a": the different values.
    const auto each = [&](auto value) {
        std::vector<std::string> seen;
        std::string text;
        for (const Image* image : list) {
            std::string one = value(*image);
            if (std::find(seen.begin(), seen.end(), one) != seen.end()) continue;
            text += (text.empty() ? "" : ", ") + one;
            seen.push_back(std::move(one));
        }
        return text;
    };
    const auto limit = [&](int32_t Image::* dim, const char* extent, const char* array, int64_t value) {
        int32_t largest = 0;
        for (const Image* image : list) largest = std::max(largest, image->*dim);
        return "was compiled for head dimensions up to " + std::to_string(largest) + " with " + name(type) + ", and `" + array + "` has " +
               extent + " = " + std::to_string(value);
    };
    // A condition on images, and what to say if none meets it.
    const std::pair<std::function<bool(const Image&)>, std::function<std::string()>> conditions[] = {
        {[](const Image& image) { return image.abi_version == FLEX_GPU_ABI_VERSION; },
         [&] {
             return "was compiled for the GPU ABI " + std::to_string(list.front()->abi_version) + ", this runtime has " +
                    std::to_string(FLEX_GPU_ABI_VERSION);
         }},
        {[&](const Image& image) {
             Target target;
             return parse_target(image.target, &target) && runs_on(target, device.compute_capability);
         },
         [&] {
             return "was compiled for " + each([](const Image& image) { return std::string(image.target); }) + ", and the device is sm_" +
                    std::to_string(device.compute_capability);
         }},
        {[&](const Image& image) { return device.has_tensor_maps || !takes_maps(image); },
         [&] {
             return "was compiled for " + each([](const Image& image) { return std::string(image.target); }) +
                    " alone, which takes a driver of CUDA 12.0 or later: this one has no cuTensorMapEncodeTiled";
         }},
        {[&](const Image& image) { return image.dtype == static_cast<int32_t>(type); },
         [&] {
             return "was compiled for " + each([](const Image& image) { return std::string(name(static_cast<DType>(image.dtype))); }) +
                    " on GPUs, and `q` is " + name(type);
         }},
        {[&](const Image& image) { return image.head_dim >= d; }, [&] { return limit(&Image::head_dim, "D", "q", d); }},
        {[&](const Image& image) { return image.v_head_dim >= dv; }, [&] { return limit(&Image::v_head_dim, "DV", "v", dv); }},
        {[&](const Image& image) { return shared_bytes(image) <= device.shared_per_block; },
         [&] {
             return "needs " + each([&](const Image& image) { return std::to_string(shared_bytes(image)); }) +
                    " bytes of shared memory a block for D = " + std::to_string(d) + " and DV = " + std::to_string(dv) +
                    ", and the device has " + std::to_string(device.shared_per_block);
         }},
    };
    if (list.empty()) return unsupported(none);
    for (const auto& [holds, reason] : conditions) {
        Images kept;
        for (const Image* image : list)
            if (holds(*image)) kept.push_back(image);
        if (kept.empty()) return unsupported(subject + " " + reason());
        list = std::move(kept);
    }
    *out = *std::min_element(list.begin(), list.end(), [&](const Image* a, const Image* b) { return rank(*a) < rank(*b); });
    return {};
}

/// Of `count` values with these flags, by a kernel of `threads` threads a block. Nothing without keys.
Status plan_summaries(const Problem& problem, const int32_t* flags, int32_t count, int32_t threads, SummaryPlan* out);

/// Whether every row of [B, H, N, D] begins at a multiple of 16 bytes and is one long.
[[nodiscard]] bool rows_are_aligned(const Tensor& t);
/// Of [B, heads, rows, columns] and, for statistics, [B, H, Q]; one without data is all zero.
[[nodiscard]] flex_gpu_view view_of(const Tensor& t);
/// q, k, v, o, lse and max_score, neither packed nor split.
[[nodiscard]] flex_gpu_launch launch_of(const Problem& problem);

/// The kernels' parameter with all but what is in the first place and the gradients. Unsupported if `bytes`, of all parameters together, are more than a
/// kernel takes.
Status make_captured(const Problem& problem, const CudaOptions& options, const SummaryPlan& summaries, const GpuLayout& at, size_t bytes,
                     std::vector<unsigned char>* out);

inline void put(std::vector<unsigned char>* block, size_t offset, const void* from, size_t bytes) {
    if (bytes) std::memcpy(block->data() + offset, from, bytes);
}

/// That an array begins at a multiple of its element's size.
Status check_alignment(const char* what, const Tensor& t);

}  // namespace flex::cuda
