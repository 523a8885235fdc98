#include "emulator/numeric/mma.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

// The work of the emulator is here for most kernels: the same code is compiled for wider vectors too. The results do not depend on which of them runs, for
// products of two operands are exact in f64, fused or not.
#if defined(__x86_64__) && defined(__clang__)
#define FLEXEMU_WIDE_VECTORS 1
#endif

namespace flexemu::numeric {
namespace {

using Eight = double __attribute__((vector_size(64)));

constexpr int kMostElements = kMaxMmaRows * 64;  // of A or B as floats: 32 x 16, 16 x 32

struct SmallTables {
    float e4m3[256], e5m2[256];
    SmallTables() {
        for (uint32_t i = 0; i < 256; ++i) {
            e4m3[i] = static_cast<float>(widen(kE4M3, i));
            e5m2[i] = static_cast<float>(widen(kE5M2, i));
        }
    }
};

[[gnu::always_inline]] inline void unpack(Element type, const void* from, int count, float* to) {
    static const SmallTables tables;
    const auto* halves = static_cast<const uint16_t*>(from);
    const auto* words = static_cast<const uint32_t*>(from);
    const auto* bytes = static_cast<const uint8_t*>(from);
    switch (type) {
        case Element::F16:
            for (int i = 0; i < count; ++i) to[i] = to_f32(F16{halves[i]});
            break;
        case Element::BF16:
            for (int i = 0; i < count; ++i) to[i] = to_f32(BF16{halves[i]});
            break;
        case Element::TF32:
            for (int i = 0; i < count; ++i) to[i] = std::bit_cast<float>(words[i] & 0xffffe000);
            break;
        case Element::E4M3:
            for (int i = 0; i < count; ++i) to[i] = tables.e4m3[bytes[i]];
            break;
        case Element::E5M2:
            for (int i = 0; i < count; ++i) to[i] = tables.e5m2[bytes[i]];
            break;
        default: break;
    }
}

/// sums[m][n] += A B, eight columns and `rows` rows at a time: as many sums as the vector registers hold.
template <int rows>
[[gnu::always_inline]] inline void accumulate(const MmaShape& shape, const double* a, const double* b, double* sums) {
    for (int column = 0; column < shape.n; column += 8) {
        for (int row = 0; row < shape.m; row += rows) {
            Eight s[rows];
            for (int r = 0; r < rows; ++r) std::memcpy(&s[r], sums + (row + r) * shape.n + column, sizeof(Eight));
            const double* lines = a + row * shape.k;
            for (int i = 0; i < shape.k; ++i) {
                Eight right;
                std::memcpy(&right, b + i * shape.n + column, sizeof right);
                for (int r = 0; r < rows; ++r) s[r] += lines[r * shape.k + i] * right;
            }
            for (int r = 0; r < rows; ++r) std::memcpy(sums + (row + r) * shape.n + column, &s[r], sizeof(Eight));
        }
    }
}

/// Toward zero, but what is beyond all f32 is infinite.
[[gnu::always_inline]] inline float cut_off(double value) {
    const float nearest = static_cast<float>(value);
    const uint32_t bits = std::bit_cast<uint32_t>(nearest);
    const uint32_t beyond = std::fabs(static_cast<double>(nearest)) > std::fabs(value) ? 1 : 0,
                   in_range = std::fabs(value) < 0x1p128 ? 1 : 0;
    return std::bit_cast<float>(value == value ? bits - (beyond & in_range) : kCanonicalF32);
}

/// The operands of one instruction. The sums go to `sums`, or cut off to `d`.
struct Job {
    MmaShape shape;
    Element a_type, b_type;
    const void *a, *b;
    const float* c;
    double* sums;
    float* d;
};

template <int rows>
[[gnu::always_inline]] inline void multiply_shape(const Job& job, const MmaShape& shape) {
    float lines[kMostElements];
    double left[kMostElements], right[kMostElements], sums[kMaxMmaRows * kMaxMmaColumns];
    unpack(job.a_type, job.a, shape.m * shape.k, lines);
    for (int i = 0; i < shape.m * shape.k; ++i) left[i] = static_cast<double>(lines[i]);
    unpack(job.b_type, job.b, shape.n * shape.k, lines);
    for (int i = 0; i < shape.k; ++i)
        for (int j = 0; j < shape.n; ++j) right[i * shape.n + j] = static_cast<double>(lines[j * shape.k + i]);
    for (int i = 0; i < shape.m * shape.n; ++i) sums[i] = static_cast<double>(job.c[i]);
    accumulate<rows>(shape, left, right, sums);
    if (job.d != nullptr)
        for (int i = 0; i < shape.m * shape.n; ++i) job.d[i] = cut_off(sums[i]);
    else
        std::memcpy(job.sums, sums, static_cast<size_t>(shape.m * shape.n) * sizeof(double));
}

template <int rows>
[[gnu::always_inline]] inline void multiply_any(const Job& job) {
    // The most frequent shape gets code of its own, by constants.
    if (job.shape.m == 16 && job.shape.n == 8 && job.shape.k == 16)
        multiply_shape<rows>(job, {16, 8, 16});
    else
        multiply_shape<rows>(job, job.shape);
}

void multiply_plain(const Job& job) {
    multiply_any<4>(job);
}

/// The product of a warpgroup, whose sums stay where they are.
struct LargeJob {
    MmaShape shape;
    Element a_type, b_type;
    const void *a, *b;
    bool negate, to_f16;
    float* sums;
};

/// `rows` rows of eight times `across` columns at a time.
template <int rows, int across>
[[gnu::always_inline]] inline void accumulate_block(const LargeJob& job, const double* a, const double* b, int row, int column) {
    const int n = job.shape.n, k = job.shape.k;
    Eight s[rows][across];
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < across; ++c) {
            const float* from = job.sums + (row + r) * n + column + 8 * c;
            for (int i = 0; i < 8; ++i) s[r][c][i] = static_cast<double>(from[i]);
        }
    }
    for (int i = 0; i < k; ++i) {
        Eight right[across];
        for (int c = 0; c < across; ++c) std::memcpy(&right[c], b + i * n + column + 8 * c, sizeof(Eight));
        for (int r = 0; r < rows; ++r) {
            const double left = a[(row + r) * k + i];
            for (int c = 0; c < across; ++c) s[r][c] += left * right[c];
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < across; ++c) {
            double exact[8];
            std::memcpy(exact, &s[r][c], sizeof exact);
            float* to = job.sums + (row + r) * n + column + 8 * c;
            if (job.to_f16)
                for (int i = 0; i < 8; ++i) to[i] = to_f32(flexemu::numeric::to_f16(exact[i]));
            else
                for (int i = 0; i < 8; ++i) to[i] = cut_off(exact[i]);
        }
    }
}

