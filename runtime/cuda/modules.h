// The modules of one CudaKernel: loaded when a context first launches it, kept per context, shared by all threads.
//
// A context is known by its address and its id (cuCtxGetId): when one is destroyed and another begins at the same address, what was loaded into the
// first is forgotten, as it went with it. Drivers before CUDA 12 give no id; with those a kernel must not outlive a context it was launched in.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/cuda/driver.h"
#include "runtime/cuda/plan.h"
#include "runtime/gpu_abi.h"

namespace flex::cuda {

/// An image as far as loading it goes: its address, by which it is known again, and its kernels in any order.
struct ModuleSource {
    static constexpr size_t kMostKernels = 6;
    const void* image = nullptr;
    const char* code = nullptr;
    std::array<const flex_gpu_kernel*, kMostKernels> kernels{};  // null: no more
};
[[nodiscard]] inline ModuleSource source_of(const flex_gpu_image& image) {
    return {&image, image.code, {&image.summarise, &image.forward, &image.combine}};
}
[[nodiscard]] inline ModuleSource source_of(const flex_gpu_backward_image& image) {
    return {&image, image.code, {&image.summarise, &image.rows, &image.queries, &image.keys, &image.scale, &image.finish}};
}

struct LoadedImage {
    const void* image = nullptr;
    Module module = nullptr;
    std::array<Function, ModuleSource::kMostKernels> functions{};  // of the source's kernels; null where the image has none
};

class Modules {
public:
    Modules() = default;
    /// Unloads from the contexts that still live, where the driver can tell.
    ~Modules();
    Modules(const Modules&) = delete;
    Modules& operator=(const Modules&) = delete;

    /// Properties of the current context's device.
    Status device(const Driver& driver, DeviceFacts* out);
    /// The image's functions in the current context. `out` stays valid while this and the context live.
    Status load(const Driver& driver, const ModuleSource& source, const LoadedImage** out);

private:
    struct PerContext {
        Context context = nullptr;
        unsigned long long id = 0;
        DeviceFacts facts;
        std::vector<std::unique_ptr<LoadedImage>> images;
    };
    /// Called with the mutex held.
    Status current(const Driver& driver, PerContext** out);

    std::mutex mutex_;
    const Driver* driver_ = nullptr;
    std::vector<std::unique_ptr<PerContext>> contexts_;
};

/// Properties of a device; `driver` must have been initialised.
Status read_facts(const Driver& driver, Device device, DeviceFacts* out);

}  // namespace flex::cuda
