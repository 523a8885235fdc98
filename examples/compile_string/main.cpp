// Attentions made while the program runs: a program text from a template, a kernel from the text, a launch of the kernel.
//
//   compile_string                  on the CPU
//   compile_string --device cuda    on the first GPU, too (FLEX_CUDA_DRIVER=.../libflexemu_cuda.so: on the emulated one)
//   compile_string TEXT             compiles TEXT and says what it takes, or what is wrong with it
//
// What comes out is known without arithmetic. All scores are equal and v[k] = k, so a row of `o` is the mean of the keys that it sees; and the last key is
// seen by the last query alone, so the derivative of that query's `o` by v[last] is one over the number of keys that it sees.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
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

/// What the last query says.
struct Answer {
    float mean_key = NAN, share = NAN;  // share: of the last key
};

/// One forward and one backward pass; NaN after a message.
Answer run(const flexc::Kernel& kernel, flex::CudaDevice* device, int32_t reach) {
    std::vector<uint16_t> q(kLength * kDim, bf16(0)), k(q), v(q), o(q), d_o(q.size(), bf16(1)), dq(q), dk(q), dv(q);
    std::vector<float> lse(kLength);
    for (int64_t i = 0; i < kLength * kDim; ++i) v[static_cast<size_t>(i)] = bf16(static_cast<float>(i / kDim));
    flex::AttentionArrays arrays;
    flex::GradientArrays gradients;
    std::vector<void*> memory;
    flex::Status status;
    const auto place = [&](void* array, size_t bytes, flex::Tensor* view) {
        if (!device || !status.ok()) return;
        status = device->allocate(bytes, &view->data);
        if (status.ok()) memory.push_back(view->data);
        if (status.ok()) status = device->to_device(view->data, array, bytes);
    };
    const size_t bytes = q.size() * sizeof q[0];
    const std::pair<std::vector<uint16_t>*, flex::Tensor*> all[] = {{&q, &arrays.q},      {&k, &arrays.k},        {&v, &arrays.v},
                                                                    {&o, &arrays.o},      {&d_o, &gradients.d_o}, {&dq, &gradients.dq},
                                                                    {&dk, &gradients.dk}, {&dv, &gradients.dv}};
    for (const auto& [array, view] : all) {
        *view = flex::Tensor::contiguous(array->data(), flex::DType::BF16, {1, 1, kLength, kDim});
        place(array->data(), bytes, view);
    }
    arrays.lse = flex::Tensor::contiguous(lse.data(), flex::DType::F32, {1, 1, kLength});
    place(lse.data(), lse.size() * sizeof lse[0], &arrays.lse);

    const flex::Stream stream = device ? flex::Stream::cuda(nullptr) : flex::Stream::cpu();
    const std::vector<flex::Argument> args = {{"reach", flex::scalar(reach)}};
    if (status.ok()) status = kernel.forward(stream, arrays, args);
    if (status.ok()) status = kernel.backward(stream, arrays, gradients, args);
    if (device && status.ok()) status = device->to_host(o.data(), arrays.o.data, bytes);
    if (device && status.ok()) status = device->to_host(dv.data(), gradients.dv.data, bytes);
    for (void* each : memory) (void)device->free(each);
    if (!status.ok()) std::fprintf(stderr, "compile_string: %s\n", status.text().c_str());
    return status.ok() ? Answer{number(o.back()), number(dv.back())} : Answer{};
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
        options.gradients = true;  // without, there is no backward
        const flexc::Result<flexc::Kernel> kernel = flexc::compile(text, options);
        if (!kernel) {
            std::fputs(kernel.error().text.c_str(), stderr);
            return 1;
        }
        // The last query is 63; with a reach of 30 it sees 63, 63 - stride, ..., down to 33 or a little more.
        const int32_t reach = 30;
        const float expected = 63.0f - static_cast<float>(reach / stride * stride) / 2;
        const float share = 1 / static_cast<float>(reach / stride + 1);
        std::printf("stride %d: expected mean key %.2f, share of a key %.4f;", stride, expected, share);
        const auto show = [&](const char* where, flex::CudaDevice* on) {
            const Answer answer = run(*kernel, on, reach);
            std::printf(" %s %.2f, %.4f;", where, answer.mean_key, answer.share);
            right = right && std::abs(answer.mean_key - expected) < 0.2f && std::abs(answer.share - share) < 0.001f;
        };
        show("CPU", nullptr);
        if (gpu) show(device->name().c_str(), device.get());
        std::puts("");
    }
    return right ? 0 : 1;
}
