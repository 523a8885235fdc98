// Kernels that take tensor maps: which launches they are chosen for, the maps, the pieces of work, and what reaches the driver.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>

#include "cuda_util.h"
#include "runtime/cuda/plan.h"
#include "runtime/cuda/tensor_maps.h"
#include "runtime/cuda/tuned.h"

using namespace flex;
using namespace flex::test;

namespace {

const cuda::DeviceFacts kH200{90, 132, 232448, 233472};
const ImageOptions kMapped{
    .target = "sm_90a", .dtype = DType::BF16, .tile_q = 128, .tile_k = 128, .max_pack = 64, .shared_bytes = 200000, .map_columns = 64};

struct Bound {
    KernelDesc desc = plain_gpu_desc();
    AttentionArrays arrays;
    std::vector<Argument> args;
    cuda::Problem problem{desc, arrays, args, {}};

    explicit Bound(GpuShape shape) : Bound(bf16_arrays(shape)) {}
    explicit Bound(const AttentionArrays& given) : arrays(given) {
        const Status status = bind(desc, arrays, args, &problem.extents);
        REQUIRE_MESSAGE(status.ok(), status.text());
    }
    Bound(const Bound&) = delete;
    static AttentionArrays bf16_arrays(GpuShape shape) {
        shape.dtype = DType::BF16;
        return gpu_arrays(shape);
    }
};

cuda::Plan plan_of(const Bound& bound, const flex_gpu_image& image, const CudaOptions& options = {}) {
    cuda::Plan plan;
    plan.image = &image;
    const Status status = cuda::make_plan(bound.problem, options, kH200, &plan);
    REQUIRE_MESSAGE(status.ok(), status.text());
    return plan;
}

using Extents = std::array<uint64_t, 4>;
using Strides = std::array<uint64_t, 3>;
using Box = std::array<uint32_t, 4>;

/// [B, heads, N, columns] from an array that lies as [B, N, heads, columns].
Tensor heads_inside(Tensor t) {
    const int64_t row = t.shape[1] * t.shape[3];
    t.stride = {t.shape[2] * row, t.shape[3], row, 1};
    return t;
}

}  // namespace

TEST_CASE("the maps of dense arrays") {
    const flex_gpu_image image = image_of(kMapped);
    const Bound bound({.b = 3, .h = 8, .hkv = 2, .q = 1000, .k = 777, .d = 128, .dv = 64});
    const cuda::Plan plan = plan_of(bound, image);
    REQUIRE(plan.pack == 1);
    cuda::MapRequests maps;
    REQUIRE(cuda::map_requests(bound.problem, plan, &maps));
    CHECK(maps.q.type == 9);
    CHECK(maps.q.address == 1 << 20);
    CHECK(maps.q.extents == Extents{128, 8, 1000, 3});
    CHECK(maps.q.strides == Strides{1000 * 256, 256, 8 * 1000 * 256});
    CHECK(maps.q.box == Box{64, 1, 64, 1});
    CHECK(maps.q.swizzle == 3);
    CHECK(maps.k.address == 2 << 20);
    CHECK(maps.k.extents == Extents{128, 777, 2, 3});
    CHECK(maps.k.strides == Strides{256, 777 * 256, 2 * 777 * 256});
    CHECK(maps.k.box == Box{64, 128, 1, 1});
    CHECK(maps.v.address == 3 << 20);
    CHECK(maps.v.extents == Extents{64, 777, 2, 3});
    CHECK(maps.v.strides == Strides{128, 777 * 128, 2 * 777 * 128});
    CHECK(maps.o.address == 4 << 20);
    CHECK(maps.o.extents == Extents{64, 8, 1000, 3});
    CHECK(maps.o.strides == Strides{1000 * 128, 128, 8 * 1000 * 128});
    CHECK(maps.o.box == Box{64, 1, 64, 1});
}

