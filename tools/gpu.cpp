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

GpuRun::GpuRun(flex::CudaDevice& device, const flex::KernelDesc& desc, std::vector<nvptx::Image> images,
               std::vector<nvptx::BackwardImage> backward_images)
    : device_(device), images_(std::move(images)), backward_images_(std::move(backward_images)) {
    for (const nvptx::Image& image : images_) views_.push_back(image.view());
    for (const nvptx::BackwardImage& image : backward_images_) backward_views_.push_back(image.view());
    std::vector<const flex_gpu_image*> list;
    for (const flex_gpu_image& view : views_) list.push_back(&view);
    std::vector<const flex_gpu_backward_image*> backward_list;
    for (const flex_gpu_backward_image& view : backward_views_) backward_list.push_back(&view);
    kernel_.emplace(desc, list.data(), list.size(), backward_list.data(), backward_list.size());
}

GpuRun::~GpuRun() {
    for (void* each : memory_) (void)device_.free(each);
}

flex::Status GpuRun::room(const flex::Tensor& host, flex::Tensor* out) {
    *out = host;
    void* memory = nullptr;
    if (flex::Status status = device_.allocate(bytes_of(host), &memory); !status.ok()) return status;
    memory_.push_back(out->data = memory);
    return {};
}

flex::Status GpuRun::upload(const flex::Tensor& host, flex::Tensor* out) {
    if (flex::Status status = room(host, out); !status.ok()) return status;
    return device_.to_device(out->data, host.data, bytes_of(host));
}

flex::Status GpuRun::take_workspace(size_t bytes, flex::CudaOptions* options) {
    if (bytes == 0) return {};
    flex::Status status = device_.allocate(bytes, &options->workspace);
    options->workspace_bytes = bytes;
    if (status.ok()) memory_.push_back(options->workspace);
    return status;
}

bool GpuRun::prepare(Session& session, const Launch& launch, const Outputs& outputs, const flex::CudaOptions& options) {
    options_ = options;
    flex::Status status;
    for (const auto& [host, out] : {std::pair{&launch.q, &arrays_.q}, {&launch.k, &arrays_.k}, {&launch.v, &arrays_.v}})
        if (status.ok()) status = upload(*host, out);
    for (const flex::Argument& arg : launch.args) {
        args_.push_back(arg);  // a scalar stays on the host
        if (status.ok() && arg.value.rank > 0) status = upload(arg.value, &args_.back().value);
    }
    for (const auto& [host, out] :
         {std::pair{&outputs.arrays.o, &arrays_.o}, {&outputs.arrays.lse, &arrays_.lse}, {&outputs.arrays.max_score, &arrays_.max_score}})
        if (status.ok()) status = room(*host, out);
    if (status.ok()) status = kernel_->plan(arrays_, args_, options_, &plan_);
    if (status.ok()) status = take_workspace(plan_.workspace_bytes, &options_);
    report_gpu(session, status);
    return status.ok();
}

bool GpuRun::prepare_backward(Session& session, const flex::GradientArrays& gradients) {
    backward_options_.allow_tf32 = options_.allow_tf32;
    flex::Status status = upload(gradients.d_o, &gradients_.d_o);
    for (const auto& [host, out] : {std::pair{&gradients.d_lse, &gradients_.d_lse}, {&gradients.d_max_score, &gradients_.d_max_score}})
        if (status.ok() && host->data) status = upload(*host, out);
    for (const auto& [host, out] :
         {std::pair{&gradients.dq, &gradients_.dq}, {&gradients.dk, &gradients_.dk}, {&gradients.dv, &gradients_.dv}})
        if (status.ok()) status = room(*host, out);
    for (const flex::Argument& each : gradients.d_params) {
        gradients_.d_params.push_back(each);
        if (status.ok()) status = room(each.value, &gradients_.d_params.back().value);
    }
    if (status.ok()) status = kernel_->plan_backward(arrays_, gradients_, args_, backward_options_, &backward_plan_);
    if (status.ok()) status = take_workspace(backward_plan_.workspace_bytes, &backward_options_);
    report_gpu(session, status);
    return status.ok();
}

/// Milliseconds of one of `n` launches one behind the other.
template <class Launch>
std::optional<double> GpuRun::time(Session& session, int n, uint64_t* instructions, Launch launch) {
    flex::Status status = device_.synchronise();
    const uint64_t before = device_.emulated_instructions();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < n && status.ok(); ++i) status = launch();
    if (status.ok()) status = device_.synchronise();
    const double ms = milliseconds_since(begin) / n;
    *instructions = (device_.emulated_instructions() - before) / static_cast<uint64_t>(n);
    if (status.ok()) return ms;
    report_gpu(session, status);
    return std::nullopt;
}

