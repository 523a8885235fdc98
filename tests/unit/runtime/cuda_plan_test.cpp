// Images, packs, splits, workspaces and parameters of GPU launches, from shapes alone.
#include <doctest/doctest.h>

#include <random>

#include "cuda_util.h"
#include "runtime/cuda/plan.h"

using namespace flex;
using namespace flex::test;

namespace {

/// A bound problem that owns what it refers to.
struct Bound {
    KernelDesc desc = plain_gpu_desc();
    AttentionArrays arrays;
    std::vector<Argument> args;
    cuda::Problem problem{desc, arrays, args, {}};

    explicit Bound(const GpuShape& shape) : arrays(gpu_arrays(shape)) { bind_all(); }
    Bound(KernelDesc d, const GpuShape& shape, std::vector<Argument> list)
        : desc(std::move(d)), arrays(gpu_arrays(shape)), args(std::move(list)) {
        bind_all();
    }
    Bound(const Bound&) = delete;

    void bind_all() {
        const Status status = bind(desc, arrays, args, &problem.extents);
        REQUIRE_MESSAGE(status.ok(), status.text());
    }
};

const cuda::DeviceFacts kA100{80, 108, 166912, 167936};

const flex_gpu_image* choose(const Bound& bound, const std::vector<ImageOptions>& all, const CudaOptions& options = {},
                             const cuda::DeviceFacts& device = kA100, std::string* text = nullptr) {
    static std::vector<flex_gpu_image> images;
    images.clear();
    for (const ImageOptions& each : all) images.push_back(image_of(each));
    std::vector<const flex_gpu_image*> list;
    for (const flex_gpu_image& image : images) list.push_back(&image);
    const flex_gpu_image* out = nullptr;
    const Status status = cuda::choose_image(bound.problem, options, device, list.data(), list.size(), &out);
    CHECK(status.ok() == (out != nullptr));
    if (!status.ok()) CHECK(status.code() == Code::Unsupported);
    if (text) *text = status.text();
    return out;
}

cuda::Plan plan_of(const Bound& bound, const flex_gpu_image& image, const CudaOptions& options = {},
                   const cuda::DeviceFacts& device = kA100) {
    cuda::Plan plan;
    plan.image = &image;
    const Status status = cuda::make_plan(bound.problem, options, device, &plan);
    REQUIRE_MESSAGE(status.ok(), status.text());
    return plan;
}

}  // namespace

TEST_CASE("gpu targets") {
    cuda::Target target;
    CHECK(cuda::parse_target("sm_80", &target));
    CHECK((target.capability == 80 && !target.exact));
    CHECK(cuda::runs_on(target, 80));
    CHECK(cuda::runs_on(target, 120));
    CHECK_FALSE(cuda::runs_on(target, 75));
    CHECK(cuda::parse_target("sm_90a", &target));
    CHECK(cuda::runs_on(target, 90));
    CHECK_FALSE(cuda::runs_on(target, 100));
    for (const char* bad : {"", "80", "sm_", "sm_x", "sm_80b", "compute_80", "sm_80 "}) CHECK_FALSE(cuda::parse_target(bad, &target));
    CHECK_FALSE(cuda::parse_target(nullptr, &target));
}

