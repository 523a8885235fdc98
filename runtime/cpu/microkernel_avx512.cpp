// 512-bit vectors (x86-64-v4).
#define FLEX_MICRO_TABLE kAvx512Kernels
#define FLEX_MICRO_LANES 16
#define FLEX_MICRO_ROWS 12
#define FLEX_MICRO_VECTORS 2
#include "runtime/cpu/microkernel.h"