std::optional<double> GpuRun::launch(Session& session) {
    return launch_many(session, 1);
}

std::optional<double> GpuRun::launch_many(Session& session, int n) {
    return time(session, n, &instructions_, [&] { return kernel_->launch(arrays_, args_, options_); });
}

std::optional<double> GpuRun::launch_backward(Session& session) {
    return launch_backward_many(session, 1);
}

std::optional<double> GpuRun::launch_backward_many(Session& session, int n) {
    return time(session, n, &backward_instructions_,
                [&] { return kernel_->launch_backward(arrays_, gradients_, args_, backward_options_); });
}

std::function<double()> GpuRun::share(bool backward) const {
    const int64_t blocks = backward ? backward_plan_.query_blocks + backward_plan_.key_blocks : plan_.blocks;
    if (!device_.is_emulated() || blocks <= 0) return {};
    return [this, blocks, before = device_.emulated_blocks()] {
        return static_cast<double>(device_.emulated_blocks() - before) / static_cast<double>(blocks);
    };
}

bool GpuRun::fetch(Session& session, const Outputs& outputs) {
    flex::Status status;
    for (const auto& [host, device] :
         {std::pair{&outputs.arrays.o, &arrays_.o}, {&outputs.arrays.lse, &arrays_.lse}, {&outputs.arrays.max_score, &arrays_.max_score}})
        if (status.ok()) status = device_.to_host(host->data, device->data, bytes_of(*host));
    report_gpu(session, status);
    return status.ok();
}

bool GpuRun::fetch_gradients(Session& session, const flex::GradientArrays& gradients) {
    flex::Status status;
    for (const auto& [host, device] :
         {std::pair{&gradients.dq, &gradients_.dq}, {&gradients.dk, &gradients_.dk}, {&gradients.dv, &gradients_.dv}})
        if (status.ok()) status = device_.to_host(host->data, device->data, bytes_of(*host));
    for (size_t i = 0; i < gradients.d_params.size() && status.ok(); ++i) {
        const flex::Tensor& host = gradients.d_params[i].value;
        status = device_.to_host(host.data, gradients_.d_params[i].value.data, bytes_of(host));
    }
    report_gpu(session, status);
    return status.ok();
}

const std::string& GpuRun::instance() const {
    return images_[static_cast<size_t>(plan_.image - views_.data())].instance;
}

Json gpu_json(const flex::CudaDevice& device, const GpuRun& run) {
    const flex::CudaPlan& plan = run.plan();
    const int capability = device.compute_capability();
    Json out = {{"device_name", device.name()},
                {"compute_capability", fmt::format("{}.{}", capability / 10, capability % 10)},
                {"multiprocessors", device.multiprocessors()},
                {"image",
                 {{"target", plan.image->target},
                  {"instance", run.instance()},
                  {"tile", {plan.image->tile_q, plan.image->tile_k}},
                  {"head_dim", plan.image->head_dim},
                  {"v_head_dim", plan.image->v_head_dim},
                  {"mapped", plan.mapped},
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

Json backward_json(const flex::CudaDevice& device, const GpuRun& run) {
    const flex::CudaBackwardPlan& plan = run.backward_plan();
    Json out = {{"image",
                 {{"target", plan.image->target},
                  {"tile", {plan.image->tile_q, plan.image->tile_k}},
                  {"head_dim", plan.image->head_dim},
                  {"v_head_dim", plan.image->v_head_dim},
                  {"query_threads", plan.image->queries.threads},
                  {"query_shared_bytes", plan.image->queries.shared_bytes},
                  {"key_threads", plan.image->keys.threads},
                  {"key_shared_bytes", plan.image->keys.shared_bytes},
                  {"tf32", plan.image->tf32 != 0},
                  {"atomic", plan.image->atomic != 0}}},
                {"query_blocks", plan.query_blocks},
                {"key_blocks", plan.key_blocks},
                {"workspace_bytes", plan.workspace_bytes}};
    if (device.is_emulated()) out["warp_instructions"] = run.backward_instructions();
    return out;
}

std::string backward_text(const GpuRun& run) {
    const flex::CudaBackwardPlan& plan = run.backward_plan();
    return fmt::format("{} code in tiles of {}x{}{}, {} bytes of workspace", plan.image->target, plan.image->tile_q, plan.image->tile_k,
                       plan.image->atomic ? ", sums by atomics" : "", plan.workspace_bytes);
}

}  // namespace flexc::tools
