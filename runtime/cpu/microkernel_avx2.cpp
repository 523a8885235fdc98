// 256-bit vectors with FMA (x86-64-v3).
#define FLEX_MICRO_TABLE kAvx2Kernels
#define FLEX_MICRO_LANES 8
#define FLEX_MICRO_ROWS 6
#define FLEX_MICRO_VECTORS 2
#include "runtime/cpu/microkernel.h"
