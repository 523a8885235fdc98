#include <algorithm>
#include <cstring>
#include <map>

#include "tests/unit/skeleton/backward.h"
#include "tests/unit/skeleton/emulated.h"

namespace skeleton_test {

const std::vector<BackwardInstance>& backward_instances() {
    static const std::vector<BackwardInstance> all = {
#define FLEX_BACKWARD_INSTANCE(name, element, ...) {#name, #element, __VA_ARGS__},
#include "backend/skeletons/nvptx/backward_instances.def"
#undef FLEX_BACKWARD_INSTANCE
    };
    return all;
}

namespace {

std::string path_of(const BackwardInstance& instance, const BackwardCase& c) {
    return std::string(FLEX_TEST_PTX_DIR "/") + instance.name + "_" + std::to_string(c.properties) + ".ptx";
}

}  // namespace

std::string ptx_of(const BackwardInstance& instance, const BackwardCase& c) {
    return lengthen_parameters(text_of(path_of(instance, c)), sizeof(flex_gpu_backward), sizeof(BackwardTestArguments));
}

Gradients run(const BackwardInstance& instance, const BackwardCase& c, const BackwardInputs& in, const std::string* ptx) {
    Gradients out;
    struct Parameter {
        flex_gpu_backward backward;
        BackwardTestArguments args;
    } p{};
    static_assert(sizeof p == sizeof(flex_gpu_backward) + sizeof(BackwardTestArguments));
    static std::map<std::string, std::unique_ptr<Loaded>> loaded;
    const std::string path = path_of(instance, c);
    std::unique_ptr<Loaded> other;
    auto& slot = ptx ? other : loaded[path];
    if (!slot)
        slot =
            ptx ? std::make_unique<Loaded>(*ptx) : std::make_unique<Loaded>(path, sizeof(flex_gpu_backward), sizeof(BackwardTestArguments));
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
    const auto zeros = [&](size_t bytes) {
        const std::vector<uint8_t> none(bytes);
        return upload(none.data(), bytes);
    };
    const int size = instance.element == "F32" || instance.element == "TF32" ? 4 : 2;
    const auto view = [&](const std::vector<float>* x, int batches, int heads, int rows, int columns) {
        const int64_t stride = columns + c.row_padding;
        const size_t bytes = size_t(int64_t(batches) * heads * rows * stride) * size_t(size);
        flex_gpu_view v{0, batches == 1 ? 0 : heads * rows * stride, rows * stride, stride};
        if (x)
            v.data = upload(encode(instance.element, *x, int64_t(batches) * heads * rows, columns, stride).data(), bytes);
        else
            v.data = allocate(bytes);
        return v;
    };
    const auto of_rows = [&](const std::vector<float>& x) {
        return flex_gpu_view{upload(x.data(), x.size() * 4), int64_t(c.h) * c.q, c.q, 1};
    };
    const int kb = c.k_shared ? 1 : c.b, vb = c.v_shared ? 1 : c.b;
    flex_gpu_launch& launch_facts = p.backward.launch;
    launch_facts.q = view(&in.q, c.b, c.h, c.q, c.d);
    launch_facts.k = view(&in.k, kb, c.hkv, c.k, c.d);
    launch_facts.v = view(&in.v, vb, c.hkv, c.k, c.dv);
    launch_facts.o = view(&in.o, c.b, c.h, c.q, c.dv);
    launch_facts.lse = of_rows(in.lse);
    launch_facts.splits = launch_facts.pack = 1;
    launch_facts.aligned = c.may_align && c.d * size % 16 == 0 && c.dv * size % 16 == 0 && c.row_padding * size % 16 == 0;
    p.backward.d_o = view(&in.d_o, c.b, c.h, c.q, c.dv);
    if (c.d_lse) p.backward.d_lse = of_rows(in.d_lse);
    if (c.d_max_score) p.backward.d_max_score = of_rows(in.d_max_score);
    p.backward.dq = view(nullptr, c.b, c.h, c.q, c.d);
    p.backward.dk = view(nullptr, kb, c.hkv, c.k, c.d);
    p.backward.dv = view(nullptr, vb, c.hkv, c.k, c.dv);
    const int64_t rows = int64_t(c.b) * c.h * c.q;
    p.backward.rows = allocate(size_t(rows * FLEX_GPU_ROW_PLANES * 4));
    p.backward.d_scale = zeros(size_t(rows * 4));
    if (c.atomic) p.backward.dq_sums = zeros(size_t(rows * c.d * 4));
    p.backward.k_shared = c.k_shared && c.b > 1;
    p.backward.v_shared = c.v_shared && c.b > 1;
    TestArguments& test = p.args.test;
    const int extents[7] = {c.b, c.h, c.hkv, c.q, c.k, c.d, c.dv};
    std::memcpy(test.extents, extents, sizeof extents);
    test.scale = c.scale;
    test.mask = c.mask;
    test.score = c.score;
    test.amount = c.amount;
    test.factor = c.factor;
    test.doc = upload(in.doc.data(), in.doc.size() * 4);
    const int lengths[2] = {c.q, c.k};
    for (int i = 0; i < 2; i++) {
        flex_gpu_summary& summary = test.summaries[i];
        summary.blocks = (lengths[i] + FLEX_GPU_SUMMARY_BLOCK - 1) / FLEX_GPU_SUMMARY_BLOCK;
        summary.wide = (lengths[i] + FLEX_GPU_SUMMARY_WIDE - 1) / FLEX_GPU_SUMMARY_WIDE;
        const size_t words = size_t(summary.blocks + summary.wide) * 2;
        summary.data = allocate(words * 4);
        device.fill(summary.data, 0x7fffffff, 4, words);
    }
    int64_t most = c.atomic ? rows * c.d : 0;
    for (int i = 0; i < kTestGradients; i++) {
        const size_t count = in.value[i].size();
        p.args.value[i] = upload(in.value[i].data(), count * 4);
        p.args.gradient[i] = {zeros(count * 4), c.atomic ? 0 : zeros(count * 8), zeros(4), int64_t(count)};
        most = std::max(most, int64_t(count));
    }

    std::vector<uint8_t> parameters(sizeof p);
    std::memcpy(parameters.data(), &p, sizeof p);
    flexemu::LaunchOptions options;
    options.seed = c.schedule;
    const auto launch = [&](const char* kernel, int64_t x, int64_t y, int64_t z, int threads, int shared) {
        if (!out.fault.empty() || x == 0) return;
        flexemu::LaunchStats stats;
        const flexemu::Fault fault = device.launch(*slot->module, slot->function(std::string("flex_gpu_backward_") + kernel),
                                                   {unsigned(x), unsigned(y), unsigned(z)}, {unsigned(threads), 1, 1}, unsigned(shared),
                                                   parameters, options, &stats);
        if (fault) out.fault = std::string(kernel) + ": " + flexemu::name(fault.kind) + ": " + fault.text;
    };
    const int summary_blocks = std::max(test.summaries[0].blocks, test.summaries[1].blocks);
    if (c.mask == kMaskDocument) launch("summarise", (summary_blocks + 3) / 4, 1, c.b * 2, 128, 0);
    const int64_t query_blocks = int64_t((c.q + instance.tile_q - 1) / instance.tile_q) * c.h * c.b;
    const int64_t key_blocks =
        int64_t((c.k + instance.tile_k - 1) / instance.tile_k) * c.hkv * (p.backward.k_shared || p.backward.v_shared ? 1 : c.b);
    launch("rows", query_blocks, 1, 1, 32 * instance.query_warps, instance.query_shared_bytes);
    if (!c.atomic) launch("queries", query_blocks, 1, 1, 32 * instance.query_warps, instance.query_shared_bytes);
    launch(c.atomic ? "keys_atomic" : "keys", key_blocks, 1, 1, 32 * instance.key_warps, instance.key_shared_bytes);
    launch("scale", (rows + 127) / 128, 1, 1, 128, 0);
    launch("finish", (most + 127) / 128, kTestGradients + 1, 1, 128, 0);

    const auto download = [&](std::vector<float>& to, const flex_gpu_view& from, int64_t count, int columns) {
        std::vector<uint8_t> bytes(size_t(count * from.row_stride * size));
        if (out.fault.empty()) device.read(bytes.data(), from.data, bytes.size());
        for (int64_t r = 0; r < count; r++)
            for (int i = 0; i < columns; i++)
                to.push_back(decode(instance.element, &bytes[size_t(r * from.row_stride + i) * size_t(size)]));
    };
    download(out.dq, p.backward.dq, rows, c.d);
    download(out.dk, p.backward.dk, int64_t(kb) * c.hkv * c.k, c.d);
    download(out.dv, p.backward.dv, int64_t(vb) * c.hkv * c.k, c.dv);
    for (int i = 0; i < kTestGradients; i++) {
        out.d_value[i].resize(in.value[i].size());
        device.read(out.d_value[i].data(), p.args.gradient[i].data, out.d_value[i].size() * 4);
    }
    for (uint64_t at : allocated) device.free(at);
    return out;
}

}  // namespace skeleton_test
