// Small helpers of the backward pass: sizes, aligned memory of its own, and loops that several threads share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "runtime/cpu/pool.h"

namespace flex::cpu {

inline int round_up(int value, int unit) {
    return (value + unit - 1) / unit * unit;
}
inline int divide_up(int value, int unit) {
    return (value + unit - 1) / unit;
}

struct Free {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Floats = std::unique_ptr<float[], Free>;

inline Floats floats(int64_t count) {
    return Floats(
        static_cast<float*>(::operator new[](static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(float), std::align_val_t{64})));
}

/// Calls f(first, count) for pieces of [0, count).
template <class F>
void in_pieces(int threads, int64_t count, F f) {
    constexpr int64_t kPiece = 1 << 16;
    auto piece = [&](int64_t i) { f(i * kPiece, std::min(kPiece, count - i * kPiece)); };
    parallel_for(threads, (count + kPiece - 1) / kPiece, piece);
}
inline void clear(int threads, float* data, int64_t count) {
    in_pieces(threads, count, [&](int64_t first, int64_t n) { std::fill_n(data + first, n, 0.0f); });
}

}  // namespace flex::cpu
