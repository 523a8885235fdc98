// CudaDevice: a device with its primary context, and memory on it.
#include <algorithm>
#include <array>
#include <new>

#include "runtime/cuda.h"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/modules.h"

namespace flex {

struct CudaDevice::State {
    const cuda::Driver* driver = nullptr;
    cuda::Device device = 0;
    cuda::Context context = nullptr;
    cuda::DeviceFacts facts;
    std::string name;
    bool retained = false, pushed = false;

    Status open(int ordinal);
    ~State();
};

Status CudaDevice::State::open(int ordinal) {
    Status status;
    driver = cuda::driver(&status);
    if (!driver) return status;
    int count = 0;
    if (status = driver->check(driver->device_get_count(&count), "cuDeviceGetCount"); !status.ok()) return status;
    if (count == 0) return Status(Code::DeviceError, "the CUDA driver finds no device");
    if (ordinal < 0 || ordinal >= count)
        return Status(Code::DeviceError, "there is no CUDA device " + std::to_string(ordinal) + ": this machine has " +
                                             (count == 1 ? std::string("one, number 0") : std::to_string(count) + ", numbered from 0"));
    if (status = driver->check(driver->device_get(&device, ordinal), "cuDeviceGet"); !status.ok()) return status;
    std::array<char, 256> text{};
    if (status = driver->check(driver->device_get_name(text.data(), static_cast<int>(text.size()) - 1, device), "cuDeviceGetName");
        !status.ok())
        return status;
    name = text.data();
    if (status = cuda::read_facts(*driver, device, &facts); !status.ok()) return status;
    if (status = driver->check(driver->primary_context_retain(&context, device), "cuDevicePrimaryCtxRetain"); !status.ok()) return status;
    retained = true;
    if (status = driver->check(driver->context_push(context), "cuCtxPushCurrent"); !status.ok()) return status;
    pushed = true;
    return {};
}

CudaDevice::State::~State() {
    if (pushed) {
        cuda::Context current = nullptr;
        if (driver->context_get_current(&current) == cuda::kSuccess && current == context) driver->context_pop(&current);
    }
    if (retained) driver->primary_context_release(device);
}

CudaDevice::CudaDevice() : state_(new State) {}
CudaDevice::~CudaDevice() = default;

Status CudaDevice::open(int ordinal, std::unique_ptr<CudaDevice>* out) {
    try {
        std::unique_ptr<CudaDevice> device(new CudaDevice);
        Status status = device->state_->open(ordinal);
        if (status.ok()) *out = std::move(device);
        return status;
    } catch (const std::bad_alloc&) {
        return Status(Code::OutOfMemory, "no host memory");
    }
}

const std::string& CudaDevice::name() const {
    return state_->name;
}
int CudaDevice::compute_capability() const {
    return state_->facts.compute_capability;
}
int CudaDevice::multiprocessors() const {
    return state_->facts.multiprocessors;
}
int CudaDevice::shared_bytes_per_block() const {
    return state_->facts.shared_per_block;
}

bool CudaDevice::is_emulated() const {
    return state_->driver->emulator_last_fault != nullptr;
}
uint64_t CudaDevice::emulated_instructions() const {
    return state_->driver->emulator_instructions ? state_->driver->emulator_instructions() : 0;
}

uint64_t CudaDevice::emulated_blocks() const {
    return state_->driver->emulator_blocks ? state_->driver->emulator_blocks() : 0;
}

Status CudaDevice::allocate(size_t bytes, void** out) {
    cuda::Address address = 0;
    // The driver refuses 0 bytes; an empty array has an address all the same.
    Status status = state_->driver->check(state_->driver->allocate(&address, std::max<size_t>(bytes, 1)), "cuMemAlloc");
    *out = status.ok() ? reinterpret_cast<void*>(address) : nullptr;
    return status;
}

Status CudaDevice::free(void* memory) {
    if (!memory) return {};
    return state_->driver->check(state_->driver->free(reinterpret_cast<cuda::Address>(memory)), "cuMemFree");
}

Status CudaDevice::to_device(void* to, const void* from, size_t bytes) {
    if (bytes == 0) return {};
    Status status = state_->driver->check(state_->driver->copy_to_device(reinterpret_cast<cuda::Address>(to), from, bytes), "cuMemcpyHtoD");
    // From pageable memory the call may return once the bytes are staged; streams that do not wait for the default one shall see them too.
    return status.ok() ? synchronise() : status;
}

Status CudaDevice::to_host(void* to, const void* from, size_t bytes) {
    if (bytes == 0) return synchronise();
    return state_->driver->check(state_->driver->copy_to_host(to, reinterpret_cast<cuda::Address>(from), bytes), "cuMemcpyDtoH");
}

Status CudaDevice::synchronise() {
    return state_->driver->check(state_->driver->context_synchronise(), "cuCtxSynchronize");
}

}  // namespace flex
