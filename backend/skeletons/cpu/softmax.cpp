// The CPU skeleton: all that generated code exports (runtime/abi.h), written around the hooks of a variant.
//
// flex_cpu_softmax works on one block of scores, row by row, in two sweeps over a row that is in L1:
//
//   sweep 1   s = score(s), masked elements -inf, running maximum        one vector of keys a step
//   sweep 2   p = exp2((s - m) log2 e), sum; -0 where s is -inf, if the block asks for marks
//
// The difference s - m is taken before the scaling: s log2 e - m log2 e in one FMA is wrong by |m| ulp, and overflows for scores
// near 3e38. A NaN or +inf that is not masked makes its p NaN, hence l and, through the product with V, o; m follows l.
//
// The main loops see whole vectors only. Keys beyond the last whole vector go through flex_score_lanes and flex_mask_lanes, which
// are not inlined: one copy of the hooks serves all tails, pictures and tests.
#include "backend/skeletons/cpu/hooks.h"
#include "backend/skeletons/cpu/math.h"
#include "runtime/summary.h"

namespace {

constexpr float kInf = __builtin_inff();

FLEX_INLINE I lane_index() {
    I v;
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++) v[i] = i;
    return v;
}

// Rows of any length, in vectors of which the last may be a part.
FLEX_INLINE F load_part(const float* p, int32_t active) {
    if (active == kLanes) return load(p);
    F x = F(0.0f);
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++)
        if (i < active) x[i] = p[i];
    return x;
}
FLEX_INLINE void store_part(float* p, int32_t active, F x) {
    if (active == kLanes) return store(p, x);
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++)
        if (i < active) p[i] = x[i];
}
template <typename Part>
FLEX_INLINE void each_part(int32_t n, const Part& part) {
    for (int32_t d = 0; d < n; d += kLanes) part(d, n - d < kLanes ? n - d : kLanes);
}

// Rows whose maxima are found before any of them is weighed, so that the horizontal steps of one row hide behind the work of the others.
constexpr int32_t kGroup = 8;

/// The second sweep of rows [r0, r1): running maximum, weights, sums.
__attribute__((noinline)) void weigh(const flex_block* block, int32_t r0, int32_t r1, const float* highest) {
    const int32_t cols = block->cols;
    float alphas[kGroup];
    for (int32_t r = r0; r < r1; r++) {
        const float m_old = block->m[r];
        const float m = highest[r - r0] > m_old ? highest[r - r0] : m_old;  // a NaN in m_old stays
        // Nothing is to be rescaled where the maximum stays (-inf and -inf too), and where nothing weighs anything yet.
        alphas[r - r0] = m == m_old || block->l[r] == 0.0f ? 1.0f : flexmath::weight(F(m_old), F(m))[0];
        block->m[r] = m;
    }
    for (int32_t r = r0; r < r1; r++) {
        float* s = block->s + r * block->ld;
        const float m = block->m[r];
        F sum = F(0.0f);
        if (block->mark || !(m > -kInf)) {
            for (int32_t c = 0; c < cols; c += kLanes) {
                const F x = load(s + c);
                const F p = select(x == -kInf, F(-0.0f), flexmath::weight(x, F(m)));
                store(s + c, p);
                sum += p;
            }
        } else {
            for (int32_t c = 0; c < cols; c += kLanes) {
                const F p = flexmath::weight(load(s + c), F(m));
                store(s + c, p);
                sum += p;
            }
        }
        const float l = block->l[r] * alphas[r - r0] + reduce_sum(sum);
        if (l != l) block->m[r] = l;
        block->l[r] = l;
        block->alpha[r] = alphas[r - r0];
    }
}

