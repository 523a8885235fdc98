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
    int head_dim = 128, v_head_dim = 128, tile_q = 128, tile_k = 64, max_pack = 64, shared_bytes = 81920, map_columns = 0;
    std::vector<int32_t> summaries = {};
};
flex_gpu_image image_of(const ImageOptions& options);

struct BackwardImageOptions {
    const char* target = "sm_80";
    DType dtype = DType::F16;
    bool tf32 = false, atomic = false, scale = true;
    int head_dim = 128, v_head_dim = 128, tile_q = 64, tile_k = 128, query_shared = 65536, key_shared = 98304;
    std::vector<int32_t> summaries = {};
};
flex_gpu_backward_image backward_image_of(const BackwardImageOptions& options);

struct GpuShape {
    int64_t b = 1, h = 1, hkv = 1, q = 1, k = 1, d = 64, dv = 64, kvb = 0;  // kvb 0: as b
    DType dtype = DType::F16;
};
/// Dense arrays at made-up addresses, multiples of 256.
AttentionArrays gpu_arrays(const GpuShape& shape);

/// Gradients for these arrays, likewise.
GradientArrays gpu_gradients(const AttentionArrays& arrays);

KernelDesc plain_gpu_desc();
/// Parameters bias: f32[H, K] `grad`, doc: i32[Q], table: f32[N] `grad`; and arguments for them, with N = 10.
KernelDesc graded_gpu_desc();
std::vector<Argument> graded_args(const GpuShape& shape);
/// d_bias and d_table.
std::vector<Argument> graded_gradients(const GpuShape& shape);

}  // namespace flex::test
