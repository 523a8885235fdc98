#include "backend/nvptx/compile.h"

namespace flexc::nvptx {

flex_gpu_image Image::view() const {
    flex_gpu_image out{};
    out.abi_version = FLEX_GPU_ABI_VERSION;
    out.target = target.c_str();
    out.dtype = int32_t(dtype);
    out.tf32 = tf32;
    out.head_dim = head_dim;
    out.v_head_dim = v_head_dim;
    out.tile_q = tile_q;
    out.tile_k = tile_k;
    out.max_pack = max_pack;
    out.summary_count = int32_t(summary_flags.size());
    out.summary_flags = summary_flags.data();
    out.forward = {forward_symbol.c_str(), threads, shared_bytes};
    out.combine = {combine_symbol.c_str(), combine_threads, 0};
    if (!summarise_symbol.empty()) out.summarise = {summarise_symbol.c_str(), summarise_threads, 0};
    out.code = ptx.c_str();
    out.code_bytes = ptx.size();
    return out;
}

flex_gpu_backward_image BackwardImage::view() const {
    const auto kernel = [](const Kernel& from) {
        return from.symbol.empty() ? flex_gpu_kernel{} : flex_gpu_kernel{from.symbol.c_str(), from.threads, from.shared_bytes};
    };
    flex_gpu_backward_image out{};
    out.abi_version = FLEX_GPU_ABI_VERSION;
    out.target = target.c_str();
    out.dtype = int32_t(dtype);
    out.tf32 = tf32;
    out.head_dim = head_dim;
    out.v_head_dim = v_head_dim;
    out.tile_q = tile_q;
    out.tile_k = tile_k;
    out.atomic = atomic;
    out.summary_count = int32_t(summary_flags.size());
    out.summary_flags = summary_flags.data();
    out.summarise = kernel(summarise);
    out.rows = kernel(rows);
    out.queries = kernel(queries);
    out.keys = kernel(keys);
    out.scale = kernel(scale);
    out.finish = kernel(finish);
    out.code = ptx.c_str();
    out.code_bytes = ptx.size();
    return out;
}

}  // namespace flexc::nvptx