/// The second sweep where each weight stands by itself: nothing is relative to the maximum, which is kept for lse and max_score alone.
template <bool kSigmoid>
__attribute__((noinline)) void weigh_each(const flex_block* block, int32_t r0, int32_t r1, const float* highest) {
    const int32_t cols = block->cols;
    for (int32_t r = r0; r < r1; r++) {
        float* s = block->s + r * block->ld;
        block->alpha[r] = 1.0f;
        if (block->l) {
            const float m_old = block->m[r];
            const float m = highest[r - r0] > m_old ? highest[r - r0] : m_old;  // a NaN in m_old stays
            F sum = F(0.0f);
            I is_nan = I(0);
            for (int32_t c = 0; c < cols; c += kLanes) {
                const F x = load(s + c);
                is_nan |= x != x;
                sum += select(x == -kInf, F(0.0f), flexmath::weight(x, F(m)));
            }
            const float alpha = m == m_old || block->l[r] == 0.0f ? 1.0f : flexmath::weight(F(m_old), F(m))[0];
            block->l[r] = block->l[r] * alpha + reduce_sum(sum);
            block->m[r] = any(is_nan) ? __builtin_nanf("") : m;
        }
        for (int32_t c = 0; c < cols; c += kLanes) {
            const F x = load(s + c);
            store(s + c, select(x == -kInf, F(-0.0f), kSigmoid ? flexmath::sigmoid(x) : x + 0.0f));  // never -0 where x attends
        }
    }
}

/// What is left of [0, count) when empty pieces are cut off at both ends: at most 64 chunks, then a halving of the first and of the last
/// chunk that may hold something. Whatever is cut off has been proven empty piece by piece, so this is sound whether or not the states of
/// parts and wholes agree.
template <typename Skip>
FLEX_INLINE void trim(int64_t count, int32_t* range, const Skip& skip_piece) {
    const int64_t chunk = count < 64 * 16 ? 16 : (count + 63) / 64;
    const auto skip = [&](int64_t begin, int64_t end) { return skip_piece(int32_t(begin), int32_t(end)); };
    int64_t lo = 0, hi = count;
    while (lo < hi) {
        const int64_t end = lo + chunk < hi ? lo + chunk : hi;
        if (!skip(lo, end)) break;
        lo = end;
    }
    while (lo < hi) {
        const int64_t begin = hi - lo > chunk ? hi - chunk : lo;
        if (!skip(begin, hi)) break;
        hi = begin;
    }
    int64_t size = 1;
    while (size < chunk) size *= 2;
    while ((size /= 2) > 0) {
        if (lo + size < hi && skip(lo, lo + size)) lo += size;
        if (hi - size > lo && skip(hi - size, hi)) hi -= size;
    }
    range[0] = int32_t(lo < hi ? lo : 0);
    range[1] = int32_t(lo < hi ? hi : 0);
}

}  // namespace

extern "C" {

__attribute__((noinline)) F flex_score_lanes(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active, F s) {
    RowState row;
    flex_hook_row(args, b, h, q, &row);
    return flex_hook_score(args, &row, b, h, q, k, active, s);
}

__attribute__((noinline)) I flex_mask_lanes(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t k, int32_t active) {
    RowState row;
    flex_hook_row(args, b, h, q, &row);
    return flex_hook_mask(args, &row, b, h, q, k, active);
}

}  // extern "C"

namespace {

/// The first sweep over the rows of a block, and `weigh` for each group of them.
template <typename Weigh>
FLEX_INLINE void score_rows(const flex_block* block, const Weigh& weigh_group) {
    const flex_args* args = block->args;
    const int32_t b = block->b, k0 = block->k, cols = block->cols, full = block->full;
    const int32_t rows = block->rows, q0 = block->q, q_end = q0 + block->nq;
    const int32_t whole = cols & ~(kLanes - 1);
    int32_t h = block->h, q = q0;
    for (int32_t r0 = 0; r0 < rows; r0 += kGroup) {
        const int32_t r1 = r0 + kGroup < rows ? r0 + kGroup : rows;
        float highest[kGroup];
        for (int32_t r = r0; r < r1; r++) {
            float* s = block->s + r * block->ld;
            F top = F(-kInf);
            RowState row;
            flex_hook_row(args, b, h, q, &row);
            if (full) {
                for (int32_t c = 0; c < whole; c += kLanes) {
                    const F x = flex_hook_score(args, &row, b, h, q, k0 + c, kLanes, load(s + c));
                    store(s + c, x);
                    top = max(x, top);
                }
            } else {
                for (int32_t c = 0; c < whole; c += kLanes) {
                    const I keep = flex_hook_mask(args, &row, b, h, q, k0 + c, kLanes);
                    F x = flex_hook_score(args, &row, b, h, q, k0 + c, kLanes, load(s + c));
                    x = select(keep != 0, x, F(-kInf));
                    store(s + c, x);
                    top = max(x, top);
                }
            }
            if (whole < cols) {
                const int32_t active = cols - whole;
                I keep = lane_index() < active;
                if (!full) keep &= flex_mask_lanes(args, b, h, q, k0 + whole, active) != 0;
                F x = flex_score_lanes(args, b, h, q, k0 + whole, active, load(s + whole));
                x = select(keep, x, F(-kInf));
                store(s + whole, x);
                top = max(x, top);
            }
            highest[r - r0] = reduce_max(top);
            if (++q == q_end) {
                q = q0;
                h++;
            }
        }
        weigh_group(block, r0, r1, highest);
    }
}

}  // namespace

