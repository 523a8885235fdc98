#include "plain_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "runtime/cpu/convert.h"

namespace flex::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Mode mode_of(const flex_args* a) {
    return static_cast<Mode>(a->scalars[0]);
}

bool attends(const flex_args* a, int h, int q, int k) {
    switch (mode_of(a)) {
        case kCausal:
        case kAlibiCausal: return k <= q;
        case kWindow: return std::abs(q - k) <= 20;
        case kDocument: {
            const auto* doc = static_cast<const int32_t*>(a->tensors[1].data);
            return doc[q] == doc[k];
        }
        case kHeads: return (h + k) % 2 == 0;
        case kHoles: return (k / 64) % 2 == (q / 64) % 2;
        case kNothing: return false;
        default: return true;
    }
}

float score(const flex_args* a, int h, int q, int k, float s) {
    if (mode_of(a) == kAlibiCausal) return s + static_cast<const float*>(a->tensors[2].data)[h] * static_cast<float>(k - q);
    if (mode_of(a) == kInfinite && k % 3 == 0) return -kInf;
    return s;
}

float scale(const flex_args* a, int32_t, int32_t h, int32_t q) {
    const float base = 1.0f / std::sqrt(static_cast<float>(a->extents[5]));
    return mode_of(a) == kScaled ? base * (1.0f + 0.25f * static_cast<float>((h + q) % 5)) : base;
}

int32_t tight_state(const flex_args* a, int32_t, int32_t h, int32_t q0, int32_t q1, int32_t k0, int32_t k1) {
    bool any = false, all = true;
    for (int q = q0; q < q1; ++q)
        for (int k = k0; k < k1; ++k) (attends(a, h, q, k) ? any : all) = attends(a, h, q, k);
    return !any ? FLEX_TILE_SKIP : all ? FLEX_TILE_FULL : FLEX_TILE_PARTIAL;
}

int32_t loose_state(const flex_args*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t) {
    return FLEX_TILE_PARTIAL;
}

void tight_range(const flex_args* a, int32_t, int32_t h, int32_t q0, int32_t q1, int32_t* range) {
    range[0] = a->extents[4];
    range[1] = 0;
    for (int q = q0; q < q1; ++q) {
        for (int k = 0; k < a->extents[4]; ++k) {
            if (!attends(a, h, q, k)) continue;
            range[0] = std::min(range[0], k);
            range[1] = std::max(range[1], k + 1);
        }
    }
}

void loose_range(const flex_args* a, int32_t, int32_t, int32_t, int32_t, int32_t* range) {
    range[0] = 0;
    range[1] = a->extents[4];
}

void all_queries(const flex_args* a, int32_t, int32_t, int32_t, int32_t, int32_t* range) {
    range[0] = 0;
    range[1] = a->extents[3];
}

template <int kLanes>
void softmax(const flex_block* block) {
    const int padded = (block->cols + kLanes - 1) / kLanes * kLanes;
    for (int r = 0; r < block->rows; ++r) {
        const int h = block->h + r / block->nq, q = block->q + r % block->nq;
        float* s = block->s + r * block->ld;
        float m = block->m[r];
        for (int c = 0; c < block->cols; ++c) {
            s[c] = block->full || attends(block->args, h, q, block->k + c) ? score(block->args, h, q, block->k + c, s[c]) : -kInf;
            m = std::isnan(s[c]) || std::isnan(m) ? std::numeric_limits<float>::quiet_NaN() : std::max(m, s[c]);
        }
        block->alpha[r] = m == block->m[r] ? 1.0f : std::exp(block->m[r] - m);
        float l = block->l[r] * block->alpha[r];
        for (int c = 0; c < padded; ++c) {
            if (c >= block->cols || s[c] == -kInf)
                s[c] = -0.0f;
            else
                l += s[c] = std::exp(s[c] - m);
        }
        block->m[r] = m;
        block->l[r] = l;
    }
}

void mask_row(const flex_args* a, int32_t, int32_t h, int32_t q, int32_t k0, int32_t n, uint8_t* out) {
    for (int i = 0; i < n; ++i) out[i] = attends(a, h, q, k0 + i);
}

void score_row(const flex_args* a, int32_t, int32_t h, int32_t q, int32_t k0, int32_t n, float* s) {
    for (int i = 0; i < n; ++i) s[i] = score(a, h, q, k0 + i, s[i]);
}

