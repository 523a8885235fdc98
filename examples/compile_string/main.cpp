// Attentions made while the program runs: a program text from a template, a kernel from the text, a launch of the kernel.
//
//   compile_string                  on the CPU
//   compile_string --device cuda    on the first GPU, too (FLEX_CUDA_DRIVER=.../libflexemu_cuda.so: on the emulated one)
//   compile_string TEXT             compiles TEXT and says what it takes, or what is wrong with it
//
// Each row of `o` below is known without arithmetic: all scores are equal and v[k] = k, so a row is the mean of the keys that it sees.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "flexc/flexc.h"

namespace {

constexpr int64_t kLength = 64, kDim = 16;

/// bf16 of a number that bf16 holds exactly: 8 significant bits.
uint16_t bf16(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

float number(uint16_t bits) {
    const uint32_t wide = uint32_t{bits} << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

/// The mean key of the last query, or NaN after a message.
float mean_key(const flexc::Kernel& kernel, flex::CudaDevice* device, int32_t reach) {
    std::vector<uint16_t> q(kLength * kDim, bf16(0)), k(q), v(q), o(q);
    for (int64_t i = 0; i < kLength * kDim; ++i) v[static_cast<size_t>(i)] = bf16(static_cast<float>(i / kDim));
    flex::AttentionArrays arrays;
    std::vector<void*> memory;
    const size_t bytes = q.size() * sizeof q[0];
    flex::Status status;
    const auto place = [&](std::vector<uint16_t>& array, flex::Tensor* view) {
        *view = flex::Tensor::contiguous(array.data(), flex::DType::BF16, {1, 1, kLength, kDim});
        if (!device || !status.ok()) return;
        status = device->allocate(bytes, &view->data);
        if (status.ok()) memory.push_back(view->data);
        if (status.ok()) status = device->to_device(view->data, array.data(), bytes);
    };
    place(q, &arrays.q);
    place(k, &arrays.k);
    place(v, &arrays.v);
    place(o, &arrays.o);

    const flex::Stream stream = device ? flex::Stream::cuda(nullptr) : flex::Stream::cpu();
    if (status.ok()) status = kernel.forward(stream, arrays, {{"reach", flex::scalar(reach)}});
    if (device && status.ok()) status = device->to_host(o.data(), arrays.o.data, bytes);
    for (void* each : memory) (void)device->free(each);
    if (!status.ok()) std::fprintf(stderr, "compile_string: %s\n", status.text().c_str());
    return status.ok() ? number(o.back()) : NAN;
}

int explain(const char* text) {
    const flexc::Result<flexc::Kernel> kernel = flexc::compile(text);
    if (!kernel) {
        std::fputs(kernel.error().text.c_str(), stderr);
        return 1;
    }
    std::printf("%s takes", kernel->name().c_str());
    for (const flex::ParamDesc& param : kernel->desc().params) std::printf(" %s", param.name.c_str());
    std::puts(kernel->desc().params.empty() ? " nothing" : "");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const bool gpu = argc == 3 && std::strcmp(argv[1], "--device") == 0 && std::strcmp(argv[2], "cuda") == 0;
    if (argc == 2) return explain(argv[1]);
    if (argc != 1 && !gpu) {
        std::fputs("usage: compile_string [--device cuda | TEXT]\n", stderr);
        return 2;
    }
    std::unique_ptr<flex::CudaDevice> device;
    if (gpu) {
        if (const flex::Status status = flex::CudaDevice::open(0, &device); !status.ok()) {
            std::fprintf(stderr, "compile_string: %s\n", status.text().c_str());
            return 3;
        }
    }

    bool right = true;
    for (const int stride : {1, 4, 9}) {
        // Keys at most `reach` back, in steps of `stride`. A number in the text is a constant of the kernel; `reach` is an argument of the launch.
        const std::string text = "## Every " + std::to_string(stride) +
                                 ". key.\nattention steps(reach: i32) {\n    mask = 0 <= q - k <= reach and (q - k) % " +
                                 std::to_string(stride) + " == 0;\n}\n";
        flexc::CompileOptions options;
        options.targets = gpu ? std::vector<std::string>{"cpu", "sm_80"} : std::vector<std::string>{"cpu"};
        options.head_dim = kDim;
        const flexc::Result<flexc::Kernel> kernel = flexc::compile(text, options);
        if (!kernel) {
            std::fputs(kernel.error().text.c_str(), stderr);
            return 1;
        }
        // The last query is 63; with a reach of 30 it sees 63, 63 - stride, ..., down to 33 or a little more.
        const int32_t reach = 30;
        const float expected = 63.0f - static_cast<float>(reach / stride * stride) / 2;
        std::printf("stride %d: mean key %.2f, expected %.2f", stride, mean_key(*kernel, nullptr, reach), expected);
        right = right && std::abs(mean_key(*kernel, nullptr, reach) - expected) < 0.2f;
        if (gpu) {
            const float there = mean_key(*kernel, device.get(), reach);
            std::printf("; on %s %.2f", device->name().c_str(), there);
            right = right && std::abs(there - expected) < 0.2f;
        }
        std::puts("");
    }
    return right ? 0 : 1;
}
