#include "model.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "copy_back.h"  // made from copy_back.flex

namespace {

using Array = std::vector<float>;

size_t at(int64_t index) {
    return static_cast<size_t>(index);
}

/// out = a b, or out += a b: a is n by m, b is m by p, all dense.
void multiply(const Array& a, const Array& b, int64_t n, int64_t m, int64_t p, Array* out, bool add = false) {
    if (!add) std::fill(out->begin(), out->end(), 0.0f);
    for (int64_t i = 0; i < n; ++i) {
        float* row = out->data() + i * p;
        for (int64_t j = 0; j < m; ++j) {
            const float factor = a[at(i * m + j)];
            const float* from = b.data() + j * p;
            for (int64_t c = 0; c < p; ++c) row[c] += factor * from[c];
        }
    }
}

/// a is n by m; its transpose.
Array transposed(const Array& a, int64_t n, int64_t m) {
    Array out(a.size());
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < m; ++j) out[at(j * n + i)] = a[at(i * m + j)];
    return out;
}

/// Of out = a w, with a n by m and w m by p: d_w = a^T d_out, and d_a += d_out w^T.
void multiply_backward(const Array& a, const Array& d_out, int64_t n, int64_t m, int64_t p, Parameter* w, Array* d_a) {
    std::fill(w->gradient.begin(), w->gradient.end(), 0.0f);
    for (int64_t i = 0; i < n; ++i) {
        const float* from = d_out.data() + i * p;
        for (int64_t j = 0; j < m; ++j) {
            const float factor = a[at(i * m + j)];
            float* row = w->gradient.data() + j * p;
            for (int64_t c = 0; c < p; ++c) row[c] += factor * from[c];
        }
    }
    multiply(d_out, transposed(w->value, m, p), n, p, m, d_a, true);
}

}  // namespace

Place::~Place() {
    for (const auto& [array, copy] : copies_) (void)device_->free(copy);
}

flex::Status Place::open(bool gpu, int threads) {
    stream_ = gpu ? flex::Stream::cuda(nullptr) : flex::Stream::cpu(threads);
    return gpu ? flex::CudaDevice::open(0, &device_) : flex::Status();
}

flex::Status Place::address(std::vector<float>& array, void** out) {
    *out = array.data();
    if (!device_) return {};
    const auto found = copies_.find(array.data());
    if (found != copies_.end()) {
        *out = found->second;
        return {};
    }
    flex::Status status = device_->allocate(array.size() * sizeof(float), out);
    if (status.ok()) copies_[array.data()] = *out;
    return status;
}

flex::Status Place::send(const std::vector<float>& array) {
    return device_ ? device_->to_device(copies_.at(array.data()), array.data(), array.size() * sizeof(float)) : flex::Status();
}

flex::Status Place::fetch(std::vector<float>& array) {
    return device_ ? device_->to_host(array.data(), copies_.at(array.data()), array.size() * sizeof(float)) : flex::Status();
}

Model::Model(const Sizes& sizes, uint32_t seed, Place& place) : sizes_(sizes), place_(place), rows_(sizes.batch * sizes.length) {
    const int64_t width = sizes.width;
    std::mt19937 random(seed);  // the same numbers everywhere, as distributions of the library are not
    const auto add = [&](const char* name, int64_t rows, int64_t columns, double deviation) {
        Parameter& made = parameters_.emplace_back();
        made.name = name;
        made.shape = {rows, columns};
        made.value.resize(at(rows * columns));
        for (float& x : made.value) x = static_cast<float>((random() / 2147483648.0 - 1.0) * std::sqrt(3.0) * deviation);
        made.gradient = made.mean = made.square = Array(made.value.size());
    };
    const double by_width = 1 / std::sqrt(static_cast<double>(width));
    add("embedding", sizes.vocabulary, width, 1);
    add("wq", width, width, by_width);
    add("wk", width, width, by_width);
    add("wv", width, width, by_width);
    add("bias", sizes.heads, sizes.buckets, 0);
    add("wo", width, width, by_width);
    add("readout", width, sizes.vocabulary, 0.1 * by_width);  // small: the first guesses are nearly uniform
    for (Array* each : {&x_, &q_, &k_, &v_, &o_, &y_, &dx_, &dq_, &dk_, &dv_, &d_o_, &dy_, &product_}) each->resize(at(rows_ * width));
    for (Array* each : {&logits_, &d_logits_}) each->resize(at(rows_ * sizes.vocabulary));
    lse_.resize(at(rows_ * sizes.heads));
}

/// Views of all that the attention reads and writes. Heads lie side by side in a row, which a view says by its strides: nothing is transposed.
flex::Status Model::bind_arrays() {
    const int64_t head_dim = sizes_.width / sizes_.heads;
    flex::Status status;
    const auto view = [&](Array& array, flex::Tensor* out) {
        *out = flex::Tensor::contiguous(nullptr, flex::DType::F32, {sizes_.batch, sizes_.heads, sizes_.length, head_dim});
        out->stride = {sizes_.length * sizes_.width, head_dim, sizes_.width, 1};
        if (status.ok()) status = place_.address(array, &out->data);
    };
    view(q_, &arrays_.q);
    view(k_, &arrays_.k);
    view(v_, &arrays_.v);
    view(o_, &arrays_.o);
    Array* gradients[] = {&d_o_, &dq_, &dk_, &dv_};
    for (size_t i = 0; i < 4; ++i) view(*gradients[i], &views_[i]);
    arrays_.lse = flex::Tensor::contiguous(nullptr, flex::DType::F32, {sizes_.batch, sizes_.heads, sizes_.length});
    if (status.ok()) status = place_.address(lse_, &arrays_.lse.data);
    Array* tables[] = {&parameters_[kBias].value, &parameters_[kBias].gradient};
    for (size_t i = 0; i < 2; ++i) {
        views_[4 + i] = flex::Tensor::contiguous(nullptr, flex::DType::F32, {sizes_.heads, sizes_.buckets});
        if (status.ok()) status = place_.address(*tables[i], &views_[4 + i].data);
    }
    return status;
}

