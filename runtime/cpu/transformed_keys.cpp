#include "runtime/cpu/transformed_keys.h"

#include <algorithm>
#include <vector>

#include "runtime/cpu/microkernel_table.h"
#include "runtime/cpu/pool.h"

namespace flex::cpu {

TransformedKeys::TransformedKeys(const flex_cpu_kernel& kernel, const flex_args& args, const Tensor& k, int threads) {
    const int32_t* e = args.extents;
    const int64_t heads = e[1], kv_heads = e[2], keys = e[4], depth = e[5];
    shape_[0] = kernel.key_reads_b ? e[0] : k.shape[0];
    shape_[1] = kv_heads, shape_[2] = keys, shape_[3] = depth;
    data_.reset(static_cast<float*>(::operator new[](static_cast<size_t>(std::max<int64_t>(bytes(), 64)), std::align_val_t{64})));
    const MicroKernels& micro = micro_kernels(static_cast<int>(kernel.lanes));
    constexpr int64_t kRows = 64;
    const int64_t blocks = (keys + kRows - 1) / kRows;
    auto block = [&](int64_t index) {
        const int64_t hkv = index / blocks % kv_heads, b = index / blocks / kv_heads;
        const int64_t first = index % blocks * kRows;
        float raw[512];  // bind() lets no longer row pass
        for (int64_t row = first; row < std::min(first + kRows, keys); ++row) {
            const int64_t offset = (k.shape[0] == 1 ? 0 : b * k.stride[0]) + hkv * k.stride[1] + row * k.stride[2];
            micro.load_row(static_cast<const char*>(k.data) + offset * static_cast<int64_t>(size_of(k.dtype)), k.dtype,
                           static_cast<int>(depth), 1.0f, raw);
            kernel.key(&args, static_cast<int32_t>(b), static_cast<int32_t>(hkv * (heads / kv_heads)), static_cast<int32_t>(row), raw,
                       data_.get() + ((b * kv_heads + hkv) * keys + row) * depth);
        }
    };
    parallel_for(threads, shape_[0] * kv_heads * blocks, block);
}

Tensor TransformedKeys::rows() const {
    return Tensor::contiguous(data_.get(), DType::F32, {shape_[0], shape_[1], shape_[2], shape_[3]});
}

}  // namespace flex::cpu
