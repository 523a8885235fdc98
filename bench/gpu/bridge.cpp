// One attention, linked ahead of time, as a shared library that Python calls: built by run.py with
//   -DVARIANT=<namespace of the header> -include <header>
// A call gives 0, or 1 with the reason in `error`.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/stream.h"

extern "C" {

struct flexbench_array {
    const char* name;  // of an argument; unused for q, k, v, o, lse, max_score
    void* data;
    int32_t dtype, rank;  // a flex::DType
    int64_t shape[8], stride[8];
};

static int done(const flex::Status& status, char* error, size_t size) {
    if (status.ok()) return 0;
    std::snprintf(error, size, "%s", status.text().c_str());
    return 1;
}

static flex::Tensor view(const flexbench_array& array) {
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

/// `arrays`: q, k, v, o, lse, max_score (the last two with data = null if not wanted), then the arguments.
static Call call_of(const flexbench_array* arrays, int count, void* stream, int splits, int pack) {
    Call call;
    flex::AttentionArrays& a = call.arrays;
    flex::Tensor* const fixed[] = {&a.q, &a.k, &a.v, &a.o, &a.lse, &a.max_score};
    for (int i = 0; i < 6; ++i) *fixed[i] = view(arrays[i]);
    for (int i = 6; i < count; ++i) call.args.push_back({arrays[i].name, view(arrays[i])});
    call.options.stream = stream;
    call.options.splits = splits;
    call.options.pack = pack;
    return call;
}

static const flex::CudaKernel& kernel() {
    static const flex::CudaKernel compiled(VARIANT::desc(), VARIANT_LINKED.images, VARIANT_LINKED.image_count);
    return compiled;
}

/// Bytes of device memory that the launch needs beside the arrays.
int flexbench_workspace(const flexbench_array* arrays, int count, int splits, int pack, size_t* bytes, char* error, size_t size) {
    const Call call = call_of(arrays, count, nullptr, splits, pack);
    return done(kernel().workspace(call.arrays, call.args, call.options, bytes), error, size);
}

int flexbench_forward(const flexbench_array* arrays, int count, void* stream, int splits, int pack, void* workspace, size_t bytes, char* error,
                      size_t size) {
    Call call = call_of(arrays, count, stream, splits, pack);
    call.options.workspace = workspace;
    call.options.workspace_bytes = bytes;
    return done(kernel().launch(call.arrays, call.args, call.options), error, size);
}

// A device for callers without PyTorch: its primary context becomes current.

static std::unique_ptr<flex::CudaDevice> device;

int flexbench_open(int ordinal, char* name, size_t name_size, char* error, size_t size) {
    const int fault = done(flex::CudaDevice::open(ordinal, &device), error, size);
    if (!fault) std::snprintf(name, name_size, "%s (compute capability %d)", device->name().c_str(), device->compute_capability());
    return fault;
}
int flexbench_allocate(size_t bytes, void** out, char* error, size_t size) {
    return done(device->allocate(bytes, out), error, size);
}
int flexbench_free(void* memory, char* error, size_t size) {
    return done(device->free(memory), error, size);
}
int flexbench_to_device(void* to, const void* from, size_t bytes, char* error, size_t size) {
    return done(device->to_device(to, from, bytes), error, size);
}
int flexbench_to_host(void* to, const void* from, size_t bytes, char* error, size_t size) {
    return done(device->to_host(to, from, bytes), error, size);
}
}