flex::Status Model::attend() {
    for (const Array* each : {&q_, &k_, &v_, &parameters_[kBias].value})
        if (flex::Status status = place_.send(*each); !status.ok()) return status;
    copy_back::Args args;
    args.bias = views_[4];
    if (flex::Status status = copy_back::forward(place_.stream(), arrays_, args); !status.ok()) return status;
    return place_.fetch(o_);
}

flex::Status Model::attend_backward() {
    if (flex::Status status = place_.send(d_o_); !status.ok()) return status;
    copy_back::Args args;
    args.bias = views_[4];
    copy_back::Gradients gradients;
    gradients.d_o = views_[0];
    gradients.dq = views_[1];
    gradients.dk = views_[2];
    gradients.dv = views_[3];
    gradients.d_bias = views_[5];
    if (flex::Status status = copy_back::backward(place_.stream(), arrays_, gradients, args); !status.ok()) return status;
    for (Array* each : {&dq_, &dk_, &dv_, &parameters_[kBias].gradient})
        if (flex::Status status = place_.fetch(*each); !status.ok()) return status;
    return {};
}

/// The loss; leaves its derivative in d_logits_.
double Model::cross_entropy(const std::vector<int32_t>& targets) {
    const int64_t classes = sizes_.vocabulary;
    const auto counted = static_cast<float>(std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; }));
    double loss = 0;
    int64_t right = 0;
    for (int64_t i = 0; i < rows_; ++i) {
        const float* logits = logits_.data() + i * classes;
        float* derivative = d_logits_.data() + i * classes;
        const int32_t target = targets[at(i)];
        std::fill(derivative, derivative + classes, 0.0f);
        if (target < 0) continue;
        const float* largest = std::max_element(logits, logits + classes);
        float sum = 0;
        for (int64_t c = 0; c < classes; ++c) sum += derivative[c] = std::exp(logits[c] - *largest);
        for (int64_t c = 0; c < classes; ++c) derivative[c] = (derivative[c] / sum - (c == target ? 1.0f : 0.0f)) / counted;
        loss += std::log(sum) + *largest - logits[target];
        right += largest - logits == target;
    }
    accuracy_ = static_cast<double>(right) / counted;
    return loss / counted;
}

flex::Status Model::forward_backward(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets, double* loss) {
    const int64_t width = sizes_.width;
    if (!arrays_.q.data)
        if (flex::Status status = bind_arrays(); !status.ok()) return status;
    auto& p = parameters_;
    for (int64_t i = 0; i < rows_; ++i) std::copy_n(p[kEmbedding].value.begin() + tokens[at(i)] * width, width, x_.begin() + i * width);
    multiply(x_, p[kWq].value, rows_, width, width, &q_);
    multiply(x_, p[kWk].value, rows_, width, width, &k_);
    multiply(x_, p[kWv].value, rows_, width, width, &v_);
    if (flex::Status status = attend(); !status.ok()) return status;
    y_ = x_;
    multiply(o_, p[kWo].value, rows_, width, width, &y_, true);
    multiply(y_, p[kReadout].value, rows_, width, sizes_.vocabulary, &logits_);
    *loss = cross_entropy(targets);

    std::fill(dy_.begin(), dy_.end(), 0.0f);
    multiply_backward(y_, d_logits_, rows_, width, sizes_.vocabulary, &p[kReadout], &dy_);
    dx_ = dy_;
    std::fill(d_o_.begin(), d_o_.end(), 0.0f);
    multiply_backward(o_, dy_, rows_, width, width, &p[kWo], &d_o_);
    if (flex::Status status = attend_backward(); !status.ok()) return status;
    multiply_backward(x_, dq_, rows_, width, width, &p[kWq], &dx_);
    multiply_backward(x_, dk_, rows_, width, width, &p[kWk], &dx_);
    multiply_backward(x_, dv_, rows_, width, width, &p[kWv], &dx_);
    std::fill(p[kEmbedding].gradient.begin(), p[kEmbedding].gradient.end(), 0.0f);
    for (int64_t i = 0; i < rows_; ++i)
        for (int64_t c = 0; c < width; ++c) p[kEmbedding].gradient[at(tokens[at(i)] * width + c)] += dx_[at(i * width + c)];
    return {};
}

void Model::update(float rate) {
    constexpr float kMean = 0.9f, kSquare = 0.999f, kLeast = 1e-8f;
    ++updates_;
    const auto whole_mean = static_cast<float>(1 - std::pow(0.9, updates_)),
               whole_square = static_cast<float>(1 - std::pow(0.999, updates_));
    for (Parameter& p : parameters_) {
        for (size_t i = 0; i < p.value.size(); ++i) {
            const float gradient = p.gradient[i];
            p.mean[i] = kMean * p.mean[i] + (1 - kMean) * gradient;
            p.square[i] = kSquare * p.square[i] + (1 - kSquare) * gradient * gradient;
            p.value[i] -= rate * (p.mean[i] / whole_mean) / (std::sqrt(p.square[i] / whole_square) + kLeast);
        }
    }
}
