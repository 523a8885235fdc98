// Matrix units: nvcuda::wmma, and mma.sync fed by ldmatrix from a ring of cp.async stages, as hand-tuned kernels do.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <cstdint>

/// C [m, n] = A [m, k] B [k, n], one warp a tile of 16 x 16.
extern "C" __global__ void wmma_matmul(const half* a, const half* b, float* c, int n, int k) {
    using namespace nvcuda::wmma;
    fragment<matrix_a, 16, 16, 16, half, row_major> left;
    fragment<matrix_b, 16, 16, 16, half, row_major> right;
    fragment<accumulator, 16, 16, 16, float> sum;
    fill_fragment(sum, 0.0f);
    int row = blockIdx.y * 16, column = blockIdx.x * 16;
    for (int inner = 0; inner < k; inner += 16) {
        load_matrix_sync(left, a + row * k + inner, k);
        load_matrix_sync(right, b + inner * n + column, n);
        mma_sync(sum, left, right, sum);
    }
    store_matrix_sync(c + row * n + column, sum, n, mem_row_major);
}

namespace {

constexpr int kTile = 64, kStep = 32, kStages = 3, kThreads = 128;

__device__ uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

__device__ void copy_16(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

/// 8-element chunks of a row of 32 lie in an order that depends on the row, so that ldmatrix meets no bank twice.
__device__ int swizzled(int row, int chunk) { return row * kStep + ((chunk ^ (row / 2 & 3)) * 8); }

__device__ void load_4(uint32_t (&to)[4], const __nv_bfloat16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from)));
}

__device__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace

/// C [m, n] = A [m, k] B^T, B [n, k]; m, n multiples of 64, k of 32. Four warps, each 32 x 32 of a tile of 64 x 64.
extern "C" __global__ __launch_bounds__(kThreads) void mma_pipeline(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    extern __shared__ __align__(128) __nv_bfloat16 memory[];
    __nv_bfloat16* tiles_a = memory;
    __nv_bfloat16* tiles_b = memory + kStages * kTile * kStep;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const __nv_bfloat16* from_a = a + static_cast<size_t>(blockIdx.y) * kTile * k;
    const __nv_bfloat16* from_b = b + static_cast<size_t>(blockIdx.x) * kTile * k;
    int steps = k / kStep;

    auto fetch = [&](int step) {
        if (step < steps) {
            int stage = step % kStages * kTile * kStep;
            for (int i = threadIdx.x; i < kTile * kStep / 8; i += kThreads) {
                int row = i / 4, chunk = i % 4;
                copy_16(&tiles_a[stage + swizzled(row, chunk)], from_a + static_cast<size_t>(row) * k + step * kStep + chunk * 8);
                copy_16(&tiles_b[stage + swizzled(row, chunk)], from_b + static_cast<size_t>(row) * k + step * kStep + chunk * 8);
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    float sum[2][4][4] = {};
    for (int step = 0; step < kStages - 1; ++step) fetch(step);
    for (int step = 0; step < steps; ++step) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
        __syncthreads();
        fetch(step + kStages - 1);
        int stage = step % kStages * kTile * kStep;
        for (int half_step = 0; half_step < 2; ++half_step) {
            uint32_t left[2][4], right[2][4];
            for (int i = 0; i < 2; ++i) {
                int row = warp / 2 * 32 + i * 16 + lane % 16;
                load_4(left[i], &tiles_a[stage + swizzled(row, half_step * 2 + lane / 16)]);
                int key = warp % 2 * 32 + i * 16 + lane % 8 + lane / 16 * 8;
                load_4(right[i], &tiles_b[stage + swizzled(key, half_step * 2 + lane / 8 % 2)]);
            }
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j) multiply(sum[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
        }
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
            int row = blockIdx.y * kTile + warp / 2 * 32 + i * 16 + lane / 4, column = blockIdx.x * kTile + warp % 2 * 32 + j * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(c + static_cast<size_t>(row) * n + column) = make_float2(sum[i][j][0], sum[i][j][1]);
            *reinterpret_cast<float2*>(c + static_cast<size_t>(row + 8) * n + column) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
}
