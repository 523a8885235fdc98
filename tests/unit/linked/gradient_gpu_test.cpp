// Backward passes of compiled kernels on the emulated device against those of the CPU: types, groups, shared batches, every way a captured tensor is
// read; the same bits again, in a graph, and with atomics nearly the same.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "flexc/flexc.h"
#include "test_learned.h"

namespace {

using flex::DType;
using flex::Tensor;

std::unique_ptr<flex::CudaDevice> emulated() {
    REQUIRE(flex::use_cuda_driver(FLEXC_EMULATED_DRIVER).ok());
    std::unique_ptr<flex::CudaDevice> device;
    const flex::Status status = flex::CudaDevice::open(0, &device);
    REQUIRE_MESSAGE(status.ok(), status.text());
    return device;
}

/// Entry points of the driver that the runtime does not need and this test does.
template <class... Args>
int call(const char* name, Args... args) {
    static void* library = dlopen(FLEXC_EMULATED_DRIVER, RTLD_NOW | RTLD_LOCAL);
    auto* function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
    const bool exists = function != nullptr;
    REQUIRE_MESSAGE(exists, name);
    return function(args...);
}

float to_float(const void* from, DType type) {
    uint16_t half = 0;
    float value = 0;
    std::memcpy(type == DType::F32 ? static_cast<void*>(&value) : &half, from, flex::size_of(type));
    if (type == DType::F32) return value;
    const uint32_t bits = uint32_t{half} << 16;  // bf16
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void from_float(float value, DType type, void* to) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const auto half = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    std::memcpy(to, type == DType::F32 ? static_cast<const void*>(&value) : &half, flex::size_of(type));
}

void set_seed(unsigned long long seed) {
    static void* library = dlopen(FLEXC_EMULATED_DRIVER, RTLD_NOW | RTLD_LOCAL);
    reinterpret_cast<void (*)(unsigned long long)>(dlsym(library, "flexemu_set_seed"))(seed);
}

/// An array here and on the device.
struct Array {
    Array(flex::CudaDevice& on, DType dtype, std::vector<int64_t> dims) : device(on), type(dtype), shape(std::move(dims)) {
        count = 1;
        for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
        host.resize(count * flex::size_of(type));
        REQUIRE(device.allocate(host.size(), &memory).ok());
    }
    ~Array() { CHECK(device.free(memory).ok()); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    [[nodiscard]] Tensor view(bool on_device) {
        Tensor t;
        t.data = on_device ? memory : host.data();
        t.dtype = type;
        t.rank = static_cast<int>(shape.size());
        int64_t stride = 1;
        for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) t.shape[i] = shape[i], t.stride[i] = stride;
        return t;
    }
    void fill(std::mt19937& engine, float size) {
        std::normal_distribution<float> normal(0, size);
        for (size_t i = 0; i < count; ++i) from_float(normal(engine), type, host.data() + i * flex::size_of(type));
        upload();
    }
    void upload() { REQUIRE(device.to_device(memory, host.data(), host.size()).ok()); }
    void spoil_device() {
        const std::vector<unsigned char> bytes(host.size(), 0x5a);
        REQUIRE(device.to_device(memory, bytes.data(), bytes.size()).ok());
    }
    [[nodiscard]] std::vector<unsigned char> fetch() const {
        std::vector<unsigned char> bytes(host.size());
        REQUIRE(device.to_host(bytes.data(), memory, bytes.size()).ok());
        return bytes;
    }
    /// The largest |device - host| over the largest |host|.
    [[nodiscard]] double error() const {
        const std::vector<unsigned char> got = fetch();
        double worst = 0, largest = 1e-6;
        for (size_t i = 0; i < count; ++i) {
            const double x = to_float(got.data() + i * flex::size_of(type), type),
                         y = to_float(host.data() + i * flex::size_of(type), type);
            if (!(std::abs(x - y) < INFINITY)) return INFINITY;
            worst = std::max(worst, std::abs(x - y));
            largest = std::max(largest, std::abs(y));
        }
        return worst / largest;
    }