TEST_CASE("the image is the newest that runs, the smallest that fits, the accurate one") {
    const Bound small({.h = 2, .hkv = 2, .q = 300, .k = 300, .d = 64, .dv = 64});
    CHECK(choose(small, {{.head_dim = 128}, {.head_dim = 64, .v_head_dim = 64}})->head_dim == 64);
    CHECK(choose(small, {{.dtype = DType::BF16}, {.dtype = DType::F16}})->dtype == FLEX_GPU_F16);
    CHECK(std::string(choose(small, {{.target = "sm_80"}, {.target = "sm_90a"}})->target) == "sm_80");
    const cuda::DeviceFacts h100{90, 132, 232448, 233472}, b200{100, 148, 232448, 233472};
    CHECK(std::string(choose(small, {{.target = "sm_80"}, {.target = "sm_90a"}, {.target = "sm_90"}}, {}, h100)->target) == "sm_90a");
    CHECK(std::string(choose(small, {{.target = "sm_80"}, {.target = "sm_90a"}}, {}, b200)->target) == "sm_80");

    const Bound floats({.h = 2, .hkv = 2, .q = 300, .k = 300, .dtype = DType::F32});
    const std::vector<ImageOptions> both = {{.dtype = DType::F32, .tf32 = true}, {.dtype = DType::F32}};
    CHECK(choose(floats, both)->tf32 == 0);
    CudaOptions tf32;
    tf32.allow_tf32 = true;
    CHECK(choose(floats, both, tf32)->tf32 == 1);
    CHECK(choose(floats, {both[0]})->tf32 == 1);  // whoever compiled it allowed it

    // Shared memory that this device does not have.
    const cuda::DeviceFacts rtx{86, 84, 101376, 102400};
    CHECK(choose(small, {{.tile_q = 128, .shared_bytes = 120000}, {.tile_q = 64, .shared_bytes = 60000}}, {}, rtx)->tile_q == 64);
}

TEST_CASE("few rows take the small tile") {
    const std::vector<ImageOptions> both = {{.tile_q = 128}, {.tile_q = 16}};
    CHECK(choose(Bound({.h = 8, .hkv = 8, .q = 1, .k = 5000}), both)->tile_q == 16);
    CHECK(choose(Bound({.h = 32, .hkv = 2, .q = 1, .k = 5000}), both)->tile_q == 16);  // 16 heads share it
    CHECK(choose(Bound({.h = 64, .hkv = 2, .q = 1, .k = 5000}), both)->tile_q == 128);
    CHECK(choose(Bound({.h = 8, .hkv = 8, .q = 17, .k = 5000}), both)->tile_q == 128);
    CHECK(choose(Bound({.h = 8, .hkv = 8, .q = 4096, .k = 4096}), both)->tile_q == 128);
}

TEST_CASE("why no image serves") {
    std::string text;
    const Bound bound({.h = 2, .hkv = 2, .q = 9, .k = 9, .d = 256, .dv = 192});
    choose(bound, {}, {}, kA100, &text);
    CHECK(text == "`x` was not compiled for any GPU");
    choose(bound, {{.target = "sm_90a"}, {.target = "sm_90"}, {.target = "sm_90"}}, {}, kA100, &text);
    CHECK(text == "`x` was compiled for sm_90a, sm_90, and the device is sm_80");
    choose(bound, {{.dtype = DType::BF16}, {.dtype = DType::F32}}, {}, kA100, &text);
    CHECK(text == "`x` was compiled for bf16, f32 on GPUs, and `q` is f16");
    choose(bound, {{.head_dim = 64}, {.head_dim = 128}, {.dtype = DType::BF16, .head_dim = 256}}, {}, kA100, &text);
    CHECK(text == "`x` was compiled for head dimensions up to 128 with f16, and `q` has D = 256");
    choose(bound, {{.head_dim = 256, .v_head_dim = 128}, {.head_dim = 64, .v_head_dim = 512}}, {}, kA100, &text);
    CHECK(text == "`x` was compiled for head dimensions up to 128 with f16, and `v` has DV = 192");
    choose(bound, {{.head_dim = 256, .v_head_dim = 256, .shared_bytes = 200000}}, {}, kA100, &text);
    CHECK(text.find("200000 bytes of shared memory") != std::string::npos);
    flex_gpu_image old = image_of({});
    old.abi_version = FLEX_GPU_ABI_VERSION + 1;
    const flex_gpu_image* list[] = {&old};
    const flex_gpu_image* out = nullptr;
    CHECK(cuda::choose_image(bound.problem, {}, kA100, list, 1, &out).text().find("GPU ABI") != std::string::npos);
}

