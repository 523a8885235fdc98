// Products of small matrices as tensor cores form them: D = A B + C on the elements of one mma instruction.
//
// The model of floating point: products are exact; the sum of an element's k products and its c is formed in f64 and cut off (rounded toward zero) to f32,
// once. Measurements of sm_80 and sm_90 by others find that hardware cuts off too, at a few bits more than f32 and for groups of 4 to 16 products: the
// magnitude and the bias of the error are those of this model, the bits are not. With f16 accumulators the sum is rounded to the nearest f16; f64 is a chain of
// fused multiplications in order of k, each correctly rounded. Of a tf32 operand the lower 13 bits are not looked at, whatever they hold.
// Integers are exact and wrap, or are clamped once at the end with `saturate`.
//
// A is m rows of k elements, B n columns of k elements (as if transposed), each line packed from its lowest bits in little-endian words; m, n multiples of 8.
#pragma once

#include <cstdint>

#include "emulator/numeric/float.h"

namespace flexemu::numeric {

enum class Element : uint8_t { F16, BF16, TF32, E4M3, E5M2, F64, S8, U8, S4, U4, B1 };
[[nodiscard]] int bits(Element element);

inline constexpr int kMaxMmaRows = 32, kMaxMmaColumns = 32;
inline constexpr int kMaxMmaLineBytes = 128;  // of a line of A or B: m16n8k16 f64

struct MmaShape {
    int m = 0, n = 0, k = 0;
};

void mma_to_f32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const float* c, float* d);
/// c and d are bits of f16.
void mma_to_f16(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const uint16_t* c, uint16_t* d);
void mma_to_f64(const MmaShape& shape, const double* a, const double* b, const double* c, double* d,
                Rounding rounding = Rounding::NearestEven);
enum class BitOperation : uint8_t { Xor, And };
void mma_to_s32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const int32_t* c, int32_t* d,
                bool saturate, BitOperation bit_operation = BitOperation::Xor);

/// sums += A B (or -= with `negate`) for products of warpgroups: m a multiple of 8, up to kMostProductRows and kMostProductColumns, lines of 32 bytes. The sums, m rows of
/// n, are cut off to f32 once, as above; with `to_f16` they are f16 numbers and are rounded to the nearest.
inline constexpr int kMostProductRows = 64, kMostProductColumns = 256;
void add_product(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, bool negate, bool to_f16,
                 float* sums);
void add_product_s32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, bool saturate,
                     BitOperation bit_operation, int32_t* sums);

}  // namespace flexemu::numeric