    flex::CudaDevice& device;
    DType type;
    std::vector<int64_t> shape;
    size_t count;
    std::vector<unsigned char> host;
    void* memory = nullptr;
};

struct Shape {
    int64_t b = 2, h = 4, hkv = 2, q = 90, k = 130, d = 32, dv = 32, kb = 2, vb = 2;
    DType type = DType::F32;
};

/// One problem of a variant that captures one i32 and any tensors. An extent of its own is Q + K.
struct Case {
    Case(flex::CudaDevice& on, const flex::KernelDesc& desc, const Shape& s) : device(on) {
        const auto add = [&](DType type, std::vector<int64_t> dims) {
            return all.emplace_back(std::make_unique<Array>(device, type, std::move(dims))).get();
        };
        std::mt19937 engine(7);
        q = add(s.type, {s.b, s.h, s.q, s.d}), k = add(s.type, {s.kb, s.hkv, s.k, s.d}), v = add(s.type, {s.vb, s.hkv, s.k, s.dv});
        o = add(s.type, {s.b, s.h, s.q, s.dv}), d_o = add(s.type, o->shape);
        lse = add(DType::F32, {s.b, s.h, s.q}), d_lse = add(DType::F32, lse->shape), d_max = add(DType::F32, lse->shape);
        results = {add(s.type, q->shape), add(s.type, k->shape), add(s.type, v->shape)};
        for (Array* each : {q, k, v, d_o, d_lse, d_max}) each->fill(engine, 1);
        for (const flex::ParamDesc& param : desc.params) {
            if (!param.is_tensor) {
                scalar = param.name;
                continue;
            }
            std::vector<int64_t> dims;
            for (const flex::DimDesc& dim : param.dims) {
                const int64_t values[] = {s.b, s.h, s.hkv, s.q, s.k, s.d, s.dv, s.q + s.k};
                dims.push_back(dim.extent < 0 ? dim.offset : dim.multiplier * values[dim.extent] + dim.offset);
            }
            Array* value = add(param.dtype, dims);
            value->fill(engine, 0.5f);
            captured.push_back({param.name, value});
            if (param.grad) results.push_back(add(DType::F32, dims)), d_captured.push_back({param.name, results.back()});
        }
    }

    [[nodiscard]] flex::AttentionArrays arrays(bool on_device) const {
        return {q->view(on_device), k->view(on_device), v->view(on_device), o->view(on_device), lse->view(on_device)};
    }
    [[nodiscard]] std::vector<flex::Argument> args(bool on_device) const {
        std::vector<flex::Argument> made = {{scalar, flex::scalar(near)}};
        for (const auto& [name, array] : captured) made.push_back({name, array->view(on_device)});
        return made;
    }
    [[nodiscard]] flex::GradientArrays gradients(bool on_device) const {
        flex::GradientArrays g;
        g.d_o = d_o->view(on_device);
        if (with_statistics) g.d_lse = d_lse->view(on_device), g.d_max_score = d_max->view(on_device);
        g.dq = results[0]->view(on_device), g.dk = results[1]->view(on_device), g.dv = results[2]->view(on_device);
        for (const auto& [name, array] : d_captured) g.d_params.push_back({name, array->view(on_device)});
        return g;
    }
    template <class Kernel>
    flex::Status forward(const Kernel& kernel, const flex::Stream& stream) const {
        return kernel.forward(stream, arrays(stream.on_gpu()), args(stream.on_gpu()));
    }
    template <class Kernel>
    flex::Status backward(const Kernel& kernel, const flex::Stream& stream) const {
        return kernel.backward(stream, arrays(stream.on_gpu()), gradients(stream.on_gpu()), args(stream.on_gpu()));
    }
    /// Both passes on the device, with nothing left of what was there before.
    template <class Kernel>
    void run(const Kernel& kernel, const flex::Stream& stream) const {
        for (Array* each : results) each->spoil_device();
        flex::Status status = forward(kernel, stream);
        if (status.ok()) status = backward(kernel, stream);
        if (status.ok()) status = device.synchronise();
        REQUIRE_MESSAGE(status.ok(), status.text());
    }
    template <class Kernel>
    void run_on_cpu(const Kernel& kernel) const {
        flex::Status status = forward(kernel, flex::Stream::cpu());
        if (status.ok()) status = backward(kernel, flex::Stream::cpu());
        REQUIRE_MESSAGE(status.ok(), status.text());
    }
    void compare(double tolerance) const {
        for (size_t i = 0; i < results.size(); ++i) {
            const std::string which = i < 3 ? std::string(1, "qkv"[i]) : d_captured[i - 3].first;
            CAPTURE(which);
            CHECK(results[i]->error() < tolerance);
        }
    }
    [[nodiscard]] std::vector<std::vector<unsigned char>> bits() const {
        std::vector<std::vector<unsigned char>> all_bits;
        for (const Array* each : results) all_bits.push_back(each->fetch());
        return all_bits;
    }

