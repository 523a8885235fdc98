#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "emulator/tensor_map.h"
#include "tests/unit/skeleton/attention.h"
#include "tests/unit/skeleton/emulated.h"

namespace skeleton_test {
const std::vector<Instance>& instances() {
    static const std::vector<Instance> all = {
#define FLEX_INSTANCE(name, element, ...) {#name, #element, __VA_ARGS__},
#include "backend/skeletons/nvptx/instances.def"
#undef FLEX_INSTANCE
    };
    return all;
}
const std::vector<Instance>& sm90a_instances() {
    static const std::vector<Instance> all = {
#define FLEX_INSTANCE_SM90A(name, element, d, dv, tile_q, tile_k, consumers, stages, map_columns, shared_bytes) \
    {#name, #element, d, dv, tile_q, tile_k, 4 * (consumers + 1), stages, shared_bytes, map_columns},
#include "backend/skeletons/nvptx/instances_sm90a.def"
#undef FLEX_INSTANCE_SM90A
    };
    return all;
}

namespace {

/// The map of a view whose rows are boxes of `box` columns: heads before rows if `heads_first` (runtime/gpu_abi.h).
flex_gpu_tensor_map map_of(const Instance& instance, const flex_gpu_view& view, const Case& c, int columns, int heads, int rows,
                           bool heads_first, int box_of_rows) {
    flexemu::TensorMap map;
    map.type = instance.element == "F16" ? 6 : 9;
    map.rank = 4;
    map.swizzle = instance.map_columns == 64 ? 3 : 2;
    map.address = view.data;
    const auto dimension = [&](int i, int extent, int64_t stride, int box) {
        map.dims[i] = uint32_t(extent - 1);
        if (i > 0) map.strides[i - 1] = uint64_t(stride) * 2;
        map.box[i] = uint16_t(box);
        map.element_strides[i] = 1;
    };
    dimension(0, columns, 1, instance.map_columns);
    dimension(heads_first ? 1 : 2, heads, view.h_stride, heads_first ? c.pack : 1);
    dimension(heads_first ? 2 : 1, rows, view.row_stride, box_of_rows);
    dimension(3, c.b, view.b_stride, 1);
    flex_gpu_tensor_map out;
    static_assert(sizeof out == sizeof map);
    std::memcpy(&out, &map, sizeof out);
    return out;
}

}  // namespace

Outcome run(const Instance& instance, const Case& c, const Inputs& in) {
    Outcome out;
    const bool sm90a = instance.map_columns > 0;
    const std::string path = std::string(FLEX_TEST_PTX_DIR "/") + instance.name + "_" + std::to_string(c.properties) + ".ptx";
    static std::map<std::string, std::unique_ptr<Loaded>> loaded;
    auto& slot = loaded[path];
    if (!slot) slot = std::make_unique<Loaded>(path, sizeof(flex_gpu_launch), sizeof(TestArguments), sm90a);
    if (!slot->module) {
        out.fault = slot->error;
        return out;
    }
    flexemu::Device& device = slot->device;
    std::vector<uint64_t> allocated;
    const auto allocate = [&](size_t bytes) {
        allocated.push_back(device.allocate(bytes ? bytes : 16));
        return allocated.back();
    };
    const auto upload = [&](const void* data, size_t bytes) {
        const uint64_t at = allocate(bytes);
        device.write(at, data, bytes);
        return at;
    };
    const int size = instance.element == "F32" || instance.element == "TF32" ? 4 : 2;
    bool aligned = c.may_align && c.d * size % 16 == 0 && c.dv * size % 16 == 0 && c.row_padding * size % 16 == 0;
    const auto view = [&](const std::vector<float>& x, int heads, int rows, int columns) {
        const int64_t stride = columns + c.row_padding;
        const auto bytes = encode(instance.element, x, int64_t(c.b) * heads * rows, columns, stride);
        return flex_gpu_view{upload(bytes.data(), bytes.size()), heads * rows * stride, rows * stride, stride};
    };
    struct {
        flex_gpu_launch launch;
        TestArguments args;
    } p{};
    static_assert(sizeof p == sizeof(flex_gpu_launch) + sizeof(TestArguments));
    p.launch.q = view(in.q, c.h, c.q, c.d);
    p.launch.k = view(in.k, c.hkv, c.k, c.d);
    p.launch.v = view(in.v, c.hkv, c.k, c.dv);
    const int64_t rows = int64_t(c.b) * c.h * c.q, o_stride = c.dv + c.row_padding;
    p.launch.o = {allocate(size_t(rows * o_stride * size)), c.h * c.q * o_stride, c.q * o_stride, o_stride};
    p.launch.lse = {allocate(size_t(rows * 4)), int64_t(c.h) * c.q, c.q, 1};
    p.launch.max_score = {allocate(size_t(rows * 4)), int64_t(c.h) * c.q, c.q, 1};
    const int key_tiles = (c.k + instance.tile_k - 1) / instance.tile_k;
    p.launch.splits = c.splits;
    p.launch.split_keys = (key_tiles + c.splits - 1) / c.splits * instance.tile_k;
    if (c.splits > 1) p.launch.partial = allocate(size_t(c.splits * rows * ((c.dv + 3) / 4 * 4 + 2) * 4));
    p.launch.pack = c.pack;
    p.launch.aligned = aligned;
    const int extents[7] = {c.b, c.h, c.hkv, c.q, c.k, c.d, c.dv};
    std::memcpy(p.args.extents, extents, sizeof extents);
    p.args.scale = c.scale;
    p.args.mask = c.mask;
    p.args.score = c.score;
    p.args.amount = c.amount;
    p.args.factor = c.factor;
    p.args.doc = upload(in.doc.data(), in.doc.size() * 4);
    const int lengths[2] = {c.q, c.k};
    for (int i = 0; i < 2; i++) {
        flex_gpu_summary& summary = p.args.summaries[i];
        summary.blocks = (lengths[i] + FLEX_GPU_SUMMARY_BLOCK - 1) / FLEX_GPU_SUMMARY_BLOCK;
        summary.wide = (lengths[i] + FLEX_GPU_SUMMARY_WIDE - 1) / FLEX_GPU_SUMMARY_WIDE;
        const size_t words = size_t(summary.blocks + summary.wide) * 2;
        summary.data = allocate(words * 4);
        device.fill(summary.data, 0x7fffffff, 4, words);
    }

    std::vector<uint8_t> parameters(sizeof p);
    std::memcpy(parameters.data(), &p, sizeof p);
    flexemu::LaunchOptions options;
    options.seed = c.seed;
    const auto launch = [&](const char* kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared) {
        if (!out.fault.empty()) return;
        flexemu::LaunchStats stats;
        const flexemu::Fault fault =
            device.launch(*slot->module, slot->function(kernel), {x, y, z}, {threads, 1, 1}, shared, parameters, options, &stats);
        if (fault) out.fault = std::string(kernel) + ": " + flexemu::name(fault.kind) + ": " + fault.text;
        out.warp_instructions += stats.warp_instructions;
    };
    const int most = std::max(p.args.summaries[0].blocks, p.args.summaries[1].blocks);
    if (c.mask == kMaskDocument) launch("flex_gpu_summarise", unsigned(most + 3) / 4, 1, unsigned(c.b) * 2, 128, 0);
    const unsigned tiles = unsigned(c.q * c.pack + instance.tile_q - 1) / unsigned(instance.tile_q);
    unsigned blocks = tiles * unsigned(c.h / c.pack * c.b), rows_of_blocks = unsigned(c.splits);
    if (sm90a) {
        flex_gpu_tensors tensors{};
        tensors.work = int32_t(blocks * rows_of_blocks);
        tensors.is_mapped = aligned && c.may_map && 64 % c.pack == 0 && c.k > 0;
        if (tensors.is_mapped) {
            tensors.q = map_of(instance, p.launch.q, c, c.d, c.h, c.q, true, 64 / c.pack);
            tensors.o = map_of(instance, p.launch.o, c, c.dv, c.h, c.q, true, 64 / c.pack);
            tensors.k = map_of(instance, p.launch.k, c, c.d, c.hkv, c.k, false, instance.tile_k);
            tensors.v = map_of(instance, p.launch.v, c, c.dv, c.hkv, c.k, false, instance.tile_k);
        }
        const uint32_t none = 0;
        if (c.counter) tensors.next_work = upload(&none, sizeof none);
        blocks = std::min(blocks * rows_of_blocks, unsigned(c.blocks));
        rows_of_blocks = 1;
        parameters.resize((sizeof p + 63) / 64 * 64 + sizeof tensors);
        std::memcpy(parameters.data() + parameters.size() - sizeof tensors, &tensors, sizeof tensors);
    }
    launch("flex_gpu_forward", blocks, rows_of_blocks, 1, unsigned(32 * instance.warps), unsigned(instance.shared_bytes));
    parameters.resize(sizeof p);
    if (c.splits > 1) launch("flex_gpu_combine", unsigned(rows + 3) / 4, 1, 1, 128, 0);

    std::vector<uint8_t> o(size_t(rows * o_stride * size));
    device.read(o.data(), p.launch.o.data, o.size());
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < c.dv; i++) out.o.push_back(decode(instance.element, &o[size_t(r * o_stride + i) * size]));
    out.lse.resize(size_t(rows));
    out.max_score.resize(size_t(rows));
    device.read(out.lse.data(), p.launch.lse.data, out.lse.size() * 4);
    device.read(out.max_score.data(), p.launch.max_score.data, out.max_score.size() * 4);
    for (uint64_t at : allocated) device.free(at);
    return out;
}

}  // namespace skeleton_test
