// The whole attention, one row at a time, in the order of LANGUAGE.md: the set M, the scores over it, the weights, the outputs.
#include "ir/interpret.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "diag/check.h"

namespace flexc::ir {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Shape {
    size_t b, h, hkv, q, k, d, dv;

    explicit Shape(const Bindings& bindings) {
        const auto extent = [&](ExtentVar which) { return static_cast<size_t>(std::max(bindings.extents[static_cast<size_t>(which)], 0)); };
        b = extent(ExtentVar::B), h = extent(ExtentVar::H), hkv = extent(ExtentVar::HKV), q = extent(ExtentVar::Q);
        k = extent(ExtentVar::K), d = extent(ExtentVar::D), dv = extent(ExtentVar::DV);
    }
    [[nodiscard]] size_t kv_head(size_t head) const { return hkv == 0 ? 0 : std::min(head / std::max<size_t>(h / hkv, 1), hkv - 1); }
};

/// An element of M: what the emits and sums need to know of it.
struct Kept {
    size_t k;
    double raw, score, weight;
};

/// A clause with a value of its own evaluator, if the attention has it.
class Clause {
public:
    Clause(const Attention& attention, const Bindings& bindings, NodeId root) {
        if (root.valid()) evaluator_ = std::make_unique<Evaluator>(attention, bindings, std::vector{root});
    }
    [[nodiscard]] bool present() const { return evaluator_ != nullptr; }
    double at(const Point& point) { return evaluator_->at(point)[0]; }

private:
    std::unique_ptr<Evaluator> evaluator_;
};

class Interpreter {
public:
    Interpreter(const Attention& attention, const Bindings& bindings, const AttentionInput& input)
        : attention_(attention),
          bindings_(bindings),
          input_(input),
          shape_(bindings),
          scale_(attention, bindings, attention.scale),
          score_(attention, bindings, attention.score),
          mask_(attention, bindings, attention.mask),
          sink_(attention, bindings, attention.sink),
          output_(attention, bindings, attention.output),
          query_(attention, bindings, attention.query),
          key_(attention, bindings, attention.key) {
        const auto kv_batch = static_cast<size_t>(input.kv_batch);
        FLEX_CHECK(input.q.size() == shape_.b * shape_.h * shape_.q * shape_.d, "q is [B, H, Q, D]");
        FLEX_CHECK(input.kv_batch == 1 || kv_batch == shape_.b, "the KV batch is B or 1");
        FLEX_CHECK(input.k.size() == kv_batch * shape_.hkv * shape_.k * shape_.d, "k is [B|1, HKV, K, D]");
        FLEX_CHECK(input.v.size() == kv_batch * shape_.hkv * shape_.k * shape_.dv, "v is [B|1, HKV, K, DV]");
        for (const Emit& emit : attention.emits) emits_.emplace_back(attention, bindings, emit.value);
    }

    AttentionOutput run(const std::function<bool()>& cancelled) {
        const size_t rows = shape_.b * shape_.h * shape_.q;
        out_.o.assign(rows * shape_.dv, 0.0);
        out_.lse.assign(rows, -kInf);
        out_.max_score.assign(rows, -kInf);
        for (const Emit& emit : attention_.emits)
            out_.emits.emplace_back(emit.name, std::vector<double>(emit.kind == Emit::Kind::Mean ? rows : shape_.b * shape_.h * shape_.k));
        for (size_t b = 0; b < shape_.b; ++b)
            for (size_t h = 0; h < shape_.h; ++h) {
                load_keys(b, h);
                for (size_t q = 0; q < shape_.q; ++q) {
                    if (cancelled && cancelled()) return std::move(out_);
                    row(b, h, q);
                }
            }
        return std::move(out_);
    }

private:
    static Point point_at(size_t b, size_t h, size_t q) {
        Point point;
        point.b = static_cast<int32_t>(b), point.h = static_cast<int32_t>(h), point.q = static_cast<int32_t>(q);
        return point;
    }
    [[nodiscard]] size_t kv_row(size_t b, size_t h, size_t k) const {
        return ((input_.kv_batch == 1 ? 0 : b) * shape_.hkv + shape_.kv_head(h)) * shape_.k + k;
    }

    void load_keys(size_t b, size_t h);
    std::span<const double> query_row(Point point, size_t row_number);
    void allow_regions(size_t b, size_t h, size_t q);
    [[nodiscard]] bool in_allowed_region(size_t k) const;
    void collect(Point point, size_t row_number);
    void weigh(Point point, size_t row_number);
    void row(size_t b, size_t h, size_t q);