    flex::CudaDevice& device;
    std::vector<std::unique_ptr<Array>> all;
    Array *q, *k, *v, *o, *d_o, *lse, *d_lse, *d_max;
    std::vector<Array*> results;  // dq, dk, dv, then of captured tensors
    std::vector<std::pair<std::string, Array*>> captured, d_captured;
    std::string scalar;  // the only one
    int32_t near = 40;
    bool with_statistics = true;
};

constexpr const char* kEveryRead = R"(
attention every_read(near: i32, slope: grad f32[H], bias: grad f32[N], pair: grad f32[B, Q, K], tau: grad f32[H, Q]) {
    scale = (1.0 + 0.1 * tau[h, q]) / sqrt(f32(D));
    score = score + slope[h] * 0.1 * f32(k - q) + bias[q - k + K - 1] + pair[b, q, k] * bias[k];
    mask  = k <= q + near;
}
)";

flexc::Kernel compiled(const std::string& text, const Shape& shape, bool atomic = false) {
    flexc::CompileOptions options;
    options.targets = {"cpu", "sm_80"};
    options.head_dim = static_cast<int>(shape.d);
    options.v_head_dim = static_cast<int>(shape.dv);
    options.dtypes = {shape.type};
    options.gradients = true;
    options.atomic = atomic;
    options.use_cache = false;
    auto kernel = flexc::compile(text, options);
    const std::string why = kernel ? "" : kernel.error().text;
    REQUIRE_MESSAGE(kernel, why);
    return std::move(kernel).value();
}

double tolerance(DType type) {
    return type == DType::F32 ? 2e-5 : 2e-2;  // of the largest element; bf16 rounds weights and results to 8 bits
}

}  // namespace

TEST_CASE("the device's gradients are those of the CPU") {
    const auto device = emulated();
    unsigned long long seed = 0;
    for (const DType type : {DType::F32, DType::BF16}) {
        const Shape shape{.type = type};
        const flexc::Kernel kernel = compiled(kEveryRead, shape);
        const flex::Stream stream = flex::Stream::cuda(nullptr);
        for (const Shape& each :
             {shape, Shape{.b = 1, .h = 2, .hkv = 2, .q = 65, .k = 64, .d = 20, .dv = 28, .kb = 1, .vb = 1, .type = type},
              Shape{.q = 33, .k = 70, .kb = 1, .type = type}, Shape{.q = 1, .k = 300, .vb = 1, .type = type}}) {
            CAPTURE(flex::name(type));
            CAPTURE(each.q);
            const Case c(*device, kernel.desc(), each);
            c.run_on_cpu(kernel);
            c.run(kernel, stream);
            c.compare(tolerance(type));
            // In another order of warps and blocks the same bits.
            const auto once = c.bits();
            set_seed(++seed);
            c.run(kernel, stream);
            CHECK(c.bits() == once);
        }
    }
}

