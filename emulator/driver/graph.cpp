// Graphs: made by capture or node by node, instantiated to a list of steps, launched. work.cpp runs them.
#include <algorithm>
#include <cstdio>

#include "emulator/driver/call.h"

using namespace flexemu::driver;

namespace {

std::shared_ptr<Graph> find_graph(Driver& driver, CUgraph handle) {
    if (auto it = driver.graphs.find(handle); it != driver.graphs.end()) return it->second;
    for (const auto& capture : driver.captures)
        if (handle_of<CUgraph>(capture->graph.get()) == handle) return capture->graph;
    return nullptr;
}

CUgraphNodeType type_of(const Work& work) {
    struct Type {
        CUgraphNodeType operator()(const Launch&) { return CU_GRAPH_NODE_TYPE_KERNEL; }
        CUgraphNodeType operator()(const Copy&) { return CU_GRAPH_NODE_TYPE_MEMCPY; }
        CUgraphNodeType operator()(const Fill&) { return CU_GRAPH_NODE_TYPE_MEMSET; }
        CUgraphNodeType operator()(const HostCall&) { return CU_GRAPH_NODE_TYPE_HOST; }
        CUgraphNodeType operator()(const ChildGraph&) { return CU_GRAPH_NODE_TYPE_GRAPH; }
        CUgraphNodeType operator()(const Nothing&) { return CU_GRAPH_NODE_TYPE_EMPTY; }
        CUgraphNodeType operator()(const WaitEvent&) { return CU_GRAPH_NODE_TYPE_WAIT_EVENT; }
        CUgraphNodeType operator()(const RecordEvent&) { return CU_GRAPH_NODE_TYPE_EVENT_RECORD; }
        CUgraphNodeType operator()(const AllocateNode&) { return CU_GRAPH_NODE_TYPE_MEM_ALLOC; }
        CUgraphNodeType operator()(const FreeNode&) { return CU_GRAPH_NODE_TYPE_MEM_FREE; }
    };
    return std::visit(Type{}, work);
}

CUresult add(Call& call, CUgraphNode* out, CUgraph handle, const CUgraphNode* after, size_t count, Work work) {
    std::shared_ptr<Graph> graph = find_graph(call.driver(), handle);
    if (!out || !graph || (count && !after)) return CUDA_ERROR_INVALID_VALUE;
    std::vector<Node*> nodes;
    for (size_t i = 0; i < count; ++i) {
        Node* node = call.driver().find_node(after[i]);
        if (!node || node->graph != graph.get() || std::find(nodes.begin(), nodes.end(), node) != nodes.end())
            return CUDA_ERROR_INVALID_VALUE;
        nodes.push_back(node);
    }
    *out = handle_of<CUgraphNode>(add_node(*graph, std::move(work), std::move(nodes)));
    return CUDA_SUCCESS;
}

CUresult make_launch(Call& call, const CUDA_KERNEL_NODE_PARAMS* from, Launch* out) {
    if (!from) return CUDA_ERROR_INVALID_VALUE;
    Launch launch;
    launch.function = call.driver().find_function(from->func ? from->func : reinterpret_cast<CUfunction>(from->kern), &call.context());
    if (!launch.function) return CUDA_ERROR_INVALID_VALUE;
    launch.grid = {from->gridDimX, from->gridDimY, from->gridDimZ};
    launch.block = {from->blockDimX, from->blockDimY, from->blockDimZ};
    launch.shared_bytes = from->sharedMemBytes;
    if (CUresult error = check_launch(call, launch)) return error;
    if (CUresult error = pack_parameters(*launch.function, from->kernelParams, from->extra, &launch.parameters)) return error;
    *out = std::move(launch);
    return CUDA_SUCCESS;
}

std::shared_ptr<Graph> copy_of(const Graph& graph) {
    auto copy = std::make_shared<Graph>();
    std::map<const Node*, Node*> now;
    for (const auto& node : graph.nodes) now[node.get()] = add_node(*copy, node->work, {});
    for (const auto& node : graph.nodes)
        for (Node* before : node->after) now[node.get()]->after.push_back(now[before]);
    return copy;
}

CUresult instantiate_graph(Call& call, CUgraphExec* out, CUgraph handle, unsigned long long flags) {
    std::shared_ptr<Graph> graph = find_graph(call.driver(), handle);
    if (!out || !graph || (flags & ~0xFULL)) return CUDA_ERROR_INVALID_VALUE;
    if (flags & 4) return CUDA_ERROR_NOT_SUPPORTED;  // launches from the device
    auto exec = std::make_shared<GraphExec>();
    if (CUresult error = instantiate(*graph, exec.get())) return error;
    *out = handle_of<CUgraphExec>(exec.get());
    call.driver().execs[*out] = std::move(exec);
    return CUDA_SUCCESS;
}

/// The common protocol of lists: with null arrays the number, else as many as fit; the rest of the room is nulled.
CUresult give(const std::vector<Node*>& nodes, CUgraphNode* out, size_t* count) {
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    if (out)
        for (size_t i = 0; i < *count; ++i) out[i] = i < nodes.size() ? handle_of<CUgraphNode>(nodes[i]) : nullptr;
    *count = out ? std::min(*count, nodes.size()) : nodes.size();
    return CUDA_SUCCESS;
}

CUresult list_nodes(CUgraph handle, CUgraphNode* out, size_t* count, bool roots) {
    FLEXEMU_CALL(Driver);
    std::shared_ptr<Graph> graph = find_graph(driver, handle);
    if (!graph) return CUDA_ERROR_INVALID_VALUE;
    std::vector<Node*> nodes;
    for (const auto& node : graph->nodes)
        if (!roots || node->after.empty()) nodes.push_back(node.get());
    return give(nodes, out, count);
}

}  // namespace

