// The approximate functions of PTX (.approx, .full). The ISA promises an error bound, not a value; hardware of another generation may use all of it. So
// each result here is the true value moved by a pseudo-random part of the bound, which depends on the operands alone (the same operands always give the
// same result), then rounded so that the bound still holds. A kernel that needs more than the ISA promises then shows on the emulator.
//
// Special values are exact, as in the tables of the ISA. Bounds used (B, including the final rounding):
//   ex2     f32 2 ulp, exact for whole numbers; f16 relative 2^-9.9; bf16 relative 2^-7        lg2   f32 absolute 2^-22 on (0.5, 2), else relative 2^-22
//   rcp     f32 1 ulp; f64 20 bits of mantissa, relative 2^-19        rsqrt f32 relative 2^-22.9; f64 as rcp
//   sqrt    f32 relative 2^-23                                        tanh  f32 relative 2^-11; f16 absolute 2^-10.987; bf16 relative 2^-8
//   sin cos absolute 2^-20.5 on [-2 pi, 2 pi], 2^-14.7 on [-100 pi, 100 pi], beyond: that of a relative error of 2^-23 in the operand
//   div     .approx and .full 2 ulp; .approx as a * (1/b) beyond |b| = 2^126
#pragma once

#include "emulator/numeric/float.h"

namespace flexemu::numeric {

float ex2_approx(float a, bool ftz);
F16 ex2_approx(F16 a);
BF16 ex2_approx(BF16 a);  // .ftz always
float lg2_approx(float a, bool ftz);
float rcp_approx(float a, bool ftz);
float rsqrt_approx(float a, bool ftz);
float sqrt_approx(float a, bool ftz);
float sin_approx(float a, bool ftz);
float cos_approx(float a, bool ftz);
float tanh_approx(float a);
F16 tanh_approx(F16 a);
BF16 tanh_approx(BF16 a);
float div_approx(float a, float b, bool ftz);
float div_full(float a, float b, bool ftz);
/// .approx.ftz.f64: only the upper half of the operand is looked at, the lower half of the result is zero.
double rcp_approx_f64(double a);
double rsqrt_approx_f64(double a);

}  // namespace flexemu::numeric
