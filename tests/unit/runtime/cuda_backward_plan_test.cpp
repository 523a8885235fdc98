// Backward passes on a GPU, from shapes alone: images, grids, where the workspace's parts lie, what is zero at first, the parameter.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "cuda_util.h"
#include "runtime/cuda/backward_plan.h"

using namespace flex;
using namespace flex::test;

namespace {

/// A bound problem that owns what it refers to.
struct Bound {
    KernelDesc desc;
    AttentionArrays arrays;
    std::vector<Argument> args;
    GradientArrays gradients;
    cuda::BackwardProblem problem{{desc, arrays, args, {}}, gradients};

    explicit Bound(const GpuShape& shape, bool graded = false)
        : desc(graded ? graded_gpu_desc() : plain_gpu_desc()), arrays(gpu_arrays(shape)), gradients(gpu_gradients(arrays)) {
        if (graded) {
            args = graded_args(shape);
            gradients.d_params = graded_gradients(shape);
        }
        Status status = bind(desc, arrays, args, &problem.extents);
        if (status.ok()) status = bind_gradients(desc, arrays, gradients, problem.extents);
        REQUIRE_MESSAGE(status.ok(), status.text());
    }
    Bound(const Bound&) = delete;
};

const cuda::DeviceFacts kA100{80, 108, 166912, 167936};

const flex_gpu_backward_image* choose(const Bound& bound, const std::vector<BackwardImageOptions>& all, const CudaOptions& options = {},
                                      std::string* text = nullptr, const cuda::DeviceFacts& device = kA100) {
    static std::vector<flex_gpu_backward_image> images;
    images.clear();
    for (const BackwardImageOptions& each : all) images.push_back(backward_image_of(each));
    std::vector<const flex_gpu_backward_image*> list;
    for (const flex_gpu_backward_image& image : images) list.push_back(&image);
    const flex_gpu_backward_image* out = nullptr;
    const Status status = cuda::choose_backward_image(bound.problem, options, device, list.data(), list.size(), &out);
    CHECK(status.ok() == (out != nullptr));
    if (text) *text = status.text();
    return out;
}

cuda::BackwardPlan plan_of(const Bound& bound, const flex_gpu_backward_image& image) {
    cuda::BackwardPlan plan;
    plan.image = &image;
    const Status status = cuda::make_backward_plan(bound.problem, &plan);
    REQUIRE_MESSAGE(status.ok(), status.text());
    return plan;
}

/// The bytes of [B, heads, rows, columns] that are zero after the fills, on memory of 1s; -1 where a fill leaves the array's span.
std::vector<int> zeroed(const Tensor& t, size_t bytes) {
    std::vector<int> memory(bytes, 1);
    const auto base = reinterpret_cast<uint64_t>(t.data);
    for (const cuda::ZeroFill& fill : cuda::zero_fills(t))
        for (size_t row = 0; row < fill.height; ++row)
            for (size_t i = 0; i < fill.width * 2; ++i) {
                const uint64_t offset = fill.to - base + row * fill.pitch + i + bytes / 2;
                if (offset >= bytes) return {-1};
                memory[offset] = 0;
            }
    return memory;
}

}  // namespace

TEST_CASE("the deterministic image goes before an atomic one, and words say why none serves") {
    const Bound bound({.h = 2, .hkv = 2, .q = 300, .k = 300, .d = 64, .dv = 64});
    CHECK(choose(bound, {{.atomic = true, .head_dim = 64, .v_head_dim = 64}, {.head_dim = 128}})->atomic == 0);
    CHECK(choose(bound, {{.atomic = true}, {.head_dim = 32}})->atomic == 1);
    CHECK(choose(bound, {{.head_dim = 128}, {.head_dim = 64}, {.dtype = DType::BF16, .head_dim = 64}})->head_dim == 64);
    std::string text;
    choose(bound, {}, {}, &text);
    CHECK(text.find("`x` was compiled without gradients for GPUs") == 0);
    choose(bound, {{.dtype = DType::BF16}}, {}, &text);
    CHECK(text == "the backward pass of `x` was compiled for bf16 on GPUs, and `q` is f16");
    choose(bound, {{.head_dim = 32}}, {}, &text);
    CHECK(text == "the backward pass of `x` was compiled for head dimensions up to 32 with f16, and `q` has D = 64");
    choose(bound, {{.key_shared = 200000}}, {}, &text);
    CHECK(text.find("needs 200000 bytes of shared memory a block") != std::string::npos);
    const Bound floats({.h = 2, .hkv = 2, .q = 300, .k = 300, .dtype = DType::F32});
    CudaOptions tf32;
    tf32.allow_tf32 = true;
    CHECK(choose(floats, {{.dtype = DType::F32, .tf32 = true}, {.dtype = DType::F32}})->tf32 == 0);
    CHECK(choose(floats, {{.dtype = DType::F32, .tf32 = true}, {.dtype = DType::F32}}, tf32)->tf32 == 1);
}

