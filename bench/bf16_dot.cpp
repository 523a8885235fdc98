#include "bench/bf16_dot.h"

#include <algorithm>
#include <chrono>

namespace flex::bench {

#if defined(__x86_64__)

namespace {

constexpr long kSteps = 20'000;  // short, so that some runs pass between two interruptions
constexpr int kRuns = 400;

double seconds(void (*loop)(long)) {
    const auto start = std::chrono::steady_clock::now();
    loop(kSteps);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Sixteen independent sums, more than latency times rate; all values are 0, which no CPU treats apart in these instructions.
#define FLEX_ZERO(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
#define FLEX_SIXTEEN(each) \
    each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12) each(13) each(14) each(15)
#define FLEX_LOOP(each)                                                                                                                 \
    asm volatile(FLEX_SIXTEEN(FLEX_ZERO) FLEX_ZERO(16) FLEX_ZERO(17) "1:\n" FLEX_SIXTEEN(each) "sub $1, %0\njnz 1b\nvzeroupper\n"       \
                 : "+r"(steps)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                   "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17")
#define FLEX_FMA(n) "vfmadd231ps %%zmm16, %%zmm17, %%zmm" #n "\n"
#define FLEX_DOT(n) "vdpbf16ps %%zmm16, %%zmm17, %%zmm" #n "\n"

void fma_loop(long steps) {
    FLEX_LOOP(FLEX_FMA);
}
void dot_loop(long steps) {
    FLEX_LOOP(FLEX_DOT);
}

}  // namespace

double bf16_dot_ratio() {
    double fma = seconds(fma_loop), dot = seconds(dot_loop);
    for (int run = 1; run < kRuns; ++run) {
        fma = std::min(fma, seconds(fma_loop));
        dot = std::min(dot, seconds(dot_loop));
    }
    return 2 * fma / dot;
}

#else

double bf16_dot_ratio() {
    return 0;
}

#endif

}  // namespace flex::bench
