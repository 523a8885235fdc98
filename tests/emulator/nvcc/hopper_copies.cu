// Bulk copies and tensor maps, through libcu++ and in PTX. For compute_90a and later only.
#include <cuda.h>

#include <cuda/barrier>
#include <cuda/ptx>
#include <cuda/std/utility>

namespace ptx = cuda::ptx;
namespace cde = cuda::device::experimental;
using Barrier = cuda::barrier<cuda::thread_scope_block>;

/// out = in transposed, tiles of 32 x 32 floats, through a tile that is swizzled by 128 bytes.
extern "C" __global__ void tensor_transpose(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap out) {
    __shared__ alignas(1024) float from[32][32];
    __shared__ alignas(1024) float to[32][32];
    __shared__ Barrier ready;
    if (threadIdx.x == 0) {
        init(&ready, blockDim.x);
        cde::fence_proxy_async_shared_cta();
    }
    __syncthreads();
    Barrier::arrival_token token;
    if (threadIdx.x == 0) {
        cde::cp_async_bulk_tensor_2d_global_to_shared(from, &in, blockIdx.x * 32, blockIdx.y * 32, ready);
        token = cuda::device::barrier_arrive_tx(ready, 1, sizeof from);
    } else {
        token = ready.arrive();
    }
    ready.wait(std::move(token));
    const int lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < 32; row += blockDim.x / 32) {
        // Row `row` of the result is column `row` of the source; chunk c of row r lies at chunk c ^ (r % 8).
        float x = from[lane][((row / 4) ^ (lane % 8)) * 4 + row % 4];
        to[row][((lane / 4) ^ (row % 8)) * 4 + lane % 4] = x;
    }
    cde::fence_proxy_async_shared_cta();
    __syncthreads();
    if (threadIdx.x == 0) {
        cde::cp_async_bulk_tensor_2d_shared_to_global(&out, blockIdx.y * 32, blockIdx.x * 32, to);
        cde::cp_async_bulk_commit_group();
        cde::cp_async_bulk_wait_group_read<0>();
    }
}

__device__ void wait_parity(uint64_t* barrier, int parity) {
    while (!ptx::mbarrier_try_wait_parity(barrier, parity)) {
    }
}

/// A ring of stages: one warp fetches pieces of 256 floats, three double them in place, one thread of those stores. out[i] = 2 in[i].
extern "C" __global__ void bulk_ring(const float* in, float* out, int pieces) {
    constexpr int kStages = 3, kPiece = 256, kBytes = kPiece * 4;
    __shared__ alignas(128) float stages[kStages][kPiece];
    __shared__ uint64_t full[kStages], empty[kStages];
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&full[i], 1);
            ptx::mbarrier_init(&empty[i], 1);
        }
        ptx::fence_mbarrier_init(ptx::sem_release, ptx::scope_cluster);
    }
    __syncthreads();
    const int warp = threadIdx.x / 32;
    if (warp == 0) {
        if (threadIdx.x == 0) {
            for (int i = blockIdx.x, n = 0; i < pieces; i += gridDim.x, ++n) {
                const int stage = n % kStages, phase = n / kStages % 2;
                wait_parity(&empty[stage], phase ^ 1);
                ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &full[stage], kBytes);
                ptx::cp_async_bulk(ptx::space_cluster, ptx::space_global, stages[stage], in + i * kPiece, kBytes, &full[stage]);
            }
        }
        return;
    }
    const int thread = threadIdx.x - 32;
    for (int i = blockIdx.x, n = 0; i < pieces; i += gridDim.x, ++n) {
        const int stage = n % kStages, phase = n / kStages % 2;
        wait_parity(&full[stage], phase);
        for (int j = thread; j < kPiece; j += 96) stages[stage][j] *= 2;
        ptx::fence_proxy_async(ptx::space_shared);
        asm volatile("bar.sync 1, 96;" ::: "memory");
        if (thread == 0) {
            ptx::cp_async_bulk(ptx::space_global, ptx::space_shared, out + i * kPiece, stages[stage], kBytes);
            ptx::cp_async_bulk_commit_group();
            ptx::cp_async_bulk_wait_group_read(ptx::n32_t<0>());
            ptx::mbarrier_arrive(&empty[stage]);
        }
    }
    if (thread == 0) ptx::cp_async_bulk_wait_group(ptx::n32_t<0>());
}