TEST_CASE("the parts of the workspace lie one behind the other and none is shorter than what its kernels write") {
    std::mt19937 random(2);
    const auto pick = [&](int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); };
    for (int i = 0; i < 1500; ++i) {
        GpuShape shape{.b = pick(1, 3), .hkv = pick(1, 3), .q = pick(1, 300), .k = pick(1, 700), .d = pick(1, 128), .dv = pick(1, 128)};
        shape.h = shape.hkv * pick(1, 4);
        if (pick(0, 2) == 0) shape.kvb = 1;
        std::vector<int32_t> flags;
        for (int64_t n = pick(0, 2); n > 0; --n) flags.push_back(static_cast<int32_t>(pick(0, 7)));
        const bool graded = pick(0, 1) != 0, atomic = pick(0, 2) == 0, scale = pick(0, 1) != 0;
        const flex_gpu_backward_image image =
            backward_image_of({.atomic = atomic, .scale = scale, .tile_q = 1 << pick(5, 7), .tile_k = 1 << pick(5, 7), .summaries = flags});
        Bound bound(shape, graded);
        if (graded && pick(0, 1)) bound.gradients.d_params.erase(bound.gradients.d_params.begin());
        const bool wanted = graded;
        const cuda::BackwardPlan plan = plan_of(bound, image);
        CAPTURE(i);
        const auto rows = static_cast<size_t>(shape.b * shape.h * shape.q);
        CHECK(plan.rows.x == (shape.q + image.tile_q - 1) / image.tile_q * shape.h * shape.b);
        CHECK(plan.queries.x == (atomic ? 0 : plan.rows.x));
        const bool shared = shape.b > 1 && shape.kvb == 1;
        CHECK(plan.keys.x == (shape.k + image.tile_k - 1) / image.tile_k * shape.hkv * (shared ? 1 : shape.b));
        CHECK(plan.scale.x == (scale && wanted ? (rows + 95) / 96 : 0));
        CHECK((plan.finish.x > 0) == (wanted || atomic));
        if (plan.finish.x) CHECK(plan.finish.y == plan.gradients.size() + 1);
        CHECK(plan.summaries.list.size() == flags.size());

        struct Part {
            size_t begin, bytes;
            bool zero;
        };
        std::vector<Part> parts = {{0, plan.summaries.words * 4, false}, {plan.row_planes, rows * 5 * 4, false}};
        int64_t largest = atomic ? static_cast<int64_t>(rows) * shape.d : 0;
        for (const cuda::GradientPlan& gradient : plan.gradients) {
            if (!gradient.data) continue;
            largest = std::max(largest, gradient.count);
            if (!atomic) parts.push_back({gradient.sums, static_cast<size_t>(gradient.count) * 8, true});
        }
        if (!plan.gradients.empty()) parts.push_back({plan.bounds, plan.gradients.size() * 4, true});
        if (plan.has_scale) parts.push_back({plan.d_scale, rows * 4, true});
        if (plan.has_dq_sums) parts.push_back({plan.dq_sums, rows * static_cast<size_t>(shape.d) * 4, true});
        CHECK(plan.has_scale == (scale && wanted));
        CHECK(plan.has_dq_sums == atomic);
        CHECK(plan.finish.x * 256 >= static_cast<unsigned>(plan.finish.x ? largest : 0));
        std::sort(parts.begin(), parts.end(),
                  [](const Part& a, const Part& b) { return std::tie(a.begin, a.bytes) < std::tie(b.begin, b.bytes); });
        size_t end = 0;
        for (const Part& part : parts) {
            if (part.bytes == 0) continue;
            CHECK(part.begin >= end);
            CHECK(part.begin % 256 == 0);
            end = part.begin + part.bytes;
            const bool filled = part.begin >= plan.zeros && end <= plan.zeros + plan.zero_words * 4;
            CHECK(filled == part.zero);
        }
        CHECK(plan.workspace_bytes == end);
    }
}

TEST_CASE("without queries or keys there is nothing to launch") {
    const flex_gpu_backward_image image = backward_image_of({.summaries = {FLEX_SUMMARY_OF_KEYS}});
    for (const GpuShape& shape : {GpuShape{.b = 0, .q = 3, .k = 3, .kvb = 1}, GpuShape{.h = 0, .hkv = 1, .q = 3, .k = 3},
                                  GpuShape{.q = 0, .k = 3}, GpuShape{.q = 3, .k = 0}}) {
        const Bound bound(shape, true);
        CHECK(bound.problem.is_zero());
        const cuda::BackwardPlan plan = plan_of(bound, image);
        CHECK(plan.rows.x + plan.queries.x + plan.keys.x + plan.scale.x + plan.finish.x + plan.summaries.grid.x == 0);
        CHECK(plan.workspace_bytes == 0);
        REQUIRE(plan.gradients.size() == 2);
        CHECK(plan.gradients[0].count == shape.h * shape.k);
        CHECK(plan.gradients[1].count == 10);
    }
}

