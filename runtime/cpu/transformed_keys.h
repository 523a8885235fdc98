// The keys as the `key` clause makes them, f32, one row for each row of K: computed once, before a launch that then reads them in the place of K.
#pragma once

#include <memory>
#include <new>

#include "runtime/launch.h"

namespace flex::cpu {

class TransformedKeys {
public:
    /// `k` has passed bind(), kernel.key is there. Throws std::bad_alloc.
    TransformedKeys(const flex_cpu_kernel& kernel, const flex_args& args, const Tensor& k, int threads);
    /// [B or 1, HKV, K, D]
    [[nodiscard]] Tensor rows() const;
    [[nodiscard]] int64_t bytes() const { return shape_[0] * shape_[1] * shape_[2] * shape_[3] * int64_t{sizeof(float)}; }

private:
    int64_t shape_[4];
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<float[], Free> data_;
};

}  // namespace flex::cpu
