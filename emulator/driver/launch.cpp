// Launching kernels: the checks of the driver, the parameter block, the attributes of cuLaunchKernelEx. work.cpp runs what this makes.
#include <cstring>

#include "emulator/driver/call.h"

using namespace flexemu;
using namespace flexemu::driver;

namespace flexemu::driver {

CUresult pack_parameters(const Function& function, void** parameters, void** extra, std::vector<uint8_t>* out) {
    const ptx::Function& ptx = function.ptx();
    out->assign(static_cast<size_t>(ptx.parameter_bytes), 0);
    if (parameters && extra) return CUDA_ERROR_INVALID_VALUE;
    if (ptx.parameters.empty()) return CUDA_SUCCESS;
    if (parameters) {
        for (size_t i = 0; i < ptx.parameters.size(); ++i) {
            const ptx::Parameter& parameter = ptx.parameters[i];
            if (!parameters[i]) return CUDA_ERROR_INVALID_VALUE;
            std::memcpy(out->data() + parameter.offset, parameters[i], static_cast<size_t>(parameter.bytes));
        }
        return CUDA_SUCCESS;
    }
    if (!extra) return CUDA_ERROR_INVALID_VALUE;
    const void* buffer = nullptr;
    const size_t* bytes = nullptr;
    for (void** item = extra; *item != CU_LAUNCH_PARAM_END; item += 2) {
        if (*item == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = item[1];
        else if (*item == CU_LAUNCH_PARAM_BUFFER_SIZE)
            bytes = static_cast<const size_t*>(item[1]);
        else
            return CUDA_ERROR_INVALID_VALUE;
    }
    const ptx::Parameter& last = ptx.parameters.back();
    if (!buffer || !bytes || *bytes < static_cast<size_t>(last.offset + last.bytes)) return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(out->data(), buffer, std::min(*bytes, out->size()));
    return CUDA_SUCCESS;
}

CUresult check_launch(Call& call, const Launch& launch) {
    const DeviceProperties& device = call.driver().settings.device;
    const ptx::Function& ptx = launch.function->ptx();
    constexpr std::array<uint64_t, 3> kMostGrid{2147483647, 65535, 65535}, kMostBlock{1024, 1024, 64};
    uint64_t threads = 1;
    for (size_t i = 0; i < 3; ++i) {
        if (launch.grid[i] == 0 || launch.grid[i] > kMostGrid[i] || launch.block[i] == 0 || launch.block[i] > kMostBlock[i])
            return CUDA_ERROR_INVALID_VALUE;
        threads *= launch.block[i];
    }
    if (threads > static_cast<uint64_t>(device.max_threads_per_block)) return CUDA_ERROR_INVALID_VALUE;
    auto volume = [](const int32_t(&dims)[3]) {
        return uint64_t{1} * static_cast<uint32_t>(dims[0]) * static_cast<uint32_t>(std::max(dims[1], 1)) *
               static_cast<uint32_t>(std::max(dims[2], 1));
    };
    if (ptx.max_threads[0] && threads > volume(ptx.max_threads)) return CUDA_ERROR_INVALID_VALUE;
    if (ptx.required_threads[0])
        for (size_t i = 0; i < 3; ++i)
            if (launch.block[i] != static_cast<uint32_t>(std::max(ptx.required_threads[i], 1))) return CUDA_ERROR_INVALID_VALUE;

    int fixed = launch.function->static_shared();
    int most = launch.function->settings->max_dynamic_shared;
    if (fixed > 48 * 1024) return CUDA_ERROR_INVALID_VALUE;
    if (launch.shared_bytes > static_cast<uint32_t>(most >= 0 ? std::max(most, 48 * 1024 - fixed) : 48 * 1024 - fixed))
        return CUDA_ERROR_INVALID_VALUE;

    std::array<uint32_t, 3> cluster = launch.cluster;
    if (ptx.cluster[0]) {
        std::array<uint32_t, 3> required;
        for (size_t i = 0; i < 3; ++i) required[i] = static_cast<uint32_t>(std::max(ptx.cluster[i], 1));
        if (cluster[0] && cluster != required) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        cluster = required;
    }
    if (cluster[0]) {
        if (device.compute_capability < 90) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        if (uint64_t{cluster[0]} * cluster[1] * cluster[2] > (launch.function->settings->non_portable_cluster ? 16u : 8u))
            return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        for (size_t i = 0; i < 3; ++i)
            if (cluster[i] == 0 || launch.grid[i] % cluster[i]) return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

}  // namespace flexemu::driver

namespace {

/// Too many blocks to be on the device at once cannot wait for one another.
CUresult check_cooperative(Call& call, const Launch& launch) {
    uint64_t blocks = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2],
             threads = uint64_t{launch.block[0]} * launch.block[1] * launch.block[2];
    const DeviceProperties& device = call.driver().settings.device;
    uint64_t shared = launch.shared_bytes + static_cast<uint64_t>(launch.function->static_shared()) + 1024;
    uint64_t each =
        std::min<uint64_t>(2048 / ((threads + 31) / 32 * 32), (static_cast<uint64_t>(device.max_shared_per_block) + 1024) / shared);
    return blocks > each * static_cast<uint64_t>(device.multiprocessors) ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CUDA_SUCCESS;
}

CUresult launch_kernel(const CUlaunchConfig& config, CUfunction handle, void** parameters, void** extra) {
    FLEXEMU_CALL(Context);
    Stream* stream = find_stream(call, config.hStream);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    Launch launch;
    launch.function = driver.find_function(handle, &call.context());
    if (!launch.function) return CUDA_ERROR_INVALID_HANDLE;
    if (launch.function->module->context != stream->context) return CUDA_ERROR_INVALID_CONTEXT;
    launch.grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
    launch.block = {config.blockDimX, config.blockDimY, config.blockDimZ};
    launch.shared_bytes = config.sharedMemBytes;
    if (config.numAttrs && !config.attrs) return CUDA_ERROR_INVALID_VALUE;
    Event* completion = nullptr;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        const CUlaunchAttribute& attribute = config.attrs[i];
        switch (attribute.id) {
            case CU_LAUNCH_ATTRIBUTE_COOPERATIVE: launch.cooperative = attribute.value.cooperative != 0; break;
            case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
                const auto& dim = attribute.value.clusterDim;
                if (dim.x == 0 || dim.y == 0 || dim.z == 0) return CUDA_ERROR_INVALID_VALUE;
                launch.cluster = {dim.x, dim.y, dim.z};
                break;
            }
            case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
            case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
                completion = driver.events.find(attribute.value.programmaticEvent.event);
                if (!completion) return CUDA_ERROR_INVALID_HANDLE;
                break;
            default:
                if (attribute.id < 0 || attribute.id > CU_LAUNCH_ATTRIBUTE_LAST) return CUDA_ERROR_INVALID_VALUE;
        }
    }
    // A cluster of one block is what every block is.
    if (launch.cluster == std::array<uint32_t, 3>{1, 1, 1} && !launch.function->ptx().cluster[0]) launch.cluster = {0, 0, 0};
    if (CUresult error = check_launch(call, launch)) return error;
    if (launch.cooperative)
        if (CUresult error = check_cooperative(call, launch)) return error;
    if (CUresult error = pack_parameters(*launch.function, parameters, extra, &launch.parameters)) return error;
    if (CUresult error = enqueue(call, stream, std::move(launch))) return error;
    return completion ? enqueue(call, stream, RecordEvent{completion}) : CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters, void** extra) {
    return launch_kernel({grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, nullptr, 0}, function, parameters,
                         extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
    return config ? launch_kernel(*config, function, parameters, extra) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                   unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters) {
    CUlaunchAttribute cooperative{CU_LAUNCH_ATTRIBUTE_COOPERATIVE, {}, {}};
    cooperative.value.cooperative = 1;
    return launch_kernel({grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, &cooperative, 1}, function, parameters,
                         nullptr);
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
    FLEXEMU_CALL(Context);
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, handle);
    return stream ? enqueue(call, stream, HostCall{function, data}) : CUDA_ERROR_INVALID_HANDLE;
}
}
