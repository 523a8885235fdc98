#include "backend/cpu/skeletons.h"

#include "diag/check.h"

// The assembler reads the files, so that megabytes of array initialisers need not be compiled.
#define FLEX_EMBED(symbol, path)                                          \
    __asm__(                                                              \
        ".section .rodata\n"                                              \
        ".balign 16\n" #symbol                                            \
        ":\n"                                                             \
        ".incbin \"" path "\"\n" #symbol                                  \
        "_end:\n"                                                         \
        ".previous\n");                                                   \
    extern "C" const char symbol[] __attribute__((visibility("hidden"))); \
    extern "C" const char symbol##_end[] __attribute__((visibility("hidden")))

FLEX_EMBED(flexc_skeleton_generic, FLEXC_SKELETON_GENERIC);
FLEX_EMBED(flexc_skeleton_avx2, FLEXC_SKELETON_AVX2);
FLEX_EMBED(flexc_skeleton_avx512, FLEXC_SKELETON_AVX512);

namespace flexc::cpu {

std::string_view skeleton_bitcode(flex::CpuLevel level) {
    switch (level) {
        case flex::CpuLevel::Generic: return {flexc_skeleton_generic, size_t(flexc_skeleton_generic_end - flexc_skeleton_generic)};
        case flex::CpuLevel::Avx2: return {flexc_skeleton_avx2, size_t(flexc_skeleton_avx2_end - flexc_skeleton_avx2)};
        // No step of the softmax is done in bf16.
        case flex::CpuLevel::Avx512:
        case flex::CpuLevel::Avx512Bf16: return {flexc_skeleton_avx512, size_t(flexc_skeleton_avx512_end - flexc_skeleton_avx512)};
    }
    FLEX_CHECK(false, "a level of the CPU target");
    return {};
}

}  // namespace flexc::cpu
