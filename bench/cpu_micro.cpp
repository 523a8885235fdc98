// How near the CPU runtime's own part of attention (packing, products, scheduling) comes to the machine's peak: the
// kernel's softmax step does nothing here, so that what is missing to 100 % is the runtime's.
//
//   flex_cpu_micro [threads] [length]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bench/bf16_dot.h"
#include "runtime/cpu/fma_peak.h"
#include "runtime/launch.h"

namespace {

float scale(const flex_args*, int32_t, int32_t, int32_t) {
    return 0.01f;
}
int32_t full(const flex_args*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t) {
    return FLEX_TILE_FULL;
}
void whole(const flex_args* args, int32_t, int32_t, int32_t, int32_t, int32_t* range) {
    range[0] = 0;
    range[1] = args->extents[4];
}
int32_t causal_state(const flex_args*, int32_t, int32_t, int32_t q0, int32_t q1, int32_t k0, int32_t k1) {
    return k1 - 1 <= q0 ? FLEX_TILE_FULL : k0 < q1 ? FLEX_TILE_PARTIAL : FLEX_TILE_SKIP;
}
void causal_range(const flex_args* args, int32_t, int32_t, int32_t, int32_t q1, int32_t* range) {
    range[0] = 0;
    range[1] = std::min(q1, args->extents[4]);
}
void no_softmax(const flex_block* block) {
    std::fill_n(block->alpha, block->rows, 1.0f);
    std::fill_n(block->l, block->rows, 1.0f);
    std::fill_n(block->m, block->rows, 0.0f);
}

struct Case {
    int batch, heads, kv_heads, queries, keys, dim;
    flex::DType dtype;
    bool causal;
};

void measure(const Case& c, flex::CpuLevel level, int threads, double peak) {
    flex_cpu_kernel kernel{};
    kernel.abi_version = FLEX_ABI_VERSION;
    kernel.lanes = static_cast<uint32_t>(flex::lanes(level));
    kernel.scale = scale;
    kernel.tile_state = c.causal ? causal_state : full;
    kernel.kv_range = c.causal ? causal_range : whole;
    kernel.softmax = no_softmax;
    kernel.summary_flags = [](int32_t) { return -1; };
    const auto make = [&](std::vector<char>& bytes, int heads, int rows) {
        bytes.resize(static_cast<size_t>(c.batch) * static_cast<size_t>(heads) * static_cast<size_t>(rows) * static_cast<size_t>(c.dim) *
                     flex::size_of(c.dtype));
        for (size_t i = 1; i < bytes.size(); i += 2) bytes[i] = static_cast<char>(0x38 + i / 2 % 5);  // 1e-5 .. 1 in each type
        return flex::Tensor::contiguous(bytes.data(), c.dtype, {c.batch, heads, rows, c.dim});
    };
    std::array<std::vector<char>, 4> bytes;
    flex::AttentionArrays arrays;
    arrays.q = make(bytes[0], c.heads, c.queries);
    arrays.k = make(bytes[1], c.kv_heads, c.keys);
    arrays.v = make(bytes[2], c.kv_heads, c.keys);
    arrays.o = make(bytes[3], c.heads, c.queries);
    flex::KernelDesc desc;
    desc.name = "micro";
    flex::CpuOptions options;
    options.threads = threads;

    std::vector<double> seconds;
    double spent = 0;
    while (seconds.size() < 5 || (spent < 0.5 && seconds.size() < 200)) {
        const auto start = std::chrono::steady_clock::now();
        const flex::Status status = flex::launch_cpu(desc, kernel, arrays, {}, options);
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        spent += seconds.back();
        if (!status.ok()) {
            std::fprintf(stderr, "%s\n", status.text().c_str());
            std::exit(1);
        }
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    double pairs = static_cast<double>(c.queries) * c.keys;
    if (c.causal) {
        pairs = 0;
        for (int q = 0; q < c.queries; ++q) pairs += std::min(q + 1, c.keys);
    }
    const double gflops = pairs * c.batch * c.heads * 4.0 * c.dim / median * 1e-9;
    const double kv_bytes = 2.0 * c.batch * c.kv_heads * c.keys * c.dim * static_cast<double>(flex::size_of(c.dtype));
    std::printf("%-8s %-5s B=%d H=%d/%d Q=%-5d K=%-5d D=%-4d %-6s %9.3f ms %8.1f GFLOP/s %5.1f %% of peak %7.1f GB/s of K and V\n",
                flex::name(level), flex::name(c.dtype), c.batch, c.heads, c.kv_heads, c.queries, c.keys, c.dim,
                c.causal ? "causal" : "none", median * 1e3, gflops, 100 * gflops / peak, kv_bytes / median * 1e-9);
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
    const int n = argc > 2 ? std::atoi(argv[2]) : 4096;
    using flex::CpuLevel;
    using flex::DType;
    if (flex::host_level() == CpuLevel::Avx512Bf16)
        std::printf("bf16 dot products: %.2f times the multiply-adds of f32 in the same time\n", flex::bench::bf16_dot_ratio());
    for (const CpuLevel level : {CpuLevel::Generic, CpuLevel::Avx2, CpuLevel::Avx512}) {
        if (level > flex::host_level()) continue;
        const double peak = flex::measure_fma_peak(level, threads);
        std::printf("%-8s FMA peak %.1f GFLOP/s\n", flex::name(level), peak);
        if (level == CpuLevel::Generic) continue;
        for (const int dim : {64, 128})
            for (const bool causal : {false, true}) measure({1, 8, 8, n, n, dim, DType::F32, causal}, level, threads, peak);
        for (const DType dtype : {DType::F16, DType::BF16}) measure({1, 8, 8, n, n, 128, dtype, false}, level, threads, peak);
        measure({8, 32, 8, 1, 8192, 128, DType::F32, false}, level, threads, peak);
        measure({8, 32, 8, 1, 8192, 128, DType::BF16, false}, level, threads, peak);
        measure({1, 1, 1, 17, 17, 16, DType::F32, false}, level, threads, peak);
    }
}
