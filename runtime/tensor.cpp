#include "runtime/tensor.h"

namespace flex {

const char* name(DType type) {
    switch (type) {
        case DType::F32: return "f32";
        case DType::F16: return "f16";
        case DType::BF16: return "bf16";
        case DType::I32: return "i32";
        case DType::I16: return "i16";
        case DType::I8: return "i8";
        case DType::U8: return "u8";
        case DType::Bool: return "bool";
    }
    return "?";
}

Tensor Tensor::contiguous(void* data, DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t;
    t.data = data;
    t.dtype = dtype;
    t.rank = static_cast<int>(shape.size());
    int i = 0;
    for (int64_t extent : shape) t.shape[static_cast<size_t>(i++)] = extent;
    int64_t stride = 1;
    for (i = t.rank; i-- > 0;) {
        t.stride[static_cast<size_t>(i)] = stride;
        stride *= t.shape[static_cast<size_t>(i)];
    }
    return t;
}

}  // namespace flex
