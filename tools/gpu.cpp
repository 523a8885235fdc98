#include "tools/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <system_error>

namespace flexc::tools {
namespace {

constexpr const char* kEmulatedDriver = "libflexemu_cuda.so";

double milliseconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

size_t bytes_of(const flex::Tensor& tensor) {
    size_t count = flex::size_of(tensor.dtype);
    for (int i = 0; i < tensor.rank; ++i) count *= static_cast<size_t>(tensor.shape[static_cast<size_t>(i)]);
    return count;
}

/// A device's lack of memory is told in the driver's words: the host's has a sentence of its own.
void report_gpu(Session& session, const flex::Status& status) {
    if (status.code() == flex::Code::OutOfMemory)
        session.sink.report(diag::Kind::cannot_launch, {}, status.text());
    else
        report_status(session, status);
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

}  // namespace

std::filesystem::path emulated_driver() {
    std::error_code error;
    const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    if (error) return {};
    // In a build, then installed.
    for (const char* place :
         {"../lib", ".", "../lib/flexc", "../lib64/flexc", "../lib/x86_64-linux-gnu/flexc", "../lib/aarch64-linux-gnu/flexc"})
        if (auto path = folder / place / kEmulatedDriver; std::filesystem::exists(path, error)) return path.lexically_normal();
    return {};
}

std::unique_ptr<flex::CudaDevice> open_gpu(Session& session, const ExecuteOptions& options) {
    const bool emulated = options.device == "emulated";
    std::filesystem::path driver = options.driver;
    if (emulated && driver.empty()) {
        driver = emulated_driver();
        if (driver.empty()) driver = environment("FLEX_CUDA_DRIVER");
        if (driver.empty()) {
            session.sink.report(diag::Kind::no_device, {}, options.device)
                .note(fmt::format("`{}` is not beside flexc", kEmulatedDriver))
                .help("`./dev build` makes it; `--driver FILE` names one elsewhere");
            return nullptr;
        }
    }
    flex::Status status = driver.empty() ? flex::Status() : flex::use_cuda_driver(driver.string());
    std::unique_ptr<flex::CudaDevice> device;
    if (status.ok()) status = flex::CudaDevice::open(0, &device);
    if (status.ok() && emulated && !device->is_emulated())
        status =
            flex::Status(flex::Code::DeviceError, fmt::format("`{}` drives a real device: it is not {}", driver.string(), kEmulatedDriver));
    if (status.ok()) return device;
    report_gpu(session, status);
    return nullptr;
}

GpuRun::GpuRun(flex::CudaDevice& device, const flex::KernelDesc& desc, std::vector<nvptx::Image> images)
    : device_(device), images_(std::move(images)) {
    for (const nvptx::Image& image : images_) views_.push_back(image.view());
    std::vector<const flex_gpu_image*> list;
    for (const flex_gpu_image& view : views_) list.push_back(&view);
    kernel_.emplace(desc, list.data(), list.size());
}

GpuRun::~GpuRun() {
    for (void* each : memory_) (void)device_.free(each);
}

flex::Status GpuRun::upload(const flex::Tensor& host, flex::Tensor* out) {
    *out = host;
    const size_t bytes = bytes_of(host);
    void* memory = nullptr;
    if (flex::Status status = device_.allocate(bytes, &memory); !status.ok()) return status;
    memory_.push_back(memory);
    out->data = memory;
    return device_.to_device(memory, host.data, bytes);
}

bool GpuRun::prepare(Session& session, const Launch& launch, const Outputs& outputs, const flex::CudaOptions& options) {
    options_ = options;
    flex::Status status;
    const auto room = [&](const flex::Tensor& host, flex::Tensor* out) {
        *out = host;
        void* memory = nullptr;
        if (status.ok()) status = device_.allocate(bytes_of(host), &memory);
        if (status.ok()) memory_.push_back(out->data = memory);
    };
    for (const auto& [host, out] : {std::pair{&launch.q, &arrays_.q}, {&launch.k, &arrays_.k}, {&launch.v, &arrays_.v}})
        if (status.ok()) status = upload(*host, out);
    for (const flex::Argument& arg : launch.args) {
        args_.push_back(arg);  // a scalar stays on the host
        if (status.ok() && arg.value.rank > 0) status = upload(arg.value, &args_.back().value);
    }
    room(outputs.arrays.o, &arrays_.o);
    room(outputs.arrays.lse, &arrays_.lse);
    room(outputs.arrays.max_score, &arrays_.max_score);
    if (status.ok()) status = kernel_->plan(arrays_, args_, options_, &plan_);
    if (status.ok() && plan_.workspace_bytes > 0) {
        status = device_.allocate(plan_.workspace_bytes, &options_.workspace);
        options_.workspace_bytes = plan_.workspace_bytes;
        if (status.ok()) memory_.push_back(options_.workspace);
    }
    report_gpu(session, status);
    return status.ok();
}

std::optional<double> GpuRun::launch(Session& session) {
    const uint64_t before = device_.emulated_instructions();
    const auto ms = launch_many(session, 1);
    instructions_ = device_.emulated_instructions() - before;
    return ms;
}

std::optional<double> GpuRun::launch_many(Session& session, int n) {
    flex::Status status = device_.synchronise();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < n && status.ok(); ++i) status = kernel_->launch(arrays_, args_, options_);
    if (status.ok()) status = device_.synchronise();
    if (status.ok()) return milliseconds_since(begin) / n;
    report_gpu(session, status);
    return std::nullopt;
}

bool GpuRun::fetch(Session& session, const Outputs& outputs) {
    flex::Status status;
    for (const auto& [host, device] :
         {std::pair{&outputs.arrays.o, &arrays_.o}, {&outputs.arrays.lse, &arrays_.lse}, {&outputs.arrays.max_score, &arrays_.max_score}})
        if (status.ok()) status = device_.to_host(host->data, device->data, bytes_of(*host));
    report_gpu(session, status);
    return status.ok();
}

Json gpu_json(const flex::CudaDevice& device, const GpuRun& run) {
    const flex::CudaPlan& plan = run.plan();
    const int capability = device.compute_capability();
    Json out = {{"device_name", device.name()},
                {"compute_capability", fmt::format("{}.{}", capability / 10, capability % 10)},
                {"multiprocessors", device.multiprocessors()},
                {"image",
                 {{"target", plan.image->target},
                  {"tile", {plan.image->tile_q, plan.image->tile_k}},
                  {"head_dim", plan.image->head_dim},
                  {"v_head_dim", plan.image->v_head_dim},
                  {"threads", plan.image->forward.threads},
                  {"shared_bytes", plan.image->forward.shared_bytes},
                  {"tf32", plan.image->tf32 != 0}}},
                {"blocks", plan.blocks},
                {"pack", plan.pack},
                {"splits", plan.splits},
                {"workspace_bytes", plan.workspace_bytes}};
    if (device.is_emulated()) out["warp_instructions"] = run.instructions();
    return out;
}

std::string gpu_text(const flex::CudaDevice& device, const GpuRun& run) {
    const flex::CudaPlan& plan = run.plan();
    std::string text =
        fmt::format("{}, {} code in tiles of {}x{}", device.name(), plan.image->target, plan.image->tile_q, plan.image->tile_k);
    if (plan.splits > 1) text += fmt::format(", keys in {} splits", plan.splits);
    if (plan.pack > 1) text += fmt::format(", {} heads a tile", plan.pack);
    return text;
}

}  // namespace flexc::tools
