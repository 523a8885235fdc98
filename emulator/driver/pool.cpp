// Memory in stream order. Work runs when it is enqueued, so an allocation is at once, and pools only keep account. In a capture the address is
// fixed when it is recorded, and the memory lives as long as the context.
#include <cstring>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

CUresult allocate(Call& call, CUdeviceptr* address, size_t bytes, Pool* pool, CUstream handle) {
    if (!address || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    uint64_t at = call.driver().allocate(bytes, &call.context(), pool);
    if (!at) return CUDA_ERROR_OUT_OF_MEMORY;
    if (CUresult error = enqueue(call, stream, AllocateNode{at})) {
        call.driver().release(call.driver().allocations.find(at));
        return error;
    }
    *address = at;
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
    FLEXEMU_CALL(Context);
    return allocate(call, address, bytes, driver.current_pool, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, size_t bytes, CUmemoryPool handle, CUstream stream) {
    FLEXEMU_CALL(Context);
    Pool* pool = driver.pools.find(handle);
    return pool ? allocate(call, address, bytes, pool, stream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    FLEXEMU_CALL(Context);
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    auto it = driver.allocations.find(address);
    if (it == driver.allocations.end() || it->second.kind != Allocation::Kind::Device) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) return capture_work(call, stream, FreeNode{address});
    driver.release(it);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    *pool = handle_of<CUmemoryPool>(driver.default_pool);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    *pool = handle_of<CUmemoryPool>(driver.current_pool);
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool handle) {
    FLEXEMU_CALL(Driver);
    Pool* pool = driver.pools.find(handle);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    driver.current_pool = pool;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* properties) {
    FLEXEMU_CALL(Driver);
    if (!pool || !properties || properties->allocType != 1 || properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        properties->location.id != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->handleTypes) return CUDA_ERROR_NOT_SUPPORTED;  // nothing is shared between processes
    *pool = handle_of<CUmemoryPool>(driver.pools.add(std::make_unique<Pool>()));
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle) {
    FLEXEMU_CALL(Driver);
    Pool* pool = driver.pools.find(handle);
    if (!pool || pool == driver.default_pool) return CUDA_ERROR_INVALID_VALUE;
    for (auto& [address, allocation] : driver.allocations)
        if (allocation.pool == pool) allocation.pool = nullptr;
    if (driver.current_pool == pool) driver.current_pool = driver.default_pool;
    driver.pools.remove(pool);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t) {
    FLEXEMU_CALL(Driver);
    return driver.pools.find(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void* value) {
    FLEXEMU_CALL(Driver);
    Pool* pool = driver.pools.find(handle);
    if (!pool || !value) return CUDA_ERROR_INVALID_VALUE;
    if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES && attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
        std::memcpy(&pool->reuse[static_cast<size_t>(attribute)], value, sizeof(int));
    } else if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
        std::memcpy(&pool->release_threshold, value, sizeof(uint64_t));
    } else if (attribute > CU_MEMPOOL_ATTR_RELEASE_THRESHOLD && attribute <= CU_MEMPOOL_ATTR_USED_MEM_HIGH) {
        pool->high = pool->used;  // the high-water marks can be reset, the others not
    } else {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void* value) {
    FLEXEMU_CALL(Driver);
    Pool* pool = driver.pools.find(handle);
    if (!pool || !value) return CUDA_ERROR_INVALID_VALUE;
    if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES && attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
        std::memcpy(value, &pool->reuse[static_cast<size_t>(attribute)], sizeof(int));
        return CUDA_SUCCESS;
    }
    if (attribute < CU_MEMPOOL_ATTR_RELEASE_THRESHOLD || attribute > CU_MEMPOOL_ATTR_USED_MEM_HIGH) return CUDA_ERROR_INVALID_VALUE;
    bool high = attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH || attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT + 1;
    uint64_t number = attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD ? pool->release_threshold : high ? pool->high : pool->used;
    std::memcpy(value, &number, sizeof number);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc* access, size_t count) {
    FLEXEMU_CALL(Driver);
    if (!driver.pools.find(handle) || (count && !access)) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i)
        if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || access[i].location.id != 0 || access[i].flags != 3)
            return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(int* flags, CUmemoryPool handle, CUmemLocation* location) {
    FLEXEMU_CALL(Driver);
    if (!flags || !location || !driver.pools.find(handle)) return CUDA_ERROR_INVALID_VALUE;
    *flags = location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id == 0 ? 3 : 0;
    return CUDA_SUCCESS;
}
}
