#include "emulator/driver/state.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace flexemu::driver {

const ptx::Function& Function::ptx() const {
    return module->loaded->ptx().functions[static_cast<size_t>(index)];
}
int Function::static_shared() const {
    return module->loaded->static_shared_bytes(index);
}

Driver& Driver::get() {
    static auto* driver = new Driver;
    return *driver;
}

std::vector<Context*>& context_stack() {
    thread_local std::vector<Context*> stack;
    return stack;
}

namespace {

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

struct Model {
    std::string_view name;
    int compute_capability;
    int shared_opt_in;
};
constexpr Model kModels[] = {
    {"sm_80", 80, 163}, {"sm_86", 86, 99},    {"sm_87", 87, 163},  {"sm_89", 89, 99},
    {"sm_90", 90, 227}, {"sm_100", 100, 227}, {"sm_120", 120, 99},
};

}  // namespace

CUresult Driver::initialise() {
    if (initialised) return CUDA_SUCCESS;
    std::string model = variable("FLEXEMU_DEVICE");
    if (model.empty()) model = "sm_90";
    if (model.ends_with('a')) model.pop_back();
    const auto* found = std::find_if(std::begin(kModels), std::end(kModels), [&](const Model& m) { return m.name == model; });
    if (found == std::end(kModels)) {
        std::fprintf(stderr, "flexemu: FLEXEMU_DEVICE=%s is not known; there are", model.c_str());
        for (const Model& m : kModels) std::fprintf(stderr, " %.*s", static_cast<int>(m.name.size()), m.name.data());
        std::fprintf(stderr, "\n");
        return CUDA_ERROR_NO_DEVICE;
    }
    settings.device.compute_capability = found->compute_capability;
    settings.device.max_shared_per_block = found->shared_opt_in * 1024;
    settings.device.name = "flexc emulated GPU (" + model + ")";
    const std::string seed = variable("FLEXEMU_SEED");
    char* end = nullptr;
    settings.seed = std::strtoull(seed.c_str(), &end, 0);
    if (*end != '\0') {
        std::fprintf(stderr, "flexemu: FLEXEMU_SEED=%s is no number\n", seed.c_str());
        return CUDA_ERROR_NO_DEVICE;
    }
    const std::string checks = variable("FLEXEMU_CHECKS");
    if (!checks.empty()) {
        settings.check_races = checks == "races" || checks == "races,uninitialised" || checks == "uninitialised,races";
        settings.check_uninitialised = checks == "uninitialised" || (settings.check_races && checks != "races");
        // A misspelt word must not turn checks off.
        if (!settings.check_races && !settings.check_uninitialised && checks != "none") {
            std::fprintf(stderr, "flexemu: FLEXEMU_CHECKS=%s is not known; there are races, uninitialised, both with a comma, and none\n",
                         checks.c_str());
            return CUDA_ERROR_NO_DEVICE;
        }
    }
    settings.trace = variable("FLEXEMU_TRACE") == "1";
    settings.dump = variable("FLEXEMU_DUMP");
    settings.replace = variable("FLEXEMU_REPLACE");
    settings.blocking = variable("CUDA_LAUNCH_BLOCKING") == "1";
    device = std::make_unique<Device>(settings.device);
    default_pool = pools.add(std::make_unique<Pool>());
    current_pool = default_pool;
    initialised = true;
    return CUDA_SUCCESS;
}

Kernel* Driver::find_kernel(CUkernel handle) {
    for (const auto& [raw, library] : libraries.all())
        for (const auto& [name, kernel] : library->kernels)
            if (kernel.get() == reinterpret_cast<Kernel*>(handle)) return kernel.get();
    return nullptr;
}

Node* Driver::find_node(CUgraphNode handle) {
    const auto* node = reinterpret_cast<Node*>(handle);
    for (const auto& [key, graph] : graphs)
        for (const auto& each : graph->nodes)
            if (each.get() == node) return each.get();
    for (const auto& capture : captures)
        for (const auto& each : capture->graph->nodes)
            if (each.get() == node) return each.get();
    return nullptr;
}

std::map<uint64_t, Allocation>::iterator Driver::allocation_at(uint64_t address) {
    auto it = allocations.upper_bound(address);
    if (it == allocations.begin()) return allocations.end();
    --it;
    return address - it->first < it->second.bytes ? it : allocations.end();
}

uint64_t Driver::allocate(size_t bytes, Context* context, Pool* pool) {
    uint64_t address = device->allocate(bytes);
    if (!address) return 0;
    allocations[address] = {Allocation::Kind::Device, bytes, context, 0, pool, next_id++};
    if (pool) pool->high = std::max(pool->high, pool->used += bytes);
    return address;
}

void Driver::release(std::map<uint64_t, Allocation>::iterator allocation) {
    auto [address, what] = *allocation;
    void* memory = reinterpret_cast<void*>(address);
    if (what.kind == Allocation::Kind::Device) {
        device->free(address);
    } else {
        device->unmap_host(memory);
        if (what.kind != Allocation::Kind::Registered) munmap(memory, what.bytes);
    }
    if (what.pool) what.pool->used -= what.bytes;
    allocations.erase(allocation);
}

void Driver::destroy_context(Context* context) {
    for (auto it = allocations.begin(); it != allocations.end();) {
        auto next = std::next(it);
        if (it->second.context == context) release(it);
        it = next;
    }
    std::erase_if(captures, [&](const auto& capture) { return capture->origin->context == context; });
    streams.remove_if([&](const Stream& stream) { return stream.context == context; });
    events.remove_if([&](const Event& event) { return event.context == context; });
    for (const auto& [raw, library] : libraries.all()) library->modules.erase(context);
    modules.remove_if([&](const Module& module) { return module.context == context; });
    if (context == primary) primary = nullptr;
    contexts.remove(context);
}

}  // namespace flexemu::driver