TEST_CASE("rows without keys, problems without queries or keys, and gradients that are not wanted") {
    const auto device = emulated();
    const flexc::Kernel kernel = compiled(kEveryRead, {});
    const flex::Stream stream = flex::Stream::cuda(nullptr);
    Case masked(*device, kernel.desc(), {.q = 70, .k = 40});
    masked.near = -30;  // the first 30 queries see nothing
    masked.run_on_cpu(kernel);
    masked.run(kernel, stream);
    masked.compare(tolerance(DType::F32));
    masked.near = -1000;
    masked.run(kernel, stream);
    for (const auto& bits : masked.bits()) CHECK(std::all_of(bits.begin(), bits.end(), [](unsigned char x) { return (x & 0x7f) == 0; }));
    for (const Shape& shape : {Shape{.q = 0, .k = 40}, Shape{.q = 40, .k = 0}, Shape{.b = 0, .kb = 1, .vb = 1}}) {
        const Case empty(*device, kernel.desc(), shape);
        empty.run(kernel, stream);
        for (const auto& bits : empty.bits()) CHECK(std::all_of(bits.begin(), bits.end(), [](unsigned char x) { return x == 0; }));
    }
    Case some(*device, kernel.desc(), {.q = 40, .k = 50});
    some.with_statistics = false;
    some.d_captured.erase(some.d_captured.begin() + 1);
    Array* const unwanted = some.results[4];
    some.results.erase(some.results.begin() + 4);
    unwanted->spoil_device();
    some.run_on_cpu(kernel);
    some.run(kernel, stream);
    some.compare(tolerance(DType::F32));
    const auto untouched = unwanted->fetch();
    CHECK(std::all_of(untouched.begin(), untouched.end(), [](unsigned char x) { return x == 0x5a; }));
}

TEST_CASE("gradients between strides") {
    const auto device = emulated();
    const flexc::Kernel kernel = compiled("attention plain(near: i32) { mask = k <= q + near; }", {});
    const Case c(*device, kernel.desc(), {.q = 50, .k = 60});
    c.run_on_cpu(kernel);
    // q, k, v and o as [B, N, H, D], rows of dq 40 elements apart.
    flex::GradientArrays g = c.gradients(true);
    Array wide(*device, DType::F32, {2, 50, 4, 40});
    wide.spoil_device();
    g.dq = wide.view(true);
    g.dq.shape = {2, 4, 50, 32}, g.dq.stride = {50 * 4 * 40, 40, 4 * 40, 1};
    const flex::Stream stream = flex::Stream::cuda(nullptr);
    REQUIRE(c.forward(kernel, stream).ok());
    const flex::Status status = kernel.backward(stream, c.arrays(true), g, c.args(true));
    REQUIRE_MESSAGE(status.ok(), status.text());
    const auto got = wide.fetch();
    double worst = 0;
    for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 4; ++h)
            for (int64_t i = 0; i < 50; ++i)
                for (int64_t d = 0; d < 40; ++d) {
                    const unsigned char* at = got.data() + (((b * 50 + i) * 4 + h) * 40 + d) * 4;
                    if (d >= 32) {
                        CHECK(*at == 0x5a);
                        continue;
                    }
                    const double x = to_float(at, DType::F32);
                    const double y = to_float(c.results[0]->host.data() + (((b * 4 + h) * 50 + i) * 32 + d) * 4, DType::F32);
                    worst = std::abs(x - y) < INFINITY ? std::max(worst, std::abs(x - y)) : INFINITY;
                }
    CHECK(worst < 1e-4);
}

TEST_CASE("a linked backward pass") {
    const auto device = emulated();
    const flex::Kernel& kernel = test::learned::detail::kernel();
    for (const DType type : {DType::F32, DType::BF16}) {
        const Case c(*device, *kernel.desc(), {.d = 16, .dv = 16, .type = type});
        c.run_on_cpu(kernel);
        c.run(kernel, flex::Stream::cuda(nullptr));
        c.compare(tolerance(type));
    }
    const Case half(*device, *kernel.desc(), {.d = 16, .dv = 16, .type = DType::F16});
    CHECK(half.backward(kernel, flex::Stream::cuda(nullptr)).text() ==
          "the backward pass of `learned` was compiled for f32, bf16 on GPUs, and `q` is f16");
    const Case wide(*device, *kernel.desc(), {.d = 100, .dv = 16, .type = DType::F32});
    CHECK(wide.backward(kernel, flex::Stream::cuda(nullptr)).text() ==
          "the backward pass of `learned` was compiled for head dimensions up to 64 with f32, and `q` has D = 100");
}

