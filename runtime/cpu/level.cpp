// Which vector levels this machine can execute, and the kernels for each.
#include "runtime/cpu/microkernel_table.h"
#include "runtime/launch.h"

namespace flex {

const char* name(CpuLevel level) {
    switch (level) {
        case CpuLevel::Generic: return "generic";
        case CpuLevel::Avx2: return "avx2";
        case CpuLevel::Avx512: return "avx512";
        case CpuLevel::Avx512Bf16: return "avx512-bf16";
    }
    return "?";
}

int lanes(CpuLevel level) {
    switch (level) {
        case CpuLevel::Generic: return 4;
        case CpuLevel::Avx2: return 8;
        case CpuLevel::Avx512:
        case CpuLevel::Avx512Bf16: return 16;
    }
    return 4;
}

// The builtins also ask the operating system (XGETBV) whether it saves the wide registers.
CpuLevel host_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c") ||
        !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("lzcnt") ||
        !__builtin_cpu_supports("movbe"))
        return CpuLevel::Generic;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512cd") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return CpuLevel::Avx2;
    return __builtin_cpu_supports("avx512bf16") ? CpuLevel::Avx512Bf16 : CpuLevel::Avx512;
#else
    return CpuLevel::Generic;
#endif
}

namespace cpu {

const MicroKernels& micro_kernels(int lanes) {
#if defined(__x86_64__)
    if (lanes == 16) return kAvx512Kernels;
    if (lanes == 8) return kAvx2Kernels;
#endif
    (void)lanes;
    return kGenericKernels;
}

}  // namespace cpu
}  // namespace flex