TEST_CASE("the maps of strided, shared and packed arrays") {
    const flex_gpu_image image = image_of(kMapped);
    AttentionArrays arrays = Bound::bf16_arrays({.b = 2, .h = 12, .hkv = 3, .q = 20, .k = 300, .d = 64, .dv = 64, .kvb = 1});
    for (Tensor* each : {&arrays.q, &arrays.k, &arrays.v, &arrays.o}) *each = heads_inside(*each);
    arrays.k.stride[0] = 12345;  // of a batch of one: any number
    const Bound bound(arrays);
    CudaOptions options;
    options.pack = 4;
    const cuda::Plan plan = plan_of(bound, image, options);
    cuda::MapRequests maps;
    REQUIRE(cuda::map_requests(bound.problem, plan, &maps));
    CHECK(maps.q.extents == Extents{64, 12, 20, 2});
    CHECK(maps.q.strides == Strides{128, 12 * 128, 20 * 12 * 128});
    CHECK(maps.q.box == Box{64, 4, 16, 1});
    CHECK(maps.o.box == Box{64, 4, 16, 1});
    CHECK(maps.k.extents == Extents{64, 300, 3, 1});
    CHECK(maps.k.strides[0] == 3 * 128);
    CHECK(maps.k.strides[1] == 128);
    CHECK(maps.k.strides[2] % 16 == 0);

    options.pack = 2;
    REQUIRE(cuda::map_requests(bound.problem, plan_of(bound, image, options), &maps));
    CHECK(maps.q.box == Box{64, 2, 32, 1});
}

TEST_CASE("spans of 128, 64 and 32 bytes") {
    const Bound bound({.h = 2, .hkv = 2, .q = 200, .k = 300, .d = 64, .dv = 64});
    cuda::MapRequests maps;
    for (const auto& [columns, swizzle] : {std::pair{64, 3}, {32, 2}, {16, 1}, {8, 0}}) {
        ImageOptions options = kMapped;
        options.map_columns = columns;
        const flex_gpu_image image = image_of(options);
        REQUIRE(cuda::map_requests(bound.problem, plan_of(bound, image), &maps));
        CHECK(maps.v.swizzle == swizzle);
        CHECK(maps.v.box[0] == static_cast<uint32_t>(columns));
    }
}

TEST_CASE("arrays without maps") {
    const flex_gpu_image image = image_of(kMapped);
    const AttentionArrays good = Bound::bf16_arrays({.b = 2, .h = 6, .hkv = 2, .q = 20, .k = 30, .d = 64, .dv = 64});
    cuda::MapRequests maps;
    const auto mapped = [&](const AttentionArrays& arrays, int pack = 1) {
        const Bound bound(arrays);
        CudaOptions options;
        options.pack = pack;
        return cuda::map_requests(bound.problem, plan_of(bound, image, options), &maps);
    };
    CHECK(mapped(good));
    CHECK_FALSE(mapped(good, 3));  // rows of a box are 64
    for (Tensor AttentionArrays::* which : {&AttentionArrays::q, &AttentionArrays::k, &AttentionArrays::v, &AttentionArrays::o}) {
        AttentionArrays arrays = good;
        Tensor& t = arrays.*which;
        t.data = static_cast<char*>(t.data) + 8;
        CHECK_FALSE(mapped(arrays));
        for (const size_t dim : {size_t{0}, size_t{1}, size_t{2}}) {
            arrays = good;
            t.stride[dim] += 4;  // 8 bytes
            CHECK_FALSE(mapped(arrays));
            arrays = good;
            t.stride[dim] += 8;
            CHECK(mapped(arrays));
            arrays = good;
            t.stride[dim] = 0;  // the same row again and again
            if (which != &AttentionArrays::o) CHECK_FALSE(mapped(arrays));
            arrays = good;
            t.stride[dim] = -t.stride[dim];
            CHECK_FALSE(mapped(arrays));
            arrays = good;
            t.stride[dim] = int64_t{1} << 39;  // 2^40 bytes
            CHECK_FALSE(mapped(arrays));
        }
    }
    CHECK_FALSE(mapped(Bound::bf16_arrays({.h = 2, .hkv = 2, .q = 20, .k = 30, .d = 60, .dv = 64})));
    CHECK_FALSE(mapped(Bound::bf16_arrays({.h = 2, .hkv = 2, .q = 20, .k = 30, .d = 64, .dv = 33})));
    CHECK_FALSE(mapped(Bound::bf16_arrays({.h = 2, .hkv = 2, .q = 20, .k = 0})));
    CHECK(mapped(Bound::bf16_arrays({.h = 1, .hkv = 1, .q = 1, .k = 1, .d = 8, .dv = 8})));
}