/// Each block adds its part of 128 sums to those of all, in bulk: sums[c] += the values of column c of `rows` rows.
extern "C" __global__ void bulk_reduce(const float* in, float* sums, unsigned* most, int rows) {
    __shared__ alignas(128) float part[128];
    __shared__ alignas(128) unsigned largest[128];
    float sum = 0;
    unsigned high = 0;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        sum += in[row * 128 + threadIdx.x];
        high = max(high, __float_as_uint(fabsf(in[row * 128 + threadIdx.x])));
    }
    part[threadIdx.x] = sum;
    largest[threadIdx.x] = high;
    ptx::fence_proxy_async(ptx::space_shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::cp_reduce_async_bulk(ptx::space_global, ptx::space_shared, ptx::op_add, sums, part, sizeof part);
        ptx::cp_reduce_async_bulk(ptx::space_global, ptx::space_shared, ptx::op_max, most, largest, sizeof largest);
        ptx::cp_async_bulk_commit_group();
        ptx::cp_async_bulk_wait_group_read(ptx::n32_t<0>());
    }
}

/// A tensor map made by the kernel: rows of `columns` floats, a box of 32 x 8; out gets the box at (x, y).
extern "C" __global__ void device_map(const float* in, float* out, int columns, int rows, int x, int y, CUtensorMap* room) {
    __shared__ alignas(128) unsigned map[32];
    __shared__ alignas(128) float box[8][32];
    __shared__ uint64_t ready;
    map[threadIdx.x] = 0;
    if (threadIdx.x == 0) ptx::mbarrier_init(&ready, 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::tensormap_replace_global_address(ptx::space_shared, map, in);
        ptx::tensormap_replace_rank(ptx::space_shared, map, 1);
        ptx::tensormap_replace_box_dim(ptx::space_shared, map, ptx::n32_t<0>(), 32);
        ptx::tensormap_replace_box_dim(ptx::space_shared, map, ptx::n32_t<1>(), 8);
        ptx::tensormap_replace_global_dim(ptx::space_shared, map, ptx::n32_t<0>(), columns);
        ptx::tensormap_replace_global_dim(ptx::space_shared, map, ptx::n32_t<1>(), rows);
        ptx::tensormap_replace_global_stride(ptx::space_shared, map, ptx::n32_t<0>(), (long long)columns * 4);
        ptx::tensormap_replace_element_size(ptx::space_shared, map, ptx::n32_t<0>(), 1);
        ptx::tensormap_replace_element_size(ptx::space_shared, map, ptx::n32_t<1>(), 1);
        ptx::tensormap_replace_elemtype(ptx::space_shared, map, ptx::n32_t<7>());
        ptx::tensormap_replace_interleave_layout(ptx::space_shared, map, ptx::n32_t<0>());
        ptx::tensormap_replace_swizzle_mode(ptx::space_shared, map, ptx::n32_t<0>());
        ptx::tensormap_replace_fill_mode(ptx::space_shared, map, ptx::n32_t<0>());
    }
    __syncwarp();
    ptx::tensormap_cp_fenceproxy(ptx::sem_release, ptx::scope_gpu, room, map, ptx::n32_t<128>());
    ptx::fence_proxy_tensormap_generic(ptx::sem_acquire, ptx::scope_gpu, room, ptx::n32_t<128>());
    if (threadIdx.x == 0) {
        const int at[] = {x, y};
        ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &ready, sizeof box);
        ptx::cp_async_bulk_tensor(ptx::space_cluster, ptx::space_global, box, room, at, &ready);
    }
    wait_parity(&ready, 0);
    for (int row = 0; row < 8; ++row) out[row * 32 + threadIdx.x] = box[row][threadIdx.x];
}