TEST_CASE("heads of a group share tiles when queries do not fill them") {
    const flex_gpu_image image = image_of({.tile_q = 64, .max_pack = 16});
    const auto pack = [&](int64_t h, int64_t hkv, int64_t q) {
        return plan_of(Bound({.h = h, .hkv = hkv, .q = q, .k = 4096}), image).pack;
    };
    CHECK(pack(32, 8, 1) == 4);
    CHECK(pack(8, 8, 1) == 1);
    CHECK(pack(64, 1, 1) == 16);  // as many as the kernel takes
    CHECK(pack(32, 8, 4096) == 1);
    CHECK(pack(12, 2, 16) == 3);  // 48 of 64 rows: 2 tiles a KV head, as with 6 (96 rows)
    CHECK(pack(28, 4, 10) == 7);  // no power of two: 70 rows, 2 tiles instead of 7
    CHECK(pack(4, 2, 64) == 1);   // full already

    const flex_gpu_image alone = image_of({.tile_q = 64, .max_pack = 1});
    CHECK(plan_of(Bound({.h = 32, .hkv = 8, .q = 1, .k = 64}), alone).pack == 1);
    const Bound bound({.h = 12, .hkv = 2, .q = 3, .k = 64});
    CudaOptions options;
    for (const auto& [given, ok] : {std::pair{2, true}, {6, true}, {1, true}, {4, false}, {12, false}, {-1, false}}) {
        options.pack = given;
        cuda::Plan plan;
        plan.image = &image;
        const Status status = cuda::make_plan(bound.problem, options, kA100, &plan);
        CHECK(status.ok() == ok);
        if (ok) CHECK(plan.pack == given);
        if (!ok) CHECK(status.code() == Code::InvalidArgument);
    }
}

TEST_CASE("keys are split when the device would idle") {
    const flex_gpu_image image = image_of({.tile_q = 64, .tile_k = 64});
    const auto splits = [&](const GpuShape& shape) { return plan_of(Bound(shape), image).splits; };
    CHECK(splits({.b = 4, .h = 16, .hkv = 16, .q = 4096, .k = 4096}) == 1);
    CHECK(splits({.b = 1, .h = 8, .hkv = 8, .q = 1, .k = 256}) == 1);  // too few keys
    CHECK(splits({.b = 1, .h = 1, .hkv = 1, .q = 1, .k = 0}) == 1);
    CHECK(splits({.b = 1, .h = 8, .hkv = 8, .q = 1, .k = 65536}) > 8);
    CHECK(splits({.b = 256, .h = 8, .hkv = 8, .q = 1, .k = 65536}) == 1);
    // The last wave is nearly full.
    const Bound decode({.b = 2, .h = 8, .hkv = 8, .q = 1, .k = 32768});
    const auto plan = plan_of(decode, image);
    const int64_t slots = 108 * 2;
    const auto blocks = static_cast<int64_t>(plan.forward.x * plan.forward.y);
    CHECK(static_cast<double>(blocks) / static_cast<double>((blocks + slots - 1) / slots * slots) >= 0.8);

    flex_gpu_image no_combine = image;
    no_combine.combine.symbol = nullptr;
    CHECK(plan_of(decode, no_combine).splits == 1);
}

