// Opcodes that integers and floats share (add, mul, min, ...): ops_arithmetic.cpp looks at the type and asks one of these, which finish the decoding.
#pragma once

#include "emulator/machine/decode.h"

namespace flexemu {

[[nodiscard]] bool is_float(ptx::Type type);   // f16, bf16, tf32, f32, f64 and their pairs
[[nodiscard]] bool is_signed(ptx::Type type);  // s8 to s64

bool decode_integer_add(Decoding& decoding, ptx::Type type);  // and sub, addc, subc
bool decode_integer_mul(Decoding& decoding, ptx::Type type);
bool decode_integer_mad(Decoding& decoding, ptx::Type type);  // and madc
bool decode_integer_div(Decoding& decoding, ptx::Type type);  // and rem
bool decode_integer_min_max(Decoding& decoding, ptx::Type type);
bool decode_integer_abs_neg(Decoding& decoding, ptx::Type type);
/// add, min, max of .u16x2 and .s16x2, which are no ptx::Type.
bool decode_integer_pairs(Decoding& decoding, bool is_signed);

bool decode_float_add(Decoding& decoding, ptx::Type type);  // and sub, mul
bool decode_float_fma(Decoding& decoding, ptx::Type type);  // and mad
bool decode_float_div(Decoding& decoding, ptx::Type type);
bool decode_float_min_max(Decoding& decoding, ptx::Type type);
bool decode_float_abs_neg(Decoding& decoding, ptx::Type type);

bool decode_cvt(Decoding& decoding);  // ops_convert.cpp
bool decode_mov(Decoding& decoding);  // ops_move.cpp, like the next ones
bool decode_selp(Decoding& decoding);
bool decode_slct(Decoding& decoding);
bool decode_setp(Decoding& decoding);  // ops_compare.cpp
bool decode_set(Decoding& decoding);
bool decode_video(Decoding& decoding);  // ops_video.cpp

}  // namespace flexemu