int32_t no_summary(int32_t) {
    return -1;
}
void no_values(const flex_args*, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t*) {}

template <int kLanes>
constexpr flex_cpu_kernel kernel(bool tight) {
    flex_cpu_kernel out{};
    out.abi_version = FLEX_ABI_VERSION;
    out.lanes = kLanes;
    out.scale = scale;
    out.tile_state = tight ? tight_state : loose_state;
    out.kv_range = tight ? tight_range : loose_range;
    out.q_range = all_queries;
    out.softmax = softmax<kLanes>;
    out.mask_row = mask_row;
    out.score_row = score_row;
    out.summary_flags = no_summary;
    out.summary_values = no_values;
    return out;
}

void* element(const Tensor& t, std::initializer_list<int64_t> index) {
    int64_t offset = 0;
    size_t dim = 0;
    for (const int64_t i : index) offset += i * t.stride[dim++];
    return static_cast<char*>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
}

}  // namespace

KernelDesc plain_desc() {
    KernelDesc desc;
    desc.name = "plain";
    desc.extents = {"N"};
    ParamDesc mode;
    mode.name = "mode";
    mode.dtype = DType::I32;
    ParamDesc doc;
    doc.name = "doc";
    doc.is_tensor = true;
    doc.dtype = DType::I32;
    doc.dims = {{1, 7, 0}};
    ParamDesc slope;
    slope.name = "slope";
    slope.is_tensor = true;
    slope.dims = {{1, 1, 0}};
    desc.params = {mode, doc, slope};
    return desc;
}

const flex_cpu_kernel& plain_kernel(int lanes, bool tight) {
    static const flex_cpu_kernel kernels[2][3] = {{kernel<4>(false), kernel<8>(false), kernel<16>(false)},
                                                  {kernel<4>(true), kernel<8>(true), kernel<16>(true)}};
    return kernels[tight][lanes == 4 ? 0 : lanes == 8 ? 1 : 2];
}

double get(const Tensor& t, std::initializer_list<int64_t> index) {
    const void* p = element(t, index);
    if (t.dtype == DType::F32) {
        float x;
        std::memcpy(&x, p, sizeof x);
        return x;
    }
    uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return t.dtype == DType::F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void set(const Tensor& t, std::initializer_list<int64_t> index, float value) {
    void* p = element(t, index);
    if (t.dtype == DType::F32) {
        std::memcpy(p, &value, sizeof value);
        return;
    }
    const uint16_t bits = t.dtype == DType::F16 ? f32_to_f16(value) : f32_to_bf16(value);
    std::memcpy(p, &bits, sizeof bits);
}

Data::Data(const Problem& problem, uint32_t seed) : p(problem), mode(problem.mode) {
    const int kv_batch = p.one_kv_batch ? 1 : p.B;
    const auto make = [&](std::vector<uint8_t>& bytes, int b, int h, int n, int d) {
        bytes.resize(static_cast<size_t>(b) * static_cast<size_t>(h) * static_cast<size_t>(n) * static_cast<size_t>(d) * size_of(p.dtype));
        return Tensor::contiguous(bytes.data(), p.dtype, {b, h, n, d});
    };
    arrays.q = make(q, p.B, p.H, p.Q, p.D);
    arrays.k = make(k, kv_batch, p.HKV, p.K, p.D);
    arrays.v = make(v, kv_batch, p.HKV, p.K, p.DV);
    arrays.o = make(o, p.B, p.H, p.Q, p.DV);
    std::fill(o.begin(), o.end(), uint8_t{0x55});
    lse.assign(static_cast<size_t>(p.B) * static_cast<size_t>(p.H) * static_cast<size_t>(p.Q), 77.0f);
    max_score = lse;
    arrays.lse = Tensor::contiguous(lse.data(), DType::F32, {p.B, p.H, p.Q});
    arrays.max_score = Tensor::contiguous(max_score.data(), DType::F32, {p.B, p.H, p.Q});

    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const Tensor& t : {arrays.q, arrays.k, arrays.v}) {
        const int64_t count = t.shape[0] * t.shape[1] * t.shape[2];
        const Tensor flat = Tensor::contiguous(t.data, t.dtype, {count, t.shape[3]});
        for (int64_t i = 0; i < count; ++i)
            for (int64_t d = 0; d < t.shape[3]; ++d) set(flat, {i, d}, normal(random));
    }
    for (int i = 0, document = 0; i < std::max({p.Q, p.K, 1}); ++i) {
        document += random() % 37 == 0;
        doc.push_back(document);
    }
    for (int h = 0; h < p.H; ++h) slope.push_back(std::exp2(-static_cast<float>(h + 1)));
}

