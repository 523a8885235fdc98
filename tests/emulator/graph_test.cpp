// Streams, events, capture and graphs.
#include <thread>

#include "tests/emulator/driver_api.h"

using namespace emulator_test;

namespace {

struct Streams {
    CUstream a = nullptr, b = nullptr;
    CUevent fork = nullptr, join = nullptr;
    Streams() {
        REQUIRE_CU(CU(cuStreamCreate)(&a, CU_STREAM_NON_BLOCKING));
        REQUIRE_CU(CU(cuStreamCreate)(&b, CU_STREAM_NON_BLOCKING));
        REQUIRE_CU(CU(cuEventCreate)(&fork, CU_EVENT_DISABLE_TIMING));
        REQUIRE_CU(CU(cuEventCreate)(&join, CU_EVENT_DISABLE_TIMING));
    }
};

CUgraph end(CUstream stream, CUresult expected = CUDA_SUCCESS) {
    CUgraph graph = nullptr;
    CHECK(CU(cuStreamEndCapture)(stream, &graph) == expected);
    CHECK((graph != nullptr) == (expected == CUDA_SUCCESS));
    return graph;
}

}  // namespace

TEST_CASE("events have times") {
    Session session;
    CUevent from = nullptr, to = nullptr, timeless = nullptr;
    float milliseconds = -1;
    REQUIRE_CU(CU(cuEventCreate)(&from, 0));
    REQUIRE_CU(CU(cuEventCreate)(&to, 0));
    REQUIRE_CU(CU(cuEventCreate)(&timeless, CU_EVENT_DISABLE_TIMING));
    CHECK(CU(cuEventQuery)(to) == CUDA_SUCCESS);  // never recorded: nothing to wait for
    CHECK(CU(cuEventElapsedTime)(&milliseconds, from, to) == CUDA_ERROR_INVALID_HANDLE);
    REQUIRE_CU(CU(cuEventRecord)(from, nullptr));
    CUdeviceptr counts = session.allocate(4096);
    REQUIRE_CU(CU(cuMemsetD32_v2)(counts, 0, 1024));
    REQUIRE_CU(session.add(counts, 1, 1024));
    REQUIRE_CU(CU(cuEventRecord)(to, nullptr));
    REQUIRE_CU(CU(cuEventRecord)(timeless, nullptr));
    REQUIRE_CU(CU(cuEventSynchronize)(to));
    REQUIRE_CU(CU(cuEventElapsedTime)(&milliseconds, from, to));
    CHECK(milliseconds > 0);
    CHECK(CU(cuEventElapsedTime)(&milliseconds, from, timeless) == CUDA_ERROR_INVALID_HANDLE);
    REQUIRE_CU(CU(cuEventDestroy_v2)(to));
    CHECK(CU(cuEventQuery)(to) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE("a captured stream computes nothing until the graph is launched") {
    Session session;
    Streams streams;
    CUdeviceptr values = session.allocate(400), copy = session.allocate(400);
    REQUIRE_CU(CU(cuMemsetD32_v2)(copy, 1, 100));
    REQUIRE_CU(CU(cuStreamBeginCapture_v2)(streams.a, CU_STREAM_CAPTURE_MODE_GLOBAL));
    REQUIRE_CU(CU(cuMemsetD32Async)(values, 2, 100, streams.a));
    REQUIRE_CU(session.affine(values, 3, 1, 100, streams.a));
    REQUIRE_CU(CU(cuMemcpyDtoDAsync_v2)(copy, values, 400, streams.a));
    int calls = 0;
    REQUIRE_CU(CU(cuLaunchHostFunc)(streams.a, [](void* data) { ++*static_cast<int*>(data); }, &calls));
    CUstreamCaptureStatus status;
    uint64_t id = 0;
    size_t count = 0;
    const CUgraphNode* after = nullptr;
    CUgraph building = nullptr;
    REQUIRE_CU(CU(cuStreamGetCaptureInfo_v2)(streams.a, &status, &id, &building, &after, &count));
    CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    CHECK(count == 1);
    CUgraph graph = end(streams.a);
    CHECK(graph == building);
    CHECK(calls == 0);
    CHECK(session.read(copy, 1)[0] == 1);

    size_t nodes = 0;
    REQUIRE_CU(CU(cuGraphGetNodes)(graph, nullptr, &nodes));
    CHECK(nodes == 4);
    CUgraphExec exec = nullptr;
    REQUIRE_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
    for (int i = 1; i <= 3; ++i) {
        REQUIRE_CU(CU(cuGraphLaunch)(exec, streams.a));
        REQUIRE_CU(CU(cuStreamSynchronize)(streams.a));
        CHECK(session.read(copy, 100) == std::vector<unsigned>(100, 7));
        CHECK(calls == i);
    }
    REQUIRE_CU(CU(cuGraphExecDestroy)(exec));
    CHECK(CU(cuGraphLaunch)(exec, streams.a) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("streams fork and join in a capture") {
    Session session;
    Streams streams;
    CUdeviceptr left = session.allocate(4), right = session.allocate(4);
    REQUIRE_CU(CU(cuMemsetD32_v2)(left, 1, 1));
    REQUIRE_CU(CU(cuMemsetD32_v2)(right, 1, 1));
    REQUIRE_CU(CU(cuStreamBeginCapture_v2)(streams.a, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    REQUIRE_CU(session.affine(left, 10, 0, 1, streams.a));
    REQUIRE_CU(CU(cuEventRecord)(streams.fork, streams.a));
    CHECK(CU(cuEventQuery)(streams.join) == CUDA_SUCCESS);
    REQUIRE_CU(CU(cuStreamWaitEvent)(streams.b, streams.fork, 0));
    REQUIRE_CU(session.affine(left, 1, 5, 1, streams.a));
    REQUIRE_CU(session.affine(right, 100, 7, 1, streams.b));
    REQUIRE_CU(CU(cuEventRecord)(streams.join, streams.b));
    REQUIRE_CU(CU(cuStreamWaitEvent)(streams.a, streams.join, 0));
    REQUIRE_CU(CU(cuMemcpyDtoDAsync_v2)(left, right, 4, streams.a));
    CUgraph graph = end(streams.a);
    size_t edges = 0;
    REQUIRE_CU(CU(cuGraphGetEdges)(graph, nullptr, nullptr, &edges));
    CHECK(edges == 4);
    CUgraphExec exec = nullptr;
    REQUIRE_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    REQUIRE_CU(CU(cuGraphLaunch)(exec, streams.b));
    CHECK(session.read(left, 1)[0] == 107);
    CUstreamCaptureStatus status;
    REQUIRE_CU(CU(cuStreamIsCapturing)(streams.b, &status));
    CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE);
    REQUIRE_CU(CU(cuGraphExecDestroy)(exec));
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
}

TEST_CASE("what a capture cannot hold is refused and ends it") {
    Session session;
    Streams streams;
    CUdeviceptr memory = 0, values = session.allocate(4);
    auto begin = [&](CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL) {
        REQUIRE_CU(CU(cuStreamBeginCapture_v2)(streams.a, mode));
    };

    CHECK(CU(cuStreamBeginCapture_v2)(nullptr, CU_STREAM_CAPTURE_MODE_GLOBAL) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    begin();
    CHECK(CU(cuMemAlloc_v2)(&memory, 4) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK(session.add(values, 1, 1, streams.a) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin();
    CHECK(CU(cuStreamSynchronize)(streams.a) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin();
    CHECK(CU(cuCtxSynchronize)() == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin();
    CHECK(CU(cuMemcpyHtoD_v2)(values, &memory, 4) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin();
    REQUIRE_CU(CU(cuEventRecord)(streams.fork, streams.a));
    CHECK(CU(cuEventSynchronize)(streams.fork) == CUDA_ERROR_CAPTURED_EVENT);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    // Relaxed captures, and threads in relaxed mode, may do as they like.
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    REQUIRE_CU(CU(cuMemAlloc_v2)(&memory, 4));
    REQUIRE_CU(CU(cuGraphDestroy)(end(streams.a)));
    begin();
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    REQUIRE_CU(CU(cuThreadExchangeStreamCaptureMode)(&mode));
    CHECK(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
    REQUIRE_CU(CU(cuMemFree_v2)(memory));
    REQUIRE_CU(CU(cuThreadExchangeStreamCaptureMode)(&mode));
    REQUIRE_CU(CU(cuGraphDestroy)(end(streams.a)));

    // A stream that joined must be joined back.
    begin();
    REQUIRE_CU(CU(cuEventRecord)(streams.fork, streams.a));
    REQUIRE_CU(CU(cuStreamWaitEvent)(streams.b, streams.fork, 0));
    REQUIRE_CU(session.add(values, 1, 1, streams.b));
    CHECK(CU(cuStreamEndCapture)(streams.b, nullptr) == CUDA_ERROR_INVALID_VALUE);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    // A dependency on work outside.
    REQUIRE_CU(CU(cuEventRecord)(streams.join, streams.b));
    begin();
    CHECK(CU(cuStreamWaitEvent)(streams.a, streams.join, 0) == CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    end(streams.a, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    // Work on the default stream would wait for a blocking stream.
    CUstream blocking = nullptr;
    REQUIRE_CU(CU(cuStreamCreate)(&blocking, 0));
    REQUIRE_CU(CU(cuStreamBeginCapture_v2)(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK(session.add(values, 1, 1) == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    end(blocking, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    // Another thread cannot end it.
    begin();
    std::thread([&] {
        CUgraph graph = nullptr;
        CU(cuCtxSetCurrent)(session.context);
        CHECK(CU(cuStreamEndCapture)(streams.a, &graph) == CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }).join();
    REQUIRE_CU(CU(cuGraphDestroy)(end(streams.a)));
    CHECK(CU(cuStreamEndCapture)(streams.a, nullptr) == CUDA_ERROR_INVALID_VALUE);
    CUgraph graph = nullptr;
    CHECK(CU(cuStreamEndCapture)(streams.a, &graph) == CUDA_ERROR_ILLEGAL_STATE);
}

TEST_CASE("memory in stream order, also in a capture") {
    Session session;
    Streams streams;
    CUdeviceptr memory = 0, out = session.allocate(16);
    REQUIRE_CU(CU(cuMemAllocAsync)(&memory, 16, streams.a));
    REQUIRE_CU(CU(cuMemsetD32Async)(memory, 9, 4, streams.a));
    REQUIRE_CU(CU(cuMemcpyAsync)(out, memory, 16, streams.a));
    REQUIRE_CU(CU(cuMemFreeAsync)(memory, streams.a));
    CHECK(session.read(out, 4) == std::vector<unsigned>(4, 9));
    CHECK(CU(cuMemFreeAsync)(memory, streams.a) == CUDA_ERROR_INVALID_VALUE);

    REQUIRE_CU(CU(cuStreamBeginCapture_v2)(streams.a, CU_STREAM_CAPTURE_MODE_GLOBAL));
    REQUIRE_CU(CU(cuMemAllocAsync)(&memory, 16, streams.a));
    REQUIRE_CU(CU(cuMemsetD32Async)(memory, 8, 4, streams.a));
    REQUIRE_CU(CU(cuMemcpyAsync)(out, memory, 16, streams.a));
    REQUIRE_CU(CU(cuMemFreeAsync)(memory, streams.a));
    CUgraph graph = end(streams.a);
    CUgraphExec exec = nullptr;
    REQUIRE_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    for (int i = 0; i < 2; ++i) REQUIRE_CU(CU(cuGraphLaunch)(exec, streams.a));
    CHECK(session.read(out, 4) == std::vector<unsigned>(4, 8));
    REQUIRE_CU(CU(cuGraphExecDestroy)(exec));
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
}

TEST_CASE("graphs node by node: edges, parameters, updates, cycles") {
    Session session;
    Streams streams;
    CUdeviceptr values = session.allocate(4);
    unsigned factor = 2, amount = 1, n = 1;
    void* parameters[] = {&values, &factor, &amount, &n};
    CUDA_KERNEL_NODE_PARAMS launch{session.function("affine"), 1, 1, 1, 1, 1, 1, 0, parameters, nullptr, nullptr, nullptr};
    CUDA_MEMSET_NODE_PARAMS fill{values, 0, 5, 4, 1, 1};
    CUgraph graph = nullptr;
    CUgraphNode first = nullptr, second = nullptr, third = nullptr;
    REQUIRE_CU(CU(cuGraphCreate)(&graph, 0));
    REQUIRE_CU(CU(cuGraphAddKernelNode_v2)(&third, graph, nullptr, 0, &launch));
    REQUIRE_CU(CU(cuGraphAddMemsetNode)(&first, graph, nullptr, 0, &fill, session.context));
    REQUIRE_CU(CU(cuGraphAddEmptyNode)(&second, graph, &first, 1));
    REQUIRE_CU(CU(cuGraphAddDependencies)(graph, &second, &third, 1));
    CHECK(CU(cuGraphAddDependencies)(graph, &second, &third, 1) == CUDA_ERROR_INVALID_VALUE);
    CUgraphNodeType type;
    REQUIRE_CU(CU(cuGraphNodeGetType)(first, &type));
    CHECK(type == CU_GRAPH_NODE_TYPE_MEMSET);
    CUgraphExec exec = nullptr;
    REQUIRE_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    REQUIRE_CU(CU(cuGraphLaunch)(exec, streams.a));
    CHECK(session.read(values, 1)[0] == 11);
    amount = 4;
    REQUIRE_CU(CU(cuGraphExecKernelNodeSetParams_v2)(exec, third, &launch));
    REQUIRE_CU(CU(cuGraphLaunch)(exec, streams.a));
    CHECK(session.read(values, 1)[0] == 14);

    CUDA_KERNEL_NODE_PARAMS got{};
    REQUIRE_CU(CU(cuGraphKernelNodeGetParams_v2)(third, &got));
    CHECK(*static_cast<unsigned*>(got.kernelParams[2]) == 1);  // the graph itself is as it was
    REQUIRE_CU(CU(cuGraphKernelNodeSetParams_v2)(third, &launch));
    CUgraph clone = nullptr;
    REQUIRE_CU(CU(cuGraphClone)(&clone, graph));
    CUgraphExecUpdateResultInfo info{};
    REQUIRE_CU(CU(cuGraphExecUpdate_v2)(exec, clone, &info));
    CHECK(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS);
    CUgraphNode more = nullptr;
    REQUIRE_CU(CU(cuGraphAddEmptyNode)(&more, clone, nullptr, 0));
    CHECK(CU(cuGraphExecUpdate_v2)(exec, clone, &info) == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);

    REQUIRE_CU(CU(cuGraphAddDependencies)(graph, &third, &first, 1));
    CUgraphExec cyclic = nullptr;
    CHECK(CU(cuGraphInstantiateWithFlags)(&cyclic, graph, 0) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE_CU(CU(cuGraphDestroy)(clone));
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
    REQUIRE_CU(CU(cuGraphExecDestroy)(exec));
}

TEST_CASE("a graph outlives the module of its launches, but cannot run") {
    Session session;
    Streams streams;
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    CUdeviceptr values = session.allocate(4);
    unsigned factor = 2, amount = 1, n = 1;
    void* parameters[] = {&values, &factor, &amount, &n};
    REQUIRE_CU(CU(cuModuleLoadData)(&module, kKernels));
    REQUIRE_CU(CU(cuModuleGetFunction)(&function, module, "affine"));
    REQUIRE_CU(CU(cuMemsetD32_v2)(values, 1, 1));
    REQUIRE_CU(CU(cuStreamBeginCapture_v2)(streams.a, CU_STREAM_CAPTURE_MODE_GLOBAL));
    REQUIRE_CU(CU(cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0, streams.a, parameters, nullptr));
    CUgraph graph = end(streams.a);
    CUgraphExec exec = nullptr;
    REQUIRE_CU(CU(cuGraphInstantiateWithFlags)(&exec, graph, 0));
    REQUIRE_CU(CU(cuModuleUnload)(module));
    CHECK(CU(cuGraphLaunch)(exec, streams.a) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(session.read(values, 1)[0] == 1);
    REQUIRE_CU(CU(cuGraphExecDestroy)(exec));
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
}

TEST_CASE("each thread has a default stream of its own") {
    Session session;
    CUdeviceptr values = session.allocate(4);
    REQUIRE_CU(CU(cuMemsetD32_v2)(values, 0, 1));
    REQUIRE_CU(CU(cuStreamBeginCapture_v2_ptsz)(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
    REQUIRE_CU(session.add(values, 1, 1, CU_STREAM_PER_THREAD));
    std::thread([&] {
        CU(cuCtxSetCurrent)(session.context);
        CUstreamCaptureStatus status;
        CHECK(CU(cuStreamIsCapturing_ptsz)(nullptr, &status) == CUDA_SUCCESS);
        CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE);
    }).join();
    CUgraph graph = nullptr;
    REQUIRE_CU(CU(cuStreamEndCapture_ptsz)(nullptr, &graph));
    CHECK(session.read(values, 1)[0] == 0);
    REQUIRE_CU(CU(cuGraphDestroy)(graph));
}