TEST_CASE("a backward pass that does not fit 32 bits is refused") {
    constexpr int64_t kMost = 2147483647;
    for (const GpuShape& shape :
         {GpuShape{.q = kMost, .k = 1}, GpuShape{.q = 1, .k = kMost}, GpuShape{.b = kMost, .q = 1000, .k = 1},
          GpuShape{.b = 60000, .h = 60000, .hkv = 60000, .q = 1, .k = 1}, GpuShape{.b = 10, .h = 1 << 28, .hkv = 1, .q = 1, .k = 1}}) {
        const Bound bound(shape);
        const flex_gpu_backward_image image = backward_image_of({});
        cuda::BackwardPlan plan;
        plan.image = &image;
        const Status status = cuda::make_backward_plan(bound.problem, &plan);
        CHECK(status.code() == Code::Unsupported);
        CHECK(status.text().find("`x` is too large for one backward pass: Q = ") == 0);
    }
}

TEST_CASE("the parameter of a backward pass") {
    const GpuShape shape{.b = 3, .h = 4, .hkv = 2, .q = 5, .k = 6, .kvb = 1};
    Bound bound(shape, true);
    bound.gradients.d_lse = Tensor::contiguous(reinterpret_cast<void*>(0x40000), DType::F32, {3, 4, 5});
    CudaOptions options;
    options.workspace = reinterpret_cast<void*>(0x500000);
    flex_gpu_backward_image image = backward_image_of({.summaries = {FLEX_SUMMARY_OF_KEYS}});
    const GpuLayout at = gpu_layout(bound.desc, 1, true);
    std::vector<unsigned char> block;
    cuda::BackwardPlan plan;
    const auto make = [&] {
        plan = plan_of(bound, image);
        const Status status = cuda::make_backward_parameter(bound.problem, options, plan, &block);
        REQUIRE_MESSAGE(status.ok(), status.text());
        REQUIRE(block.size() == at.bytes);
    };
    const auto get = [&](size_t offset, auto value) {
        std::memcpy(&value, block.data() + offset, sizeof value);
        return value;
    };
    make();
    auto backward = get(0, flex_gpu_backward{});
    CHECK(backward.launch.q.data == 1 << 20);
    CHECK(backward.launch.lse.data == 5 << 20);
    CHECK(backward.launch.splits == 1);
    CHECK(backward.launch.pack == 1);
    CHECK(backward.launch.aligned == 1);
    CHECK(backward.launch.k.b_stride == 0);
    CHECK(backward.d_o.data == 6 << 20);
    CHECK(backward.d_lse.data == 0x40000);
    CHECK(backward.d_lse.b_stride == 20);
    CHECK(backward.d_max_score.data == 0);
    CHECK(backward.dq.data == 7 << 20);
    CHECK(backward.dk.data == 8 << 20);
    CHECK(backward.dk.b_stride == 0);
    CHECK(backward.dv.data == 9 << 20);
    CHECK(backward.k_shared == 1);
    CHECK(backward.v_shared == 1);
    CHECK(backward.rows == 0x500000 + plan.row_planes);
    CHECK(backward.d_scale == 0x500000 + plan.d_scale);
    CHECK(backward.dq_sums == 0);
    CHECK(get(at.extents + 16, int32_t{}) == 6);
    CHECK(get(at.extents + 28, int32_t{}) == 10);
    CHECK(get(at.tensors[2], uint64_t{}) == 12 << 20);
    CHECK(get(at.summaries, flex_gpu_summary{}).data == 0x500000);
    auto bias = get(at.gradients[0], flex_gpu_gradient{}), table = get(at.gradients[2], flex_gpu_gradient{});
    CHECK(at.gradients[2] == at.gradients[0] + sizeof(flex_gpu_gradient));
    CHECK(bias.data == 13 << 20);
    CHECK(bias.count == 24);
    CHECK(bias.sums == 0x500000 + plan.gradients[0].sums);
    CHECK(table.data == 14 << 20);
    CHECK(table.count == 10);
    CHECK(table.sums == 0x500000 + plan.gradients[1].sums);
    CHECK(bias.bound == 0x500000 + plan.bounds);
    CHECK(table.bound == bias.bound + 4);

    SUBCASE("an atomic image adds floats, and to dq") {
        image = backward_image_of({.atomic = true, .summaries = {FLEX_SUMMARY_OF_KEYS}});
        make();
        backward = get(0, flex_gpu_backward{});
        CHECK(backward.dq_sums == 0x500000 + plan.dq_sums);
        CHECK(get(at.gradients[0], flex_gpu_gradient{}).data == 13 << 20);
        CHECK(get(at.gradients[0], flex_gpu_gradient{}).sums == 0);
    }
    SUBCASE("a gradient that is not wanted") {
        bound.gradients.d_params.erase(bound.gradients.d_params.begin());
        make();
        bias = get(at.gradients[0], flex_gpu_gradient{});
        CHECK(bias.data == 0);
        CHECK(bias.sums == 0);
        CHECK(bias.bound != 0);
        CHECK(get(at.gradients[2], flex_gpu_gradient{}).data == 14 << 20);
        bound.gradients.d_params.clear();
        make();
        CHECK(get(0, flex_gpu_backward{}).d_scale == 0);
        CHECK(plan.scale.x + plan.finish.x == 0);
    }
    SUBCASE("`aligned` speaks of do as well") {
        bound.gradients.d_o.data = reinterpret_cast<void*>((6 << 20) + 8);
        make();
        CHECK(get(0, flex_gpu_backward{}).launch.aligned == 0);
    }
}

