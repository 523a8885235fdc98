// What the language of GPUs has and C++ has not: who a thread is, votes and exchanges within a warp, barriers, approximate functions, and loads
// and stores by state space. Thin names over clang's builtins and PTX; nothing here decides anything.
//
// A generic address of global memory is its global address, so a uint64_t serves for both. Shared memory is addressed by the 32 bits of its own window.
#pragma once

#include <stdint.h>

#define FLEX_DEVICE __attribute__((always_inline)) inline
#define FLEX_UNROLL _Pragma("unroll")
#define FLEX_UNROLL_BY_4 _Pragma("unroll 4")
#define FLEX_ROLLED _Pragma("nounroll")

namespace flexgpu {

constexpr float kInf = __builtin_inff();
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr uint32_t kAllLanes = 0xffffffffu;

FLEX_DEVICE int32_t block_threads() {
    return __nvvm_read_ptx_sreg_ntid_x();
}
FLEX_DEVICE int32_t block_x() {
    return __nvvm_read_ptx_sreg_ctaid_x();
}
FLEX_DEVICE int32_t block_y() {
    return __nvvm_read_ptx_sreg_ctaid_y();
}
FLEX_DEVICE int32_t block_z() {
    return __nvvm_read_ptx_sreg_ctaid_z();
}

FLEX_DEVICE uint32_t bits_of(float x) {
    return __builtin_bit_cast(uint32_t, x);
}
FLEX_DEVICE float float_of(uint32_t x) {
    return __builtin_bit_cast(float, x);
}

FLEX_DEVICE void block_barrier() {
    __syncthreads();
}
/// A barrier that tells every thread whether any has `condition`.
FLEX_DEVICE bool block_any(bool condition) {
    return __nvvm_bar0_or(condition) != 0;
}
FLEX_DEVICE void warp_barrier() {
    __nvvm_bar_warp_sync(kAllLanes);
}
FLEX_DEVICE uint32_t ballot(bool condition) {
    return __nvvm_vote_ballot_sync(kAllLanes, condition);
}
FLEX_DEVICE bool warp_any(bool condition) {
    return __nvvm_vote_any_sync(kAllLanes, condition);
}
FLEX_DEVICE float from_lane_xor(float x, int32_t bits) {
    return __nvvm_shfl_sync_bfly_f32(kAllLanes, x, bits, 31);
}

/// x, of which the compiler knows nothing: what depends on it is computed here, and not kept in registers from before a loop.
FLEX_DEVICE int32_t opaque(int32_t x) {
    asm volatile("" : "+r"(x));
    return x;
}
FLEX_DEVICE float opaque(float x) {
    asm volatile("" : "+f"(x));
    return x;
}

/// A new one each time: what follows from it is a few instructions, not registers kept from the kernel's first line to its last.
FLEX_DEVICE int32_t thread_index() {
    const int32_t x = opaque(int32_t(__nvvm_read_ptx_sreg_tid_x()));
    __builtin_assume(x >= 0 && x < 1024);
    return x;
}

/// x of lane i of this lane's group of four. `now`: anything that changes from one use to the next, so that the compiler asks each time instead
/// of keeping all four in registers.
FLEX_DEVICE uint32_t from_quad(uint32_t x, int32_t i, int32_t now) {
    uint32_t r;
    asm("{ // %3\n\tshfl.sync.idx.b32 %0, %1, %2, 0x1c1f, 0xffffffff; }" : "=r"(r) : "r"(x), "r"(i), "r"(now));
    return r;
}
FLEX_DEVICE float from_quad(float x, int32_t i, int32_t now) {
    return float_of(from_quad(bits_of(x), i, now));
}

FLEX_DEVICE int32_t min(int32_t a, int32_t b) {
    return a < b ? a : b;
}
FLEX_DEVICE int32_t max(int32_t a, int32_t b) {
    return a > b ? a : b;
}
FLEX_DEVICE int32_t ceil_div(int32_t a, int32_t b) {
    return (a + b - 1) / b;
}
/// The other if one is NaN.
FLEX_DEVICE float max(float a, float b) {
    return __builtin_fmaxf(a, b);
}
FLEX_DEVICE float fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
/// Two ulp; subnormal results are 0.
FLEX_DEVICE float exp2(float x) {
    return __nvvm_ex2_approx_ftz_f(x);
}
FLEX_DEVICE float log2(float x) {
    return __nvvm_lg2_approx_ftz_f(x);
}
FLEX_DEVICE float reciprocal(float x) {
    return __nvvm_rcp_rn_f(x);
}
/// sum += x, here: the compiler likes to put off long sums, and keeps all their terms until then.
FLEX_DEVICE void add_now(float& sum, float x) {
    asm volatile("add.rn.f32 %0, %0, %1;" : "+f"(sum) : "f"(x));
}
FLEX_DEVICE float reciprocal_approximately(float x) {
    return __nvvm_rcp_approx_ftz_f(x);
}
FLEX_DEVICE bool is_nan(float x) {
    return x != x;
}
FLEX_DEVICE bool is_finite(float x) {
    return __builtin_fabsf(x) < kInf;
}

struct Words4 {
    uint32_t w[4];
};

#define FLEX_GLOBAL __attribute__((address_space(1)))
template <class T>
FLEX_DEVICE T load_global(uint64_t address) {
    return *reinterpret_cast<const FLEX_GLOBAL T*>(address);
}
template <class T>
FLEX_DEVICE void store_global(uint64_t address, T value) {
    *reinterpret_cast<FLEX_GLOBAL T*>(address) = value;
}

/// The address of the kernel's dynamic shared memory, 16-byte aligned (the allocation begins with it: there is no static shared memory).
FLEX_DEVICE uint32_t shared_base() {
    extern __attribute__((address_space(3))) __attribute__((aligned(1024))) char flex_shared[];
    return uint32_t(uintptr_t(flex_shared));
}
FLEX_DEVICE Words4 load_shared4(uint32_t address) {
    Words4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "r"(address)
                 : "memory");
    return v;
}
FLEX_DEVICE void store_shared4(uint32_t address, Words4 v) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3]) : "memory");
}
FLEX_DEVICE void store_shared2(uint32_t address, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(a), "f"(b) : "memory");
}
FLEX_DEVICE void store_shared(uint32_t address, uint32_t value) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
FLEX_DEVICE void store_shared(uint32_t address, uint16_t value) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(value) : "memory");
}
FLEX_DEVICE int32_t load_shared(uint32_t address) {
    int32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
    return v;
}
FLEX_DEVICE uint16_t load_shared_half(uint32_t address) {
    uint16_t v;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(v) : "r"(address) : "memory");
    return v;
}
FLEX_DEVICE void store_shared8(uint32_t address, uint64_t value) {
    asm volatile("st.shared.b64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}
FLEX_DEVICE uint64_t load_shared8(uint32_t address) {
    uint64_t v;
    asm volatile("ld.shared.b64 %0, [%1];" : "=l"(v) : "r"(address) : "memory");
    return v;
}
FLEX_DEVICE void shared_min(uint32_t address, int32_t value) {
    asm volatile("red.shared.min.s32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
FLEX_DEVICE void shared_max(uint32_t address, int32_t value) {
    asm volatile("red.shared.max.s32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

}  // namespace flexgpu
