// An attention on a GPU, or on the emulated one: finds the device, moves arrays there and back, launches. What `run` and `bench` share.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "tools/execute.h"

namespace flexc::tools {

[[nodiscard]] inline bool is_gpu(const std::string& device) {
    return device == "cuda" || device == "emulated";
}

/// libflexemu_cuda.so beside this program, as it is built and installed; empty if there is none.
[[nodiscard]] std::filesystem::path emulated_driver();

/// Opens the first device of the driver that `options` choose. Null after a report that says how to go on.
std::unique_ptr<flex::CudaDevice> open_gpu(Session& session, const ExecuteOptions& options);

/// The arrays of one launch on the device, and the kernel. Everything is freed with it.
class GpuRun {
public:
    GpuRun(flex::CudaDevice& device, const flex::KernelDesc& desc, std::vector<nvptx::Image> images);
    ~GpuRun();
    GpuRun(const GpuRun&) = delete;
    GpuRun& operator=(const GpuRun&) = delete;

    /// Copies the inputs and takes room for outputs and workspace. False after a report, here and below.
    bool prepare(Session& session, const Launch& launch, const Outputs& outputs, const flex::CudaOptions& options);
    /// One launch, and the wait for its end; milliseconds.
    std::optional<double> launch(Session& session);
    /// `n` launches one behind the other; milliseconds of one.
    std::optional<double> launch_many(Session& session, int n);
    bool fetch(Session& session, const Outputs& outputs);

    [[nodiscard]] const flex::CudaPlan& plan() const { return plan_; }
    /// Of the last `launch`; 0 on a real device.
    [[nodiscard]] uint64_t instructions() const { return instructions_; }

private:
    flex::Status upload(const flex::Tensor& host, flex::Tensor* out);

    flex::CudaDevice& device_;
    std::vector<nvptx::Image> images_;
    std::vector<flex_gpu_image> views_;  // of images_; the kernel points to them
    std::optional<flex::CudaKernel> kernel_;
    std::vector<void*> memory_;
    flex::AttentionArrays arrays_;
    std::vector<flex::Argument> args_;
    flex::CudaOptions options_;
    flex::CudaPlan plan_;
    uint64_t instructions_ = 0;
};

/// {"device_name": ..., "compute_capability": 90, "image": {...}, "splits": 1, ...}
[[nodiscard]] Json gpu_json(const flex::CudaDevice& device, const GpuRun& run);
/// "NVIDIA H200, sm_80 image of 128x64 tiles, 4 splits"
[[nodiscard]] std::string gpu_text(const flex::CudaDevice& device, const GpuRun& run);

}  // namespace flexc::tools
