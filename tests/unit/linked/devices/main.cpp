// One header with code for sm_80 and for sm_90a, on the device that FLEXEMU_DEVICE names: which kernel runs, by the emulator's trace, and that it is right,
// also from a graph whose inputs change between its launches.
#include <dlfcn.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "near.h"

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
    if (holds) return;
    ++failures;
    std::printf("FAIL %s\n", what.c_str());
}
void expect(const flex::Status& status, const std::string& what) {
    expect(status.ok(), what + ": " + status.text());
}

/// The emulator's lines on stderr since the last call.
std::string trace() {
    static std::streamoff seen = 0;
    std::fflush(stderr);
    std::ifstream in("trace.txt");
    in.seekg(seen);
    std::ostringstream text;
    text << in.rdbuf();
    seen += static_cast<std::streamoff>(text.str().size());
    return text.str();
}

template <class... Args>
int call(const char* name, Args... args) {
    static void* const library = dlopen(FLEXC_EMULATED_DRIVER, RTLD_NOW | RTLD_LOCAL);
    auto* function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
    return function ? function(args...) : -1;
}

uint16_t to_bf16(float x) {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float from_bf16(uint16_t x) {
    const uint32_t bits = uint32_t{x} << 16;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Shape {
    int64_t b, h, hkv, q, k, d;
};

/// q, k, v and o here and on the device.
class Arrays {
public:
    Arrays(flex::CudaDevice& device, flex::DType type, const Shape& shape) : device_(device), type_(type) {
        shapes_ = {{{shape.b, shape.h, shape.q, shape.d},
                    {shape.b, shape.hkv, shape.k, shape.d},
                    {shape.b, shape.hkv, shape.k, shape.d},
                    {shape.b, shape.h, shape.q, shape.d}}};
        for (size_t i = 0; i < 4; ++i) {
            host_[i].resize(static_cast<size_t>(count(i)) * size_of(type));
            expect(device.allocate(host_[i].size(), &memory_[i]), "allocate");
        }
    }
    ~Arrays() {
        for (void* each : memory_) expect(device_.free(each), "free");
    }
    Arrays(const Arrays&) = delete;
    Arrays& operator=(const Arrays&) = delete;

    void fill(unsigned seed) {
        std::mt19937 engine(seed);
        std::normal_distribution<float> normal;
        for (size_t i = 0; i < 4; ++i) {
            for (int64_t j = 0; j < count(i); ++j) {
                const float x = i == 3 ? NAN : normal(engine);
                const uint16_t half = to_bf16(x);
                std::memcpy(host_[i].data() + static_cast<size_t>(j) * size_of(type_),
                            type_ == flex::DType::F32 ? static_cast<const void*>(&x) : &half, size_of(type_));
            }
            expect(device_.to_device(memory_[i], host_[i].data(), host_[i].size()), "to_device");
        }
    }
    [[nodiscard]] flex::AttentionArrays views(bool on_device) {
        const auto view = [&](size_t i) {
            return flex::Tensor::contiguous(on_device ? memory_[i] : host_[i].data(), type_,
                                            {shapes_[i][0], shapes_[i][1], shapes_[i][2], shapes_[i][3]});
        };
        return {view(0), view(1), view(2), view(3)};
    }
    /// The largest difference of o on the device from what the CPU gives.
    float error(const near::Args& args) {
        std::vector<char> got(host_[3].size());
        expect(device_.to_host(got.data(), memory_[3], got.size()), "to_host");
        expect(near::forward(flex::Stream::cpu(1), views(false), args), "on the CPU");
        float worst = 0;
        for (int64_t j = 0; j < count(3); ++j) {
            const float difference = std::fabs(value(got, j) - value(host_[3], j));
            worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
        }
        return worst;
    }

private:
    [[nodiscard]] int64_t count(size_t i) const { return shapes_[i][0] * shapes_[i][1] * shapes_[i][2] * shapes_[i][3]; }
    [[nodiscard]] float value(const std::vector<char>& bytes, int64_t i) const {
        float x = 0;
        uint16_t half = 0;
        const char* const at = bytes.data() + static_cast<size_t>(i) * size_of(type_);
        if (type_ == flex::DType::F32) {
            std::memcpy(&x, at, sizeof x);
            return x;
        }
        std::memcpy(&half, at, sizeof half);
        return from_bf16(half);
    }

    flex::CudaDevice& device_;
    flex::DType type_;
    std::array<std::array<int64_t, 4>, 4> shapes_;
    std::array<std::vector<char>, 4> host_;
    std::array<void*, 4> memory_{};
};

}  // namespace

int main(int argc, char** argv) {
    const bool hopper = argc == 2 && std::string(argv[1]) == "sm_90";
    setenv("FLEXEMU_TRACE", "1", 1);
    if (!std::freopen("trace.txt", "w", stderr)) return 2;
    expect(flex::use_cuda_driver(FLEXC_EMULATED_DRIVER), "the driver");
    std::unique_ptr<flex::CudaDevice> device;
    expect(flex::CudaDevice::open(0, &device), "the device");
    if (!device) return 1;
    expect(device->compute_capability() == (hopper ? 90 : 80), "FLEXEMU_DEVICE is not that of the test");

    std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
    void* slopes_there = nullptr;
    expect(device->allocate(slopes.size() * sizeof(float), &slopes_there), "allocate");
    expect(device->to_device(slopes_there, slopes.data(), slopes.size() * sizeof(float)), "to_device");
    const auto args = [&](bool there) {
        return near::Args{flex::Tensor::contiguous(there ? slopes_there : slopes.data(), flex::DType::F32, {4}), 90};
    };

    // Threads of a block tell kernels apart: four warps on sm_80, warpgroups on sm_90a.
    struct Run {
        const char* name;
        flex::DType type;
        Shape shape;
        bool own;  // by the kernel that is made for sm_90a, where there is one
        float tolerance;
    };
    const Run runs[] = {{"bf16", flex::DType::BF16, {2, 4, 2, 300, 300, 64}, true, 0.02f},
                        {"bf16, short rows", flex::DType::BF16, {1, 4, 4, 100, 150, 40}, true, 0.02f},
                        {"bf16, decoding", flex::DType::BF16, {2, 4, 2, 1, 500, 64}, false, 0.02f},
                        {"bf16, rows that do not begin at 16 bytes", flex::DType::BF16, {1, 4, 4, 100, 150, 61}, false, 0.02f},
                        {"f32", flex::DType::F32, {1, 4, 2, 100, 120, 64}, false, 1e-5f}};
    for (const Run& run : runs) {
        Arrays arrays(*device, run.type, run.shape);
        arrays.fill(1);
        trace();
        expect(near::forward(flex::Stream::cuda(nullptr), arrays.views(true), args(true)), run.name);
        const float error = arrays.error(args(false));
        expect(error <= run.tolerance, std::string(run.name) + " is wrong by " + std::to_string(error));
        const std::string lines = trace();
        const size_t at = lines.find("near_forward");
        expect(at != std::string::npos, std::string(run.name) + ": no kernel ran");
        if (at == std::string::npos) continue;
        const size_t block = lines.find(" block ", at) + 7;
        const int threads = std::atoi(lines.c_str() + block);
        expect((threads > 128) == (hopper && run.own), std::string(run.name) + ": another kernel than expected ran: " + lines);
    }

    // From a graph: the maps and the counter of pieces are as new in each launch.
    void *queue = nullptr, *graph = nullptr, *executable = nullptr;
    expect(call("cuStreamCreate", &queue, 1u) == 0, "cuStreamCreate");
    {
        const flex::Stream stream = flex::Stream::cuda(queue);
        Arrays arrays(*device, flex::DType::BF16, {2, 4, 2, 300, 300, 64});
        arrays.fill(2);
        size_t bytes = 0;
        expect(near::workspace(stream, arrays.views(true), args(true), &bytes), "workspace");
        expect(bytes > 0 || !hopper, "there are more pieces than blocks, and nothing to count them in");
        expect(stream.reserve(bytes), "reserve");
        expect(call("cuStreamBeginCapture_v2", queue, 0) == 0, "cuStreamBeginCapture");
        expect(near::forward(stream, arrays.views(true), args(true)), "capture");
        expect(call("cuStreamEndCapture", queue, &graph) == 0, "cuStreamEndCapture");
        expect(call("cuGraphInstantiateWithFlags", &executable, graph, 0ull) == 0, "cuGraphInstantiate");
        for (unsigned seed = 3; seed < 5; ++seed) {
            arrays.fill(seed);
            expect(call("cuGraphLaunch", executable, queue) == 0, "cuGraphLaunch");
            expect(call("cuStreamSynchronize", queue) == 0, "cuStreamSynchronize");
            const float error = arrays.error(args(false));
            expect(error <= 0.02f, "a graph's launch is wrong by " + std::to_string(error));
        }
        expect(call("cuGraphExecDestroy", executable) == 0, "cuGraphExecDestroy");
        expect(call("cuGraphDestroy", graph) == 0, "cuGraphDestroy");
    }
    expect(call("cuStreamDestroy_v2", queue) == 0, "cuStreamDestroy");
    expect(device->free(slopes_there), "free");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
