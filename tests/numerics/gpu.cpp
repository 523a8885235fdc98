#include "tests/numerics/gpu.h"

#include <algorithm>

#include "tests/numerics/buffers.h"

namespace numerics {

using flex::DType;
using flex::Status;
using flex::Tensor;
namespace nvptx = flexc::nvptx;

DeviceMemory::~DeviceMemory() {
    for (void* each : all_) (void)device_.free(each);
}

Status DeviceMemory::room(size_t bytes, void** out) {
    Status status = device_.allocate(bytes, out);
    if (status.ok()) all_.push_back(*out);
    return status;
}

Status DeviceMemory::copy(const std::vector<std::byte>& bytes, void** out) {
    Status status = room(bytes.size(), out);
    return status.ok() ? device_.to_device(*out, bytes.data(), bytes.size()) : status;
}

Status Placed::upload(DeviceMemory& memory) {
    Status status = memory.copy(host.bytes, &base);
    view.data = static_cast<std::byte*>(base) + host.origin();
    return status;
}

std::unique_ptr<Gpu> Gpu::open(const std::string& driver, std::string* error) {
    auto gpu = std::make_unique<Gpu>();
    const Status status = driver.empty() ? Status() : flex::use_cuda_driver(driver);
    if (!status.ok()) {
        *error = status.text();
        return nullptr;
    }
    return gpu->restart(error) ? std::move(gpu) : nullptr;
}

std::string Gpu::description() const {
    return device_->name() + ", compute capability " + std::to_string(device_->compute_capability() / 10) + "." +
           std::to_string(device_->compute_capability() % 10) + (device_->is_emulated() ? ", emulated" : "");
}

bool Gpu::restart(std::string* error) {
    device_.reset();
    const Status status = flex::CudaDevice::open(0, &device_);
    if (!status.ok()) *error = status.text();
    return status.ok();
}

struct GpuProgram::Compiled {
    DType type = DType::F32;
    bool short_queries = false, allow_tf32 = false;
    nvptx::Arch arch = nvptx::Arch::Sm80;
    nvptx::Image image;
    flex_gpu_image view{};
    std::unique_ptr<flex::CudaKernel> kernel;
};

GpuProgram::GpuProgram(const flexc::ir::Attention& attention, const flex::KernelDesc& desc) : attention_(attention), desc_(desc) {}
GpuProgram::~GpuProgram() = default;

GpuProgram::Compiled* GpuProgram::compiled(const GpuSettings& settings, DType type, const Shape& shape, std::string* error) {
    for (const auto& each : compiled_)
        if (each->type == type && each->short_queries == settings.short_queries && each->allow_tf32 == settings.allow_tf32 &&
            each->arch == settings.arch && each->image.head_dim >= shape.d && each->image.v_head_dim >= shape.dv)
            return each.get();
    nvptx::Options options;
    options.arch = settings.arch;
    options.dtype = type;
    options.head_dim = shape.d;
    options.v_head_dim = shape.dv;
    options.short_queries = settings.short_queries;
    options.allow_tf32 = settings.allow_tf32;
    if (!nvptx::choose(options)) options.short_queries = !options.short_queries;
    if (!nvptx::choose(options)) {
        *error =
            "no instance for " + std::string(flex::name(type)) + ", D = " + std::to_string(shape.d) + ", DV = " + std::to_string(shape.dv);
        return nullptr;
    }
    auto made = std::make_unique<Compiled>();
    made->type = type;
    made->short_queries = settings.short_queries;
    made->allow_tf32 = settings.allow_tf32;
    made->arch = settings.arch;
    nvptx::Timings timings;
    made->image = nvptx::compile(attention_, options, &timings);
    made->view = made->image.view();
    const flex_gpu_image* list[] = {&made->view};
    made->kernel = std::make_unique<flex::CudaKernel>(desc_, list, 1);
    compiled_.push_back(std::move(made));
    return compiled_.back().get();
}

Result GpuProgram::run(Gpu& gpu, const GpuSettings& settings, DType type, const Inputs& in, const std::vector<Captured>& captured,
                       Layout layout) {
    Result result;
    Compiled* code = compiled(settings, type, in.shape, &result.error);
    if (!code) return result;
    flex::CudaDevice& device = gpu.device();
    Arrays arrays(type, in, layout);
    Arguments arguments(captured);
    Status status;
    {
        DeviceMemory memory(device);
        Placed q(arrays.q), k(arrays.k), v(arrays.v), o(arrays.o), lse(arrays.lse), max_score(arrays.max_score);
        for (Placed* each : {&q, &k, &v, &o, &lse, &max_score})
            if (status.ok()) status = each->upload(memory);
        for (size_t i = 0; i < arguments.list.size(); ++i)
            if (Tensor& value = arguments.list[i].value; status.ok() && value.rank > 0)
                status = memory.copy(arguments.bytes[i], &value.data);

        const flex::AttentionArrays views{q.view, k.view, v.view, o.view, rows_view(lse.view), rows_view(max_score.view)};
        flex::CudaOptions options;
        options.splits = settings.splits;
        options.allow_tf32 = settings.allow_tf32;
        options.pack = settings.pack;
        if (settings.pack == kLargestPack) {
            const int group = in.shape.hkv > 0 ? in.shape.h / in.shape.hkv : 1;
            for (options.pack = std::min(group, code->view.max_pack); options.pack > 1 && group % options.pack != 0;) --options.pack;
        }
        if (status.ok()) status = code->kernel->workspace(views, arguments.list, options, &options.workspace_bytes);
        if (status.ok() && options.workspace_bytes > 0) status = memory.room(options.workspace_bytes, &options.workspace);
        if (status.ok()) status = code->kernel->launch(views, arguments.list, options);
        if (status.ok()) status = device.synchronise();
        for (Placed* each : {&o, &lse, &max_score})
            if (status.ok()) status = each->download(device);
    }
    if (!status.ok()) {
        result.error = status.text();
        std::string why;
        if (status.code() == flex::Code::DeviceError && !gpu.restart(&why)) result.error += "; and the device does not start again: " + why;
        return result;
    }
    result.o = arrays.o.values();
    result.lse = arrays.lse.values();
    result.max_score = arrays.max_score.values();
    return result;
}

}  // namespace numerics