TEST_CASE("addresses of gradients that no element can have") {
    Bound bound({.q = 5, .k = 6}, true);
    CHECK(cuda::check_alignment(bound.gradients).ok());
    bound.gradients.dk.data = reinterpret_cast<void*>(0x1001);
    CHECK(cuda::check_alignment(bound.gradients).text() == "`dk` is f16 and must begin at a multiple of 2 bytes");
    bound.gradients.dk.data = nullptr;
    bound.gradients.d_params[1].value.data = reinterpret_cast<void*>(0x1002);
    CHECK(cuda::check_alignment(bound.gradients).text() == "`d_table` is f32 and must begin at a multiple of 4 bytes");
}

TEST_CASE("zeros go to every element of a strided gradient and nowhere else") {
    std::mt19937 random(3);
    const auto pick = [&](int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); };
    constexpr size_t kBytes = 1 << 17;
    for (int i = 0; i < 400; ++i) {
        Tensor t;
        t.dtype = pick(0, 1) ? DType::F32 : DType::BF16;
        t.data = reinterpret_cast<void*>(1 << 20);
        t.rank = 4;
        std::vector<size_t> order = {0, 1, 2};
        std::shuffle(order.begin(), order.end(), random);
        for (size_t d = 0; d < 4; ++d) t.shape[d] = pick(1, d == 3 ? 9 : 4);
        int64_t next = t.shape[3] + (pick(0, 1) ? pick(0, 3) : 0);
        t.stride[3] = 1;
        for (const size_t d : order) {
            t.stride[d] = pick(0, 3) == 0 ? -next : next;
            next = next * t.shape[d] + (pick(0, 2) == 0 ? pick(1, 5) : 0);
        }
        const std::vector<int> got = zeroed(t, kBytes);
        REQUIRE(got.size() == kBytes);
        std::vector<int> want(kBytes, 1);
        const auto size = static_cast<int64_t>(size_of(t.dtype));
        for (int64_t b = 0; b < t.shape[0]; ++b)
            for (int64_t h = 0; h < t.shape[1]; ++h)
                for (int64_t r = 0; r < t.shape[2]; ++r)
                    for (int64_t c = 0; c < t.shape[3] * size; ++c)
                        want[static_cast<size_t>((b * t.stride[0] + h * t.stride[1] + r * t.stride[2]) * size + c) + kBytes / 2] = 0;
        CAPTURE(i);
        CHECK(got == want);
    }
    // What is dense, in any order of its dimensions, is one piece.
    const Tensor dense = Tensor::contiguous(reinterpret_cast<void*>(256), DType::F16, {7, 5, 300, 64});
    CHECK(cuda::zero_fills(dense).size() == 1);
    CHECK(cuda::zero_fills(dense)[0].height == 1);
    Tensor swapped = dense;
    swapped.stride = {5 * 300 * 64, 64, 5 * 64, 1};
    CHECK(cuda::zero_fills(swapped).size() == 1);
    CHECK(cuda::zero_fills(swapped)[0].height == 1);
    // Every other row: one rectangle.
    swapped.stride = {5 * 300 * 128, 300 * 128, 128, 1};
    CHECK(cuda::zero_fills(swapped).size() == 1);
    CHECK(cuda::zero_fills(swapped)[0].height == 7 * 5 * 300);
    CHECK(cuda::zero_fills(Tensor::contiguous(nullptr, DType::F16, {7, 0, 3, 64})).empty());
}
