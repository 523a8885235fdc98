// Clusters: distributed shared memory, multicast, barriers of other blocks. For compute_90a and later only.
#include <cooperative_groups.h>
#include <cuda.h>

#include <cuda/ptx>

namespace cg = cooperative_groups;
namespace ptx = cuda::ptx;

__device__ void wait_parity(uint64_t* barrier, int parity) {
    while (!ptx::mbarrier_try_wait_parity(barrier, parity)) {
    }
}

/// A histogram whose bins are spread over the blocks of a cluster.
extern "C" __global__ void __cluster_dims__(4) cluster_histogram(const int* in, int* bins, int count) {
    constexpr int kBins = 64;  // of a block
    __shared__ int own[kBins];
    auto cluster = cg::this_cluster();
    for (int i = threadIdx.x; i < kBins; i += blockDim.x) own[i] = 0;
    cluster.sync();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const int bin = in[i];
        atomicAdd(cluster.map_shared_rank(own, bin / kBins) + bin % kBins, 1);
    }
    cluster.sync();
    for (int i = threadIdx.x; i < kBins; i += blockDim.x) atomicAdd(&bins[cluster.block_rank() * kBins + i], own[i]);
}

/// Rows of 64 halves by a tensor map: each block of a pair fetches half of the rows of a tile for both. A stage is free when the consumers of both blocks have said so.
/// out[block][round][column] = sum of the tile's column, times the block's rank + 1.
extern "C" __global__ void __cluster_dims__(2) multicast_ring(const __grid_constant__ CUtensorMap in, float* out, int rounds) {
    constexpr int kStages = 2, kRows = 16, kColumns = 64, kBytes = kRows * kColumns * 2;
    __shared__ alignas(1024) unsigned short stages[kStages][kRows][kColumns];
    __shared__ uint64_t full[kStages], empty[kStages];
    const unsigned rank = ptx::get_sreg_cluster_ctarank();
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&full[i], 1);
            ptx::mbarrier_init(&empty[i], 4);  // two warps of each block
        }
        ptx::fence_mbarrier_init(ptx::sem_release, ptx::scope_cluster);
    }
    ptx::barrier_cluster_arrive(ptx::sem_relaxed);
    ptx::barrier_cluster_wait();
    if (threadIdx.x >= 64) {
        if (threadIdx.x == 64) {
            for (int n = 0; n < rounds; ++n) {
                const int stage = n % kStages, phase = n / kStages % 2;
                wait_parity(&empty[stage], phase ^ 1);
                ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &full[stage], kBytes);
                const int at[] = {0, n * kRows + (int)rank * kRows / 2};
                ptx::cp_async_bulk_tensor(ptx::space_cluster, ptx::space_global, &stages[stage][rank * kRows / 2], &in, at, &full[stage],
                                          (uint16_t)3);
            }
        }
    } else {
        for (int n = 0; n < rounds; ++n) {
            const int stage = n % kStages, phase = n / kStages % 2;
            wait_parity(&full[stage], phase);
            int sum = 0;
            for (int row = 0; row < kRows; ++row) sum += stages[stage][row][threadIdx.x];
            __syncwarp();
            if (threadIdx.x % 32 < 2) {
                unsigned local = static_cast<unsigned>(__cvta_generic_to_shared(&empty[stage])), remote;
                asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(threadIdx.x % 32));
                asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(remote) : "memory");
            }
            out[(blockIdx.x * rounds + n) * kColumns + threadIdx.x] = (float)(sum * (rank + 1));
        }
    }
    // The other block's arrivals and copies come to this one's shared memory.
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
}

/// Each block sends its part to the next of its cluster, in bulk, and adds what comes from the one before: rounds of a ring sum.
extern "C" __global__ void __cluster_dims__(4) ring_sum(const int* in, int* out) {
    __shared__ alignas(128) int part[2][128];
    __shared__ uint64_t come[2];
    const unsigned rank = ptx::get_sreg_cluster_ctarank(), next = (rank + 1) % 4;
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(&come[0], 1);
        ptx::mbarrier_init(&come[1], 1);
        ptx::fence_mbarrier_init(ptx::sem_release, ptx::scope_cluster);
    }
    int sum = part[0][threadIdx.x] = in[blockIdx.x * 128 + threadIdx.x];
    ptx::fence_proxy_async(ptx::space_shared);
    ptx::barrier_cluster_arrive();
    ptx::barrier_cluster_wait();
    for (int round = 0; round < 3; ++round) {
        int* const from = part[round % 2];
        int* const to = part[(round + 1) % 2];
        if (threadIdx.x == 0) {
            auto* const cluster_to = cg::this_cluster().map_shared_rank(to, next);
            auto* const bar = cg::this_cluster().map_shared_rank(&come[round % 2], next);
            ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &come[round % 2], 512);
            ptx::cp_async_bulk(ptx::space_cluster, ptx::space_shared, cluster_to, from, 512, bar);
        }
        wait_parity(&come[round % 2], round / 2);
        sum += to[threadIdx.x];
        // The next copy here overwrites what this block has sent: it must have come, and been read, everywhere.
        ptx::barrier_cluster_arrive();
        ptx::barrier_cluster_wait();
    }
    out[blockIdx.x * 128 + threadIdx.x] = sum;
}
