// What the emulated driver knows: one device, and the contexts, modules, streams, events and graphs that the program made. Handles are the addresses of
// these objects; a handle is valid while its table holds it, so a stale or foreign one is an error and never a crash.
//
// One lock guards everything. An entry point takes it through `Call` (call.h), and no code here calls an entry point.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "emulator/device.h"
#include "emulator/driver/cuda_api.h"

namespace flexemu::driver {

struct Context;
struct Library;
struct Module;
struct Graph;
struct Node;
struct Event;

struct FunctionSettings {
    int max_dynamic_shared = -1;  // -1: what fits in the default 48 KiB
    int carveout = -1;
    int non_portable_cluster = 0;
    int cluster_policy = 0;
};

struct Function {
    Module* module = nullptr;
    int32_t index = 0;  // in the PTX module
    FunctionSettings own;
    FunctionSettings* settings = &own;  // of the kernel, if a library made it
    [[nodiscard]] const ptx::Function& ptx() const;
    [[nodiscard]] int static_shared() const;
};

struct Module {
    Context* context = nullptr;
    Library* library = nullptr;  // that it was made for; null: by cuModuleLoad*
    std::unique_ptr<LoadedModule> loaded;
    std::map<int32_t, std::unique_ptr<Function>> functions;  // those that were asked for
};

struct Kernel {
    Library* library = nullptr;
    std::string name;
    FunctionSettings settings;
};

struct Library {
    std::string ptx;
    std::map<std::string, std::unique_ptr<Kernel>> kernels;
    std::map<Context*, Module*> modules;
    std::unique_ptr<LoadedModule> first;  // loaded to see whether it can be; the first context that asks takes it
    std::vector<std::string> names;       // of its kernels
};

/// A memory copy of rows in planes; addresses are of the device or the host, whichever holds them.
struct Copy {
    uint64_t to = 0, from = 0;
    size_t width = 0, height = 1, depth = 1;
    size_t to_pitch = 0, to_plane = 0, from_pitch = 0, from_plane = 0;
    bool to_device = false, from_device = false;
};
struct Fill {
    uint64_t to = 0;
    uint32_t value = 0;
    unsigned element_bytes = 1;
    size_t width = 0, height = 1, pitch = 0;  // width in elements
};
struct Launch {
    Function* function = nullptr;
    std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1}, cluster{0, 0, 0};  // cluster 0: none
    uint32_t shared_bytes = 0;
    bool cooperative = false;
    std::vector<uint8_t> parameters;
};
struct HostCall {
    CUhostFn function = nullptr;
    void* data = nullptr;
};
struct Nothing {};
struct RecordEvent {
    Event* event = nullptr;
};
struct WaitEvent {
    Event* event = nullptr;
};
struct ChildGraph {
    std::shared_ptr<Graph> graph;
};
struct AllocateNode {
    uint64_t address = 0;
};
struct FreeNode {
    uint64_t address = 0;
};
using Work = std::variant<Launch, Copy, Fill, HostCall, ChildGraph, Nothing, WaitEvent, RecordEvent, AllocateNode, FreeNode>;

struct Node {
    Graph* graph = nullptr;
    Work work;
    std::vector<Node*> after;
    std::vector<void*> pointers;  // to the parameters of a launch, as given out
};
struct Graph {
    std::vector<std::unique_ptr<Node>> nodes;
};
/// Nodes in the order of the graph they were made from; `after` are indices.
struct GraphExec {
    struct Step {
        Work work;
        std::vector<size_t> after;
        const Node* from = nullptr;
    };
    std::vector<Step> steps;
};

struct Stream;
/// A capture in progress: what its streams do becomes nodes of `graph`.
struct Capture {
    std::shared_ptr<Graph> graph;
    Stream* origin = nullptr;
    std::thread::id thread;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    bool invalidated = false;
    bool own_graph = true;  // made by the capture, not given by the program
    uint64_t id = 0;
    std::set<Stream*> streams;
};
struct Stream {
    Context* context = nullptr;
    unsigned flags = 0;
    int priority = 0;
    uint64_t id = 0;
    bool is_default = false;
    std::shared_ptr<Capture> capture;
    std::vector<Node*> after;                // of the capture: what the next operation depends on
    std::vector<CUgraphNode> after_handles;  // as given out by cuStreamGetCaptureInfo
};
struct Event {
    Context* context = nullptr;
    unsigned flags = 0;
    bool recorded = false;
    std::chrono::steady_clock::time_point time;
    std::weak_ptr<Capture> capture;  // the last record was captured by it
    bool captured = false;
    std::vector<Node*> after;
};

