// Contexts: the primary one of the device, and those that programs make. A thread has a stack of them.
#include <algorithm>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

constexpr unsigned kKnownFlags = 0xFF;

Context* create(Driver& driver, unsigned flags, bool primary, unsigned api_version) {
    auto context = std::make_unique<Context>();
    context->flags = flags;
    context->primary = primary;
    context->api_version = api_version;
    context->id = driver.next_id++;
    return driver.contexts.add(std::move(context));
}

CUresult create_and_push(CUcontext* out, unsigned flags, CUdevice device, unsigned api_version) {
    FLEXEMU_CALL(Driver);
    if (!out || (flags & ~kKnownFlags) || (flags & CU_CTX_SCHED_MASK) > 4) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    Context* context = create(driver, flags, false, api_version);
    context_stack().push_back(context);
    *out = handle_of<CUcontext>(context);
    return CUDA_SUCCESS;
}

CUresult synchronise(Call& call, Context& context) {
    if (context.error) return context.error;
    return check_unsafe_in_capture(call);
}

}  // namespace

extern "C" {

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (!driver.primary) driver.primary = create(driver, driver.primary_flags, true, 3020);
    ++driver.primary_count;
    *context = handle_of<CUcontext>(driver.primary);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (driver.primary_count == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--driver.primary_count == 0 && driver.primary) driver.destroy_context(driver.primary);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (!driver.primary) return CUDA_SUCCESS;
    // Handles of the primary context stay good for those who hold them: its contents go, and with them a sticky error.
    Context* old = driver.primary;
    Context fresh;
    fresh.flags = driver.primary_flags;
    fresh.primary = true;
    fresh.api_version = old->api_version;
    fresh.id = old->id;
    auto keeper = std::make_unique<Context>();
    Context* other = driver.contexts.add(std::move(keeper));
    for (auto& [address, allocation] : driver.allocations)
        if (allocation.context == old) allocation.context = other;
    for (const auto& [raw, stream] : driver.streams.all())
        if (stream->context == old) stream->context = other;
    for (const auto& [raw, event] : driver.events.all())
        if (event->context == old) event->context = other;
    for (const auto& [raw, library] : driver.libraries.all()) library->modules.erase(old);
    for (const auto& [raw, module] : driver.modules.all())
        if (module->context == old) module->context = other;
    *old = std::move(fresh);
    driver.destroy_context(other);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if ((flags & ~kKnownFlags) || (flags & CU_CTX_SCHED_MASK) > 4) return CUDA_ERROR_INVALID_VALUE;
    driver.primary_flags = flags;
    if (driver.primary) driver.primary->flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    return cuDevicePrimaryCtxRelease_v2(device);
}
CUresult cuDevicePrimaryCtxReset(CUdevice device) {
    return cuDevicePrimaryCtxReset_v2(device);
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags) {
    return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
    FLEXEMU_CALL(Driver);
    if (!flags || !active) return CUDA_ERROR_INVALID_VALUE;
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    *flags = driver.primary_flags;
    *active = driver.primary != nullptr;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
    return create_and_push(context, flags, device, 3020);
}
CUresult cuCtxCreate_v3(CUcontext* context, void*, int affinity_count, unsigned flags, CUdevice device) {
    return affinity_count ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY : create_and_push(context, flags, device, 3020);
}
CUresult cuCtxCreate_v4(CUcontext* context, void*, unsigned flags, CUdevice device) {
    return create_and_push(context, flags, device, 3020);
}

CUresult cuCtxDestroy_v2(CUcontext handle) {
    FLEXEMU_CALL(Driver);
    Context* context = driver.contexts.find(handle);
    if (!context || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    auto& stack = context_stack();
    if (!stack.empty() && stack.back() == context) stack.pop_back();
    driver.destroy_context(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    FLEXEMU_CALL(Driver);
    Context* context = driver.contexts.find(handle);
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    context_stack().push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    FLEXEMU_CALL(Driver);
    auto& stack = context_stack();
    if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = handle_of<CUcontext>(stack.back());
    stack.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext handle) {
    FLEXEMU_CALL(Driver);
    auto& stack = context_stack();
    if (!handle) {
        if (!stack.empty()) stack.pop_back();
        return CUDA_SUCCESS;
    }
    Context* context = driver.contexts.find(handle);
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    if (stack.empty())
        stack.push_back(context);
    else
        stack.back() = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
    FLEXEMU_CALL(Driver);
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    const auto& stack = context_stack();
    *context = stack.empty() ? nullptr : handle_of<CUcontext>(stack.back());
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
    FLEXEMU_CALL(Driver);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (context_stack().empty()) return CUDA_ERROR_INVALID_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext context) {
    if (!context) return cuCtxGetDevice(device);
    FLEXEMU_CALL(Driver);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!driver.contexts.find(context)) return CUDA_ERROR_INVALID_CONTEXT;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned* flags) {
    FLEXEMU_CALL(Context);
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = call.context().flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned flags) {
    FLEXEMU_CALL(Context);
    if ((flags & ~kKnownFlags) || (flags & CU_CTX_SCHED_MASK) > 4) return CUDA_ERROR_INVALID_VALUE;
    call.context().flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long* id) {
    FLEXEMU_CALL(Driver);
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    Context* context = handle ? driver.contexts.find(handle) : context_stack().empty() ? nullptr : context_stack().back();
    if (!context) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *id = context->id;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    FLEXEMU_CALL(Context);
    return synchronise(call, call.context());
}

CUresult cuCtxSynchronize_v2(CUcontext handle) {
    if (!handle) return cuCtxSynchronize();
    FLEXEMU_CALL(Driver);
    Context* context = driver.contexts.find(handle);
    return context ? synchronise(call, *context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
    FLEXEMU_CALL(Context);
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (limit < 0 || limit >= CU_LIMIT_SETTABLE) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *value = call.context().limits[static_cast<size_t>(limit)];
    return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    FLEXEMU_CALL(Context);
    if (limit < 0 || limit >= CU_LIMIT_SETTABLE) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    call.context().limits[static_cast<size_t>(limit)] = value;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
    FLEXEMU_CALL(Context);
    if (!config) return CUDA_ERROR_INVALID_VALUE;
    *config = call.context().cache;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
    FLEXEMU_CALL(Context);
    if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) return CUDA_ERROR_INVALID_VALUE;
    call.context().cache = config;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig* config) {
    FLEXEMU_CALL(Context);
    if (!config) return CUDA_ERROR_INVALID_VALUE;
    *config = call.context().shared_config;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
    FLEXEMU_CALL(Context);
    if (config < CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE || config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
        return CUDA_ERROR_INVALID_VALUE;
    call.context().shared_config = config;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned* version) {
    FLEXEMU_CALL(Driver);
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    Context* context = handle ? driver.contexts.find(handle) : context_stack().empty() ? nullptr : context_stack().back();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    *version = context->api_version;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    FLEXEMU_CALL(Context);
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache() {
    FLEXEMU_CALL(Context);
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext, unsigned) {
    FLEXEMU_CALL(Context);
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
}

CUresult cuCtxDisablePeerAccess(CUcontext) {
    FLEXEMU_CALL(Context);
    return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}
}
