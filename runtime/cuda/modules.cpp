#include "runtime/cuda/modules.h"

#include <array>
#include <string>

namespace flex::cuda {
namespace {

/// While it lives, this thread may load modules although a stream is being captured: loading is no part of the capture.
class RelaxedCapture {
public:
    explicit RelaxedCapture(const Driver& driver) : exchange_(driver.exchange_capture_mode) {
        if (exchange_ && exchange_(&mode_) != kSuccess) exchange_ = nullptr;
    }
    ~RelaxedCapture() {
        if (exchange_) exchange_(&mode_);
    }
    RelaxedCapture(const RelaxedCapture&) = delete;
    RelaxedCapture& operator=(const RelaxedCapture&) = delete;

private:
    int (*exchange_)(int*);
    int mode_ = kCaptureRelaxed;
};

Status find_function(const Driver& driver, Module module, const flex_gpu_kernel& kernel, Function* out) {
    constexpr int kWithoutOptIn = 48 << 10;
    if (!is_given(kernel)) return {};
    if (Status status = driver.check(driver.module_get_function(out, module, kernel.symbol), "cuModuleGetFunction"); !status.ok())
        return Status(status.code(), status.text() + ": `" + kernel.symbol + "`");
    if (kernel.shared_bytes <= kWithoutOptIn) return {};
    return driver.check(driver.function_set_attribute(*out, kMaxDynamicSharedBytes, kernel.shared_bytes), "cuFuncSetAttribute");
}

/// The module of an image, or what the driver's compiler said.
Status load_module(const Driver& driver, const char* code, Module* out) {
    std::array<char, 4096> log{};
    int options[] = {kJitErrorLogBuffer, kJitErrorLogBytes};
    void* values[] = {log.data(), reinterpret_cast<void*>(log.size() - 1)};
    const Status status = driver.check(driver.module_load(out, code, 2, options, values), "cuModuleLoadDataEx");
    if (status.ok() || !log[0]) return status;
    return Status(status.code(), status.text() + "\n" + log.data());
}

}  // namespace

Status read_facts(const Driver& driver, Device device, DeviceFacts* out) {
    int major = 0, minor = 0;
    const struct {
        int attribute;
        int* value;
    } wanted[] = {{kCapabilityMajor, &major},
                  {kCapabilityMinor, &minor},
                  {kMultiprocessorCount, &out->multiprocessors},
                  {kSharedPerBlockOptin, &out->shared_per_block},
                  {kSharedPerMultiprocessor, &out->shared_per_multiprocessor}};
    for (const auto& [attribute, value] : wanted)
        if (Status status = driver.check(driver.device_get_attribute(value, attribute, device), "cuDeviceGetAttribute"); !status.ok())
            return status;
    out->compute_capability = 10 * major + minor;
    out->has_tensor_maps = driver.tensor_map_encode != nullptr;
    return {};
}

Modules::~Modules() {
    // A context is entered only if the driver says that it lives and is the one we knew.
    if (!driver_ || !driver_->context_get_id) return;
    for (const auto& entry : contexts_) {
        unsigned long long id = 0;
        if (driver_->context_get_id(entry->context, &id) != kSuccess || id != entry->id) continue;
        if (driver_->context_push(entry->context) != kSuccess) continue;
        for (const auto& image : entry->images) driver_->module_unload(image->module);
        Context popped = nullptr;
        driver_->context_pop(&popped);
    }
}

Status Modules::current(const Driver& driver, PerContext** out) {
    driver_ = &driver;
    Context context = nullptr;
    if (Status status = driver.check(driver.context_get_current(&context), "cuCtxGetCurrent"); !status.ok()) return status;
    if (!context)
        return Status(Code::DeviceError,
                      "no CUDA context is current in this thread; cudaSetDevice, cuCtxSetCurrent or flex::CudaDevice::open makes one");
    unsigned long long id = 0;
    if (driver.context_get_id)
        if (Status status = driver.check(driver.context_get_id(context, &id), "cuCtxGetId"); !status.ok()) return status;
    for (size_t i = 0; i < contexts_.size(); ++i) {
        if (contexts_[i]->context != context) continue;
        if (contexts_[i]->id == id) {
            *out = contexts_[i].get();
            return {};
        }
        contexts_.erase(contexts_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
    }
    auto entry = std::make_unique<PerContext>();
    entry->context = context;
    entry->id = id;
    Device device = 0;
    if (Status status = driver.check(driver.context_get_device(&device), "cuCtxGetDevice"); !status.ok()) return status;
    if (Status status = read_facts(driver, device, &entry->facts); !status.ok()) return status;
    contexts_.push_back(std::move(entry));
    *out = contexts_.back().get();
    return {};
}

Status Modules::device(const Driver& driver, DeviceFacts* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    PerContext* entry = nullptr;
    if (Status status = current(driver, &entry); !status.ok()) return status;
    *out = entry->facts;
    return {};
}

Status Modules::load(const Driver& driver, const ModuleSource& source, const LoadedImage** out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    PerContext* entry = nullptr;
    if (Status status = current(driver, &entry); !status.ok()) return status;
    for (const auto& loaded : entry->images) {
        if (loaded->image != source.image) continue;
        *out = loaded.get();
        return {};
    }
    const RelaxedCapture relaxed(driver);
    auto loaded = std::make_unique<LoadedImage>();
    loaded->image = source.image;
    entry->images.reserve(entry->images.size() + 1);
    if (Status status = load_module(driver, source.code, &loaded->module); !status.ok()) return status;
    for (size_t i = 0; i < source.kernels.size() && source.kernels[i]; ++i)
        if (Status status = find_function(driver, loaded->module, *source.kernels[i], &loaded->functions[i]); !status.ok()) {
            driver.module_unload(loaded->module);
            return status;
        }
    entry->images.push_back(std::move(loaded));
    *out = entry->images.back().get();
    return {};
}

}  // namespace flex::cuda
