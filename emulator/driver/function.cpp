// Attributes of functions and occupancy. There is no machine code, so registers are an estimate: what the PTX demands, else 64.
#include <algorithm>

#include "emulator/driver/call.h"

using namespace flexemu;
using namespace flexemu::driver;

namespace {

constexpr int kDefaultShared = 48 * 1024, kReservedShared = 1024, kRegistersOfMultiprocessor = 65536;

struct Limits {
    int threads, blocks, shared;
};
Limits limits_of(const DeviceProperties& device) {
    int cc = device.compute_capability;
    bool big = cc == 80 || cc == 87 || cc == 90 || cc == 100;
    return {big ? 2048 : 1536, big ? 32 : 24, device.max_shared_per_block + kReservedShared};
}

int product(const int32_t (&values)[3]) {
    return values[0] ? values[0] * std::max(values[1], 1) * std::max(values[2], 1) : 0;
}

int max_threads(const Function& function, const DeviceProperties& device) {
    const ptx::Function& ptx = function.ptx();
    int threads = product(ptx.required_threads) ? product(ptx.required_threads) : product(ptx.max_threads);
    return threads ? std::min(threads, device.max_threads_per_block) : device.max_threads_per_block;
}

int registers(const Function& function, const DeviceProperties& device) {
    const ptx::Function& ptx = function.ptx();
    int most = 64;
    if (ptx.max_registers) most = ptx.max_registers;
    int threads = max_threads(function, device) * std::max(ptx.min_blocks, 1);
    return std::clamp(std::min(most, kRegistersOfMultiprocessor / threads), 16, 255);
}

int version_number(const std::string& version) {
    int number = 0;
    for (char c : version)
        if (c >= '0' && c <= '9') number = number * 10 + (c - '0');
    return number;
}

int64_t bytes_of(const ptx::Function& function, ptx::Space space) {
    int64_t bytes = 0;
    for (const ptx::Variable& local : function.locals)
        if (local.space == space) bytes += local.bytes;
    return bytes;
}

CUresult get(Driver& driver, Function& function, CUfunction_attribute attribute, int* value) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    const DeviceProperties& device = driver.settings.device;
    const ptx::Function& ptx = function.ptx();
    const ptx::Module& module = function.module->loaded->ptx();
    int64_t constants = 0;
    for (const ptx::Variable& each : module.variables)
        if (each.space == ptx::Space::Const) constants += each.bytes;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = max_threads(function, device); break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = function.static_shared(); break;
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = static_cast<int>(constants); break;
        case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = static_cast<int>(bytes_of(ptx, ptx::Space::Local)); break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = registers(function, device); break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION: *value = version_number(module.target); break;
        case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = device.compute_capability; break;
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            *value = function.settings->max_dynamic_shared >= 0 ? function.settings->max_dynamic_shared
                                                                : std::max(0, kDefaultShared - function.static_shared());
            break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = function.settings->carveout; break;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH: *value = ptx.cluster[0]; break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT: *value = ptx.cluster[1]; break;
        case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH: *value = ptx.cluster[2]; break;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: *value = function.settings->non_portable_cluster; break;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE: *value = function.settings->cluster_policy; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult set(Driver& driver, Function& function, CUfunction_attribute attribute, int value) {
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
            if (value < 0 || value + function.static_shared() > driver.settings.device.max_shared_per_block)
                return CUDA_ERROR_INVALID_VALUE;
            function.settings->max_dynamic_shared = value;
            return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
            if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
            function.settings->carveout = value;
            return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
            if (driver.settings.device.compute_capability < 90) return CUDA_ERROR_INVALID_VALUE;
            function.settings->non_portable_cluster = value != 0;
            return CUDA_SUCCESS;
        case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
            if (value < 0 || value > 2) return CUDA_ERROR_INVALID_VALUE;
            function.settings->cluster_policy = value;
            return CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}

int active_blocks(Driver& driver, const Function& function, int block_size, size_t dynamic_shared) {
    const DeviceProperties& device = driver.settings.device;
    if (block_size > max_threads(function, device)) return 0;
    Limits limits = limits_of(device);
    int threads = (block_size + 31) / 32 * 32;
    size_t shared = static_cast<size_t>(function.static_shared()) + dynamic_shared;
    if (shared > static_cast<size_t>(device.max_shared_per_block)) return 0;
    int warp_registers = (registers(function, device) * 32 + 255) / 256 * 256;
    int by_registers = kRegistersOfMultiprocessor / (warp_registers * (threads / 32));
    int by_shared = limits.shared / static_cast<int>(shared + kReservedShared);
    return std::min({limits.threads / threads, limits.blocks, by_registers, by_shared});
}

int potential_block(Driver& driver, const Function& function, CUoccupancyB2DSize shared_of, size_t shared_bytes, int limit, int* blocks) {
    int most = max_threads(function, driver.settings.device), best = 0, best_threads = 0;
    if (limit > 0) most = std::min(most, limit);
    *blocks = 0;
    for (int size = (most + 31) / 32 * 32; size > 0; size -= 32) {
        int threads = std::min(size, most);
        int active = active_blocks(driver, function, threads, shared_of ? shared_of(threads) : shared_bytes);
        if (active * threads > best_threads) {
            best_threads = active * threads;
            best = threads;
            *blocks = active;
        }
    }
    return best;
}

/// A kernel as the function of any context: of the current one, or of the only one.
Function* function_of_kernel(Call& call, CUkernel kernel) {
    const auto& stack = context_stack();
    Driver& driver = call.driver();
    Context* context = stack.empty() ? driver.primary : stack.back();
    return driver.find_kernel(kernel) ? driver.find_function(reinterpret_cast<CUfunction>(kernel), context) : nullptr;
}

}  // namespace

