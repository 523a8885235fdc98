// Kernels of every introduction: indices, bounds, shared memory, barriers.

extern "C" __global__ void vector_add(const float* a, const float* b, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}

extern "C" __global__ void saxpy(float factor, const float4* x, float4* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float4 value = x[i], sum = y[i];
        sum.x += factor * value.x, sum.y += factor * value.y, sum.z += factor * value.z, sum.w += factor * value.w;
        y[i] = sum;
    }
}

extern "C" __global__ void transpose(const int* in, int* out, int rows, int columns) {
    __shared__ int tile[32][33];
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        if (row + i < rows && column < columns) tile[threadIdx.y + i][threadIdx.x] = in[(row + i) * columns + column];
    __syncthreads();
    column = blockIdx.y * 32 + threadIdx.x, row = blockIdx.x * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        if (row + i < columns && column < rows) out[(row + i) * rows + column] = tile[threadIdx.x][threadIdx.y + i];
}

extern "C" __global__ void matmul_shared(const float* a, const float* b, float* c, int m, int n, int k) {
    __shared__ float tile_a[16][16], tile_b[16][16];
    int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    float sum = 0;
    for (int start = 0; start < k; start += 16) {
        int inner_a = start + threadIdx.x, inner_b = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < m && inner_a < k ? a[row * k + inner_a] : 0;
        tile_b[threadIdx.y][threadIdx.x] = column < n && inner_b < k ? b[inner_b * n + column] : 0;
        __syncthreads();
        for (int i = 0; i < 16; ++i) sum += tile_a[threadIdx.y][i] * tile_b[i][threadIdx.x];
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

__constant__ float coefficients[5] = {1, -2, 3, -4, 5};
__device__ unsigned calls;

/// A stencil in dynamic shared memory with a halo, weights in constant memory.
extern "C" __global__ void stencil(const float* in, float* out, int n) {
    extern __shared__ float window[];
    int first = blockIdx.x * blockDim.x, i = first + threadIdx.x;
    for (int at = threadIdx.x; at < blockDim.x + 4; at += blockDim.x) {
        int from = first + at - 2;
        window[at] = from >= 0 && from < n ? in[from] : 0;
    }
    __syncthreads();
    if (i >= n) return;
    float sum = 0;
    for (int j = 0; j < 5; ++j) sum += coefficients[j] * window[threadIdx.x + j];
    out[i] = sum;
    atomicAdd(&calls, 1u);
}
