// Copies and fills: checks of the arguments, then one Copy or Fill for all forms. Synchronous ones go over the default stream.
#include <algorithm>
#include <type_traits>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

enum class Side : uint8_t { Host, Device, Either };

/// Whether `bytes` from the address on lie in memory of the device; Either is answered by where the address points.
CUresult resolve(Driver& driver, uint64_t address, size_t bytes, Side side, bool* device) {
    if (side == Side::Host) {
        // Page-locked memory is the device's too, but host code may mean less of it than the driver knows.
        *device = false;
        return address ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    auto range = driver.device->range_of(address);
    if (range.bytes == 0) {
        *device = false;
        return side == Side::Either && address ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    }
    *device = true;
    return bytes <= range.bytes - (address - range.base) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

size_t extent(size_t width, size_t height, size_t depth, size_t pitch, size_t plane) {
    return (depth - 1) * plane + (height - 1) * pitch + width;
}

CUresult check(Call& call, Copy& copy, Side to, Side from) {
    if (copy.width == 0 || copy.height == 0 || copy.depth == 0) return CUDA_SUCCESS;
    size_t to_bytes = extent(copy.width, copy.height, copy.depth, copy.to_pitch, copy.to_plane);
    size_t from_bytes = extent(copy.width, copy.height, copy.depth, copy.from_pitch, copy.from_plane);
    if (CUresult error = resolve(call.driver(), copy.to, to_bytes, to, &copy.to_device)) return error;
    return resolve(call.driver(), copy.from, from_bytes, from, &copy.from_device);
}

CUresult synchronous(Call& call) {
    if (CUresult error = check_legacy_in_capture(call)) return error;
    return check_unsafe_in_capture(call);
}

/// On a stream, or for synchronous forms at once.
CUresult submit(Call& call, Work work, bool async, CUstream handle) {
    if (!async) {
        if (CUresult error = synchronous(call)) return error;
        return execute(call, work);
    }
    Stream* stream = find_stream(call, handle);
    return stream ? enqueue(call, stream, std::move(work)) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult copy_bytes(uint64_t to, Side to_side, uint64_t from, Side from_side, size_t bytes, bool async, CUstream stream) {
    FLEXEMU_CALL(Context);
    Copy copy;
    copy.to = to;
    copy.from = from;
    copy.width = bytes;
    if (CUresult error = check(call, copy, to_side, from_side)) return error;
    return submit(call, copy, async, stream);
}

CUresult side_of(CUmemorytype type, const void* host, CUdeviceptr device, uint64_t* address, Side* side) {
    switch (type) {
        case CU_MEMORYTYPE_HOST:
            *address = reinterpret_cast<uint64_t>(host);
            *side = Side::Host;
            return CUDA_SUCCESS;
        case CU_MEMORYTYPE_DEVICE:
            *address = device;
            *side = Side::Device;
            return CUDA_SUCCESS;
        case CU_MEMORYTYPE_UNIFIED:
            *address = device;
            *side = Side::Either;
            return CUDA_SUCCESS;
        case CU_MEMORYTYPE_ARRAY: return CUDA_ERROR_NOT_SUPPORTED;  // textures are not emulated
    }
    return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

namespace flexemu::driver {

CUresult make_copy(Call& call, const CUDA_MEMCPY3D& from, Copy* out) {
    Copy copy;
    Side to_side, from_side;
    if (CUresult error = side_of(from.dstMemoryType, from.dstHost, from.dstDevice, &copy.to, &to_side)) return error;
    if (CUresult error = side_of(from.srcMemoryType, from.srcHost, from.srcDevice, &copy.from, &from_side)) return error;
    if (from.srcLOD || from.dstLOD) return CUDA_ERROR_INVALID_VALUE;
    copy.width = from.WidthInBytes;
    copy.height = from.Height;
    copy.depth = from.Depth;
    // A pitch or height of zero is that of what is copied.
    copy.to_pitch = from.dstPitch ? from.dstPitch : from.WidthInBytes + from.dstXInBytes;
    copy.from_pitch = from.srcPitch ? from.srcPitch : from.WidthInBytes + from.srcXInBytes;
    copy.to_plane = copy.to_pitch * (from.dstHeight ? from.dstHeight : from.Height + from.dstY);
    copy.from_plane = copy.from_pitch * (from.srcHeight ? from.srcHeight : from.Height + from.srcY);
    if (copy.height > 1 && (copy.to_pitch < copy.width + from.dstXInBytes || copy.from_pitch < copy.width + from.srcXInBytes))
        return CUDA_ERROR_INVALID_VALUE;
    if (copy.depth > 1 && from.dstHeight && from.dstHeight < copy.height + from.dstY) return CUDA_ERROR_INVALID_VALUE;
    if (copy.depth > 1 && from.srcHeight && from.srcHeight < copy.height + from.srcY) return CUDA_ERROR_INVALID_VALUE;
    copy.to += from.dstXInBytes + from.dstY * copy.to_pitch + from.dstZ * copy.to_plane;
    copy.from += from.srcXInBytes + from.srcY * copy.from_pitch + from.srcZ * copy.from_plane;
    if (CUresult error = check(call, copy, to_side, from_side)) return error;
    *out = copy;
    return CUDA_SUCCESS;
}

CUresult make_fill(Call& call, const CUDA_MEMSET_NODE_PARAMS& from, Fill* out) {
    Fill fill{from.dst, from.value, from.elementSize, from.width, from.height, from.pitch};
    if (from.elementSize != 1 && from.elementSize != 2 && from.elementSize != 4) return CUDA_ERROR_INVALID_VALUE;
    if (fill.width && fill.height) {
        size_t row = fill.width * fill.element_bytes;
        if (fill.to % fill.element_bytes || (fill.height > 1 && (fill.pitch < row || fill.pitch % fill.element_bytes)))
            return CUDA_ERROR_INVALID_VALUE;
        bool device = false;
        if (CUresult error = resolve(call.driver(), fill.to, (fill.height - 1) * fill.pitch + row, Side::Device, &device)) return error;
    }
    *out = fill;
    return CUDA_SUCCESS;
}

}  // namespace flexemu::driver

namespace {

CUresult copy_3d(const CUDA_MEMCPY3D* from, bool async, CUstream stream) {
    FLEXEMU_CALL(Context);
    if (!from) return CUDA_ERROR_INVALID_VALUE;
    Copy copy;
    if (CUresult error = make_copy(call, *from, &copy)) return error;
    return submit(call, copy, async, stream);
}

CUresult copy_2d(const CUDA_MEMCPY2D* from, bool async, CUstream stream) {
    if (!from) return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D all{};
    all.srcXInBytes = from->srcXInBytes, all.srcY = from->srcY, all.srcMemoryType = from->srcMemoryType, all.srcHost = from->srcHost;
    all.srcDevice = from->srcDevice, all.srcPitch = from->srcPitch;
    all.dstXInBytes = from->dstXInBytes, all.dstY = from->dstY, all.dstMemoryType = from->dstMemoryType, all.dstHost = from->dstHost;
    all.dstDevice = from->dstDevice, all.dstPitch = from->dstPitch;
    all.WidthInBytes = from->WidthInBytes, all.Height = from->Height, all.Depth = 1;
    return copy_3d(&all, async, stream);
}

CUresult fill(CUdeviceptr to, unsigned value, unsigned element_bytes, size_t width, size_t height, size_t pitch, bool async,
              CUstream stream) {
    FLEXEMU_CALL(Context);
    Fill made;
    if (CUresult error = make_fill(call, {to, pitch, value, element_bytes, width, height}, &made)) return error;
    return submit(call, made, async, stream);
}

uint64_t number(const void* pointer) {
    return reinterpret_cast<uint64_t>(pointer);
}

}  // namespace

extern "C" {

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_bytes(to, Side::Either, from, Side::Either, bytes, false, nullptr);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    return copy_bytes(to, Side::Device, number(from), Side::Host, bytes, false, nullptr);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    return copy_bytes(number(to), Side::Host, from, Side::Device, bytes, false, nullptr);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_bytes(to, Side::Device, from, Side::Device, bytes, false, nullptr);
}
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes) {
    return copy_bytes(to, Side::Device, from, Side::Device, bytes, false, nullptr);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_bytes(to, Side::Either, from, Side::Either, bytes, true, stream);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    return copy_bytes(to, Side::Device, number(from), Side::Host, bytes, true, stream);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_bytes(number(to), Side::Host, from, Side::Device, bytes, true, stream);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_bytes(to, Side::Device, from, Side::Device, bytes, true, stream);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream) {
    return copy_bytes(to, Side::Device, from, Side::Device, bytes, true, stream);
}
CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* copy) {
    return copy_2d(copy, false, nullptr);
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* copy) {
    return copy_2d(copy, false, nullptr);
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream stream) {
    return copy_2d(copy, true, stream);
}
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* copy) {
    return copy_3d(copy, false, nullptr);
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* copy, CUstream stream) {
    return copy_3d(copy, true, stream);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    return fill(to, value, 1, count, 1, 0, false, nullptr);
}
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
    return fill(to, value, 2, count, 1, 0, false, nullptr);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
    return fill(to, value, 4, count, 1, 0, false, nullptr);
}
CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height) {
    return fill(to, value, 1, width, height, pitch, false, nullptr);
}
CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height) {
    return fill(to, value, 2, width, height, pitch, false, nullptr);
}
CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height) {
    return fill(to, value, 4, width, height, pitch, false, nullptr);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    return fill(to, value, 1, count, 1, 0, true, stream);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    return fill(to, value, 2, count, 1, 0, true, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    return fill(to, value, 4, count, 1, 0, true, stream);
}
CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream) {
    return fill(to, value, 1, width, height, pitch, true, stream);
}
CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height, CUstream stream) {
    return fill(to, value, 2, width, height, pitch, true, stream);
}
CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height, CUstream stream) {
    return fill(to, value, 4, width, height, pitch, true, stream);
}
}
