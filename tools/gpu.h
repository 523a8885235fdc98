// An attention on a GPU, or on the emulated one: finds the device, moves arrays there and back, launches. What `run` and `bench` share.
#pragma once

#include <filesystem>
#include <functional>
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
    GpuRun(flex::CudaDevice& device, const flex::KernelDesc& desc, std::vector<nvptx::Image> images,
           std::vector<nvptx::BackwardImage> backward_images = {});
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

    /// The same of the backward pass, after `prepare`. It reads o and lse as the last `launch` left them. `gradients` are arrays of the host: do, dlse and
    /// dmax_score are copied, dq, dk, dv and d_params only say what is wanted.
    bool prepare_backward(Session& session, const flex::GradientArrays& gradients);
    std::optional<double> launch_backward(Session& session);
    std::optional<double> launch_backward_many(Session& session, int n);
    bool fetch_gradients(Session& session, const flex::GradientArrays& gradients);

    /// How much of a launch that begins now is done, for a step of Progress; empty on a real device, which does not say.
    [[nodiscard]] std::function<double()> share(bool backward) const;

    [[nodiscard]] const flex::CudaPlan& plan() const { return plan_; }
    /// The name of the plan's kernel among those of the compiler.
    [[nodiscard]] const std::string& instance() const;
    [[nodiscard]] const flex::CudaBackwardPlan& backward_plan() const { return backward_plan_; }
    /// Warp instructions of one of the last launches, forward and backward; 0 on a real device.
    [[nodiscard]] uint64_t instructions() const { return instructions_; }
    [[nodiscard]] uint64_t backward_instructions() const { return backward_instructions_; }

private:
    flex::Status upload(const flex::Tensor& host, flex::Tensor* out);
    flex::Status room(const flex::Tensor& host, flex::Tensor* out);
    flex::Status take_workspace(size_t bytes, flex::CudaOptions* options);
    template <class Launch>
    std::optional<double> time(Session& session, int n, uint64_t* instructions, Launch launch);

    flex::CudaDevice& device_;
    std::vector<nvptx::Image> images_;
    std::vector<flex_gpu_image> views_;  // of images_; the kernel points to them
    std::vector<nvptx::BackwardImage> backward_images_;
    std::vector<flex_gpu_backward_image> backward_views_;
    std::optional<flex::CudaKernel> kernel_;
    std::vector<void*> memory_;
    flex::AttentionArrays arrays_;
    std::vector<flex::Argument> args_;
    flex::CudaOptions options_;
    flex::CudaPlan plan_;
    flex::GradientArrays gradients_;
    flex::CudaOptions backward_options_;
    flex::CudaBackwardPlan backward_plan_;
    uint64_t instructions_ = 0, backward_instructions_ = 0;
};

/// {"device_name": ..., "compute_capability": 90, "image": {...}, "splits": 1, ...}
[[nodiscard]] Json gpu_json(const flex::CudaDevice& device, const GpuRun& run);
/// "NVIDIA H200, sm_80 image of 128x64 tiles, 4 splits"
[[nodiscard]] std::string gpu_text(const flex::CudaDevice& device, const GpuRun& run);
/// Of the backward pass: {"image": {...}, "query_blocks": 8, ...}. The device is in gpu_json.
[[nodiscard]] Json backward_json(const flex::CudaDevice& device, const GpuRun& run);
/// "sm_80 code in tiles of 64x128, 65536 bytes of workspace"
[[nodiscard]] std::string backward_text(const GpuRun& run);

}  // namespace flexc::tools
