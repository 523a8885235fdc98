// Products of warpgroups (wgmma) as hand-written kernels use them: fed by cp.async, by ordinary stores, and by tensor maps from a warpgroup that does nothing else.
#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

namespace {

constexpr int kTile = 64, kThreads = 128;  // tiles of 64 rows of 64 elements: 128 bytes, in the swizzle of that width

__device__ uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

/// Where element `column` of a row of 64 lies: 16-byte chunks are permuted by the row. Tiles begin at multiples of 1024 bytes.
__device__ int swizzled(int row, int column) { return row * kTile + ((column / 8 ^ (row & 7)) * 8) + column % 8; }

/// Of a swizzle of 128 bytes, eight rows each 1024 bytes; `leading`: from 64 columns to the next 64, where the columns run along n.
__device__ uint64_t descriptor(const void* start, uint32_t leading = 16) {
    return static_cast<uint64_t>((shared_address(start) & 0x3FFFF) >> 4) | static_cast<uint64_t>(leading >> 4) << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

__device__ void fence_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ void fence_registers() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

#define EACH_8(X, i) X(i), X(i + 1), X(i + 2), X(i + 3), X(i + 4), X(i + 5), X(i + 6), X(i + 7)
#define EACH_32(X) EACH_8(X, 0), EACH_8(X, 8), EACH_8(X, 16), EACH_8(X, 24)
#define EACH_64(X) EACH_32(X), EACH_8(X, 32), EACH_8(X, 40), EACH_8(X, 48), EACH_8(X, 56)
#define SUM(i) "+f"(d[i])
#define REGISTERS_32                                                                                                                              \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, " \
    "%29, %30, %31}"
#define REGISTERS_64                                                                                                                              \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, " \
    "%29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "  \
    "%56, %57, %58, %59, %60, %61, %62, %63}"

/// Sums that no product has any more: the wait names them, so that nothing that reads them moves in front of it.
template <int kPending>
__device__ void wait(float (&d)[32]) {
    asm volatile("wgmma.wait_group.sync.aligned %32;" : EACH_32(SUM) : "n"(kPending) : "memory");
}
template <int kPending>
__device__ void wait(float (&d)[64]) {
    asm volatile("wgmma.wait_group.sync.aligned %64;" : EACH_64(SUM) : "n"(kPending) : "memory");
}

/// 64 x 64 sums += A [64, 16] B, both from shared memory, k contiguous.
__device__ void multiply(float (&d)[32], uint64_t a, uint64_t b, int adds) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " REGISTERS_32 ", %32, %33, p, 1, 1, 0, 0;}"
                 : EACH_32(SUM)
                 : "l"(a), "l"(b), "r"(adds)
                 : "memory");
}
/// A from registers, n of B contiguous.
__device__ void multiply(float (&d)[32], const uint32_t* a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " REGISTERS_32 ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : EACH_32(SUM)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
                 : "memory");
}
/// 64 x 128, n of B contiguous.
__device__ void multiply(float (&d)[64], uint64_t a, uint64_t b, int adds) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " REGISTERS_64 ", %64, %65, p, 1, 1, 0, 1;}"
                 : EACH_64(SUM)
                 : "l"(a), "l"(b), "r"(adds)
                 : "memory");
}

template <int kCount>
__device__ void store_sums(float* c, const float (&d)[kCount], int stride) {
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    for (int i = 0; i < kCount; i += 2) {
        int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(c + static_cast<size_t>(row) * stride + column) = make_float2(d[i], d[i + 1]);
    }
}

__device__ uint32_t pack(float low, float high) {
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t*>(&both);
}

}  // namespace

