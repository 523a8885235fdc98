// One attention, linked ahead of time, as a shared library that Python calls: built by kernels.py with
//   -DVARIANT=<namespace of the header> -include <header>
// A call gives 0, or 1 with the reason in `error`.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/stream.h"

namespace {

/// q, k, v, o, lse, max_score (the last two with data = null if not wanted), then the arguments; of a backward pass, instead of these first six: d_o, dq, dk, dv,
/// then the gradients of arguments.
struct Array {
    const char* name;  // of an argument; unused for the others
    void* data;
    int32_t dtype, rank;  // a flex::DType
    int64_t shape[8], stride[8];
};

struct Options {
    void *stream, *workspace;
    uint64_t workspace_bytes;
    int32_t image, splits, pack;  // image: -1 leaves it to the runtime, as 0 does for the others
};

struct Report {
    char* text;
    uint64_t size;
};

int done(const flex::Status& status, Report error) {
    if (status.ok()) return 0;
    std::snprintf(error.text, error.size, "%s", status.text().c_str());
    return 1;
}

flex::Tensor view(const Array& array) {
    flex::Tensor t;
    t.data = array.data;
    t.dtype = static_cast<flex::DType>(array.dtype);
    t.rank = array.rank;
    for (size_t i = 0; i < 8; ++i) {
        t.shape[i] = array.shape[i];
        t.stride[i] = array.stride[i];
    }
    return t;
}

struct Call {
    flex::AttentionArrays arrays;
    std::vector<flex::Argument> args;
    flex::CudaOptions options;
};

Call call_of(const Array* arrays, int count, const Options& given) {
    Call call;
    flex::AttentionArrays& a = call.arrays;
    flex::Tensor* const fixed[] = {&a.q, &a.k, &a.v, &a.o, &a.lse, &a.max_score};
    for (int i = 0; i < 6; ++i) *fixed[i] = view(arrays[i]);
    for (int i = 6; i < count; ++i) call.args.push_back({arrays[i].name, view(arrays[i])});
    call.options.stream = given.stream;
    call.options.workspace = given.workspace;
    call.options.workspace_bytes = given.workspace_bytes;
    call.options.splits = given.splits;
    call.options.pack = given.pack;
    if (given.image >= 0) call.options.image = VARIANT_LINKED.images[given.image];
    return call;
}

flex::GradientArrays gradients_of(const Array* arrays, int count) {
    flex::GradientArrays g;
    flex::Tensor* const fixed[] = {&g.d_o, &g.dq, &g.dk, &g.dv};
    for (int i = 0; i < 4; ++i) *fixed[i] = view(arrays[i]);
    for (int i = 4; i < count; ++i) g.d_params.push_back({arrays[i].name, view(arrays[i])});
    return g;
}

const flex::CudaKernel& kernel() {
    static const flex::CudaKernel compiled(VARIANT::desc(), VARIANT_LINKED.images, VARIANT_LINKED.image_count,
                                           VARIANT_LINKED.backward_images, VARIANT_LINKED.backward_image_count);
    return compiled;
}

std::unique_ptr<flex::CudaDevice> device;

}  // namespace

extern "C" {

int flexbench_images() {
    return static_cast<int>(VARIANT_LINKED.image_count);
}
/// "sm_80 128x64 4 warps", and the shape as numbers: capability, D, DV, tile_q, tile_k, takes tensor maps.
void flexbench_image(int which, Report text, int32_t* facts) {
    const flex_gpu_image& image = *VARIANT_LINKED.images[which];
    std::snprintf(text.text, text.size, "%s %dx%d, %d warps", image.target, image.tile_q, image.tile_k, image.forward.threads / 32);
    const int32_t all[] = {std::atoi(image.target + 3), image.head_dim, image.v_head_dim, image.tile_q, image.tile_k,
                           image.map_columns > 0};
    std::memcpy(facts, all, sizeof all);
}

/// Which image a launch takes, its splits and pack; bytes of device memory that it needs beside the arrays.
int flexbench_plan(const Array* arrays, int count, const Options* options, int32_t* image, int32_t* splits, int32_t* pack, uint64_t* bytes,
                   Report error) {
    const Call call = call_of(arrays, count, *options);
    flex::CudaPlan plan;
    if (done(kernel().plan(call.arrays, call.args, call.options, &plan), error)) return 1;
    *image = -1;
    for (uint32_t i = 0; i < VARIANT_LINKED.image_count; ++i)
        if (VARIANT_LINKED.images[i] == plan.image) *image = static_cast<int32_t>(i);
    *splits = plan.splits;
    *pack = plan.pack;
    *bytes = plan.workspace_bytes;
    return 0;
}
int flexbench_forward(const Array* arrays, int count, const Options* options, Report error) {
    const Call call = call_of(arrays, count, *options);
    return done(kernel().launch(call.arrays, call.args, call.options), error);
}

int flexbench_plan_backward(const Array* arrays, int count, const Array* gradients, int gradient_count, const Options* options,
                            uint64_t* bytes, Report error) {
    const Call call = call_of(arrays, count, *options);
    size_t size = 0;
    if (done(kernel().backward_workspace(call.arrays, gradients_of(gradients, gradient_count), call.args, call.options, &size), error))
        return 1;
    *bytes = size;
    return 0;
}
int flexbench_backward(const Array* arrays, int count, const Array* gradients, int gradient_count, const Options* options, Report error) {
    const Call call = call_of(arrays, count, *options);
    return done(kernel().launch_backward(call.arrays, gradients_of(gradients, gradient_count), call.args, call.options), error);
}

// A device for callers without PyTorch: its primary context becomes current.

int flexbench_open(int ordinal, Report name, Report error) {
    const int fault = done(flex::CudaDevice::open(ordinal, &device), error);
    if (!fault) std::snprintf(name.text, name.size, "%s (compute capability %d)", device->name().c_str(), device->compute_capability());
    return fault;
}
int flexbench_allocate(uint64_t bytes, void** out, Report error) {
    return done(device->allocate(bytes, out), error);
}
int flexbench_free(void* memory, Report error) {
    return done(device->free(memory), error);
}
int flexbench_to_device(void* to, const void* from, uint64_t bytes, Report error) {
    return done(device->to_device(to, from, bytes), error);
}
int flexbench_to_host(void* to, const void* from, uint64_t bytes, Report error) {
    return done(device->to_host(to, from, bytes), error);
}
}
