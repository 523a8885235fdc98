// Stream capture. A capture begins in one stream; others join it by waiting for an event recorded in it, and must be joined back before it ends. A stream
// in it carries the nodes that its next operation comes after. An operation that no graph can hold invalidates the capture: cuStreamEndCapture then fails.
#include <algorithm>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

thread_local CUstreamCaptureMode t_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool has_successor(const Graph& graph, const Node* node) {
    for (const auto& each : graph.nodes)
        if (std::find(each->after.begin(), each->after.end(), node) != each->after.end()) return true;
    return false;
}

void leave(Capture& capture) {
    for (Stream* stream : capture.streams) {
        stream->capture.reset();
        stream->after.clear();
    }
    capture.streams.clear();
}

CUresult begin(Call& call, CUstream handle, std::shared_ptr<Graph> graph, std::vector<Node*> after, CUstreamCaptureMode mode) {
    if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream == &call.context().legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    auto capture = std::make_shared<Capture>();
    capture->own_graph = !graph;
    capture->graph = graph ? std::move(graph) : std::make_shared<Graph>();
    capture->origin = stream;
    capture->thread = std::this_thread::get_id();
    capture->mode = mode;
    capture->id = call.driver().next_id++;
    capture->streams.insert(stream);
    stream->after = std::move(after);
    stream->capture = capture;
    call.driver().captures.insert(capture);
    return CUDA_SUCCESS;
}

CUresult information(Call& call, CUstream handle, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph, const CUgraphNode** after,
                     size_t* count) {
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (stream == &call.context().legacy)
        if (CUresult error = check_legacy_in_capture(call)) return error;
    if (!stream->capture) return CUDA_SUCCESS;
    *status = stream->capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (id) *id = stream->capture->id;
    if (stream->capture->invalidated) return CUDA_SUCCESS;
    if (graph) *graph = handle_of<CUgraph>(stream->capture->graph.get());
    stream->after_handles.clear();
    for (Node* node : stream->after) stream->after_handles.push_back(handle_of<CUgraphNode>(node));
    if (after) *after = stream->after_handles.data();
    if (count) *count = stream->after.size();
    return CUDA_SUCCESS;
}

}  // namespace

namespace flexemu::driver {

CUresult capture_work(Call&, Stream* stream, Work work) {
    if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->after = {add_node(*stream->capture->graph, std::move(work), stream->after)};
    return CUDA_SUCCESS;
}

CUresult refuse_in_capture(Stream* stream) {
    if (!stream->capture) return CUDA_SUCCESS;
    if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult check_unsafe_in_capture(Call& call) {
    if (t_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
    CUresult result = CUDA_SUCCESS;
    for (const auto& capture : call.driver().captures) {
        bool own = capture->thread == std::this_thread::get_id() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        bool other = t_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (!own && !other) continue;
        capture->invalidated = true;
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}

CUresult check_legacy_in_capture(Call& call) {
    CUresult result = CUDA_SUCCESS;
    for (const auto& capture : call.driver().captures)
        for (Stream* stream : capture->streams) {
            if (stream->context != &call.context() || (stream->flags & CU_STREAM_NON_BLOCKING)) continue;
            capture->invalidated = true;
            result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    return result;
}

CUresult wait_event(Call& call, Stream* stream, Event* event) {
    if (!event->captured) {
        if (!stream->capture || !event->recorded) return stream->capture ? CUDA_SUCCESS : enqueue(call, stream, WaitEvent{event});
        // What the event stands for is outside of the graph.
        stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    std::shared_ptr<Capture> capture = event->capture.lock();
    if (!capture || capture->streams.empty()) return CUDA_ERROR_CAPTURED_EVENT;  // that capture has ended
    if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream == &call.context().legacy) {
        capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    if (!stream->capture) {
        stream->capture = capture;
        capture->streams.insert(stream);
    } else if (stream->capture != capture) {
        stream->capture->invalidated = capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    for (Node* node : event->after)
        if (std::find(stream->after.begin(), stream->after.end(), node) == stream->after.end()) stream->after.push_back(node);
    return CUDA_SUCCESS;
}

void abandon_capture(Driver& driver, const std::shared_ptr<Capture>& capture) {
    std::shared_ptr<Capture> keep = capture;
    leave(*keep);
    driver.captures.erase(keep);
}

}  // namespace flexemu::driver

extern "C" {

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    FLEXEMU_CALL(Context);
    return begin(call, stream, nullptr, {}, mode);
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph handle, const CUgraphNode* after, const CUgraphEdgeData*, size_t count,
                                     CUstreamCaptureMode mode) {
    FLEXEMU_CALL(Context);
    auto graph = driver.graphs.find(handle);
    if (graph == driver.graphs.end() || (count && !after)) return CUDA_ERROR_INVALID_VALUE;
    std::vector<Node*> nodes;
    for (size_t i = 0; i < count; ++i) {
        Node* node = driver.find_node(after[i]);
        if (!node || node->graph != graph->second.get()) return CUDA_ERROR_INVALID_VALUE;
        nodes.push_back(node);
    }
    return begin(call, stream, graph->second, std::move(nodes), mode);
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    FLEXEMU_CALL(Context);
    if (!graph) return CUDA_ERROR_INVALID_VALUE;
    *graph = nullptr;
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    std::shared_ptr<Capture> capture = stream->capture;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) {
        capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    CUresult result = capture->invalidated ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    // The last work of every other stream must lead to the origin.
    for (Stream* other : capture->streams)
        for (Node* node : other->after)
            if (result == CUDA_SUCCESS && other != stream &&
                std::find(stream->after.begin(), stream->after.end(), node) == stream->after.end() && !has_successor(*capture->graph, node))
                result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    leave(*capture);
    driver.captures.erase(capture);
    if (result != CUDA_SUCCESS) return result;
    *graph = handle_of<CUgraph>(capture->graph.get());
    driver.graphs[*graph] = capture->graph;
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
    FLEXEMU_CALL(Context);
    return information(call, stream, status, nullptr, nullptr, nullptr, nullptr);
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph, const CUgraphNode** after,
                                   size_t* count) {
    FLEXEMU_CALL(Context);
    return information(call, stream, status, id, graph, after, count);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph, const CUgraphNode** after,
                                   const CUgraphEdgeData** edges, size_t* count) {
    if (edges) *edges = nullptr;  // all edges are plain
    return cuStreamGetCaptureInfo_v2(stream, status, id, graph, after, count);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode* after, size_t count, unsigned flags) {
    FLEXEMU_CALL(Context);
    if (flags > 1 || (count && !after)) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!stream->capture || stream->capture->invalidated) return CUDA_ERROR_ILLEGAL_STATE;
    std::vector<Node*> nodes;
    if (flags == 0) nodes = stream->after;
    for (size_t i = 0; i < count; ++i) {
        Node* node = driver.find_node(after[i]);
        if (!node || node->graph != stream->capture->graph.get()) return CUDA_ERROR_INVALID_VALUE;
        if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
    }
    stream->after = std::move(nodes);
    return CUDA_SUCCESS;
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream stream, CUgraphNode* after, const CUgraphEdgeData*, size_t count, unsigned flags) {
    return cuStreamUpdateCaptureDependencies(stream, after, count, flags);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    if (!mode || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    std::swap(*mode, t_mode);
    return CUDA_SUCCESS;
}
}