TEST_CASE("any number of gradients") {
    const auto device = emulated();
    std::string params = "near: i32", score = "score";
    for (int i = 0; i < 11; ++i) {
        const std::string t = "t" + std::to_string(i);
        params += ", " + t + ": grad f32[" + (i % 2 ? "K]" : "H]");
        score += " + " + std::to_string(1 << i) + ".0 * " + t + (i % 2 ? "[k]" : "[h] * 0.01 * f32(k - q)");
    }
    const flexc::Kernel kernel = compiled("attention many(" + params + ") { score = " + score + "; mask = k <= q + near; }", {});
    const Case c(*device, kernel.desc(), {.q = 40, .k = 50});
    c.run_on_cpu(kernel);
    c.run(kernel, flex::Stream::cuda(nullptr));
    c.compare(1e-3);  // scores of a thousand
    const auto once = c.bits();
    set_seed(9);
    c.run(kernel, flex::Stream::cuda(nullptr));
    CHECK(c.bits() == once);
}

TEST_CASE("an atomic backward pass") {
    const auto device = emulated();
    const flexc::Kernel kernel = compiled(kEveryRead, {}, true);
    const Case c(*device, kernel.desc(), {});
    c.run_on_cpu(kernel);
    c.run(kernel, flex::Stream::cuda(nullptr));
    c.compare(tolerance(DType::F32));
}

TEST_CASE("both passes in one graph: a launch allocates nothing, and inputs may change") {
    const auto device = emulated();
    const flexc::Kernel kernel = compiled(kEveryRead, {});
    Case c(*device, kernel.desc(), {.q = 40, .k = 50});
    void *queue = nullptr, *graph = nullptr, *executable = nullptr;
    REQUIRE(call("cuStreamCreate", &queue, 1u) == 0);
    {
        const flex::Stream stream = flex::Stream::cuda(queue);
        size_t bytes = 0, of_forward = 0;
        REQUIRE(kernel.backward_workspace(stream, c.arrays(true), c.gradients(true), c.args(true), &bytes).ok());
        REQUIRE(kernel.workspace(stream, c.arrays(true), c.args(true), &of_forward).ok());
        REQUIRE(bytes > 0);
        REQUIRE(call("cuStreamBeginCapture_v2", queue, 0) == 0);
        CHECK(c.backward(kernel, stream).code() == flex::Code::OutOfMemory);
        REQUIRE(call("cuStreamEndCapture", queue, &graph) == 0);
        REQUIRE(call("cuGraphDestroy", graph) == 0);

        REQUIRE(stream.reserve(std::max(bytes, of_forward)).ok());
        REQUIRE(call("cuStreamBeginCapture_v2", queue, 0) == 0);
        flex::Status status = c.forward(kernel, stream);
        if (status.ok()) status = c.backward(kernel, stream);
        REQUIRE_MESSAGE(status.ok(), status.text());
        REQUIRE(call("cuStreamEndCapture", queue, &graph) == 0);
        REQUIRE(call("cuGraphInstantiateWithFlags", &executable, graph, 0ull) == 0);
        for (unsigned seed = 1; seed < 3; ++seed) {
            std::mt19937 engine(seed);
            for (Array* each : {c.q, c.k, c.v, c.d_o}) each->fill(engine, 1);
            for (Array* each : c.results) each->spoil_device();
            REQUIRE(call("cuGraphLaunch", executable, queue) == 0);
            REQUIRE(call("cuStreamSynchronize", queue) == 0);
            c.run_on_cpu(kernel);
            c.compare(tolerance(DType::F32));
        }
        REQUIRE(call("cuGraphExecDestroy", executable) == 0);
        REQUIRE(call("cuGraphDestroy", graph) == 0);
    }
    REQUIRE(call("cuStreamDestroy_v2", queue) == 0);
}
