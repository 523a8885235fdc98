// Where an attention runs, and an attention that a program has linked or compiled: one call for the CPU and for GPUs. C++17.
//
//   flex::Stream stream = flex::Stream::cpu();        // or flex::Stream::cuda(cu_stream)
//   flex::Status status = alibi_window::forward(stream, {q, k, v, o}, {slope, window});
//
// alibi_window::forward is made by `flexc build --emit=header` and calls flex::Kernel::forward. Nothing here throws; everything is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/launch.h"
#include "runtime/linked.h"

namespace flex {

/// A handle, cheap to copy; copies share the workspace.
class Stream {
public:
    /// The CPU: a launch returns when its outputs are written. `threads` 0: all that the process may use. `at_most` bounds the vector level.
    [[nodiscard]] static Stream cpu(int threads = 0, CpuLevel at_most = CpuLevel::Avx512Bf16) noexcept;

    /// A CUstream of the context that is current (null: its default stream). A launch only enqueues. Device memory for it is allocated when a launch
    /// needs more than any before, never while the stream is being captured, and is freed with the last copy of this handle.
    [[nodiscard]] static Stream cuda(void* stream) noexcept;
    /// The same with the caller's device memory, 16-byte aligned; nothing is allocated. The kernel's `workspace` tells how much is needed.
    [[nodiscard]] static Stream cuda(void* stream, void* workspace, size_t workspace_bytes) noexcept;

    [[nodiscard]] bool on_gpu() const noexcept { return on_gpu_; }
    /// Allocates now what launches will need, so that they can be captured in a CUDA graph. Only for streams that own their workspace.
    Status reserve(size_t bytes) const noexcept;

private:
    friend class Kernel;
    struct Workspace;
    Stream() = default;

    bool on_gpu_ = false;
    CpuLevel at_most_ = CpuLevel::Avx512Bf16;
    int threads_ = 0;
    CudaOptions cuda_;
    std::shared_ptr<Workspace> workspace_;  // null: the caller's
    bool owns_workspace_ = false;
};

/// A compiled attention for the CPU, for GPUs or for both. Copies share their state; immutable.
class Kernel {
public:
    /// No attention: launches say so.
    Kernel() noexcept = default;
    /// `code` and what it points to must live as long as the kernel and its copies; `owner` is kept with it for that.
    Kernel(const KernelDesc& desc, const flex_linked& code, std::shared_ptr<const void> owner = nullptr) noexcept;
    /// One whose code is part of the program, for headers that flexc makes: never destroyed, so that it can be used while the process ends.
    [[nodiscard]] static const Kernel* linked(const KernelDesc& (*desc)(), const flex_linked& code, uint64_t fingerprint) noexcept;

    /// Computes o, and lse and max_score where their `data` is given. Arrays are memory of the stream's device, as are captured tensors; scalars are
    /// host memory, read before the call returns. InvalidArgument: what does not fit, by name; Unsupported: nothing in the kernel serves
    /// this device, type or head dimension; OutOfMemory; DeviceError.
    Status forward(const Stream& stream, const AttentionArrays& arrays, const std::vector<Argument>& args) const noexcept;
    /// The same with one value a parameter, in their order.
    Status forward(const Stream& stream, const AttentionArrays& arrays, const Tensor* values, size_t count) const noexcept;

    /// Bytes of device memory that `forward` needs on this stream with these arrays: often 0, on the CPU always.
    Status workspace(const Stream& stream, const AttentionArrays& arrays, const std::vector<Argument>& args, size_t* bytes) const noexcept;
    Status workspace(const Stream& stream, const AttentionArrays& arrays, const Tensor* values, size_t count, size_t* bytes) const noexcept;

    /// The backward pass: arrays.o and arrays.lse hold what `forward` wrote; gradients as flex::GradientArrays says, in memory of the stream's device. On the
    /// CPU, gradients.d_params may leave parameters out. Unsupported: compiled without gradients (`flexc build --grad`, CompileOptions::gradients).
    Status backward(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients,
                    const std::vector<Argument>& args) const noexcept;
    /// Values and the gradients of `grad` parameters by their order among the parameters; gradients of the others, and those not wanted, have data = null.
    Status backward(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients, const Tensor* values,
                    const Tensor* d_values, size_t count) const noexcept;
    /// Bytes of device memory that `backward` needs; on the CPU 0.
    Status backward_workspace(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients,
                              const std::vector<Argument>& args, size_t* bytes) const noexcept;
    Status backward_workspace(const Stream& stream, const AttentionArrays& arrays, const GradientArrays& gradients, const Tensor* values,
                              const Tensor* d_values, size_t count, size_t* bytes) const noexcept;

    /// What a launch takes. Null for a kernel that holds no attention.
    [[nodiscard]] const KernelDesc* desc() const noexcept;

private:
    struct State;
    [[nodiscard]] Status missing() const;
    [[nodiscard]] Status lacks(const char* what) const;
    Status choose_level(const Stream& stream, const flex_cpu_kernel** out) const;
    template <class Measure, class Launch>
    Status launch_gpu(const Stream& stream, Measure measure, Launch launch) const;

    std::shared_ptr<const State> state_;
    Code fault_ = Code::InvalidArgument;  // why state_ is null
};

/// Scalars as arguments: views of rank 0, valid while `value` lives.
[[nodiscard]] inline Tensor scalar(const float& value) {
    return Tensor::contiguous(const_cast<float*>(&value), DType::F32, {});
}
[[nodiscard]] inline Tensor scalar(const int32_t& value) {
    return Tensor::contiguous(const_cast<int32_t*>(&value), DType::I32, {});
}
[[nodiscard]] inline Tensor scalar(const bool& value) {
    return Tensor::contiguous(const_cast<bool*>(&value), DType::Bool, {});
}
// A view of a temporary would dangle.
Tensor scalar(const float&&) = delete;
Tensor scalar(const int32_t&&) = delete;
Tensor scalar(const bool&&) = delete;

}  // namespace flex