TEST_CASE("which of several images a launch takes") {
    const flex_gpu_image own = image_of(kMapped);
    const flex_gpu_image usual = image_of({.dtype = DType::BF16});
    const flex_gpu_image few = image_of({.dtype = DType::BF16, .tile_q = 16});
    const flex_gpu_image* all[] = {&usual, &own, &few};
    const auto choose = [&](const AttentionArrays& arrays, const cuda::DeviceFacts& device, const CudaOptions& options = {}) {
        const Bound bound(arrays);
        const flex_gpu_image* out = nullptr;
        CHECK(cuda::choose_image(bound.problem, options, device, all, 3, &out).ok());
        return out;
    };
    const AttentionArrays large = Bound::bf16_arrays({.h = 8, .hkv = 8, .q = 1000, .k = 1000});
    const cuda::DeviceFacts a100{80, 108, 166912, 167936}, b200{100, 148, 232448, 233472};
    CHECK(choose(large, kH200) == &own);
    CHECK(choose(large, a100) == &usual);
    CHECK(choose(large, b200) == &usual);
    CHECK(choose(Bound::bf16_arrays({.h = 8, .hkv = 8, .q = 16, .k = 1000}), kH200) == &few);
    CHECK(choose(Bound::bf16_arrays({.h = 8, .hkv = 8, .q = 17, .k = 1000}), kH200) == &own);
    CHECK(choose(Bound::bf16_arrays({.h = 8, .hkv = 1, .q = 2, .k = 1000}), kH200) == &few);                // eight heads share the stripe
    CHECK(choose(Bound::bf16_arrays({.h = 8, .hkv = 8, .q = 1000, .k = 1000, .d = 60}), kH200) == &usual);  // no maps
    cuda::DeviceFacts old = kH200;
    old.has_tensor_maps = false;
    CHECK(choose(large, old) == &usual);
    CudaOptions options;
    options.image = &usual;
    CHECK(choose(large, kH200, options) == &usual);

    const Bound bound(large);
    const flex_gpu_image* out = nullptr;
    CHECK(cuda::choose_image(bound.problem, options, kH200, all + 1, 2, &out).code() == Code::InvalidArgument);
    const Status status = cuda::choose_image(bound.problem, {}, old, all + 1, 1, &out);
    CHECK(status.code() == Code::Unsupported);
    CHECK(status.text().find("cuTensorMapEncodeTiled") != std::string::npos);
    // Alone it serves what has no maps.
    const Bound odd(Bound::bf16_arrays({.h = 8, .hkv = 8, .q = 1000, .k = 1000, .d = 60}));
    CHECK(cuda::choose_image(odd.problem, {}, kH200, all + 1, 1, &out).ok());
}

TEST_CASE("pieces of work, blocks and the workspace") {
    ImageOptions with_summaries = kMapped;
    with_summaries.summaries = {FLEX_SUMMARY_OF_KEYS};
    const flex_gpu_image plain = image_of(kMapped), summarised = image_of(with_summaries);
    const auto check = [&](const GpuShape& shape, const flex_gpu_image& image, int splits, int64_t tiles) {
        const Bound bound(shape);
        CudaOptions options;
        options.splits = splits;
        options.pack = 1;
        const cuda::Plan plan = plan_of(bound, image, options);
        CHECK(plan.splits == splits);
        CHECK(plan.work == tiles * splits);
        CHECK(plan.forward.x == std::min<int64_t>(plan.work, 132));
        CHECK(plan.forward.y == 1);
        const size_t summaries = plan.summaries.words * 4;
        CHECK(plan.next_work == summaries);
        CHECK(plan.next_work_words == (plan.work > 132));
        const size_t counted = summaries + 4 * plan.next_work_words;
        if (splits == 1) {
            CHECK(plan.workspace_bytes == counted);
        } else {
            CHECK(plan.partial >= counted);
            CHECK(plan.partial % 256 == 0);
            CHECK(plan.combine.x > 0);
        }
    };
    check({.b = 2, .h = 3, .hkv = 3, .q = 129, .k = 4000}, plain, 1, 12);
    check({.b = 2, .h = 3, .hkv = 3, .q = 129, .k = 4000}, plain, 16, 12);
    check({.b = 2, .h = 33, .hkv = 3, .q = 129, .k = 4000}, plain, 1, 132);
    check({.b = 2, .h = 33, .hkv = 33, .q = 257, .k = 4000}, plain, 1, 198);
    check({.b = 2, .h = 33, .hkv = 33, .q = 257, .k = 4000}, summarised, 1, 198);
    check({.b = 2, .h = 33, .hkv = 33, .q = 257, .k = 4000}, summarised, 4, 198);
    check({.b = 1, .h = 1, .hkv = 1, .q = 1, .k = 0}, plain, 1, 1);

    const Bound large({.b = 1 << 16, .h = 1 << 8, .hkv = 1 << 8, .q = 128, .k = 1 << 20});
    cuda::Plan plan;
    plan.image = &plain;
    CudaOptions options;
    options.splits = 128;
    CHECK(cuda::make_plan(large.problem, options, kH200, &plan).code() == Code::Unsupported);
}

