// The constants of one forward instance, of whichever architecture it is. All that headers which both share want of a shape:
//
//   kTileQ, kTileK   rows and keys of a tile               kM, kN, kNv   blocks of 16 rows, 8 keys and 8 columns of the output of a warp
//   kWarps           that have rows                        kRows         rows that one thread holds a part of
//   kWarpsK, kWarpRows, kWarpKeys, kSliceBytes             how warps divide rows and keys
//   kValueBytes      of a warp's keys of V, as they lie in shared memory
#pragma once

#ifdef FLEX_CONSUMERS
#include "backend/skeletons/nvptx/sm90a_shape.h"
#else
#include "backend/skeletons/nvptx/sm80_shape.h"
#endif
