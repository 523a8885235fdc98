// Streams and events. Work runs when it is enqueued, so a stream is always idle and an event done; what is left of them is validity, flags, time and capture.
#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

/// Where the current call looks for a stream that must exist.
#define FLEXEMU_STREAM(name, handle)          \
    Stream* name = find_stream(call, handle); \
    if (!name) return CUDA_ERROR_INVALID_HANDLE

struct Callback {
    CUstreamCallback function;
    CUstream stream;
    void* data;
};
void call_back(void* raw) {
    auto* callback = static_cast<Callback*>(raw);
    callback->function(callback->stream, CUDA_SUCCESS, callback->data);
}

CUresult record(Call& call, CUevent handle, CUstream stream_handle) {
    Event* event = call.driver().events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    FLEXEMU_STREAM(stream, stream_handle);
    if (stream->context != event->context) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) {
        // No node: the event stands for what the stream has done so far, for other streams to wait for.
        if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        event->recorded = true;
        event->captured = true;
        event->capture = stream->capture;
        event->after = stream->after;
        return CUDA_SUCCESS;
    }
    return enqueue(call, stream, RecordEvent{event});
}

CUresult elapsed(float* milliseconds, CUevent from_handle, CUevent to_handle) {
    FLEXEMU_CALL(Context);
    Event *from = driver.events.find(from_handle), *to = driver.events.find(to_handle);
    if (!from || !to) return CUDA_ERROR_INVALID_HANDLE;
    if (!milliseconds) return CUDA_ERROR_INVALID_VALUE;
    if (!from->recorded || !to->recorded || ((from->flags | to->flags) & CU_EVENT_DISABLE_TIMING)) return CUDA_ERROR_INVALID_HANDLE;
    if (from->captured || to->captured) return CUDA_ERROR_CAPTURED_EVENT;
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return CUDA_SUCCESS;
}

CUresult event_done(CUevent handle) {
    FLEXEMU_CALL(Context);
    Event* event = driver.events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured) {
        if (auto capture = event->capture.lock()) capture->invalidated = true;
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuStreamCreateWithPriority(CUstream* out, unsigned flags, int priority) {
    FLEXEMU_CALL(Context);
    if (!out || (flags & ~CU_STREAM_NON_BLOCKING)) return CUDA_ERROR_INVALID_VALUE;
    auto stream = std::make_unique<Stream>();
    stream->context = &call.context();
    stream->flags = flags;
    stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    stream->id = driver.next_id++;
    *out = handle_of<CUstream>(driver.streams.add(std::move(stream)));
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
    return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
    FLEXEMU_CALL(Context);
    Stream* stream = driver.streams.find(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->invalidated = true;
        stream->capture->streams.erase(stream);
        if (stream->capture->origin == stream) abandon_capture(driver, stream->capture);
    }
    driver.streams.remove(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
    FLEXEMU_CALL(Context);
    if (!priority) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    *priority = stream->priority;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
    FLEXEMU_CALL(Context);
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    *flags = stream->flags;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
    FLEXEMU_CALL(Context);
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    *id = stream == &call.context().legacy ? 1 : stream->id + 2;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice* device) {
    FLEXEMU_CALL(Context);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    static_cast<void>(stream);
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
    FLEXEMU_CALL(Context);
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    *context = handle_of<CUcontext>(stream->context);
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext* context, void** green) {
    if (green) *green = nullptr;
    return cuStreamGetCtx(handle, context);
}

CUresult cuStreamQuery(CUstream handle) {
    FLEXEMU_CALL(Context);
    FLEXEMU_STREAM(stream, handle);
    if (CUresult error = refuse_in_capture(stream)) return error;
    return stream == &call.context().legacy ? check_legacy_in_capture(call) : CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    return cuStreamQuery(handle);
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    Event* event = driver.events.find(event_handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    FLEXEMU_STREAM(stream, handle);
    return wait_event(call, stream, event);
}

CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback function, void* data, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!function || flags) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    if (CUresult error = refuse_in_capture(stream)) return error;
    Callback callback{function, handle, data};
    return enqueue(call, stream, HostCall{call_back, &callback});
}

CUresult cuStreamAttachMemAsync(CUstream handle, CUdeviceptr address, size_t, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (flags != 1 && flags != 2 && flags != 4) return CUDA_ERROR_INVALID_VALUE;
    FLEXEMU_STREAM(stream, handle);
    auto it = driver.allocation_at(address);
    if (it == driver.allocations.end() || it->second.kind != Allocation::Kind::Managed) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(call, stream, Nothing{});
}

CUresult cuEventCreate(CUevent* out, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (!out || (flags & ~CU_EVENT_FLAGS)) return CUDA_ERROR_INVALID_VALUE;
    if ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING)) return CUDA_ERROR_INVALID_VALUE;
    auto event = std::make_unique<Event>();
    event->context = &call.context();
    event->flags = flags;
    *out = handle_of<CUevent>(driver.events.add(std::move(event)));
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent handle) {
    FLEXEMU_CALL(Context);
    Event* event = driver.events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    driver.events.remove(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    FLEXEMU_CALL(Context);
    return record(call, event, stream);
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (flags & ~CU_EVENT_RECORD_EXTERNAL) return CUDA_ERROR_INVALID_VALUE;
    Event* event = driver.events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    FLEXEMU_STREAM(stream, stream_handle);
    // An external record is a node: it happens whenever the graph runs.
    if (flags && stream->capture) return capture_work(call, stream, RecordEvent{event});
    return record(call, handle, stream_handle);
}

CUresult cuEventQuery(CUevent event) {
    return event_done(event);
}
CUresult cuEventSynchronize(CUevent event) {
    return event_done(event);
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
    return elapsed(milliseconds, from, to);
}
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent from, CUevent to) {
    return elapsed(milliseconds, from, to);
}
}