TEST_CASE("heads share tiles by numbers that boxes have a place for") {
    const flex_gpu_image image = image_of(kMapped);
    const auto pack = [&](int64_t h, int64_t hkv, int64_t q) {
        return plan_of(Bound({.h = h, .hkv = hkv, .q = q, .k = 4096}), image).pack;
    };
    CHECK(pack(32, 4, 10) == 8);
    CHECK(pack(28, 4, 10) == 1);  // 7
    CHECK(pack(24, 2, 10) == 4);  // 12
    CHECK(pack(32, 4, 4096) == 1);
}

TEST_CASE("what a launch with maps enqueues") {
    Mock& driver = mock();
    driver.capability_major = 9;
    driver.multiprocessors = 4;
    driver.shared_optin = 232448;
    driver.shared_multiprocessor = 233472;
    void* const context = driver.create_context();
    ImageOptions options = kMapped;
    options.summaries = {FLEX_SUMMARY_OF_KEYS};
    const flex_gpu_image image = image_of(options);
    const flex_gpu_image* list[] = {&image};
    {
        const CudaKernel kernel(plain_gpu_desc(), list, 1);
        AttentionArrays arrays = Bound::bf16_arrays({.b = 2, .h = 4, .hkv = 2, .q = 300, .k = 500});
        driver.parameter_bytes = gpu_layout(kernel.desc(), 1).bytes;
        driver.second_bytes = sizeof(flex_gpu_tensors);
        CudaOptions launch;
        launch.stream = &launch;
        launch.splits = 1;
        CudaPlan plan;
        REQUIRE(kernel.plan(arrays, {}, launch, &plan).ok());
        CHECK(plan.mapped);
        CHECK(plan.blocks == 4);
        CHECK(plan.workspace_bytes == 17 * 8 + 4);  // 16 blocks of 32 keys, 1 wide; a counter
        CHECK(driver.maps.empty());
        launch.workspace = reinterpret_cast<void*>(0x700000);
        launch.workspace_bytes = plan.workspace_bytes;
        const Status status = kernel.launch(arrays, {}, launch);
        REQUIRE_MESSAGE(status.ok(), status.text());

        REQUIRE(driver.fills.size() == 2);
        CHECK(driver.fills[0].to == 0x700000 + 17 * 8);
        CHECK(driver.fills[0].pattern == 0);
        CHECK(driver.fills[0].words == 1);
        CHECK(driver.fills[0].stream == &launch);
        CHECK(driver.fills[1].pattern == 0x7fffffff);
        REQUIRE(driver.launches.size() == 2);
        const MockLaunch& forward = driver.launches[1];
        CHECK(forward.grid[0] == 4);
        CHECK(forward.grid[1] == 1);
        CHECK(forward.block == 384);
        flex_gpu_tensors tensors;
        REQUIRE(forward.second.size() == sizeof tensors);
        std::memcpy(&tensors, forward.second.data(), sizeof tensors);
        CHECK(tensors.is_mapped == 1);
        CHECK(tensors.work == 5 * 2 * 2);  // two heads share a tile
        CHECK(tensors.next_work == 0x700000 + 17 * 8);
        REQUIRE(driver.maps.size() == 4);
        for (const auto& [map, address] : {std::pair{&tensors.q, 1}, {&tensors.k, 2}, {&tensors.v, 3}, {&tensors.o, 4}}) {
            const MockMap& made = driver.maps.at(map->opaque[0] - 1000);
            CHECK(made.address == static_cast<uint64_t>(address) << 20);
            CHECK(made.element_strides == std::vector<uint32_t>{1, 1, 1, 1});
            CHECK(made.interleave == 0);
            CHECK(made.swizzle == 3);
            CHECK(made.fill == 0);
        }

        // One block a piece: nothing to count.
        arrays = Bound::bf16_arrays({.b = 1, .h = 2, .hkv = 2, .q = 200, .k = 500});
        driver.fills.clear();
        REQUIRE(kernel.launch(arrays, {}, launch).ok());
        std::memcpy(&tensors, driver.launches.back().second.data(), sizeof tensors);
        CHECK(tensors.next_work == 0);
        CHECK(tensors.work == 4);
        CHECK(driver.fills.size() == 1);

        // No maps: the driver is not asked, or refuses.
        AttentionArrays odd = arrays;
        odd.k.stride[2] += 1;
        driver.maps.clear();
        REQUIRE(kernel.launch(odd, {}, launch).ok());
        std::memcpy(&tensors, driver.launches.back().second.data(), sizeof tensors);
        CHECK(tensors.is_mapped == 0);
        CHECK(driver.maps.empty());
        driver.fail["cuTensorMapEncodeTiled"] = 1;
        REQUIRE(kernel.launch(arrays, {}, launch).ok());
        std::memcpy(&tensors, driver.launches.back().second.data(), sizeof tensors);
        CHECK(tensors.is_mapped == 0);
        driver.fail["cuTensorMapEncodeTiled"] = 700;
        CHECK(kernel.launch(arrays, {}, launch).code() == Code::DeviceError);
        driver.fail.clear();

        // The workspace holds the counter.
        arrays = Bound::bf16_arrays({.b = 2, .h = 4, .hkv = 2, .q = 300, .k = 500});
        launch.workspace_bytes -= 1;
        CHECK(kernel.launch(arrays, {}, launch).code() == Code::OutOfMemory);
    }
    driver.destroy_context(context);
}

