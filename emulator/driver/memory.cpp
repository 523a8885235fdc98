// Memory: of the device, of the host (page-locked, which kernels reach at the same address), managed, and what is known of a pointer.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

size_t page_rounded(size_t bytes) {
    auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return (bytes + page - 1) / page * page;
}

/// Fresh host memory that kernels can use.
CUresult allocate_host(Call& call, size_t bytes, Allocation::Kind kind, unsigned flags, void** out) {
    Driver& driver = call.driver();
    size_t room = page_rounded(bytes);
    if (room < bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    void* memory = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!driver.device->map_host(memory, room)) {
        munmap(memory, room);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    driver.allocations[reinterpret_cast<uint64_t>(memory)] = {kind, room, &call.context(), flags, nullptr, driver.next_id++};
    *out = memory;
    return CUDA_SUCCESS;
}

CUresult pointer_attribute(Driver& driver, void* value, CUpointer_attribute attribute, CUdeviceptr address, bool* known) {
    auto it = driver.allocation_at(address);
    *known = it != driver.allocations.end();
    if (!*known) return CUDA_ERROR_INVALID_VALUE;
    const Allocation& allocation = it->second;
    bool host = allocation.kind == Allocation::Kind::Host || allocation.kind == Allocation::Kind::Registered;
    auto put = [&](auto what) {
        std::memcpy(value, &what, sizeof what);
        return CUDA_SUCCESS;
    };
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: return put(handle_of<CUcontext>(allocation.context));
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: return put(static_cast<unsigned>(host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE));
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: return put(address);
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (allocation.kind == Allocation::Kind::Device) return CUDA_ERROR_INVALID_VALUE;
            return put(reinterpret_cast<void*>(address));
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: return put(0u);
        case CU_POINTER_ATTRIBUTE_BUFFER_ID: return put(static_cast<unsigned long long>(allocation.id));
        case CU_POINTER_ATTRIBUTE_IS_MANAGED: return put(static_cast<unsigned>(allocation.kind == Allocation::Kind::Managed));
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return put(0);
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: return put(0u);
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: return put(it->first);
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE: return put(allocation.bytes);
        case CU_POINTER_ATTRIBUTE_MAPPED: return put(1u);
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: return put(uint64_t{0});
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE: return put(0u);
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: return put(3u);
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: return put(handle_of<CUmemoryPool>(allocation.pool));
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}

size_t pointer_attribute_bytes(CUpointer_attribute attribute) {
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_MAPPED:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: return 4;
        case CU_POINTER_ATTRIBUTE_CONTEXT:
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: return 8;
        default: return 0;
    }
}

