// The sink of a row as one more key, without a value.
#pragma once

#include <cmath>
#include <limits>

namespace flex::cpu {

/// Maximum and sum of weights with the sink, and the factor by which what is relative to the row's own maximum shrinks.
struct WithSink {
    float m, l, share;
};

/// `m`, `l`: of the keys alone; l is 0 if there are none. A NaN of either side is in m and l.
inline WithSink with_sink(float sink, float m, float l) {
    const float top = l != 0.0f && sink <= m ? m : sink;
    if (top == -std::numeric_limits<float>::infinity()) return {m, l, 1.0f};
    const float share = l == 0.0f ? 0.0f : std::exp(m - top);
    return {top, l * share + std::exp(sink - top), share};
}

}  // namespace flex::cpu
