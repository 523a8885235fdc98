#include "backend/nvptx/compile.h"

namespace flexc::nvptx {

namespace {

/// A kernel that the module does not have has no symbol.
flex_gpu_kernel kernel(const std::string& symbol, int threads, int shared_bytes) {
    return {symbol.empty() ? nullptr : symbol.c_str(), threads, shared_bytes};
}

int32_t element(flex::DType dtype) {
    return dtype == flex::DType::F32 ? FLEX_GPU_F32 : dtype == flex::DType::F16 ? FLEX_GPU_F16 : FLEX_GPU_BF16;
}

}  // namespace

flex_gpu_image Image::view() const {
    flex_gpu_image out{};
    out.abi_version = FLEX_GPU_ABI_VERSION;
    out.target = target.c_str();
    out.dtype = element(dtype);
    out.tf32 = tf32;
    out.head_dim = head_dim;
    out.v_head_dim = v_head_dim;
    out.tile_q = tile_q;
    out.tile_k = tile_k;
    out.max_pack = max_pack;
    out.summary_count = static_cast<int32_t>(summary_flags.size());
    out.summary_flags = summary_flags.data();
    out.forward = kernel(forward_symbol, threads, shared_bytes);
    out.combine = kernel(combine_symbol, combine_threads, 0);
    out.summarise = kernel(summarise_symbol, summarise_threads, 0);
    out.code = ptx.c_str();
    out.code_bytes = ptx.size();
    return out;
}

}  // namespace flexc::nvptx
