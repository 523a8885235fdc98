// Declarations of functions.def.
#pragma once

#include "emulator/driver/cuda_api.h"

extern "C" {
#define FLEXEMU_FUNCTION(base, suffix, since, parameters) CUresult base##suffix parameters;
#define FLEXEMU_STREAM_FUNCTION(base, suffix, since, parameters, arguments) \
    CUresult base##suffix parameters;                                       \
    CUresult base##suffix##_ptsz parameters;
#define FLEXEMU_SYNC_FUNCTION(base, suffix, since, parameters, arguments) \
    CUresult base##suffix parameters;                                     \
    CUresult base##suffix##_ptds parameters;
#include "emulator/driver/functions.def"
#undef FLEXEMU_FUNCTION
#undef FLEXEMU_STREAM_FUNCTION
#undef FLEXEMU_SYNC_FUNCTION
}