TEST_CASE("splits cover the keys, none is empty, and the workspace holds them") {
    std::mt19937 random(1);
    const auto pick = [&](int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); };
    for (int i = 0; i < 3000; ++i) {
        GpuShape shape{.b = pick(1, 3), .hkv = pick(1, 3), .q = pick(1, 300), .k = pick(0, 5000), .d = pick(1, 128), .dv = pick(1, 128)};
        shape.h = shape.hkv * pick(1, 6);
        std::vector<int32_t> flags;
        for (int64_t n = pick(0, 3); n > 0; --n) flags.push_back(static_cast<int32_t>(pick(0, 7)));
        const flex_gpu_image image = image_of({.tile_q = 1 << pick(4, 7), .tile_k = 1 << pick(5, 7), .max_pack = 16, .summaries = flags});
        CudaOptions options;
        if (pick(0, 2) == 0) options.splits = static_cast<int>(pick(1, 70));
        const Bound bound(shape);
        const cuda::Plan plan = plan_of(bound, image, options);
        CAPTURE(i);
        CHECK(plan.split_keys % image.tile_k == 0);
        CHECK(plan.splits * plan.split_keys >= shape.k);
        CHECK((plan.splits == 1 || (plan.splits - 1) * plan.split_keys < shape.k));
        if (options.splits) CHECK(plan.splits <= options.splits);
        CHECK(shape.h / shape.hkv % plan.pack == 0);
        const int64_t tiles = (shape.q * plan.pack + image.tile_q - 1) / image.tile_q;
        CHECK(plan.forward.x == tiles * (shape.h / plan.pack) * shape.b);
        CHECK(plan.forward.y == plan.splits);

        // Summaries lie one behind the other from the start, partial results behind them.
        size_t at = 0;
        CHECK(plan.summaries.list.size() == (shape.k > 0 ? flags.size() : 0));
        for (size_t s = 0; s < plan.summaries.list.size(); ++s) {
            const flex_gpu_summary& summary = plan.summaries.list[s];
            const int64_t length = flags[s] & FLEX_SUMMARY_OF_KEYS ? shape.k : shape.q;
            CHECK(summary.data == at);
            CHECK(summary.blocks == (length + 31) / 32);
            CHECK(summary.wide == (length + 1023) / 1024);
            int64_t records = 1;
            if (flags[s] & FLEX_SUMMARY_BY_H) records *= shape.h;
            CHECK(summary.h_stride == (flags[s] & FLEX_SUMMARY_BY_H ? summary.blocks + summary.wide : 0));
            CHECK(summary.b_stride == (flags[s] & FLEX_SUMMARY_BY_B ? records * (summary.blocks + summary.wide) : 0));
            if (flags[s] & FLEX_SUMMARY_BY_B) records *= shape.b;
            at += static_cast<size_t>(records * (summary.blocks + summary.wide)) * 8;
            const unsigned warps = 4;
            CHECK(plan.summaries.grid.x * warps >= static_cast<unsigned>(summary.blocks));
            CHECK(plan.summaries.grid.y >= (flags[s] & FLEX_SUMMARY_BY_H ? shape.h : 1));
            CHECK(plan.summaries.grid.z == shape.b * static_cast<int64_t>(flags.size()));
        }
        CHECK(plan.summaries.words * 4 == at);
        CHECK((plan.summaries.grid.x > 0) == (at > 0));
        if (plan.splits == 1) {
            CHECK(plan.combine.x == 0);
            CHECK(plan.workspace_bytes == at);
        } else {
            const int64_t rows = shape.b * shape.h * shape.q;
            CHECK(plan.partial >= at);
            CHECK(plan.partial % 256 == 0);
            CHECK(plan.workspace_bytes == plan.partial + static_cast<size_t>(4 * plan.splits * rows * ((shape.dv + 3) / 4 * 4 + 2)));
            CHECK(plan.combine.x == (rows + 7) / 8);
        }
    }
}

TEST_CASE("empty problems launch nothing; none without keys") {
    const flex_gpu_image image = image_of({.summaries = {FLEX_SUMMARY_OF_KEYS}});
    for (const GpuShape& shape : {GpuShape{.b = 0, .q = 3, .k = 3}, GpuShape{.h = 0, .hkv = 1, .q = 3, .k = 3}, GpuShape{.q = 0, .k = 3}}) {
        const Bound bound(shape);
        CHECK(bound.problem.is_empty());
        const cuda::Plan plan = plan_of(bound, image);
        CHECK(plan.forward.x == 0);
        CHECK(plan.workspace_bytes == 0);
    }
    const cuda::Plan plan = plan_of(Bound({.h = 3, .hkv = 3, .q = 5, .k = 0}), image);
    CHECK(plan.forward.x == 3);
    CHECK(plan.summaries.grid.x == 0);
    CHECK(plan.workspace_bytes == 0);
}