CUresult check_managed(Call& call, CUdeviceptr address, size_t bytes) {
    auto it = call.driver().allocation_at(address);
    if (it == call.driver().allocations.end() || it->second.kind != Allocation::Kind::Managed || bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    return address + bytes <= it->first + it->second.bytes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
    FLEXEMU_CALL(Context);
    size_t total = driver.device->properties().memory_bytes;
    if (free_bytes) *free_bytes = total - std::min(total, driver.device->used_bytes());
    if (total_bytes) *total_bytes = total;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    FLEXEMU_CALL(Context);
    if (!address || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    *address = driver.allocate(bytes, &call.context(), nullptr);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height, unsigned element_bytes) {
    FLEXEMU_CALL(Context);
    if (!address || !pitch || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
    if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    size_t row = (width + 511) / 512 * 512;
    if (row < width || row > SIZE_MAX / height) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = driver.allocate(row * height, &call.context(), nullptr);
    *pitch = row;
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    FLEXEMU_CALL(Context);
    if (address == 0) return CUDA_SUCCESS;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto it = driver.allocations.find(address);
    if (it == driver.allocations.end()) return CUDA_ERROR_INVALID_VALUE;
    if (it->second.kind != Allocation::Kind::Device && it->second.kind != Allocation::Kind::Managed) return CUDA_ERROR_INVALID_VALUE;
    driver.release(it);
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
    FLEXEMU_CALL(Context);
    auto it = driver.allocation_at(address);
    if (it == driver.allocations.end()) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = it->first;
    if (bytes) *bytes = it->second.bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!memory || bytes == 0 || (flags & ~CU_MEMHOSTALLOC_FLAGS)) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    return allocate_host(call, bytes, Allocation::Kind::Host, flags, memory);
}

CUresult cuMemAllocHost_v2(void** memory, size_t bytes) {
    return cuMemHostAlloc(memory, bytes, 0);
}

CUresult cuMemFreeHost(void* memory) {
    FLEXEMU_CALL(Context);
    if (!memory) return CUDA_SUCCESS;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto it = driver.allocations.find(reinterpret_cast<uint64_t>(memory));
    if (it == driver.allocations.end() || it->second.kind != Allocation::Kind::Host) return CUDA_ERROR_INVALID_VALUE;
    driver.release(it);
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* memory, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!address || !memory || flags) return CUDA_ERROR_INVALID_VALUE;
    auto it = driver.allocation_at(reinterpret_cast<uint64_t>(memory));
    if (it == driver.allocations.end() || it->second.kind == Allocation::Kind::Device) return CUDA_ERROR_INVALID_VALUE;
    *address = reinterpret_cast<uint64_t>(memory);
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned* flags, void* memory) {
    FLEXEMU_CALL(Context);
    auto it = driver.allocation_at(reinterpret_cast<uint64_t>(memory));
    if (!flags || it == driver.allocations.end() || it->second.kind != Allocation::Kind::Host) return CUDA_ERROR_INVALID_VALUE;
    *flags = it->second.flags;
    return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void* memory, size_t bytes, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!memory || bytes == 0 || (flags & ~CU_MEMHOSTREGISTER_FLAGS)) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto address = reinterpret_cast<uint64_t>(memory);
    auto next = driver.allocations.lower_bound(address);
    bool taken =
        driver.allocation_at(address) != driver.allocations.end() || (next != driver.allocations.end() && next->first < address + bytes);
    if (taken || !driver.device->map_host(memory, bytes)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    driver.allocations[address] = {Allocation::Kind::Registered, bytes, &call.context(), flags, nullptr, driver.next_id++};
    return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void* memory) {
    FLEXEMU_CALL(Context);
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto it = driver.allocations.find(reinterpret_cast<uint64_t>(memory));
    if (it == driver.allocations.end() || it->second.kind != Allocation::Kind::Registered) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    driver.release(it);
    return CUDA_SUCCESS;
}

CUresult cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!address || bytes == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    void* memory = nullptr;
    CUresult result = allocate_host(call, bytes, Allocation::Kind::Managed, flags, &memory);
    if (result == CUDA_SUCCESS) *address = reinterpret_cast<uint64_t>(memory);
    return result;
}

CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, int advice, CUdevice) {
    FLEXEMU_CALL(Context);
    return advice < 1 || advice > 6 ? CUDA_ERROR_INVALID_VALUE : check_managed(call, address, bytes);
}
CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, int advice, CUmemLocation) {
    return cuMemAdvise(address, bytes, advice, 0);
}

CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice, CUstream handle) {
    FLEXEMU_CALL(Context);
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult error = check_managed(call, address, bytes)) return error;
    return enqueue(call, stream, Nothing{});
}
CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation, unsigned flags, CUstream stream) {
    return flags ? CUDA_ERROR_INVALID_VALUE : cuMemPrefetchAsync(address, bytes, 0, stream);
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
    FLEXEMU_CALL(Context);
    bool known = false;
    return value ? pointer_attribute(driver, value, attribute, address, &known) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** values, CUdeviceptr address) {
    FLEXEMU_CALL(Context);
    if (count == 0 || !attributes || !values) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i) {
        size_t bytes = pointer_attribute_bytes(attributes[i]);
        bool known = false;
        if (bytes == 0 || !values[i]) return CUDA_ERROR_INVALID_VALUE;
        // Of a pointer that the driver does not know, everything is null.
        if (pointer_attribute(driver, values[i], attributes[i], address, &known) != CUDA_SUCCESS) std::memset(values[i], 0, bytes);
        if (!known && attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) std::memset(values[i], 0xFF, bytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr address) {
    FLEXEMU_CALL(Context);
    if (!value || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || driver.allocation_at(address) == driver.allocations.end())
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}
}