extern "C" {

void flex_cpu_softmax(const flex_block* block) {
    score_rows(block, weigh);
}

float flex_cpu_scale(const flex_args* args, int32_t b, int32_t h, int32_t q) {
    return flex_hook_scale(args, b, h, q);
}

__attribute__((noinline)) int32_t flex_cpu_tile_state(const flex_args* args, int32_t b, int32_t h, int32_t q0, int32_t q1, int32_t k0,
                                                      int32_t k1) {
    return flex_hook_tile_state(args, b, h, q0, q1 - 1, k0, k1 - 1);
}

void flex_cpu_kv_range(const flex_args* args, int32_t b, int32_t h, int32_t q0, int32_t q1, int32_t* range) {
    trim(args->extents[4], range,
         [&](int32_t k0, int32_t k1) { return flex_cpu_tile_state(args, b, h, q0, q1, k0, k1) == FLEX_TILE_SKIP; });
}

void flex_cpu_q_range(const flex_args* args, int32_t b, int32_t h, int32_t k0, int32_t k1, int32_t* range) {
    trim(args->extents[3], range,
         [&](int32_t q0, int32_t q1) { return flex_cpu_tile_state(args, b, h, q0, q1, k0, k1) == FLEX_TILE_SKIP; });
}

void flex_cpu_mask_row(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t k0, int32_t n, uint8_t* out) {
    for (int64_t i = 0; i < n; i += kLanes) {
        const int32_t active = n - i < kLanes ? int32_t(n - i) : kLanes;
        const I keep = flex_mask_lanes(args, b, h, q, int32_t(k0 + i), active);
        FLEX_UNROLL
        for (int32_t j = 0; j < kLanes; j++)
            if (j < active) out[i + j] = keep[j] != 0;
    }
}

void flex_cpu_score_row(const flex_args* args, int32_t b, int32_t h, int32_t q, int32_t k0, int32_t n, float* s) {
    for (int64_t i = 0; i < n; i += kLanes) {
        const int32_t active = n - i < kLanes ? int32_t(n - i) : kLanes;
        store_part(s + i, active, flex_score_lanes(args, b, h, q, int32_t(k0 + i), active, load_part(s + i, active)));
    }
}

__attribute__((noinline)) int64_t flex_summary_range(const flex_args* args, int32_t index, int32_t b, int32_t h, int32_t lo, int32_t hi) {
    return flex_summary_query(&args->summaries[index], b, h, lo, hi);
}

int32_t flex_cpu_summary_flags(int32_t index) {
    return flex_hook_summary_flags(index);
}

void flex_cpu_summary_values(const flex_args* args, int32_t index, int32_t b, int32_t h, int32_t p, int32_t n, int32_t* out) {
    if (!(flex_hook_summary_flags(index) & FLEX_SUMMARY_OF_KEYS)) {
        for (int32_t i = 0; i < n; i++) out[i] = flex_hook_query_summary(args, index, b, h, p + i);
        return;
    }
    for (int64_t i = 0; i < n; i += kLanes) {
        const int32_t active = n - i < kLanes ? int32_t(n - i) : kLanes;
        const I v = flex_hook_key_summary(args, index, b, h, int32_t(p + i), active);
        if (active == kLanes) {
            store(reinterpret_cast<float*>(out + i), from_bits(v));
        } else {
            FLEX_UNROLL
            for (int32_t j = 0; j < kLanes; j++)
                if (j < active) out[i + j] = v[j];
        }
    }
}

void flex_backward_block(const flex_grad_block* block);
void flex_backward_scale(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_scale, float* const* d_tensors);
void flex_backward_sink(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_sink, float* const* d_tensors);

// Functions that only some attentions have: the compiler leaves those out of the table that its attention has not, and puts one of the next two in the
// place of the softmax.
void flex_block_sigmoid(const flex_block* block) {
    score_rows(block, weigh_each<true>);
}
void flex_block_none(const flex_block* block) {
    score_rows(block, weigh_each<false>);
}

float flex_row_sink(const flex_args* args, int32_t b, int32_t h, int32_t q) {
    return flex_hook_sink(args, b, h, q);
}

void flex_row_output(const flex_args* args, int32_t b, int32_t h, int32_t q, const float* in, float* out) {
    each_part(args->extents[6], [&](int32_t d, int32_t active) {
        store_part(out + d, active, flex_hook_output(args, b, h, q, d, active, load_part(in + d, active)));
    });
}
void flex_row_query(const flex_args* args, int32_t b, int32_t h, int32_t q, const float* in, float* out) {
    each_part(args->extents[5],
              [&](int32_t d, int32_t active) { store_part(out + d, active, flex_hook_query(args, b, h, q, d, active, in)); });
}
void flex_row_key(const flex_args* args, int32_t b, int32_t h, int32_t k, const float* in, float* out) {
    each_part(args->extents[5],
              [&](int32_t d, int32_t active) { store_part(out + d, active, flex_hook_key(args, b, h, k, d, active, in)); });
}
__attribute__((always_inline)) F flex_row_lanes(const float* row, int32_t n, I index) {
    F out = F(0.0f);
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++)
        if (uint32_t(index[i]) < uint32_t(n)) out[i] = row[index[i]];
    return out;
}

