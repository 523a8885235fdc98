// Subnormal results as zeros, for a while.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace flex::cpu {

/// While it lives, results below the smallest normal f32 are 0 on this thread. Sums pass through such values when early keys of a row
/// weigh next to nothing (ALiBi), and each costs over a hundred cycles.
class FlushSubnormals {
#if defined(__x86_64__)
public:
    FlushSubnormals() { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
    ~FlushSubnormals() { _mm_setcsr(before_); }
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

private:
    unsigned before_ = _mm_getcsr();
#endif
};

}  // namespace flex::cpu
