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
    image.forward = {"x_forward", 128, options.shared_bytes};
    image.combine = {"x_combine", 256, 0};
    image.summarise = {"x_summarise", 128, 0};
    image.code = ".version 7.0";
    image.code_bytes = 12;
    return image;
}

AttentionArrays gpu_arrays(const GpuShape& s) {
    const int64_t kvb = s.kvb ? s.kvb : s.b;
    const auto at = [](uint64_t n) { return reinterpret_cast<void*>(n << 20); };
    AttentionArrays a;
    a.q = Tensor::contiguous(at(1), s.dtype, {s.b, s.h, s.q, s.d});
    a.k = Tensor::contiguous(at(2), s.dtype, {kvb, s.hkv, s.k, s.d});
    a.v = Tensor::contiguous(at(3), s.dtype, {kvb, s.hkv, s.k, s.dv});
    a.o = Tensor::contiguous(at(4), s.dtype, {s.b, s.h, s.q, s.dv});
    a.lse = Tensor::contiguous(at(5), DType::F32, {s.b, s.h, s.q});
    return a;
}

KernelDesc plain_gpu_desc() {
    KernelDesc desc;
    desc.name = "x";
    return desc;
}

}  // namespace flex::test