/// C [m, n] = A [m, k] B^T, B [n, k]; all multiples of 64. A ring of four stages; a stage is filled again when the product that read it was waited for by all.
extern "C" __global__ __launch_bounds__(kThreads) void products_pipeline(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    constexpr int kStages = 4;
    extern __shared__ __align__(1024) __nv_bfloat16 memory[];
    const __nv_bfloat16* from_a = a + static_cast<size_t>(blockIdx.y) * kTile * k;
    const __nv_bfloat16* from_b = b + static_cast<size_t>(blockIdx.x) * kTile * k;
    int steps = k / kTile;
    auto tile = [&](int step, int which) { return memory + (step % kStages * 2 + which) * kTile * kTile; };
    auto fetch = [&](int step) {
        if (step < steps) {
            for (int i = threadIdx.x; i < kTile * 8; i += kThreads) {
                int row = i / 8, column = i % 8 * 8;
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(tile(step, 0) + swizzled(row, column))),
                             "l"(from_a + static_cast<size_t>(row) * k + step * kTile + column)
                             : "memory");
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(tile(step, 1) + swizzled(row, column))),
                             "l"(from_b + static_cast<size_t>(row) * k + step * kTile + column)
                             : "memory");
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    float sum[32];
    fetch(0);
    fetch(1);
    for (int step = 0; step < steps; ++step) {
        fetch(step + 2);
        asm volatile("cp.async.wait_group 2;" ::: "memory");
        fence_proxy();
        __syncthreads();
        uint64_t left = descriptor(tile(step, 0)), right = descriptor(tile(step, 1));
        fence_registers();
        for (int i = 0; i < 4; ++i) multiply(sum, left + 2 * i, right + 2 * i, step + i > 0);
        commit();
        wait<1>(sum);
    }
    wait<0>(sum);
    store_sums(c + static_cast<size_t>(blockIdx.y) * kTile * n + blockIdx.x * kTile, sum, n);
}

/// O [64, 64] = exp(Q K^T) V / rows' sums; Q [64, 64], K and V [keys, 64], keys a multiple of 64. The scores of one tile are formed beside the product of the last.
extern "C" __global__ __launch_bounds__(kThreads) void products_attention(const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v, float* o, int keys) {
    extern __shared__ __align__(1024) __nv_bfloat16 memory[];
    __nv_bfloat16* tile_q = memory;
    auto tile_k = [&](int tile) { return memory + (1 + tile % 2) * kTile * kTile; };
    auto tile_v = [&](int tile) { return memory + (3 + tile % 2) * kTile * kTile; };
    q += blockIdx.x * kTile * kTile, k += static_cast<size_t>(blockIdx.x) * keys * kTile, v += static_cast<size_t>(blockIdx.x) * keys * kTile;
    auto load = [&](__nv_bfloat16* to, const __nv_bfloat16* from) {
        for (int i = threadIdx.x; i < kTile * 8; i += kThreads)
            *reinterpret_cast<uint4*>(to + swizzled(i / 8, i % 8 * 8)) = *reinterpret_cast<const uint4*>(from + i / 8 * kTile + i % 8 * 8);
    };
    float scores[32], result[32], sums[2] = {};
    uint32_t weights[16];
    for (float& each : result) each = 0;
    auto score = [&](int tile) {
        fence_registers();
        for (int i = 0; i < 4; ++i) multiply(scores, descriptor(tile_q) + 2 * i, descriptor(tile_k(tile)) + 2 * i, i > 0);
        commit();
    };
    auto weigh = [&] {
        for (int i = 0; i < 32; ++i) {
            scores[i] = __expf(scores[i]);
            sums[i / 2 % 2] += scores[i];
        }
    };
    // The registers of A are free again when the product has been waited for.
    auto pack_weights = [&] {
        for (int i = 0; i < 16; ++i) weights[i] = pack(scores[2 * i], scores[2 * i + 1]);
    };
    auto accumulate = [&](int tile) {
        fence_registers();
        // 16 keys are 16 rows of V.
        for (int i = 0; i < 4; ++i) multiply(result, weights + 4 * i, descriptor(tile_v(tile) + i * 16 * kTile));
        commit();
    };
    load(tile_q, q);
    load(tile_k(0), k);
    load(tile_v(0), v);
    fence_proxy();
    __syncthreads();
    score(0);
    wait<0>(scores);
    weigh();
    pack_weights();
    int tiles = keys / kTile;
    for (int tile = 0; tile + 1 < tiles; ++tile) {
        load(tile_k(tile + 1), k + static_cast<size_t>(tile + 1) * kTile * kTile);
        load(tile_v(tile + 1), v + static_cast<size_t>(tile + 1) * kTile * kTile);
        fence_proxy();
        __syncthreads();
        score(tile + 1);
        accumulate(tile);
        wait<1>(scores);
        weigh();
        wait<0>(result);
        pack_weights();
        __syncthreads();
    }
    accumulate(tiles - 1);
    wait<0>(result);
    for (int i = 0; i < 2; ++i) {
        sums[i] += __shfl_xor_sync(~0u, sums[i], 1);
        sums[i] += __shfl_xor_sync(~0u, sums[i], 2);
    }
    for (int i = 0; i < 32; ++i) result[i] /= sums[i / 2 % 2];
    store_sums(o + blockIdx.x * kTile * kTile, result, kTile);
}