extern "C" {

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    FLEXEMU_CALL(Context);
    Function* function = driver.find_function(handle, &call.context());
    return function ? get(driver, *function, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    FLEXEMU_CALL(Context);
    Function* function = driver.find_function(handle, &call.context());
    return function ? set(driver, *function, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    Function* function = function_of_kernel(call, kernel);
    return function ? get(driver, *function, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    Function* function = function_of_kernel(call, kernel);
    return function ? set(driver, *function, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
    FLEXEMU_CALL(Context);
    if (!driver.find_function(handle, &call.context())) return CUDA_ERROR_INVALID_HANDLE;
    return config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice device) {
    FLEXEMU_CALL(Driver);
    if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (!driver.find_kernel(kernel)) return CUDA_ERROR_INVALID_HANDLE;
    return config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig) {
    FLEXEMU_CALL(Context);
    return driver.find_function(handle, &call.context()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncIsLoaded(int* state, CUfunction handle) {
    FLEXEMU_CALL(Context);
    if (!state) return CUDA_ERROR_INVALID_VALUE;
    *state = 1;
    return driver.find_function(handle, &call.context()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncLoad(CUfunction handle) {
    FLEXEMU_CALL(Context);
    return driver.find_function(handle, &call.context()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle, int block_size, size_t shared_bytes,
                                                              unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!blocks || block_size <= 0 || flags > 1) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    *blocks = active_blocks(driver, *function, block_size, shared_bytes);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int block_size, size_t shared_bytes) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared_bytes, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction handle, CUoccupancyB2DSize shared_of,
                                                   size_t shared_bytes, int limit, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!grid || !block || limit < 0 || flags > 1) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    int blocks = 0;
    *block = potential_block(driver, *function, shared_of, shared_bytes, limit, &blocks);
    *grid = blocks * driver.settings.device.multiprocessors;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction function, CUoccupancyB2DSize shared_of, size_t shared_bytes,
                                          int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of, shared_bytes, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction handle, int blocks, int block_size) {
    FLEXEMU_CALL(Context);
    if (!bytes || blocks <= 0 || block_size <= 0) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (active_blocks(driver, *function, block_size, 0) < blocks) return CUDA_ERROR_INVALID_VALUE;
    int each = limits_of(driver.settings.device).shared / blocks / 128 * 128 - kReservedShared - function->static_shared();
    *bytes = static_cast<size_t>(std::clamp(each, 0, driver.settings.device.max_shared_per_block - function->static_shared()));
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialClusterSize(int* size, CUfunction handle, const CUlaunchConfig* config) {
    FLEXEMU_CALL(Context);
    if (!size || !config) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (driver.settings.device.compute_capability < 90) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    *size = function->settings->non_portable_cluster ? 16 : 8;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction handle, const CUlaunchConfig* config) {
    FLEXEMU_CALL(Context);
    if (!clusters || !config) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (driver.settings.device.compute_capability < 90) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    unsigned cluster = 1;
    for (unsigned i = 0; i < config->numAttrs; ++i)
        if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            const auto& dim = config->attrs[i].value.clusterDim;
            cluster = dim.x * dim.y * dim.z;
        }
    if (cluster == 0) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    int blocks = active_blocks(driver, *function, static_cast<int>(config->blockDimX * config->blockDimY * config->blockDimZ),
                               config->sharedMemBytes);
    *clusters = blocks * driver.settings.device.multiprocessors / static_cast<int>(cluster);
    return CUDA_SUCCESS;
}
}