std::vector<Argument> Data::args() {
    return {{"mode", Tensor::contiguous(&mode, DType::I32, {})},
            {"doc", Tensor::contiguous(doc.data(), DType::I32, {static_cast<int64_t>(doc.size())})},
            {"slope", Tensor::contiguous(slope.data(), DType::F32, {p.H})}};
}

Expected naive(Data& data) {
    const Problem& p = data.p;
    const int32_t extents[] = {p.B, p.H, p.HKV, p.Q, p.K, p.D, p.DV, static_cast<int32_t>(data.doc.size())};
    const uint32_t scalars[] = {static_cast<uint32_t>(data.mode), 0, 0};
    flex_tensor tensors[3] = {};
    tensors[1].data = data.doc.data();
    tensors[2].data = data.slope.data();
    const flex_args args{extents, scalars, tensors, nullptr};
    Expected want;
    std::vector<double> weight(static_cast<size_t>(p.K));
    for (int b = 0; b < p.B; ++b) {
        for (int h = 0; h < p.H; ++h) {
            const int hkv = h / (p.H / p.HKV), bk = p.one_kv_batch ? 0 : b;
            for (int q = 0; q < p.Q; ++q) {
                double m = -kInf, l = 0;
                bool bad = false;
                for (int k = 0; k < p.K; ++k) {
                    double& s = weight[static_cast<size_t>(k)];
                    s = -kInf;
                    if (!attends(&args, h, q, k)) continue;
                    double dot = 0;
                    for (int d = 0; d < p.D; ++d) dot += get(data.arrays.q, {b, h, q, d}) * get(data.arrays.k, {bk, hkv, k, d});
                    dot *= static_cast<double>(scale(&args, b, h, q));
                    const float added = score(&args, h, q, k, 0.0f);
                    s = added == -kInf ? -kInf : dot + static_cast<double>(added);
                    bad = bad || std::isnan(s) || s == kInf;
                    m = std::max(m, s);
                }
                std::vector<double> o(static_cast<size_t>(p.DV));
                for (int k = 0; k < p.K; ++k) {
                    const double s = weight[static_cast<size_t>(k)];
                    if (s == -kInf) continue;
                    const double w = std::exp(s - m);
                    l += w;
                    for (int c = 0; c < p.DV; ++c) o[static_cast<size_t>(c)] += w * get(data.arrays.v, {bk, hkv, k, c});
                }
                for (double& x : o) x = bad ? std::numeric_limits<double>::quiet_NaN() : l == 0 ? 0 : x / l;
                want.o.insert(want.o.end(), o.begin(), o.end());
                want.lse.push_back(bad ? std::numeric_limits<double>::quiet_NaN() : m + std::log(l));
                want.max_score.push_back(bad ? std::numeric_limits<double>::quiet_NaN() : m);
            }
        }
    }
    return want;
}

double error(Data& data, const Expected& want) {
    const Problem& p = data.p;
    double worst = 0;
    const auto compare = [&](double got, double expected) {
        if (std::isnan(expected) || std::isinf(expected)) {
            if (!(std::isnan(expected) ? std::isnan(got) : got == expected)) worst = kInf;
        } else {
            const double difference = std::abs(got - expected) / (1 + std::abs(expected));
            if (!(difference <= worst)) worst = std::isnan(difference) ? static_cast<double>(kInf) : difference;
        }
    };
    size_t row = 0, i = 0;
    for (int b = 0; b < p.B; ++b) {
        for (int h = 0; h < p.H; ++h) {
            for (int q = 0; q < p.Q; ++q, ++row) {
                for (int c = 0; c < p.DV; ++c) compare(get(data.arrays.o, {b, h, q, c}), want.o[i++]);
                if (data.arrays.lse.data) compare(get(data.arrays.lse, {b, h, q}), want.lse[row]);
                if (data.arrays.max_score.data) compare(get(data.arrays.max_score, {b, h, q}), want.max_score[row]);
            }
        }
    }
    return worst;
}

}  // namespace flex::test