TEST_CASE("maps take their room of the parameters") {
    KernelDesc desc = plain_gpu_desc();
    std::vector<Argument> args;
    const size_t each = sizeof(flex_gpu_tensor) + 8 * 8 + 4 * 8;
    int32_t value = 0;
    const auto grow = [&](size_t limit) {
        while (gpu_layout(desc, 0).bytes + each + 4 <= limit) {
            ParamDesc& param = desc.params.emplace_back();
            param.name = "t" + std::to_string(desc.params.size());
            param.is_tensor = true;
            param.dtype = DType::F32;
            param.dims.assign(8, DimDesc{0, -1, 1});
            args.push_back({param.name, Tensor::contiguous(&value, DType::F32, {1, 1, 1, 1, 1, 1, 1, 1})});
        }
    };
    const flex_gpu_image image = image_of(kMapped);
    const auto fits = [&] {
        Bound bound(GpuShape{.q = 500, .k = 500});
        bound.desc = desc;
        bound.args = args;
        REQUIRE(bind(bound.desc, bound.arrays, bound.args, &bound.problem.extents).ok());
        std::vector<unsigned char> parameter;
        return cuda::make_parameter(bound.problem, {}, plan_of(bound, image), &parameter).code() == Code::Ok;
    };
    grow(kGpuParameterLimit - sizeof(flex_gpu_tensors) - 63);
    CHECK(gpu_bytes_with_maps(gpu_layout(desc, 0).bytes) <= kGpuParameterLimit);
    CHECK(fits());
    grow(kGpuParameterLimit);
    CHECK(gpu_layout(desc, 0).bytes <= kGpuParameterLimit);
    CHECK_FALSE(fits());
}
