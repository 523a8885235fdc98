// Control flow and calls: divergent loops, switches, recursion, pointers to functions, arrays in local memory; and the functions of math.h.
#include <cuda_fp16.h>

extern "C" __global__ void collatz(int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long x = i + 1;
    int steps = 0;
    while (x != 1) {
        x = x % 2 ? 3 * x + 1 : x / 2;
        if (++steps > 1000) break;
    }
    out[i] = steps;
}

__device__ __noinline__ int times(int a, int b) { return a * b; }
__device__ __noinline__ int plus(int a, int b) { return a + b; }
__device__ __noinline__ int minus(int a, int b) { return a - b; }
__device__ int (*const operations[3])(int, int) = {times, plus, minus};

extern "C" __global__ void indirect(const int* which, int* out) {
    int i = threadIdx.x;
    out[i] = operations[which[i]](i, 7);
}

__device__ __noinline__ int ackermann(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1)); }

extern "C" __global__ void recursion(int* out) { out[threadIdx.x] = ackermann(threadIdx.x % 3, threadIdx.x % 5); }

extern "C" __global__ void cases(const int* in, int* out) {
    int x = in[threadIdx.x];
    switch (x) {
        case 0: x = 5; break;
        case 1: x = threadIdx.x * 3; break;
        case 2: x = -x; [[fallthrough]];
        case 3: x += 100; break;
        case 4: x = __popc(threadIdx.x); break;
        case 5: x = __clz(threadIdx.x); break;
        case 6: x = __ffs(threadIdx.x); break;
        case 7: x = __brev(threadIdx.x) >> 20; break;
        default: x = -1;
    }
    out[threadIdx.x] = x;
}

/// Sorts 16 numbers of a thread in local memory, with indices only known at run time.
extern "C" __global__ void local_sort(const int* in, int* out) {
    int own[16];
    for (int i = 0; i < 16; ++i) own[i] = in[threadIdx.x * 16 + i];
    for (int i = 1; i < 16; ++i) {
        int x = own[i], j = i;
        while (j > 0 && own[j - 1] > x) {
            own[j] = own[j - 1];
            --j;
        }
        own[j] = x;
    }
    for (int i = 0; i < 16; ++i) out[threadIdx.x * 16 + i] = own[i];
}

/// 16 functions of each number.
extern "C" __global__ void math_float(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = in[i], *to = out + i * 16;
    to[0] = expf(x);
    to[1] = logf(fabsf(x));
    to[2] = sinf(x);
    to[3] = cosf(x);
    to[4] = tanhf(x);
    to[5] = sqrtf(fabsf(x));
    to[6] = rsqrtf(fabsf(x));
    to[7] = powf(fabsf(x), 1.5f);
    to[8] = erff(x);
    to[9] = atan2f(x, 2.0f);
    to[10] = fmodf(x, 0.75f);
    to[11] = roundf(x);
    to[12] = cbrtf(x);
    to[13] = 1.0f / x;
    to[14] = exp2f(x);
    to[15] = hypotf(x, 3.0f);
}

extern "C" __global__ void math_double(const double* in, double* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double x = in[i], *to = out + i * 6;
    to[0] = exp(x);
    to[1] = log(fabs(x));
    to[2] = sin(x);
    to[3] = sqrt(fabs(x));
    to[4] = pow(fabs(x), 0.3);
    to[5] = 1.0 / x;
}

extern "C" __global__ void halves(const __half2* a, const __half2* b, __half2* out) {
    int i = threadIdx.x;
    __half2 x = a[i], y = b[i];
    __half2 sum = __hfma2(x, y, __hadd2(x, y));
    out[i] = __hgt2(sum, __float2half2_rn(0.0f)).x == __half(1.0f) ? __hmin2(sum, h2exp(y)) : __hmul2(sum, y);
}
