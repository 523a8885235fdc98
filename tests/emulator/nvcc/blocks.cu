// Block-wide algorithms of CUB, cooperative groups, and the barriers and pipelines of libcu++.
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>

#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cuda/barrier>
#include <cuda/pipeline>

namespace cg = cooperative_groups;

extern "C" __global__ void cub_sort(unsigned* keys) {
    using Sort = cub::BlockRadixSort<unsigned, 128, 4>;
    __shared__ typename Sort::TempStorage storage;
    unsigned own[4];
    for (int i = 0; i < 4; ++i) own[i] = keys[blockIdx.x * 512 + threadIdx.x * 4 + i];
    Sort(storage).Sort(own);
    for (int i = 0; i < 4; ++i) keys[blockIdx.x * 512 + threadIdx.x * 4 + i] = own[i];
}

extern "C" __global__ void cub_scan(const int* in, int* out, int* total) {
    using Scan = cub::BlockScan<int, 128>;
    using Reduce = cub::BlockReduce<int, 128>;
    __shared__ typename Scan::TempStorage storage;
    __shared__ typename Reduce::TempStorage other;
    int x = in[threadIdx.x], sum;
    Scan(storage).ExclusiveSum(x, sum);
    out[threadIdx.x] = sum;
    int all = Reduce(other).Sum(x);
    if (threadIdx.x == 0) *total = all;
}

/// Sums of tiles of 8, of the threads whose value is odd, and of the block.
extern "C" __global__ void groups(const int* in, int* tiles, int* odd, int* whole) {
    __shared__ int sum;
    auto block = cg::this_thread_block();
    auto tile = cg::tiled_partition<8>(block);
    int x = in[block.thread_rank()];
    if (block.thread_rank() == 0) sum = 0;
    block.sync();
    int part = cg::reduce(tile, x, cg::plus<int>());
    if (tile.thread_rank() == 0) tiles[block.thread_rank() / 8] = part;
    if (x & 1) {
        auto active = cg::coalesced_threads();
        int among = cg::reduce(active, x, cg::plus<int>());
        if (active.thread_rank() == 0) atomicAdd(odd, among);
    }
    if (tile.any(x > 90)) atomicAdd(&sum, tile.shfl(x, 3));
    block.sync();
    if (block.thread_rank() == 0) *whole = sum;
}

/// Two phases over a barrier in shared memory: fill by asynchronous copies, then read what others copied.
extern "C" __global__ void barrier_copy(const int* in, int* out, int rounds) {
    __shared__ alignas(16) int tile[256];
    __shared__ cuda::barrier<cuda::thread_scope_block> ready;
    auto block = cg::this_thread_block();
    if (threadIdx.x == 0) init(&ready, blockDim.x);
    block.sync();
    int sum = 0;
    for (int round = 0; round < rounds; ++round) {
        cuda::memcpy_async(block, tile, in + round * 256, cuda::aligned_size_t<16>(sizeof tile), ready);
        ready.arrive_and_wait();
        sum += tile[255 - threadIdx.x];
        block.sync();
    }
    out[threadIdx.x] = sum;
}

/// The same with a pipeline of two stages, in which each thread copies for itself and waits for the block.
extern "C" __global__ void pipeline_copy(const float* in, float* out, int rounds) {
    __shared__ float stages[2][128];
    auto pipe = cuda::make_pipeline();
    auto fetch = [&](int round) {
        pipe.producer_acquire();
        cuda::memcpy_async(&stages[round % 2][threadIdx.x], in + round * 128 + threadIdx.x, sizeof(float), pipe);
        pipe.producer_commit();
    };
    fetch(0);
    float sum = 0;
    for (int round = 0; round < rounds; ++round) {
        if (round + 1 < rounds) fetch(round + 1);
        else pipe.producer_acquire(), pipe.producer_commit();
        cuda::pipeline_consumer_wait_prior<1>(pipe);
        __syncthreads();
        sum += stages[round % 2][127 - threadIdx.x];
        __syncthreads();
        pipe.consumer_release();
    }
    out[threadIdx.x] = sum;
}

extern "C" __global__ void group_copy(const int* in, int* out, int n) {
    extern __shared__ int shared[];
    auto block = cg::this_thread_block();
    cg::memcpy_async(block, shared, in, sizeof(int) * n);
    cg::wait(block);
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = shared[n - 1 - i];
}