extern const flex_cpu_kernel flex_cpu_table;
extern const flex_softmax_fn flex_each_weights[2];
const flex_softmax_fn flex_each_weights[2] = {flex_block_sigmoid, flex_block_none};
const flex_cpu_kernel flex_cpu_table = {
    FLEX_ABI_VERSION,
    kLanes,
    flex_cpu_scale,
    flex_cpu_tile_state,
    flex_cpu_kv_range,
    flex_cpu_q_range,
    flex_cpu_softmax,
    flex_cpu_mask_row,
    flex_cpu_score_row,
    flex_cpu_summary_flags,
    flex_cpu_summary_values,
    flex_backward_block,
    flex_backward_scale,
    flex_row_sink,
    flex_backward_sink,
    flex_row_query,
    flex_row_key,
    flex_row_output,
    0,
    FLEX_SOFTMAX,
};

}  // extern "C"

#include "backend/skeletons/cpu/backward.h"

extern "C" {

// Mathematics for generated code, declared there by the op's name. The long ones are calls.
#define FLEX_MATH_INLINE(name)                               \
    __attribute__((always_inline)) F flex_math_##name(F x) { \
        return flexmath::name(x);                            \
    }
#define FLEX_MATH_CALL(name)                            \
    __attribute__((noinline)) F flex_math_##name(F x) { \
        return flexmath::name(x);                       \
    }
FLEX_MATH_INLINE(exp2)
FLEX_MATH_INLINE(exp)
FLEX_MATH_INLINE(log)
FLEX_MATH_INLINE(log2)
FLEX_MATH_INLINE(tanh)
FLEX_MATH_INLINE(sigmoid)
FLEX_MATH_INLINE(erf)
FLEX_MATH_INLINE(floor)
FLEX_MATH_INLINE(ceil)
FLEX_MATH_INLINE(round)
FLEX_MATH_CALL(sin)
FLEX_MATH_CALL(cos)
FLEX_MATH_CALL(tan)
__attribute__((noinline)) F flex_math_pow(F x, F y) {
    return flexmath::pow(x, y);
}

}  // extern "C"