    const Attention& attention_;
    const Bindings& bindings_;
    const AttentionInput& input_;
    const Shape shape_;
    Clause scale_, score_, mask_, sink_, output_, query_, key_;
    std::vector<Clause> emits_;
    AttentionOutput out_;
    std::vector<double> keys_;       // [K, D], transformed
    std::vector<double> query_row_;  // [D], transformed
    std::vector<bool> region_allowed_;
    std::vector<Kept> kept_;  // of the current row
};

void Interpreter::load_keys(size_t b, size_t h) {
    const double* from = input_.k.data() + kv_row(b, h, 0) * shape_.d;
    keys_.assign(from, from + shape_.k * shape_.d);
    if (!key_.present()) return;
    Point point = point_at(b, h, 0);
    for (size_t k = 0; k < shape_.k; ++k) {
        point.k = static_cast<int32_t>(k);
        point.key_row = std::span(from + k * shape_.d, shape_.d);
        for (size_t d = 0; d < shape_.d; ++d) {
            point.d = static_cast<int32_t>(d);
            keys_[k * shape_.d + d] = key_.at(point);
        }
    }
}

std::span<const double> Interpreter::query_row(Point point, size_t row_number) {
    const std::span<const double> raw(input_.q.data() + row_number * shape_.d, shape_.d);
    if (!query_.present()) return raw;
    query_row_.resize(shape_.d);
    point.query_row = raw;
    for (size_t d = 0; d < shape_.d; ++d) {
        point.d = static_cast<int32_t>(d);
        query_row_[d] = query_.at(point);
    }
    return query_row_;
}

void Interpreter::allow_regions(size_t b, size_t h, size_t q) {
    const InterpTensor& routes = bindings_.tensors[*attention_.blocks];
    const auto dim = [&](size_t i) { return static_cast<size_t>(std::max(routes.dim[i], 0)); };
    const size_t regions = dim(2), listed = dim(3);
    region_allowed_.assign(regions, false);
    if (regions == 0) return;
    const size_t region = q / std::max<size_t>((shape_.q + regions - 1) / regions, 1);
    const size_t batch = dim(0) == 1 ? 0 : b, head = dim(1) == 1 ? 0 : h;
    if (batch >= dim(0) || head >= dim(1) || region >= regions) return;
    const double* list = routes.values.data() + ((batch * dim(1) + head) * regions + region) * listed;
    for (size_t j = 0; j < listed; ++j)
        if (list[j] >= 0 && list[j] < static_cast<double>(regions)) region_allowed_[static_cast<size_t>(list[j])] = true;
}

bool Interpreter::in_allowed_region(size_t k) const {
    if (!attention_.blocks) return true;
    const size_t regions = region_allowed_.size();
    return regions != 0 && region_allowed_[k / ((shape_.k + regions - 1) / regions)];
}

/// M with its scores. Nothing is computed of an element under a false mask; a score of -inf leaves M.
void Interpreter::collect(Point point, size_t row_number) {
    kept_.clear();
    const double scale = scale_.present() ? scale_.at(point) : 1.0 / std::sqrt(static_cast<double>(shape_.d));
    const std::span<const double> query = query_row(point, row_number);
    for (size_t k = 0; k < shape_.k; ++k) {
        point.k = static_cast<int32_t>(k);
        if (!in_allowed_region(k) || mask_.at(point) == 0) continue;
        double product = 0;
        for (size_t d = 0; d < shape_.d; ++d) product += query[d] * keys_[k * shape_.d + d];
        point.score = scale * product;
        const double score = score_.at(point);
        if (score == -kInf) continue;
        kept_.push_back({k, point.score, score, 0.0});
    }
}

/// lse, max_score, and the weight of each element.
void Interpreter::weigh(Point point, size_t row_number) {
    double most = -kInf;
    for (const Kept& element : kept_) most = std::isnan(element.score) || std::isnan(most) ? kNaN : std::max(most, element.score);
    const bool softmax = attention_.normalize == Normalize::Softmax;
    out_.max_score[row_number] = softmax && most == kInf ? kNaN : most;
    const double sink = softmax && sink_.present() ? sink_.at(point) : -kInf;
    const double top = std::isnan(sink) ? kNaN : std::max(most, sink);
    double sum = 0;  // NaN if top is NaN or +inf, and with it lse and the weights
    if (top != -kInf) {
        sum = std::exp(sink - top);
        for (const Kept& element : kept_) sum += std::exp(element.score - top);
    }
    out_.lse[row_number] = top + std::log(sum);
    for (Kept& element : kept_) switch (attention_.normalize) {
            // Not exp(s - lse): at -1e30 the logarithm of the sum is below the rounding of lse.
            case Normalize::Softmax: element.weight = std::exp(element.score - top) / sum; break;
            case Normalize::Sigmoid: element.weight = 1.0 / (1.0 + std::exp(-element.score)); break;
            case Normalize::None: element.weight = element.score; break;
        }
}

void Interpreter::row(size_t b, size_t h, size_t q) {
    const size_t row_number = (b * shape_.h + h) * shape_.q + q;
    Point point = point_at(b, h, q);
    if (attention_.blocks) allow_regions(b, h, q);
    collect(point, row_number);
    weigh(point, row_number);

    double* o = out_.o.data() + row_number * shape_.dv;
    for (const Kept& element : kept_) {
        const double* v = input_.v.data() + kv_row(b, h, element.k) * shape_.dv;
        for (size_t d = 0; d < shape_.dv; ++d) o[d] += element.weight * v[d];
    }
    for (size_t e = 0; e < emits_.size(); ++e) {
        std::vector<double>& values = out_.emits[e].second;
        for (const Kept& element : kept_) {
            if (element.weight == 0) continue;
            point.k = static_cast<int32_t>(element.k);
            point.score = element.raw;
            point.weight = element.weight;
            const size_t where = attention_.emits[e].kind == Emit::Kind::Mean ? row_number : (b * shape_.h + h) * shape_.k + element.k;
            values[where] += element.weight * emits_[e].at(point);
        }
    }
    if (!output_.present()) return;
    point = point_at(b, h, q);
    for (size_t d = 0; d < shape_.dv; ++d) {
        point.d = static_cast<int32_t>(d);
        point.out = o[d];
        o[d] = output_.at(point);
    }
}

}  // namespace

AttentionOutput interpret(const Attention& attention, const Bindings& bindings, const AttentionInput& input,
                          const std::function<bool()>& cancelled) {
    return Interpreter(attention, bindings, input).run(cancelled);
}

}  // namespace flexc::ir
