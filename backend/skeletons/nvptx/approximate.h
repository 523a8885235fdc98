// The approximate functions of the hardware that math.h is built on, with the largest errors that the PTX ISA allows. Without .ftz: subnormals
// are honoured. A test of math.h puts functions with errors of its choice in their place, by defining the guard.
#ifndef FLEX_NVPTX_APPROXIMATE_H
#define FLEX_NVPTX_APPROXIMATE_H

#define FLEX_MATH __attribute__((always_inline)) inline

namespace flexmath {

/// 2^x; relative error 2^-22; subnormal results honoured.
FLEX_MATH float approximate_exp2(float x) {
    return __nvvm_ex2_approx_f(x);
}
/// 1 / x; 1 ulp.
FLEX_MATH float approximate_reciprocal(float x) {
    float y;
    __asm__("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// The same two where nothing is subnormal, neither operand nor result, or 0 will do in its place: half the instructions.
FLEX_MATH float approximate_exp2_of_normal(float x) {
    return __nvvm_ex2_approx_ftz_f(x);
}
FLEX_MATH float approximate_reciprocal_of_normal(float x) {
    return __nvvm_rcp_approx_ftz_f(x);
}
/// 1 / sqrt(x); relative error 2^-22.9.
FLEX_MATH float approximate_rsqrt(float x) {
    return __nvvm_rsqrt_approx_f(x);
}
/// Relative error 2^-10.987.
FLEX_MATH float approximate_tanh(float x) {
    float y;
    __asm__("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/// The nearest integer, half to even.
FLEX_MATH float round_to_even(float x) {
    return __builtin_rintf(x);
}
/// The smaller and the greater; NaN if either is.
FLEX_MATH float least(float a, float b) {
    return __nvvm_fmin_nan_f(a, b);
}
FLEX_MATH float greatest(float a, float b) {
    return __nvvm_fmax_nan_f(a, b);
}

}  // namespace flexmath

#endif
