#include "backend/nvptx/compile.h"

namespace flexc::nvptx {

namespace {

/// What both kinds of images say in the same words.
template <class View, class From>
View common_members(const From& from) {
    View out{};
    out.abi_version = FLEX_GPU_ABI_VERSION;
    out.target = from.target.c_str();
    out.dtype = int32_t(from.dtype);
    out.tf32 = from.tf32;
    out.head_dim = from.head_dim;
    out.v_head_dim = from.v_head_dim;
    out.tile_q = from.tile_q;
    out.tile_k = from.tile_k;
    out.summary_count = int32_t(from.summary_flags.size());
    out.summary_flags = from.summary_flags.data();
    out.code = from.ptx.c_str();
    out.code_bytes = from.ptx.size();
    return out;
}

}  // namespace

flex_gpu_image Image::view() const {
    flex_gpu_image out = common_members<flex_gpu_image>(*this);
    out.max_pack = max_pack;
    out.map_columns = map_columns;
    out.forward = {forward_symbol.c_str(), threads, shared_bytes};
    out.combine = {combine_symbol.c_str(), combine_threads, 0};
    if (!summarise_symbol.empty()) out.summarise = {summarise_symbol.c_str(), summarise_threads, 0};
    return out;
}

flex_gpu_backward_image BackwardImage::view() const {
    const auto kernel = [](const Kernel& from) {
        return from.symbol.empty() ? flex_gpu_kernel{} : flex_gpu_kernel{from.symbol.c_str(), from.threads, from.shared_bytes};
    };
    flex_gpu_backward_image out = common_members<flex_gpu_backward_image>(*this);
    out.atomic = atomic;
    out.summarise = kernel(summarise);
    out.rows = kernel(rows);
    out.queries = kernel(queries);
    out.keys = kernel(keys);
    out.scale = kernel(scale);
    out.finish = kernel(finish);
    return out;
}

}  // namespace flexc::nvptx