template <int rows, int across>
[[gnu::always_inline]] inline void accumulate_large(const LargeJob& job) {
    constexpr int kMostK = 32;
    const MmaShape& shape = job.shape;
    alignas(64) float lines[kMostProductColumns * kMostK];
    alignas(64) double left[kMostProductRows * kMostK], right[kMostProductColumns * kMostK];
    unpack(job.a_type, job.a, shape.m * shape.k, lines);
    const double sign = job.negate ? -1.0 : 1.0;
    for (int i = 0; i < shape.m * shape.k; ++i) left[i] = sign * static_cast<double>(lines[i]);
    unpack(job.b_type, job.b, shape.n * shape.k, lines);
    for (int j = 0; j < shape.n; j += 8) {
        for (int i = 0; i < shape.k; ++i)
            for (int e = 0; e < 8; ++e) right[i * shape.n + j + e] = static_cast<double>(lines[(j + e) * shape.k + i]);
    }
    const int whole = shape.n / (8 * across) * (8 * across);
    for (int row = 0; row < shape.m; row += rows) {
        for (int column = 0; column < whole; column += 8 * across) accumulate_block<rows, across>(job, left, right, row, column);
        for (int column = whole; column < shape.n; column += 8) accumulate_block<rows, 1>(job, left, right, row, column);
    }
}
void accumulate_plain(const LargeJob& job) {
    accumulate_large<2, 1>(job);
}
#ifdef FLEXEMU_WIDE_VECTORS
[[gnu::target("avx2,fma")]] void multiply_avx2(const Job& job) {
    multiply_any<4>(job);
}
[[gnu::target("avx512f,avx512vl,avx512dq,avx512bw,fma")]] void multiply_avx512(const Job& job) {
    multiply_any<8>(job);
}
[[gnu::target("avx2,fma")]] void accumulate_avx2(const LargeJob& job) {
    accumulate_large<4, 1>(job);
}
[[gnu::target("avx512f,avx512vl,avx512dq,avx512bw,fma")]] void accumulate_avx512(const LargeJob& job) {
    accumulate_large<8, 2>(job);
}
#endif

/// The versions for this processor.
struct Versions {
    void (*multiply)(const Job&) = multiply_plain;
    void (*accumulate)(const LargeJob&) = accumulate_plain;
    Versions() {
#ifdef FLEXEMU_WIDE_VECTORS
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
            multiply = multiply_avx2;
            accumulate = accumulate_avx2;
        }
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw")) {
            multiply = multiply_avx512;
            accumulate = accumulate_avx512;
        }