/// C [m, n] = A [m, k] B [k, n] by three warpgroups: one brings tiles, two multiply 64 x 128 each. m, n multiples of 128, k of 64.
extern "C" __global__ __launch_bounds__(384) void products_specialised(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b, float* c, int n,
                                                                       int k) {
    constexpr int kStages = 3, kBytes = 4 * kTile * kTile * 2;
    extern __shared__ __align__(1024) __nv_bfloat16 memory[];
    __shared__ uint64_t full[kStages], empty[kStages];
    auto wait_for = [](uint64_t* barrier, int parity) {
        asm volatile("{.reg .pred p;\nAGAIN_%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra AGAIN_%=;\n}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
    };
    auto arrive = [](uint64_t* barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory"); };
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full[i])) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 2;" ::"r"(shared_address(&empty[i])) : "memory");
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    int steps = k / kTile, group = threadIdx.x / 128;
    // A stage: 128 rows of A, then B as two times 64 columns.
    auto tile = [&](int step, int which) { return memory + (step % kStages * 4 + which) * kTile * kTile; };
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (int step = 0; step < steps; ++step) {
                uint64_t* barrier = &full[step % kStages];
                wait_for(&empty[step % kStages], step / kStages % 2 ^ 1);
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(kBytes) : "memory");
                auto copy = [&](const CUtensorMap& map, void* to, int column, int row) {
                    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)), "l"(&map),
                                 "r"(column), "r"(row), "r"(shared_address(barrier))
                                 : "memory");
                };
                copy(map_a, tile(step, 0), step * kTile, blockIdx.y * 128);
                copy(map_b, tile(step, 2), blockIdx.x * 128, step * kTile);
                copy(map_b, tile(step, 3), blockIdx.x * 128 + 64, step * kTile);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        float sum[64];
        for (int step = 0; step < steps; ++step) {
            wait_for(&full[step % kStages], step / kStages % 2);
            uint64_t left = descriptor(tile(step, 0) + (group - 1) * kTile * kTile), right = descriptor(tile(step, 2), kTile * kTile * 2);
            fence_registers();
            for (int i = 0; i < 4; ++i) multiply(sum, left + 2 * i, right + 128 * i, step + i > 0);
            commit();
            wait<1>(sum);
            // One thread speaks for its warpgroup: the product before this one has read its stage.
            if (step > 0 && threadIdx.x % 128 == 0) arrive(&empty[(step - 1) % kStages]);
        }
        wait<0>(sum);
        store_sums(c + (static_cast<size_t>(blockIdx.y) * 128 + (group - 1) * kTile) * n + blockIdx.x * 128, sum, n);
    }
}
