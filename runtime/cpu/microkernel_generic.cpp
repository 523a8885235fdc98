// 128-bit vectors, for any machine.
#define FLEX_MICRO_TABLE kGenericKernels
#define FLEX_MICRO_LANES 4
#define FLEX_MICRO_ROWS 4
#define FLEX_MICRO_VECTORS 2
#include "runtime/cpu/microkernel.h"