TEST_CASE("what does not fit 32 bits is refused") {
    const flex_gpu_image image = image_of({.summaries = {FLEX_SUMMARY_OF_KEYS | FLEX_SUMMARY_BY_B | FLEX_SUMMARY_BY_H}});
    constexpr int64_t kMost = 2147483647;
    for (const GpuShape& shape : {GpuShape{.q = kMost, .k = 1}, GpuShape{.q = 1, .k = kMost}, GpuShape{.b = kMost, .q = 1000, .k = 1},
                                  GpuShape{.b = 60000, .h = 60000, .hkv = 60000, .q = 1, .k = 1}, GpuShape{.b = 70000, .q = 1, .k = 1},
                                  GpuShape{.b = 60000, .h = 30000, .hkv = 30000, .q = 1, .k = 10000}}) {
        const Bound bound(shape);
        cuda::Plan plan;
        plan.image = &image;
        CHECK(cuda::make_plan(bound.problem, {}, kA100, &plan).code() == Code::Unsupported);
    }
}

TEST_CASE("the parameter holds views, extents, scalars, tensors and summaries") {
    KernelDesc desc;
    desc.name = "x";
    desc.extents = {"N"};
    const auto tensor = [](const char* name, DType type, std::vector<DimDesc> dims) {
        ParamDesc param;
        param.name = name;
        param.is_tensor = true;
        param.dtype = type;
        param.dims = std::move(dims);
        return param;
    };
    const auto scalar = [](const char* name, DType type) {
        ParamDesc param;
        param.name = name;
        param.dtype = type;
        return param;
    };
    desc.params = {tensor("doc", DType::I32, {{1, 7, 0}}), scalar("window", DType::I32),
                   tensor("bias", DType::F16, {{1, 1, 0}, {1, 3, 0}, {1, 7, 1}}), scalar("on", DType::Bool), scalar("cap", DType::F32)};
    desc.params[4].has_default = true;
    desc.params[4].default_bits = 0x3f800000;
    int32_t window = 77;
    uint8_t on = 3;
    const auto args = [&] {
        return std::vector<Argument>{{"window", Tensor::contiguous(&window, DType::I32, {})},
                                     {"doc", Tensor::contiguous(reinterpret_cast<void*>(0x10000), DType::I32, {9})},
                                     {"on", Tensor::contiguous(&on, DType::Bool, {})},
                                     {"bias", Tensor::contiguous(reinterpret_cast<void*>(0x20002), DType::F16, {4, 5, 10})}};
    };
    Bound bound(desc, {.b = 3, .h = 4, .hkv = 2, .q = 5, .k = 6, .kvb = 1}, args());
    const flex_gpu_image image = image_of({.summaries = {FLEX_SUMMARY_OF_KEYS, 0}});
    CudaOptions options;
    options.workspace = reinterpret_cast<void*>(0x500000);
    const cuda::Plan plan = plan_of(bound, image, options);
    std::vector<unsigned char> block;
    REQUIRE(cuda::make_parameter(bound.problem, options, plan, &block).ok());
    const GpuLayout at = gpu_layout(desc, 2);
    REQUIRE(block.size() == at.bytes);
    const auto get = [&](size_t offset, auto value) {
        std::memcpy(&value, block.data() + offset, sizeof value);
        return value;
    };
    const auto launch = get(0, flex_gpu_launch{});
    CHECK(launch.q.data == 1 << 20);
    CHECK(launch.q.b_stride == 4 * 5 * 64);
    CHECK(launch.q.h_stride == 5 * 64);
    CHECK(launch.q.row_stride == 64);
    CHECK(launch.k.b_stride == 0);
    CHECK(launch.v.b_stride == 0);
    CHECK(launch.lse.data == 5 << 20);
    CHECK(launch.lse.b_stride == 20);
    CHECK(launch.lse.row_stride == 1);
    CHECK(launch.max_score.data == 0);
    CHECK(launch.partial == 0);
    CHECK(launch.splits == 1);
    CHECK(launch.pack == plan.pack);
    CHECK(launch.aligned == 1);
    for (int i = 0; i < 8; ++i)
        CHECK(get(at.extents + 4 * static_cast<size_t>(i), int32_t{}) == std::vector{3, 4, 2, 5, 6, 64, 64, 9}[static_cast<size_t>(i)]);
    CHECK(get(at.scalars + 4, int32_t{}) == 77);
    CHECK(get(at.scalars + 12, uint32_t{}) == 1);
    CHECK(get(at.scalars + 16, uint32_t{}) == 0x3f800000);
    CHECK(at.tensors[0] % 8 == 0);
    CHECK(get(at.tensors[0], uint64_t{}) == 0x10000);
    CHECK(get(at.tensors[0] + 8, int64_t{}) == 1);
    CHECK(get(at.tensors[0] + 16, int32_t{}) == 9);
    CHECK(get(at.tensors[2], uint64_t{}) == 0x20002);
    CHECK(get(at.tensors[2] + 8, int64_t{}) == 50);
    CHECK(get(at.tensors[2] + 16, int64_t{}) == 10);
    CHECK(get(at.tensors[2] + 24, int64_t{}) == 1);
    CHECK(get(at.tensors[2] + 32, int32_t{}) == 4);
    CHECK(get(at.tensors[2] + 40, int32_t{}) == 10);
    const auto first = get(at.summaries, flex_gpu_summary{}), second = get(at.summaries + sizeof(flex_gpu_summary), flex_gpu_summary{});
    CHECK(first.data == 0x500000);
    CHECK(second.data == 0x500000 + 2 * 2 * 4);
    CHECK(first.blocks == 1);

    SUBCASE("rows that do not begin at 16 bytes") {
        const auto aligned = [&] {
            REQUIRE(cuda::make_parameter(bound.problem, options, plan, &block).ok());
            return get(0, flex_gpu_launch{}).aligned;
        };
        bound.arrays.k.stride[2] = 68;  // 136 bytes
        CHECK(aligned() == 0);
        bound.arrays.k.stride[2] = 72;
        CHECK(aligned() == 1);
        bound.arrays.k.stride[0] = 3;  // a batch of one
        CHECK(aligned() == 1);
        bound.arrays.q.data = reinterpret_cast<void*>((1 << 20) + 8);
        CHECK(aligned() == 0);
    }
    SUBCASE("addresses that no element can have") {
        CHECK(cuda::check_alignment(bound.arrays, bound.args).ok());
        bound.arrays.lse.data = reinterpret_cast<void*>(0x1002);
        CHECK(cuda::check_alignment(bound.arrays, bound.args).text() == "`lse` is f32 and must begin at a multiple of 4 bytes");
    }
    SUBCASE("too many parameters for one launch") {
        for (int i = 0; i < 40; ++i)
            bound.desc.params.push_back(tensor(("t" + std::to_string(i)).c_str(), DType::F32, std::vector<DimDesc>(8, DimDesc{0, -1, 1})));
        for (int i = 0; i < 40; ++i)
            bound.args.push_back({"t" + std::to_string(i), Tensor::contiguous(&window, DType::F32, {1, 1, 1, 1, 1, 1, 1, 1})});
        bound.bind_all();
        CHECK(cuda::make_parameter(bound.problem, options, plan, &block).code() == Code::Unsupported);
    }
}