#endif
    }
};
const Versions& versions() {
    static const Versions chosen;
    return chosen;
}
void multiply(const Job& job) {
    versions().multiply(job);
}

template <Element type>
int32_t integer_element(const uint8_t* line, int index) {
    if constexpr (type == Element::S8) return static_cast<int8_t>(line[index]);
    if constexpr (type == Element::U8) return line[index];
    const int nibble = line[index / 2] >> (index % 2 * 4) & 0xf;
    return type == Element::S4 && nibble >= 8 ? nibble - 16 : nibble;
}
void unpack_integers(Element type, const uint8_t* from, int count, int32_t* to) {
    for (int i = 0; i < count; ++i) switch (type) {
            case Element::S8: to[i] = integer_element<Element::S8>(from, i); break;
            case Element::U8: to[i] = integer_element<Element::U8>(from, i); break;
            case Element::S4: to[i] = integer_element<Element::S4>(from, i); break;
            default: to[i] = integer_element<Element::U4>(from, i); break;
        }
}

}  // namespace

int bits(Element element) {
    switch (element) {
        case Element::F64: return 64;
        case Element::TF32: return 32;
        case Element::F16:
        case Element::BF16: return 16;
        case Element::S4:
        case Element::U4: return 4;
        case Element::B1: return 1;
        default: return 8;
    }
}

void mma_to_f32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const float* c, float* d) {
    multiply({shape, a_type, b_type, a, b, c, nullptr, d});
}

void mma_to_f16(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const uint16_t* c, uint16_t* d) {
    double sums[kMaxMmaRows * kMaxMmaColumns];
    float start[kMaxMmaRows * kMaxMmaColumns];
    const int count = shape.m * shape.n;
    for (int i = 0; i < count; ++i) start[i] = to_f32(F16{c[i]});
    multiply({shape, a_type, b_type, a, b, start, sums, nullptr});
    for (int i = 0; i < count; ++i) d[i] = to_f16(sums[i]).bits;
}

void mma_to_f64(const MmaShape& shape, const double* a, const double* b, const double* c, double* d, Rounding rounding) {
    for (int row = 0; row < shape.m; ++row)
        for (int column = 0; column < shape.n; ++column) {
            double sum = c[row * shape.n + column];
            for (int i = 0; i < shape.k; ++i) sum = fma(a[row * shape.k + i], b[column * shape.k + i], sum, rounding);
            d[row * shape.n + column] = sum;
        }
}

void add_product(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, bool negate, bool to_f16,
                 float* sums) {
    versions().accumulate({shape, a_type, b_type, a, b, negate, to_f16, sums});
}

void mma_to_s32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, const int32_t* c, int32_t* d,
                bool saturate, BitOperation bit_operation) {
    std::copy_n(c, shape.m * shape.n, d);
    add_product_s32(shape, a_type, a, b_type, b, saturate, bit_operation, d);
}

void add_product_s32(const MmaShape& shape, Element a_type, const void* a, Element b_type, const void* b, bool saturate,
                     BitOperation bit_operation, int32_t* sums) {
    const auto add = [&](int at, int64_t product) {
        const int64_t sum = product + sums[at];
        if (saturate)
            sums[at] = static_cast<int32_t>(sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum);
        else
            sums[at] = static_cast<int32_t>(static_cast<uint32_t>(sum));
    };
    if (a_type == Element::B1) {
        const int words = shape.k / 32;
        const auto *left = static_cast<const uint32_t*>(a), *right = static_cast<const uint32_t*>(b);
        for (int row = 0; row < shape.m; ++row)
            for (int column = 0; column < shape.n; ++column) {
                int64_t sum = 0;
                for (int i = 0; i < words; ++i) {
                    const uint32_t x = left[row * words + i], y = right[column * words + i];
                    sum += std::popcount(bit_operation == BitOperation::Xor ? x ^ y : x & y);
                }
                add(row * shape.n + column, sum);
            }
        return;
    }
    int32_t left[kMostProductRows * 64], right[kMostProductColumns * 64];
    unpack_integers(a_type, static_cast<const uint8_t*>(a), shape.m * shape.k, left);
    unpack_integers(b_type, static_cast<const uint8_t*>(b), shape.n * shape.k, right);
    for (int row = 0; row < shape.m; ++row)
        for (int column = 0; column < shape.n; ++column) {
            int32_t sum = 0;
            for (int i = 0; i < shape.k; ++i) sum += left[row * shape.k + i] * right[column * shape.k + i];
            add(row * shape.n + column, sum);
        }
}

}  // namespace flexemu::numeric
