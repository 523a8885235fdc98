// The rate of the CPU's bf16 dot products (vdpbf16ps) beside that of its f32 multiply-adds, which decides whether products of
// bf16 arrays are worth computing with them. They are one operation of a multiplier on some CPUs and several on others.
#pragma once

namespace flex::bench {

/// Multiply-adds a dot-product instruction does per multiply-add that vfmadd231ps does in the same time, 512-bit vectors in registers: 2
/// where both take as long. From the best of many short runs of each, in turn. 0: compiled for another architecture. Only
/// for machines with CpuLevel::Avx512Bf16.
double bf16_dot_ratio();

}  // namespace flex::bench
