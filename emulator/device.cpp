#include "emulator/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/ptx/parse.h"

namespace flexemu {

const char* name(Fault::Kind kind) {
    switch (kind) {
        case Fault::Kind::None: return "none";
        case Fault::Kind::Race: return "race";
        case Fault::Kind::Uninitialised: return "uninitialised";
        case Fault::Kind::OutOfBounds: return "out-of-bounds";
        case Fault::Kind::Misaligned: return "misaligned";
        case Fault::Kind::UnfinishedCopy: return "unfinished-copy";
        case Fault::Kind::MissingProxyFence: return "missing-proxy-fence";
        case Fault::Kind::UnfinishedProduct: return "unfinished-product";
        case Fault::Kind::MissingProductFence: return "missing-product-fence";
        case Fault::Kind::BarrierMismatch: return "barrier-mismatch";
        case Fault::Kind::Divergence: return "divergence";
        case Fault::Kind::Deadlock: return "deadlock";
        case Fault::Kind::BadBarrier: return "bad-barrier";
        case Fault::Kind::BadInstruction: return "bad-instruction";
        case Fault::Kind::Trap: return "trap";
        case Fault::Kind::Resources: return "resources";
        case Fault::Kind::Timeout: return "timeout";
    }
    return "unknown";
}

struct Device::State {
    explicit State(const DeviceProperties& properties) : machine(properties) {}
    DeviceState machine;
};

struct LoadedModule::State {
    Program program;
    ~State() {
        for (const uint64_t address : program.allocations) program.memory->free(address);
    }
};

Device::Device(const DeviceProperties& properties) : state_(std::make_unique<State>(properties)) {}
Device::~Device() = default;

const DeviceProperties& Device::properties() const {
    return state_->machine.properties;
}

uint64_t Device::allocate(size_t bytes) {
    const Segment* segment = state_->machine.memory.allocate(bytes, 512);
    return segment == nullptr ? 0 : segment->base;
}

bool Device::free(uint64_t address) {
    return state_->machine.memory.free(address);
}

namespace {

/// The bytes of a range that lies in one allocation; null otherwise.
uint8_t* bytes_at(DeviceMemory& memory, uint64_t address, size_t bytes, Segment** segment) {
    *segment = memory.find(address);
    if (*segment == nullptr || bytes > (*segment)->bytes - (address - (*segment)->base)) return nullptr;
    return (*segment)->data + (address - (*segment)->base);
}

}  // namespace

bool Device::write(uint64_t to, const void* from, size_t bytes) {
    if (bytes == 0) return true;
    Segment* segment = nullptr;
    uint8_t* const at = bytes_at(state_->machine.memory, to, bytes, &segment);
    if (at == nullptr) return false;
    std::memmove(at, from, bytes);
    segment->initialised.set(to - segment->base, bytes);
    return true;
}

bool Device::read(void* to, uint64_t from, size_t bytes) {
    if (bytes == 0) return true;
    Segment* segment = nullptr;
    const uint8_t* const at = bytes_at(state_->machine.memory, from, bytes, &segment);
    if (at == nullptr) return false;
    std::memmove(to, at, bytes);
    return true;
}

bool Device::fill(uint64_t to, uint32_t pattern, size_t pattern_bytes, size_t count) {
    if (pattern_bytes != 1 && pattern_bytes != 2 && pattern_bytes != 4) return false;
    if (count == 0) return true;
    Segment* segment = nullptr;
    if (count > SIZE_MAX / pattern_bytes) return false;
    uint8_t* const at = bytes_at(state_->machine.memory, to, pattern_bytes * count, &segment);
    if (at == nullptr) return false;
    for (size_t i = 0; i < count; ++i) std::memcpy(at + i * pattern_bytes, &pattern, pattern_bytes);
    segment->initialised.set(to - segment->base, pattern_bytes * count);
    return true;
}

bool Device::copy(uint64_t to, uint64_t from, size_t bytes) {
    if (bytes == 0) return true;
    Segment* source = nullptr;
    Segment* target = nullptr;
    const uint8_t* const source_at = bytes_at(state_->machine.memory, from, bytes, &source);
    uint8_t* const target_at = bytes_at(state_->machine.memory, to, bytes, &target);
    if (source_at == nullptr || target_at == nullptr) return false;
    std::memmove(target_at, source_at, bytes);
    // What was never written is not written by being copied.
    if (source->initialised.first_unset(from - source->base, bytes) < 0) {
        target->initialised.set(to - target->base, bytes);
        return true;
    }
    std::vector<bool> known(bytes);
    for (size_t i = 0; i < bytes; ++i) known[i] = source->initialised.first_unset(from - source->base + i, 1) < 0;
    for (size_t i = 0; i < bytes; ++i) target->initialised.set(to - target->base + i, 1, known[i]);
    return true;
}

Device::Range Device::range_of(uint64_t address) const {
    const Segment* segment = state_->machine.memory.find(address);
    return segment == nullptr ? Range{} : Range{segment->base, segment->bytes};
}

bool Device::map_host(void* memory, size_t bytes) {
    return state_->machine.memory.map_host(memory, bytes);
}

bool Device::unmap_host(void* memory) {
    return state_->machine.memory.unmap_host(memory);
}

size_t Device::used_bytes() const {
    return state_->machine.memory.used();
}

std::unique_ptr<LoadedModule> Device::load(std::string_view text, std::string* error) {
    ptx::ParseResult parsed = ptx::parse(text);
    if (!parsed.ok()) {
        *error = parsed.error;
        return nullptr;
    }
    int target = 0;
    const std::string& name = parsed.module.target;
    const char* behind = name.data();
    if (name.starts_with("sm_")) behind = std::from_chars(name.data() + 3, name.data() + name.size(), target).ptr;
    // What is for one architecture ("sm_90a") runs on no other.
    const bool exact = behind != name.data() + name.size() && *behind == 'a';
    if (target > properties().compute_capability || (exact && target != properties().compute_capability)) {
        *error = fmt::format("the module is for {}, the device is sm_{}", name, properties().compute_capability);
        return nullptr;
    }
    std::unique_ptr<LoadedModule> result(new LoadedModule);
    result->state_->program.module = std::move(parsed.module);
    if (!link(&result->state_->program, state_->machine.memory, error)) return nullptr;
    return result;
}

Fault Device::launch(LoadedModule& module, int32_t function, std::array<uint32_t, 3> grid, std::array<uint32_t, 3> block,
                     uint32_t dynamic_shared_bytes, const std::vector<uint8_t>& parameters, const LaunchOptions& options,
                     LaunchStats* stats) {
    return launch_clusters(module, function, grid, block, {1, 1, 1}, dynamic_shared_bytes, parameters, options, stats);
}

Fault Device::launch_clusters(LoadedModule& module, int32_t function, std::array<uint32_t, 3> grid, std::array<uint32_t, 3> block,
                              std::array<uint32_t, 3> cluster, uint32_t dynamic_shared_bytes, const std::vector<uint8_t>& parameters,
                              const LaunchOptions& options, LaunchStats* stats) {
    Program& program = module.state_->program;
    const auto refused = [](const std::string& text) { return Fault{Fault::Kind::Resources, text}; };
    if (stats != nullptr) *stats = {};
    if (function < 0 || static_cast<size_t>(function) >= program.codes.size() || !program.codes[static_cast<size_t>(function)].is_defined ||
        !program.codes[static_cast<size_t>(function)].text->is_kernel) {
        return refused("the function launched is no kernel of the module");
    }
    const Code& code = program.codes[static_cast<size_t>(function)];
    const ptx::Function& text = *code.text;
    if (cluster == std::array<uint32_t, 3>{1, 1, 1} && text.cluster[0] > 0) {
        for (size_t i = 0; i < 3; ++i) cluster[i] = static_cast<uint32_t>(std::max(1, text.cluster[i]));
    }
    uint64_t threads = 1, blocks = 1, blocks_of_cluster = 1, limit = 1, required = 1;
    for (size_t i = 0; i < 3; ++i) {
        if (grid[i] == 0 || block[i] == 0 || cluster[i] == 0)
            return refused(fmt::format("kernel `{}`: an extent of the launch is 0", text.name));
        if (grid[i] % cluster[i] != 0) return refused(fmt::format("kernel `{}`: the grid is no multiple of the cluster", text.name));
        if (i > 0 && grid[i] > 65535) return refused(fmt::format("kernel `{}`: a grid of {} blocks along axis {}", text.name, grid[i], i));
        if (block[i] > 1024) return refused(fmt::format("kernel `{}`: a block of {} threads along axis {}", text.name, block[i], i));
        threads *= block[i];
        blocks *= grid[i];
        blocks_of_cluster *= cluster[i];
        limit *= static_cast<uint64_t>(std::max(1, text.max_threads[i]));
        required *= static_cast<uint64_t>(std::max(1, text.required_threads[i]));
    }
    if (threads > static_cast<uint64_t>(properties().max_threads_per_block)) {
        return refused(fmt::format("kernel `{}`: {} threads a block, the device has room for {}", text.name, threads,
                                   properties().max_threads_per_block));
    }
    if (text.max_threads[0] > 0 && threads > limit) {
        return refused(fmt::format("kernel `{}`: {} threads a block, it is made for at most {} (.maxntid)", text.name, threads, limit));
    }
    if (text.required_threads[0] > 0 && threads != required) {
        return refused(fmt::format("kernel `{}`: {} threads a block, it is made for {} (.reqntid)", text.name, threads, required));
    }
    if (blocks_of_cluster > 16) return refused(fmt::format("kernel `{}`: {} blocks a cluster, at most 16", text.name, blocks_of_cluster));
    const int64_t shared =
        (code.static_shared + code.dynamic_align - 1) / code.dynamic_align * code.dynamic_align + int64_t{dynamic_shared_bytes};
    if (shared > properties().max_shared_per_block) {
        return refused(fmt::format("kernel `{}`: {} bytes of shared memory a block ({} static, {} dynamic), the device has {}", text.name,
                                   shared, code.static_shared, dynamic_shared_bytes, properties().max_shared_per_block));
    }
    if (blocks * ((threads + kLanes - 1) / kLanes) > UINT32_MAX)
        return refused(fmt::format("kernel `{}`: too many blocks to emulate", text.name));
    if (parameters.size() < static_cast<size_t>(text.parameter_bytes)) {
        return refused(fmt::format("kernel `{}`: {} bytes of parameters, it takes {}", text.name, parameters.size(), text.parameter_bytes));
    }
    Launch launch(state_->machine, program, function, grid, block, cluster, dynamic_shared_bytes, parameters, options);
    Fault fault = launch.run(stats);
    if (fault) fault.text = fmt::format("{} (kernel `{}`)", fault.text, text.name);
    return fault;
}

LoadedModule::LoadedModule() : state_(std::make_unique<State>()) {}
LoadedModule::~LoadedModule() = default;

const ptx::Module& LoadedModule::ptx() const {
    return state_->program.module;
}

uint64_t LoadedModule::address_of(std::string_view variable, size_t* bytes) const {
    const int32_t index = state_->program.module.find_variable(variable);
    if (index < 0) return 0;
    const ptx::Variable& found = state_->program.module.variables[static_cast<size_t>(index)];
    if (found.space != ptx::Space::Global && found.space != ptx::Space::Const) return 0;
    if (bytes != nullptr) *bytes = static_cast<size_t>(found.bytes);
    return state_->program.address[static_cast<size_t>(index)];
}

int32_t LoadedModule::static_shared_bytes(int32_t function) const {
    return static_cast<int32_t>(state_->program.codes[static_cast<size_t>(function)].static_shared);
}

}  // namespace flexemu
