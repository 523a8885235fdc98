// Launching an attention on an NVIDIA GPU. Needs no CUDA toolkit: the driver (libcuda.so.1, or the library that FLEX_CUDA_DRIVER names) is loaded
// when it is first asked for. C++17.
//
//   flex::CudaKernel kernel(desc, images, image_count);   // cheap; immutable; images must outlive it
//   flex::CudaOptions options;
//   options.stream = stream;                               // of the caller's context
//   size_t bytes = 0;
//   kernel.workspace(arrays, args, options, &bytes);       // often 0
//   options.workspace = ...; options.workspace_bytes = bytes;
//   flex::Status status = kernel.launch(arrays, args, options);
//
// The caller owns contexts, streams and memory. A launch uses the context that is current in the calling thread (the primary context of the CUDA runtime
// and of PyTorch is one), loads its module there once, allocates nothing, and only enqueues: it can be captured in a CUDA graph, which must not outlive the
// kernel. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/gpu_abi.h"
#include "runtime/launch.h"

namespace flex {

/// Which library serves as the driver, before FLEX_CUDA_DRIVER and libcuda.so.1: a path, such as that of libflexemu_cuda.so. To be called before
/// anything else here; InvalidArgument once another one is open.
Status use_cuda_driver(const std::string& path);

struct CudaOptions {
    void* stream = nullptr;     // a CUstream; null: the default stream
    void* workspace = nullptr;  // device memory, 16-byte aligned, that no other launch uses at the same time
    size_t workspace_bytes = 0;
    int splits = 0;                         // of the keys; 0: chosen from the shape and the number of multiprocessors
    int pack = 0;                           // query heads that share a tile; 0: chosen from the shape
    bool allow_tf32 = false;                // f32 arrays: take an image that rounds factors to tf32, if there is one
    const flex_gpu_image* image = nullptr;  // forward passes: this one of the kernel's images, to compare them; null: chosen
};

/// What a launch will do, for reports and tests.
struct CudaPlan {
    const flex_gpu_image* image = nullptr;
    int splits = 1, pack = 1;
    int64_t blocks = 0;   // of the main kernel; 0: nothing to launch
    bool mapped = false;  // copies go by tensor maps
    size_t workspace_bytes = 0;
};

struct CudaBackwardPlan {
    const flex_gpu_backward_image* image = nullptr;
    int64_t query_blocks = 0, key_blocks = 0;  // 0: nothing to launch
    size_t workspace_bytes = 0;
};

/// Bytes of device memory that a backward pass by this image needs, by shapes alone: with k and v of every batch, and every gradient wanted. `desc` is of an
/// attention with gradients.
Status backward_workspace_of(const KernelDesc& desc, const flex_gpu_backward_image& image, const BoundExtents& extents, size_t* bytes);

/// Kernels of one attention, for any number of devices and threads.
class CudaKernel {
public:
    /// `images` point to constant data that outlives this; `desc` is copied.
    CudaKernel(KernelDesc desc, const flex_gpu_image* const* images, size_t image_count,
               const flex_gpu_backward_image* const* backward_images = nullptr, size_t backward_image_count = 0);
    ~CudaKernel();
    CudaKernel(const CudaKernel&) = delete;
    CudaKernel& operator=(const CudaKernel&) = delete;

    [[nodiscard]] const KernelDesc& desc() const;

    /// The image, splits and workspace that a launch with these arrays and options takes. Loads nothing.
    Status plan(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options, CudaPlan* out) const;

    /// Bytes of device memory that `launch` needs with these arrays and options; 0 if none.
    Status workspace(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options, size_t* bytes) const;

    /// Enqueues the attention. Arrays and captured tensors are device memory with the shapes, types and strides of `AttentionArrays`; scalars are host
    /// memory, read before the call returns. InvalidArgument: what does not fit; Unsupported: no image serves this dtype, head
    /// dimension or device; OutOfMemory: the workspace is too small; DeviceError: what the driver said, with the name of its call.
    Status launch(const AttentionArrays& arrays, const std::vector<Argument>& args, const CudaOptions& options = {}) const;

    /// The same of the backward pass. `arrays` are those of the forward pass, with the o and lse that it left; `gradients` as in launch_cpu_backward, in
    /// device memory; gradients of captured tensors are f32, dense, and overwritten. Of the options, splits and pack mean nothing. Bit-identical
    /// from launch to launch, unless the only image that fits is an atomic one.
    Status plan_backward(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                         const CudaOptions& options, CudaBackwardPlan* out) const;
    Status backward_workspace(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                              const CudaOptions& options, size_t* bytes) const;
    Status launch_backward(const AttentionArrays& arrays, const GradientArrays& gradients, const std::vector<Argument>& args,
                           const CudaOptions& options = {}) const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// For programs that own no context yet, such as `flexc run`: a device, its primary context made current in this thread while the object lives.
class CudaDevice {
public:
    /// DeviceError with a sentence that says what is missing (no driver library, no device) and how to go on.
    static Status open(int ordinal, std::unique_ptr<CudaDevice>* out);
    ~CudaDevice();
    CudaDevice(const CudaDevice&) = delete;
    CudaDevice& operator=(const CudaDevice&) = delete;

    [[nodiscard]] const std::string& name() const;
    [[nodiscard]] int compute_capability() const;  // 80, 90, ...
    [[nodiscard]] int multiprocessors() const;
    [[nodiscard]] int shared_bytes_per_block() const;  // at most, with opt-in
    /// Whether libflexemu_cuda.so serves as the driver; and the warp instructions that it has executed in this process.
    [[nodiscard]] bool is_emulated() const;
    [[nodiscard]] uint64_t emulated_instructions() const;
    /// Blocks that it has finished; another thread may ask while a launch runs.
    [[nodiscard]] uint64_t emulated_blocks() const;

    Status allocate(size_t bytes, void** out);  // at least 256-byte aligned; `bytes` may be 0
    Status free(void* memory);
    Status to_device(void* to, const void* from, size_t bytes);  // waits
    Status to_host(void* to, const void* from, size_t bytes);    // waits for the default stream first
    Status synchronise();

private:
    CudaDevice();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace flex
