// Running what was enqueued: launches, copies, fills, calls of host functions, graphs. Streams run their work at once, so each is in order by itself;
// the nodes of a graph run in an order drawn from the seed among those that its edges allow.
#include <atomic>
#include <cstdio>
#include <cstring>

#include "emulator/driver/call.h"
#include "emulator/driver/flexemu_cuda.h"

namespace flexemu::driver {

namespace {

const char* g_last_fault = "";
uint64_t g_warp_instructions = 0;
std::atomic<uint64_t> g_blocks_done{0};  // not under the mutex, which a launch holds

uint64_t mixed(uint64_t x) {
    x += 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

uint64_t next_seed(Driver& driver) {
    return mixed(driver.settings.seed * 0x2545F4914F6CDD1D + driver.launches++);
}

/// What the real driver calls it. Launches that cannot start leave the context usable; all else is sticky.
CUresult result_of(Fault::Kind kind) {
    switch (kind) {
        case Fault::Kind::None: return CUDA_SUCCESS;
        case Fault::Kind::OutOfBounds: return CUDA_ERROR_ILLEGAL_ADDRESS;
        case Fault::Kind::Misaligned: return CUDA_ERROR_MISALIGNED_ADDRESS;
        case Fault::Kind::BadInstruction: return CUDA_ERROR_ILLEGAL_INSTRUCTION;
        case Fault::Kind::Timeout: return CUDA_ERROR_LAUNCH_TIMEOUT;
        case Fault::Kind::Resources: return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
        default: return CUDA_ERROR_LAUNCH_FAILED;
    }
}

CUresult run(Call& call, const Launch& launch) {
    Driver& driver = call.driver();
    // A graph may outlive the modules of its launches.
    if (driver.find_function(handle_of<CUfunction>(launch.function), nullptr) != launch.function) return CUDA_ERROR_INVALID_HANDLE;
    LaunchOptions options;
    options.seed = next_seed(driver);
    options.blocks_done = &g_blocks_done;
    options.check_races = driver.settings.check_races;
    options.check_uninitialised = driver.settings.check_uninitialised;
    constexpr size_t kWorkspaceBytes = 256;  // cooperative groups use the first eight: a size and the count of those that have arrived
    if (launch.cooperative) {
        options.grid_workspace = driver.device->allocate(kWorkspaceBytes);
        if (options.grid_workspace == 0) return CUDA_ERROR_OUT_OF_MEMORY;
        driver.device->fill(options.grid_workspace, 0, 1, kWorkspaceBytes);
    }
    LaunchStats stats;
    LoadedModule& module = *launch.function->module->loaded;
    const std::string& name = launch.function->ptx().name;
    std::array<uint32_t, 3> cluster = launch.cluster;
    const auto& required = launch.function->ptx().cluster;
    for (size_t i = 0; required[0] && i < 3; ++i) cluster[i] = static_cast<uint32_t>(std::max(required[i], 1));
    Fault fault = cluster[0] ? driver.device->launch_clusters(module, launch.function->index, launch.grid, launch.block, cluster,
                                                              launch.shared_bytes, launch.parameters, options, &stats)
                             : driver.device->launch(module, launch.function->index, launch.grid, launch.block, launch.shared_bytes,
                                                     launch.parameters, options, &stats);
    if (options.grid_workspace != 0) driver.device->free(options.grid_workspace);
    g_warp_instructions += stats.warp_instructions;
    if (driver.settings.trace)
        std::fprintf(stderr, "flexemu: %s grid %u,%u,%u block %u,%u,%u shared %u: %llu warp instructions, %.3f s%s\n", name.c_str(),
                     launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0], launch.block[1], launch.block[2], launch.shared_bytes,
                     static_cast<unsigned long long>(stats.warp_instructions), stats.seconds, fault ? ", fault" : "");
    if (!fault) return CUDA_SUCCESS;
    std::string text = name + ": " + flexemu::name(fault.kind) + ": " + fault.text;
    std::fprintf(stderr, "flexemu: fault in %s\n", text.c_str());
    g_last_fault = strdup(text.c_str());  // lives on: programs keep the pointer
    CUresult error = result_of(fault.kind);
    if (error == CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES) return error;
    call.context().error = error;
    return driver.settings.blocking ? error : CUDA_SUCCESS;
}

CUresult run(Call& call, const Copy& copy) {
    Device& device = *call.driver().device;
    if (copy.width == 0 || copy.height == 0 || copy.depth == 0) return CUDA_SUCCESS;
    for (size_t z = 0; z < copy.depth; ++z) {
        for (size_t y = 0; y < copy.height; ++y) {
            uint64_t to = copy.to + z * copy.to_plane + y * copy.to_pitch, from = copy.from + z * copy.from_plane + y * copy.from_pitch;
            bool fine = true;
            if (copy.to_device && copy.from_device)
                fine = device.copy(to, from, copy.width);
            else if (copy.to_device)
                fine = device.write(to, reinterpret_cast<const void*>(from), copy.width);
            else if (copy.from_device)
                fine = device.read(reinterpret_cast<void*>(to), from, copy.width);
            else
                std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), copy.width);
            if (!fine) return CUDA_ERROR_INVALID_VALUE;
        }
    }
    return CUDA_SUCCESS;
}

