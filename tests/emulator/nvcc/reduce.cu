// Sums in every way: shuffles, shared memory, warp-wide reductions, atomics, and the last block to finish.

__device__ float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(0xFFFFFFFF, x, step);
    return x;
}

extern "C" __global__ void sum_float(const float* in, float* out, int n) {
    __shared__ float parts[32];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += in[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
    sum = warp_sum(sum);
    if (threadIdx.x == 0) atomicAdd(out, sum);
}

/// Sum, least, greatest and the exclusive or of all, with redux.
extern "C" __global__ void reduce_int(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int x = i < n ? in[i] : 0;
    int sum = __reduce_add_sync(~0u, x), least = __reduce_min_sync(~0u, i < n ? x : 0x7FFFFFFF), greatest = __reduce_max_sync(~0u, i < n ? x : -0x7FFFFFFF - 1);
    unsigned mixed = __reduce_xor_sync(~0u, static_cast<unsigned>(x));
    if (threadIdx.x % 32) return;
    atomicAdd(&out[0], sum);
    atomicMin(&out[1], least);
    atomicMax(&out[2], greatest);
    atomicXor(&out[3], static_cast<int>(mixed));
}

__device__ unsigned finished = 0;

/// Each block writes its part; the last to finish adds the parts up, which a fence before the counter makes safe.
extern "C" __global__ void sum_last_block(const float* in, float* parts, float* out, int n) {
    __shared__ float tree[128];
    __shared__ bool last;
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += in[i];
    tree[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) tree[threadIdx.x] += tree[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = tree[0];
        __threadfence();
        last = atomicInc(&finished, gridDim.x - 1) == gridDim.x - 1;
        if (last) __threadfence();
    }
    __syncthreads();
    if (!last) return;
    sum = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += parts[i];
    tree[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0;
        for (unsigned i = 0; i < blockDim.x; ++i) total += tree[i];
        *out = total;
    }
}

extern "C" __global__ void histogram(const unsigned char* in, unsigned* bins, int n) {
    __shared__ unsigned local[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) local[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[in[i]], 1u);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x)
        if (local[i]) atomicAdd(&bins[i], local[i]);
}

/// Inclusive sums of a block of up to 1024, in the manner of Hillis and Steele across warps.
extern "C" __global__ void scan(const int* in, int* out, int n) {
    __shared__ int sums[32];
    int i = threadIdx.x, lane = i % 32, warp = i / 32;
    int x = i < n ? in[i] : 0;
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(~0u, x, step);
        if (lane >= step) x += other;
    }
    if (lane == 31) sums[warp] = x;
    __syncthreads();
    if (warp == 0) {
        int total = lane < blockDim.x / 32 ? sums[lane] : 0;
        for (int step = 1; step < 32; step *= 2) {
            int other = __shfl_up_sync(~0u, total, step);
            if (lane >= step) total += other;
        }
        sums[lane] = total;
    }
    __syncthreads();
    if (warp) x += sums[warp - 1];
    if (i < n) out[i] = x;
}

/// Products by compare-and-swap, sums of doubles and of 64-bit integers.
extern "C" __global__ void atomics(float* product, double* sum, unsigned long long* count, unsigned* order) {
    auto* bits = reinterpret_cast<unsigned*>(product);
    unsigned old = *reinterpret_cast<volatile unsigned*>(bits), seen;
    do {
        seen = old;
        old = atomicCAS(bits, seen, __float_as_uint(__uint_as_float(seen) * 1.0625f));
    } while (old != seen);
    atomicAdd(sum, 0.5);
    atomicAdd(count, 1ull << 33);
    order[atomicAdd(&order[0], 1u) + 1] = threadIdx.x;
}