namespace flexemu::driver {

Node* add_node(Graph& graph, Work work, std::vector<Node*> after) {
    auto node = std::make_unique<Node>();
    node->graph = &graph;
    node->work = std::move(work);
    node->after = std::move(after);
    graph.nodes.push_back(std::move(node));
    return graph.nodes.back().get();
}

CUresult instantiate(const Graph& graph, GraphExec* exec) {
    std::map<const Node*, size_t> number;
    for (const auto& node : graph.nodes) number[node.get()] = number.size();
    for (const auto& node : graph.nodes) {
        GraphExec::Step step{node->work, {}, node.get()};
        // Later changes of a child do not reach what was instantiated.
        if (auto* child = std::get_if<ChildGraph>(&step.work)) child->graph = copy_of(*child->graph);
        for (const Node* before : node->after) step.after.push_back(number.at(before));
        exec->steps.push_back(std::move(step));
    }
    // A cycle leaves steps that can never run.
    std::vector<bool> done(exec->steps.size());
    for (bool progress = true; progress;) {
        progress = false;
        for (size_t i = 0; i < done.size(); ++i) {
            const auto& after = exec->steps[i].after;
            if (!done[i] && std::all_of(after.begin(), after.end(), [&](size_t before) { return done[before]; })) progress = done[i] = true;
        }
    }
    return std::find(done.begin(), done.end(), false) == done.end() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace flexemu::driver

extern "C" {

CUresult cuGraphCreate(CUgraph* out, unsigned flags) {
    FLEXEMU_CALL(Driver);
    if (!out || flags) return CUDA_ERROR_INVALID_VALUE;
    auto graph = std::make_shared<Graph>();
    *out = handle_of<CUgraph>(graph.get());
    driver.graphs[*out] = std::move(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph handle) {
    FLEXEMU_CALL(Driver);
    return driver.graphs.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphClone(CUgraph* out, CUgraph handle) {
    FLEXEMU_CALL(Driver);
    std::shared_ptr<Graph> graph = find_graph(driver, handle);
    if (!out || !graph) return CUDA_ERROR_INVALID_VALUE;
    std::shared_ptr<Graph> copy = copy_of(*graph);
    *out = handle_of<CUgraph>(copy.get());
    driver.graphs[*out] = std::move(copy);
    return CUDA_SUCCESS;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                                 const CUDA_KERNEL_NODE_PARAMS* parameters) {
    FLEXEMU_CALL(Context);
    Launch launch;
    if (CUresult error = make_launch(call, parameters, &launch)) return error;
    return add(call, node, graph, after, count, std::move(launch));
}

CUresult cuGraphAddMemcpyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count, const CUDA_MEMCPY3D* parameters,
                              CUcontext) {
    FLEXEMU_CALL(Context);
    Copy copy;
    if (!parameters) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = make_copy(call, *parameters, &copy)) return error;
    return add(call, node, graph, after, count, copy);
}

CUresult cuGraphAddMemsetNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                              const CUDA_MEMSET_NODE_PARAMS* parameters, CUcontext) {
    FLEXEMU_CALL(Context);
    Fill fill;
    if (!parameters) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = make_fill(call, *parameters, &fill)) return error;
    return add(call, node, graph, after, count, fill);
}

CUresult cuGraphAddHostNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count, const CUDA_HOST_NODE_PARAMS* host) {
    FLEXEMU_CALL(Driver);
    if (!host || !host->fn) return CUDA_ERROR_INVALID_VALUE;
    return add(call, node, graph, after, count, HostCall{host->fn, host->userData});
}

CUresult cuGraphAddChildGraphNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count, CUgraph child_handle) {
    FLEXEMU_CALL(Driver);
    std::shared_ptr<Graph> child = find_graph(driver, child_handle);
    if (!child || child_handle == graph) return CUDA_ERROR_INVALID_VALUE;
    return add(call, node, graph, after, count, ChildGraph{copy_of(*child)});
}

CUresult cuGraphAddEmptyNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count) {
    FLEXEMU_CALL(Driver);
    return add(call, node, graph, after, count, Nothing{});
}

CUresult cuGraphAddDependencies(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to, size_t count) {
    FLEXEMU_CALL(Driver);
    std::shared_ptr<Graph> graph = find_graph(driver, handle);
    if (!graph || (count && (!from || !to))) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; ++i) {
        Node *before = driver.find_node(from[i]), *after = driver.find_node(to[i]);
        if (!before || !after || before == after || before->graph != graph.get() || after->graph != graph.get())
            return CUDA_ERROR_INVALID_VALUE;
        if (std::find(after->after.begin(), after->after.end(), before) != after->after.end()) return CUDA_ERROR_INVALID_VALUE;
        after->after.push_back(before);
    }
    return CUDA_SUCCESS;
}

CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, const CUgraphEdgeData*, size_t count) {
    return cuGraphAddDependencies(graph, from, to, count);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
    return list_nodes(graph, nodes, count, false);
}
CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
    return list_nodes(graph, nodes, count, true);
}

CUresult cuGraphGetEdges(CUgraph handle, CUgraphNode* from, CUgraphNode* to, size_t* count) {
    FLEXEMU_CALL(Driver);
    std::shared_ptr<Graph> graph = find_graph(driver, handle);
    if (!graph || !count || !from != !to) return CUDA_ERROR_INVALID_VALUE;
    std::vector<Node*> starts, ends;
    for (const auto& node : graph->nodes)
        for (Node* before : node->after) {
            starts.push_back(before);
            ends.push_back(node.get());
        }
    size_t room = *count;
    if (CUresult error = give(starts, from, count)) return error;
    return give(ends, to, from ? &room : count);
}

CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* edges, size_t* count) {
    CUresult result = cuGraphGetEdges(graph, from, to, count);
    if (result == CUDA_SUCCESS && edges && from) std::fill(edges, edges + *count, CUgraphEdgeData{});
    return result;
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
    FLEXEMU_CALL(Driver);
    Node* node = driver.find_node(handle);
    if (!node || !type) return CUDA_ERROR_INVALID_VALUE;
    *type = type_of(node->work);
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetDependencies(CUgraphNode handle, CUgraphNode* nodes, size_t* count) {
    FLEXEMU_CALL(Driver);
    Node* node = driver.find_node(handle);
    return node ? give(node->after, nodes, count) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* edges, size_t* count) {
    CUresult result = cuGraphNodeGetDependencies(node, nodes, count);
    if (result == CUDA_SUCCESS && edges && nodes) std::fill(edges, edges + *count, CUgraphEdgeData{});
    return result;
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS* out) {
    FLEXEMU_CALL(Driver);
    Node* node = driver.find_node(handle);
    auto* launch = node ? std::get_if<Launch>(&node->work) : nullptr;
    if (!launch || !out) return CUDA_ERROR_INVALID_VALUE;
    if (!driver.find_function(handle_of<CUfunction>(launch->function), nullptr)) return CUDA_ERROR_INVALID_HANDLE;  // its module is gone
    *out = {};
    out->func = handle_of<CUfunction>(launch->function);
    out->gridDimX = launch->grid[0], out->gridDimY = launch->grid[1], out->gridDimZ = launch->grid[2];
    out->blockDimX = launch->block[0], out->blockDimY = launch->block[1], out->blockDimZ = launch->block[2];
    out->sharedMemBytes = launch->shared_bytes;
    out->ctx = handle_of<CUcontext>(launch->function->module->context);
    // Pointers into the node's own parameter block: they live as long as the node.
    node->pointers.clear();
    for (const flexemu::ptx::Parameter& parameter : launch->function->ptx().parameters)
        node->pointers.push_back(launch->parameters.data() + parameter.offset);
    out->kernelParams = node->pointers.data();
    return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode handle, const CUDA_KERNEL_NODE_PARAMS* parameters) {
    FLEXEMU_CALL(Context);
    Node* node = driver.find_node(handle);
    if (!node || !std::holds_alternative<Launch>(node->work)) return CUDA_ERROR_INVALID_VALUE;
    Launch launch;
    if (CUresult error = make_launch(call, parameters, &launch)) return error;
    node->work = std::move(launch);
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
    FLEXEMU_CALL(Context);
    return instantiate_graph(call, exec, graph, flags);
}

CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node, char* log, size_t log_bytes) {
    FLEXEMU_CALL(Context);
    if (error_node) *error_node = nullptr;
    CUresult result = instantiate_graph(call, exec, graph, 0);
    if (log && log_bytes) std::snprintf(log, log_bytes, "%s", result == CUDA_SUCCESS ? "" : "the graph has a cycle");
    return result;
}

CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
    FLEXEMU_CALL(Context);
    if (!parameters) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = instantiate_graph(call, exec, graph, parameters->flags);
    parameters->hErrNode_out = nullptr;
    parameters->result_out = result == CUDA_SUCCESS ? 0 : 1;
    return result;
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    FLEXEMU_CALL(Driver);
    return driver.execs.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo* info) {
    FLEXEMU_CALL(Context);
    auto exec = driver.execs.find(handle);
    std::shared_ptr<Graph> graph = find_graph(driver, graph_handle);
    if (exec == driver.execs.end() || !graph || !info) return CUDA_ERROR_INVALID_VALUE;
    *info = {};
    auto fresh = std::make_shared<GraphExec>();
    if (CUresult error = instantiate(*graph, fresh.get())) return error;
    auto& old = exec->second->steps;
    bool same = old.size() == fresh->steps.size();
    for (size_t i = 0; same && i < old.size(); ++i) same = old[i].after == fresh->steps[i].after;
    if (!same) info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (size_t i = 0; same && i < old.size(); ++i)
        if (old[i].work.index() != fresh->steps[i].work.index()) {
            info->result = CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
            info->errorNode = handle_of<CUgraphNode>(const_cast<Node*>(fresh->steps[i].from));
            same = false;
        }
    if (!same) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    old = std::move(fresh->steps);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec handle, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS* parameters) {
    FLEXEMU_CALL(Context);
    auto exec = driver.execs.find(handle);
    if (exec == driver.execs.end()) return CUDA_ERROR_INVALID_VALUE;
    for (auto& step : exec->second->steps) {
        if (handle_of<CUgraphNode>(const_cast<Node*>(step.from)) != node || !std::holds_alternative<Launch>(step.work)) continue;
        Launch launch;
        if (CUresult error = make_launch(call, parameters, &launch)) return error;
        step.work = std::move(launch);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
    FLEXEMU_CALL(Context);
    auto it = driver.execs.find(handle);
    if (it == driver.execs.end()) return CUDA_ERROR_INVALID_VALUE;
    Stream* stream = find_stream(call, stream_handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    std::shared_ptr<GraphExec> exec = it->second;  // stays while it runs
    if (CUresult error = refuse_in_capture(stream)) return error;
    if (stream == &call.context().legacy)
        if (CUresult error = check_legacy_in_capture(call)) return error;
    return execute_graph(call, *exec);
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream) {
    FLEXEMU_CALL(Context);
    if (driver.execs.find(handle) == driver.execs.end()) return CUDA_ERROR_INVALID_VALUE;
    return find_stream(call, stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
}
