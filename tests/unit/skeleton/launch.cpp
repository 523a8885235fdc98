#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

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

Outcome run(const Instance& instance, const Case& c, const Inputs& in) {
    Outcome out;
    const std::string path = std::string(FLEX_TEST_PTX_DIR "/") + instance.name + "_" + std::to_string(c.properties) + ".ptx";
    static std::map<std::string, std::unique_ptr<Loaded>> loaded;
    auto& slot = loaded[path];
    if (!slot) slot = std::make_unique<Loaded>(path, sizeof(flex_gpu_launch), sizeof(TestArguments));
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
    launch("flex_gpu_forward", tiles * unsigned(c.h / c.pack * c.b), unsigned(c.splits), 1, unsigned(32 * instance.warps),
           unsigned(instance.shared_bytes));
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