struct Context {
    unsigned flags = 0;
    unsigned api_version = 0;
    bool primary = false;
    uint64_t id = 0;
    CUresult error = 0;  // sticky: what every further call in this context gets
    std::array<size_t, CU_LIMIT_SETTABLE> limits{1024, 1048576, 8388608, 2, 2048, 128, 0};
    CUfunc_cache cache = CU_FUNC_CACHE_PREFER_NONE;
    CUsharedconfig shared_config = CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE;
    Stream legacy;
    std::map<std::thread::id, std::unique_ptr<Stream>> per_thread;
};

struct Pool {
    uint64_t release_threshold = 0;
    std::array<int, 4> reuse{0, 1, 1, 1};
    uint64_t used = 0, high = 0;
};

struct Allocation {
    enum class Kind : uint8_t { Device, Host, Registered, Managed };
    Kind kind = Kind::Device;
    size_t bytes = 0;
    Context* context = nullptr;
    unsigned flags = 0;
    Pool* pool = nullptr;
    uint64_t id = 0;
};

/// Objects of one kind, by handle.
template <typename Handle, typename T>
class Table {
public:
    T* add(std::unique_ptr<T> object) {
        T* raw = object.get();
        objects_[raw] = std::move(object);
        return raw;
    }
    [[nodiscard]] T* find(Handle handle) const {
        auto it = objects_.find(reinterpret_cast<T*>(handle));
        return it == objects_.end() ? nullptr : it->second.get();
    }
    void remove(T* object) { objects_.erase(object); }
    template <typename Predicate>
    void remove_if(Predicate predicate) {
        std::erase_if(objects_, [&](const auto& entry) { return predicate(*entry.second); });
    }
    [[nodiscard]] const std::unordered_map<T*, std::unique_ptr<T>>& all() const { return objects_; }

private:
    std::unordered_map<T*, std::unique_ptr<T>> objects_;
};
template <typename Handle, typename T>
Handle handle_of(T* object) {
    return reinterpret_cast<Handle>(object);
}

struct Settings {
    DeviceProperties device;
    uint64_t seed = 0;
    bool check_races = true, check_uninitialised = true, trace = false, blocking = false;
    std::string dump, replace;
};

struct Driver {
    static Driver& get();  // made at the first use, never destroyed: programs call from their exit handlers

    std::mutex mutex;
    bool initialised = false;
    Settings settings;
    std::unique_ptr<Device> device;
    uint64_t launches = 0, loads = 0, next_id = 1;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

    Context* primary = nullptr;
    unsigned primary_flags = 0;
    int primary_count = 0;

    Table<CUcontext, Context> contexts;
    Table<CUmodule, Module> modules;
    Table<CUlibrary, Library> libraries;
    Table<CUstream, Stream> streams;
    Table<CUevent, Event> events;
    Table<CUmemoryPool, Pool> pools;
    Pool* default_pool = nullptr;
    Pool* current_pool = nullptr;
    std::map<CUgraph, std::shared_ptr<Graph>> graphs;
    std::map<CUgraphExec, std::shared_ptr<GraphExec>> execs;
    std::set<std::shared_ptr<Capture>> captures;
    std::map<uint64_t, Allocation> allocations;

    CUresult initialise();
    Function* find_function(CUfunction handle, Context* context);  // also a kernel's handle
    Kernel* find_kernel(CUkernel handle);
    Node* find_node(CUgraphNode handle);
    /// The allocation that holds an address; end() if none.
    std::map<uint64_t, Allocation>::iterator allocation_at(uint64_t address);
    void destroy_context(Context* context);
    void release(std::map<uint64_t, Allocation>::iterator allocation);
    uint64_t allocate(size_t bytes, Context* context, Pool* pool);  // 0: out of memory
};

/// Contexts pushed by this thread; the last is current.
std::vector<Context*>& context_stack();

}  // namespace flexemu::driver