CUresult run(Call& call, const Fill& fill) {
    for (size_t y = 0; y < fill.height && fill.width; ++y)
        if (!call.driver().device->fill(fill.to + y * fill.pitch, fill.value, fill.element_bytes, fill.width))
            return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult run(Call& call, const HostCall& host) {
    call.outside(host.function, host.data);
    return CUDA_SUCCESS;
}

CUresult run(Call& call, const ChildGraph& child) {
    GraphExec exec;
    if (CUresult error = instantiate(*child.graph, &exec)) return error;
    return execute_graph(call, exec);
}

CUresult run(Call&, const Nothing&) {
    return CUDA_SUCCESS;
}
CUresult run(Call&, const WaitEvent&) {
    return CUDA_SUCCESS;
}
CUresult run(Call&, const AllocateNode&) {
    return CUDA_SUCCESS;
}
CUresult run(Call&, const FreeNode&) {
    return CUDA_SUCCESS;
}

CUresult run(Call& call, const RecordEvent& record) {
    if (!call.driver().events.find(handle_of<CUevent>(record.event))) return CUDA_ERROR_INVALID_HANDLE;
    record.event->recorded = true;
    record.event->captured = false;
    record.event->time = std::chrono::steady_clock::now();
    return CUDA_SUCCESS;
}

}  // namespace

CUresult execute(Call& call, const Work& work) {
    return std::visit([&](const auto& what) { return run(call, what); }, work);
}

CUresult execute_graph(Call& call, const GraphExec& exec) {
    uint64_t random = next_seed(call.driver());
    std::vector<size_t> waiting(exec.steps.size()), ready;
    for (size_t i = 0; i < exec.steps.size(); ++i) {
        waiting[i] = exec.steps[i].after.size();
        if (!waiting[i]) ready.push_back(i);
    }
    while (!ready.empty()) {
        random = mixed(random);
        size_t pick = random % ready.size(), step = ready[pick];
        ready.erase(ready.begin() + static_cast<ptrdiff_t>(pick));
        if (CUresult error = execute(call, exec.steps[step].work)) return error;
        if (call.context().error) return CUDA_SUCCESS;  // a launch faulted; who synchronises will hear of it
        for (size_t i = 0; i < exec.steps.size(); ++i)
            for (size_t before : exec.steps[i].after)
                if (before == step && --waiting[i] == 0) ready.push_back(i);
    }
    return CUDA_SUCCESS;
}

CUresult enqueue(Call& call, Stream* stream, Work work) {
    if (stream->capture) return capture_work(call, stream, std::move(work));
    if (stream == &call.context().legacy)
        if (CUresult error = check_legacy_in_capture(call)) return error;
    return execute(call, work);
}

}  // namespace flexemu::driver

extern "C" {

const char* flexemu_last_fault(void) {
    std::lock_guard lock(flexemu::driver::Driver::get().mutex);
    return flexemu::driver::g_last_fault;
}

unsigned long long flexemu_warp_instructions(void) {
    std::lock_guard lock(flexemu::driver::Driver::get().mutex);
    return flexemu::driver::g_warp_instructions;
}

unsigned long long flexemu_blocks_done(void) {
    return flexemu::driver::g_blocks_done.load(std::memory_order_relaxed);
}

void flexemu_set_seed(unsigned long long seed) {
    flexemu::driver::Driver& driver = flexemu::driver::Driver::get();
    std::lock_guard lock(driver.mutex);
    driver.settings.seed = seed;
    driver.launches = 0;
}
}
