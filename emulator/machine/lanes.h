// Handlers from functions of single values: `map<F, R, A...>` reads the sources as A..., applies F in all 32 lanes and writes the active ones. F may keep what
// it needs of the op (rounding, flags) in a constructor from `const Op&`. Loops have no branches on the mask, so that simple functions become vector code.
#pragma once

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF  // products and sums are fused where an instruction says so
#endif

#include <bit>
#include <type_traits>
#include <utility>

#include "emulator/machine/op.h"
#include "emulator/machine/warp.h"
#include "emulator/numeric/float.h"

namespace flexemu {

/// Two halves of a register of 32 (or 64) bits: f16x2, u16x2, f32x2.
template <typename T>
struct Pair {
    T low, high;
};

/// How a value of type T lies in a slot.
template <typename T>
struct Slot {
    static_assert(std::is_integral_v<T>);
    static T get(uint64_t slot) { return static_cast<T>(slot); }
    static uint64_t put(T value) { return static_cast<uint64_t>(static_cast<std::make_unsigned_t<T>>(value)); }
};
template <>
struct Slot<bool> {
    static bool get(uint64_t slot) { return slot != 0; }
    static uint64_t put(bool value) { return value ? 1 : 0; }
};
template <>
struct Slot<float> {
    static float get(uint64_t slot) { return std::bit_cast<float>(static_cast<uint32_t>(slot)); }
    static uint64_t put(float value) { return std::bit_cast<uint32_t>(value); }
};
template <>
struct Slot<double> {
    static double get(uint64_t slot) { return std::bit_cast<double>(slot); }
    static uint64_t put(double value) { return std::bit_cast<uint64_t>(value); }
};
template <>
struct Slot<numeric::F16> {
    static numeric::F16 get(uint64_t slot) { return {static_cast<uint16_t>(slot)}; }
    static uint64_t put(numeric::F16 value) { return value.bits; }
};
template <>
struct Slot<numeric::BF16> {
    static numeric::BF16 get(uint64_t slot) { return {static_cast<uint16_t>(slot)}; }
    static uint64_t put(numeric::BF16 value) { return value.bits; }
};
template <typename T>
struct Slot<Pair<T>> {
    static constexpr int kBits = 8 * static_cast<int>(sizeof(T));
    static Pair<T> get(uint64_t slot) { return {Slot<T>::get(slot), Slot<T>::get(slot >> kBits)}; }
    static uint64_t put(Pair<T> value) { return Slot<T>::put(value.low) | Slot<T>::put(value.high) << kBits; }
};

/// F on both halves.
template <typename F>
struct Both : F {
    using F::F;
    template <typename... A>
    [[gnu::always_inline]] auto operator()(const Pair<A>&... values) const {
        const F& half = *this;
        return Pair<decltype(half(values.low...))>{half(values.low...), half(values.high...)};
    }
};

template <typename F>
F functor_of(const Op& op) {
    if constexpr (std::is_constructible_v<F, const Op&>) {
        return F(op);
    } else {
        return F();
    }
}

template <typename F, typename R, typename... A, size_t... I>
__attribute__((always_inline)) inline void map_lanes(Warp& warp, const Op& op, LaneMask active, std::index_sequence<I...>) {
    if (active == 0) return;
    const F f = functor_of<F>(op);
    Lanes scratch[sizeof...(A)];
    const uint64_t* const from[] = {warp.read(op.sources[I], scratch[I])...};
    Lanes result;
    for (size_t i = 0; i < kLanes; ++i) result[i] = Slot<R>::put(static_cast<R>(f(Slot<A>::get(from[I][i])...)));
    warp.write(op.destinations[0], result, active);
}

#if defined(__x86_64__)
/// Whether the processor has wider vectors, and fused multiplication, than those this program is compiled for.
inline const bool kWideVectors = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;

template <typename F, typename R, typename... A>
__attribute__((target("avx2,fma"), flatten)) void map_wide(Warp& warp, const Op& op, LaneMask active) {
    map_lanes<F, R, A...>(warp, op, active, std::index_sequence_for<A...>());
}
#endif

template <typename F, typename R, typename... A>
void map(Warp& warp, const Op& op, LaneMask active) {
#if defined(__x86_64__)
    if (kWideVectors) return map_wide<F, R, A...>(warp, op, active);
#endif
    map_lanes<F, R, A...>(warp, op, active, std::index_sequence_for<A...>());
}

}  // namespace flexemu
