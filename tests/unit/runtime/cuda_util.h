// What the tests of launches on a GPU share: the mock driver, images that name kernels without code, and arrays that are never read.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/gpu_layout.h"
#include "tests/unit/runtime/mock/mock_cuda.h"

namespace flex::test {

/// The mock, opened as this process's driver, as new.
Mock& mock();

/// An image of a kernel family "NAME_summarise", ...; PTX is not needed, as the mock does not look at it.
struct ImageOptions {
    const char* target = "sm_80";
    DType dtype = DType::F16;
    bool tf32 = false;
    int head_dim = 128, v_head_dim = 128, tile_q = 128, tile_k = 64, max_pack = 64, shared_bytes = 81920;
    std::vector<int32_t> summaries = {};
};
flex_gpu_image image_of(const ImageOptions& options);

struct GpuShape {
    int64_t b = 1, h = 1, hkv = 1, q = 1, k = 1, d = 64, dv = 64, kvb = 0;  // kvb 0: as b
    DType dtype = DType::F16;
};
/// Dense arrays at made-up addresses, multiples of 256.
AttentionArrays gpu_arrays(const GpuShape& shape);

KernelDesc plain_gpu_desc();

}  // namespace flex::test
