#include "gpu_variant.h"

#include <doctest/doctest.h>
#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

#include "emulator/device.h"
#include "runtime/gpu_layout.h"

namespace flexc::test {

namespace {

std::string read_bitcode(const char* name) {
    std::ifstream in(std::string(FLEX_TEST_PROBES) + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

const nvptx::Instance& probe() {
    static const std::string bitcode = read_bitcode("probe.bc");
    static const nvptx::Instance instance{"probe", nvptx::Arch::Sm80, flex::DType::F32, false, 256, 256, 1, 1, 4, 1, 0, 0, bitcode};
    return instance;
}

const nvptx::BackwardInstance& gradient_probe() {
    static const std::string bitcode = read_bitcode("gradient_probe.bc");
    static const nvptx::BackwardInstance instance{"probe", nvptx::Arch::Sm80, flex::DType::F32, false, 256, 256, 1, 1, 4, 4, 0, 0, bitcode};
    return instance;
}

namespace {

flexemu::Device& device() {
    static flexemu::Device device;
    return device;
}

/// One launch's memory on the device.
class Memory {
public:
    explicit Memory(flexemu::Device& device) : device_(device) {}
    ~Memory() {
        for (const uint64_t address : owned_) device_.free(address);
        for (void* mapped : mapped_) device_.unmap_host(mapped);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    uint64_t allocate(size_t bytes) {
        owned_.push_back(device_.allocate(std::max<size_t>(bytes, 4)));
        return owned_.back();
    }
    template <class T>
    uint64_t upload(const std::vector<T>& values) {
        const uint64_t at = allocate(values.size() * sizeof(T));
        if (!values.empty()) device_.write(at, values.data(), values.size() * sizeof(T));
        return at;
    }
    template <class T>
    std::vector<T> download(uint64_t at, size_t count) {
        std::vector<T> values(count);
        if (count) CHECK(device_.read(values.data(), at, count * sizeof(T)));
        return values;
    }
    void map(const std::vector<Variant::Span>& spans) {
        for (const auto& [data, bytes] : spans) {
            if (bytes == 0) continue;
            REQUIRE(device_.map_host(data, bytes));
            mapped_.push_back(data);
        }
    }

private:
    flexemu::Device& device_;
    std::vector<uint64_t> owned_;
    std::vector<void*> mapped_;
};

template <class T>
void put(std::vector<uint8_t>& bytes, size_t at, T value) {
    REQUIRE(at + sizeof value <= bytes.size());
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Extents, scalars and tensors at the places of runtime/gpu_layout.h.
void put_arguments(std::vector<uint8_t>& bytes, const Variant& v, const flex::GpuLayout& layout) {
    for (size_t i = 0; i < v.extents.size(); i++) put(bytes, layout.extents + 4 * i, v.extents[i]);
    for (size_t i = 0; i < v.attention.params.size(); i++) {
        if (!v.attention.params[i].is_tensor) {
            put(bytes, layout.scalars + 4 * i, v.args()->scalars[i]);
            continue;
        }
        const flex_tensor& tensor = v.args()->tensors[i];
        const size_t at = layout.tensors[i], rank = v.attention.params[i].dims.size();
        put(bytes, at, uint64_t(reinterpret_cast<uintptr_t>(tensor.data)));
        for (size_t d = 0; d < rank; d++) {
            put(bytes, at + 8 + 8 * d, tensor.stride[d]);
            put(bytes, at + 8 + 8 * rank + 4 * d, tensor.dim[d]);
        }
    }
}

/// Empty records for all summaries; their pairs are filled by flex_gpu_summarise. Gives the most blocks of one.
int32_t put_summaries(std::vector<uint8_t>& bytes, const Variant& v, const flex::GpuLayout& layout,
                      const std::vector<int32_t>& summary_flags, Memory& memory) {
    int32_t most = 0;
    for (size_t i = 0; i < summary_flags.size(); i++) {
        const int flags = summary_flags[i];
        const int32_t length = v.extents[flags & FLEX_SUMMARY_OF_KEYS ? 4 : 3];
        flex_gpu_summary summary{};
        summary.blocks = (length + FLEX_GPU_SUMMARY_BLOCK - 1) / FLEX_GPU_SUMMARY_BLOCK;
        summary.wide = (length + FLEX_GPU_SUMMARY_WIDE - 1) / FLEX_GPU_SUMMARY_WIDE;
        const int32_t pairs = summary.blocks + summary.wide;
        const int32_t heads = flags & FLEX_SUMMARY_BY_H ? v.extents[1] : 1, batches = flags & FLEX_SUMMARY_BY_B ? v.extents[0] : 1;
        summary.h_stride = heads > 1 ? pairs : 0;
        summary.b_stride = batches > 1 ? pairs * heads : 0;
        const size_t words = size_t(pairs) * 2 * size_t(heads) * size_t(batches);
        summary.data = memory.allocate(words * 4);
        device().fill(summary.data, 0x7fffffff, 4, words);
        put(bytes, layout.summaries + i * sizeof summary, summary);
        most = std::max(most, summary.blocks);
    }
    return most;
}

/// "" or what the emulator objects to.
std::string launch(flexemu::LoadedModule& module, const std::string& symbol, std::array<size_t, 3> grid,
                   const std::vector<uint8_t>& parameters) {
    if (grid[0] == 0) return "";
    const auto& functions = module.ptx().functions;
    const auto at = std::find_if(functions.begin(), functions.end(), [&](const auto& each) { return each.name == symbol; });
    REQUIRE(at != functions.end());
    const flexemu::Fault fault = device().launch(module, int32_t(at - functions.begin()),
                                                 {uint32_t(grid[0]), uint32_t(grid[1]), uint32_t(grid[2])}, {128, 1, 1}, 0, parameters, {});
    return fault ? symbol + ": " + flexemu::name(fault.kind) + ": " + fault.text : "";
}

}  // namespace

GpuHooks run_on_gpu(const Variant& v, const std::vector<float>& raw, const std::vector<Tile>& tiles) {
    GpuHooks out;
    const nvptx::Image image = nvptx::compile(v.attention, probe(), nullptr);
    std::string error;
    const auto module = device().load(image.ptx, &error);
    CHECK_MESSAGE(module, error);
    if (!module) return out;

    const flex::GpuLayout layout = flex::gpu_layout(codegen::describe(v.attention), image.summary_flags.size());
    std::vector<uint8_t> parameters(layout.bytes);
    put_arguments(parameters, v, layout);
    Memory memory(device());
    memory.map(v.memory());
    const size_t rows = size_t(v.extents[0]) * size_t(v.extents[1]) * size_t(v.extents[3]);
    const size_t points = raw.empty() ? 0 : rows * size_t(v.extents[4]);
    REQUIRE(raw.size() == points);
    flex_gpu_launch arguments{};
    arguments.q.data = memory.upload(raw);
    arguments.o.data = memory.allocate(points * 4);
    arguments.lse.data = memory.allocate(points * 4);
    arguments.max_score.data = memory.allocate(rows * 4);
    arguments.partial = memory.allocate(4);
    arguments.k.data = memory.upload(tiles);
    arguments.v.data = memory.allocate(tiles.size() * 4);
    arguments.splits = arguments.pack = 1;
    arguments.split_keys = int32_t(tiles.size());
    put(parameters, 0, arguments);
    const int32_t blocks = put_summaries(parameters, v, layout, image.summary_flags, memory);

    const auto run = [&](const std::string& symbol, size_t x, size_t y, size_t z) {
        if (out.fault.empty()) out.fault = launch(*module, symbol, {x, y, z}, parameters);
    };
    run(image.forward_symbol, (points + 127) / 128, 1, 1);
    run(image.summarise_symbol, size_t(blocks + 3) / 4, size_t(v.extents[1]), size_t(v.extents[0]) * image.summary_flags.size());
    run(image.combine_symbol, (tiles.size() + 127) / 128, 1, 1);
    if (!out.fault.empty()) return out;
    out.score = memory.download<float>(arguments.o.data, points);
    out.mask = memory.download<float>(arguments.lse.data, points);
    if (points) out.scale = memory.download<float>(arguments.max_score.data, rows);
    if (points) out.properties = memory.download<uint32_t>(arguments.partial, 1)[0];
    out.states = memory.download<int32_t>(arguments.v.data, tiles.size());
    return out;
}

GpuGradients run_gradients_on_gpu(const Variant& v, const std::vector<float>& score, const std::vector<float>& ds,
                                  const std::vector<float>& d_scale) {
    GpuGradients out;
    const nvptx::BackwardImage image = nvptx::compile_backward(v.attention, gradient_probe(), false, nullptr);
    std::string error;
    const auto module = device().load(image.ptx, &error);
    CHECK_MESSAGE(module, error);
    if (!module) return out;
    const flex::GpuLayout layout = flex::gpu_layout(codegen::describe(v.attention), image.summary_flags.size(), true);
    std::vector<uint8_t> parameters(layout.bytes);
    put_arguments(parameters, v, layout);
    Memory memory(device());
    memory.map(v.memory());
    const size_t rows = size_t(v.extents[0]) * size_t(v.extents[1]) * size_t(v.extents[3]), points = rows * size_t(v.extents[4]);
    REQUIRE(score.size() == points);
    REQUIRE(ds.size() == points);
    flex_gpu_backward backward{};
    backward.launch.q.data = memory.upload(score);
    backward.launch.k.data = memory.upload(ds);
    backward.launch.v.data = memory.upload(d_scale);
    backward.launch.o.data = memory.allocate(points * 4);
    backward.launch.lse.data = memory.allocate(rows * GpuGradients::kBounds * 4);
    backward.launch.partial = memory.allocate(5 * 4);
    put(parameters, 0, backward);
    std::vector<std::pair<uint64_t, size_t>> gradients;
    for (size_t i = 0; i < v.attention.params.size(); i++) {
        gradients.emplace_back();
        if (!v.attention.params[i].grad) continue;
        const flex_tensor& tensor = v.args()->tensors[i];
        flex_gpu_gradient gradient{};
        gradient.count = 1;
        for (size_t d = 0; d < v.attention.params[i].dims.size(); d++) gradient.count *= tensor.dim[d];
        gradient.data = memory.upload(std::vector<float>(size_t(gradient.count), 0.0f));
        put(parameters, layout.gradients[i], gradient);
        gradients.back() = {gradient.data, size_t(gradient.count)};
    }
    out.fault = launch(*module, image.rows.symbol, {(rows + 127) / 128, 1, 1}, parameters);
    if (out.fault.empty() && !image.scale.symbol.empty())
        out.fault = launch(*module, image.scale.symbol, {(rows + 127) / 128, 1, 1}, parameters);
    if (!out.fault.empty()) return out;
    out.derivative = memory.download<float>(backward.launch.o.data, points);
    out.bounds = memory.download<float>(backward.launch.lse.data, rows * GpuGradients::kBounds);
    out.kinds = memory.download<int32_t>(backward.launch.partial, 4);
    out.scatters = memory.download<int32_t>(backward.launch.partial, 5)[4] != 0;
    for (const auto& [data, count] : gradients) out.d_params.push_back(data ? memory.download<float>(data, count) : std::vector<float>());
    return out;
}

}  // namespace flexc::test
