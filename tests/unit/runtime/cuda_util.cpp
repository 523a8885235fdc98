#include "cuda_util.h"

#include <dlfcn.h>

#include <deque>
#include <stdexcept>

namespace flex::test {

Mock& mock() {
    static Mock* the = [] {
        void* library = dlopen(FLEX_MOCK_CUDA, RTLD_NOW | RTLD_LOCAL);
        auto* get = library ? reinterpret_cast<Mock* (*)()>(dlsym(library, "mock_driver")) : nullptr;
        if (!get || !use_cuda_driver(FLEX_MOCK_CUDA).ok()) throw std::runtime_error("no mock driver");
        return get();
    }();
    the->reset();
    return *the;
}

flex_gpu_image image_of(const ImageOptions& options) {
    static std::deque<std::vector<int32_t>> flags;  // images hold pointers into it
    flags.push_back(options.summaries);
    flex_gpu_image image{};
    image.abi_version = FLEX_GPU_ABI_VERSION;
    image.target = options.target;
    image.dtype = static_cast<int32_t>(options.dtype);
    image.tf32 = options.tf32;
    image.head_dim = options.head_dim;
    image.v_head_dim = options.v_head_dim;
    image.tile_q = options.tile_q;
    image.tile_k = options.tile_k;
    image.max_pack = options.max_pack;
    image.summary_count = static_cast<int32_t>(options.summaries.size());
    image.summary_flags = flags.back().data();
    image.map_columns = options.map_columns;
    image.forward = {"x_forward", options.map_columns > 0 ? 384 : 128, options.shared_bytes};
    image.combine = {"x_combine", 256, 0};
    image.summarise = {"x_summarise", 128, 0};
    image.code = ".version 7.0";
    image.code_bytes = 12;
    return image;
}

flex_gpu_backward_image backward_image_of(const BackwardImageOptions& options) {
    static std::deque<std::vector<int32_t>> flags;
    flags.push_back(options.summaries);
    flex_gpu_backward_image image{};
    image.abi_version = FLEX_GPU_ABI_VERSION;
    image.target = options.target;
    image.dtype = static_cast<int32_t>(options.dtype);
    image.tf32 = options.tf32;
    image.head_dim = options.head_dim;
    image.v_head_dim = options.v_head_dim;
    image.tile_q = options.tile_q;
    image.tile_k = options.tile_k;
    image.atomic = options.atomic;
    image.summary_count = static_cast<int32_t>(options.summaries.size());
    image.summary_flags = flags.back().data();
    if (!options.summaries.empty()) image.summarise = {"x_backward_summarise", 128, 0};
    image.rows = {"x_backward_rows", 128, options.query_shared};
    if (!options.atomic) image.queries = {"x_backward_queries", 128, options.query_shared};
    image.keys = {"x_backward_keys", 256, options.key_shared};
    if (options.scale) image.scale = {"x_backward_scale", 96, 0};
    image.finish = {"x_backward_finish", 256, 0};
    image.code = ".version 7.0";
    image.code_bytes = 12;
    return image;
}

namespace {

void* at(uint64_t n) {
    return reinterpret_cast<void*>(n << 20);
}

}  // namespace

AttentionArrays gpu_arrays(const GpuShape& s) {
    const int64_t kvb = s.kvb ? s.kvb : s.b;
    AttentionArrays a;
    a.q = Tensor::contiguous(at(1), s.dtype, {s.b, s.h, s.q, s.d});
    a.k = Tensor::contiguous(at(2), s.dtype, {kvb, s.hkv, s.k, s.d});
    a.v = Tensor::contiguous(at(3), s.dtype, {kvb, s.hkv, s.k, s.dv});
    a.o = Tensor::contiguous(at(4), s.dtype, {s.b, s.h, s.q, s.dv});
    a.lse = Tensor::contiguous(at(5), DType::F32, {s.b, s.h, s.q});
    return a;
}

GradientArrays gpu_gradients(const AttentionArrays& arrays) {
    const auto like = [](const Tensor& model, uint64_t address) {
        Tensor t = model;
        t.data = at(address);
        return t;
    };
    GradientArrays g;
    g.d_o = like(arrays.o, 6);
    g.dq = like(arrays.q, 7);
    g.dk = like(arrays.k, 8);
    g.dv = like(arrays.v, 9);
    return g;
}

KernelDesc graded_gpu_desc() {
    KernelDesc desc = plain_gpu_desc();
    desc.extents = {"N"};
    const auto add = [&](const char* name, DType type, std::vector<DimDesc> dims, bool grad) {
        ParamDesc& param = desc.params.emplace_back();
        param.name = name;
        param.is_tensor = true;
        param.dtype = type;
        param.dims = std::move(dims);
        param.grad = grad;
    };
    add("bias", DType::F32, {{1, 1, 0}, {1, 4, 0}}, true);
    add("doc", DType::I32, {{1, 3, 0}}, false);
    add("table", DType::F32, {{1, 7, 0}}, true);
    return desc;
}

std::vector<Argument> graded_args(const GpuShape& s) {
    return {{"bias", Tensor::contiguous(at(10), DType::F32, {s.h, s.k})},
            {"doc", Tensor::contiguous(at(11), DType::I32, {s.q})},
            {"table", Tensor::contiguous(at(12), DType::F32, {10})}};
}

std::vector<Argument> graded_gradients(const GpuShape& s) {
    return {{"bias", Tensor::contiguous(at(13), DType::F32, {s.h, s.k})}, {"table", Tensor::contiguous(at(14), DType::F32, {10})}};
}

KernelDesc plain_gpu_desc() {
    KernelDesc desc;
    desc.name = "x";
    return desc;
}

}  // namespace flex::test
