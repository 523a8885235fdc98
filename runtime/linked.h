/* What an object of `flexc build --emit=header` exports, under the symbol flex_linked_NAME: constant data, found by the linker, used by
 * flex::Kernel (runtime/stream.h). Plain C. */
#pragma once

#include "runtime/abi.h"
#include "runtime/gpu_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FLEX_LINKED_VERSION 2
#define FLEX_LINKED_LEVELS 3

struct flex_linked {
    uint32_t version;
    uint32_t image_count;
    uint64_t fingerprint;                                  /* the header made with the object has the same number */
    const struct flex_cpu_kernel* cpu[FLEX_LINKED_LEVELS]; /* generic, avx2, avx512; null: the object has none */
    const struct flex_gpu_image* const* images;
    const struct flex_gpu_backward_image* const* backward_images;
    uint32_t backward_image_count;
    uint32_t reserved;
};

#ifdef __cplusplus
}
#endif
