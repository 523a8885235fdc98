#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "json.h"
#include "minilm.h"  // made from examples/demo/minilm.flex

namespace {

constexpr size_t kSentenceLimit = 256;  // the length that the model was trained for

std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": it cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

void demand(const flex::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.text());
}

}  // namespace

// Tiles of 4 rows by 64 outputs stay in registers and in the first-level cache; the loops over outputs become vector code.
void Linear::apply(const float* x, size_t rows, float* y) const {
    constexpr size_t kRows = 4, kOut = 64;
    for (size_t r0 = 0; r0 < rows; r0 += kRows) {
        const size_t count = std::min(kRows, rows - r0);
        for (size_t c0 = 0; c0 < out; c0 += kOut) {
            const size_t width = std::min(kOut, out - c0);
            float sum[kRows][kOut] = {};
            for (size_t i = 0; i < in; ++i) {
                const float* w = &weight[i * out + c0];
                if (width == kOut && count == kRows) {
                    for (size_t r = 0; r < kRows; ++r)
                        for (size_t c = 0; c < kOut; ++c) sum[r][c] += x[(r0 + r) * in + i] * w[c];
                } else {
                    for (size_t r = 0; r < count; ++r)
                        for (size_t c = 0; c < width; ++c) sum[r][c] += x[(r0 + r) * in + i] * w[c];
                }
            }
            for (size_t r = 0; r < count; ++r)
                for (size_t c = 0; c < width; ++c) y[(r0 + r) * out + c0 + c] = sum[r][c] + bias[c0 + c];
        }
    }
}

void Encoder::Norm::apply(float* x, size_t rows, size_t width, float epsilon) const {
    for (size_t r = 0; r < rows; ++r, x += width) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < width; ++i) mean += x[i];
        mean /= static_cast<double>(width);
        for (size_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
        const double scale = 1 / std::sqrt(square / static_cast<double>(width) + static_cast<double>(epsilon));
        for (size_t i = 0; i < width; ++i) x[i] = static_cast<float>((x[i] - mean) * scale) * weight[i] + bias[i];
    }
}

Encoder::Encoder(const std::string& folder, flex::CudaDevice* device)
    : file_(folder + "/model.safetensors"), device_(device), stream_(device ? flex::Stream::cuda(nullptr) : flex::Stream::cpu()) {
    const Json config = parse_json(read_text(folder + "/config.json"));
    width_ = config.at("hidden_size").size();
    heads_ = config.at("num_attention_heads").size();
    epsilon_ = static_cast<float>(config.at("layer_norm_eps").number);
    const size_t inner = config.at("intermediate_size").size(), depth = config.at("num_hidden_layers").size();
    if (config.at("hidden_act").string != "gelu") throw std::runtime_error("the model's activation is not `gelu`");
    if (width_ == 0 || heads_ == 0 || width_ % heads_ != 0) throw std::runtime_error("the heads do not divide the model's width");

    const SafeTensors::View words = file_.f32("embeddings.word_embeddings.weight", {0, width_});
    const SafeTensors::View positions = file_.f32("embeddings.position_embeddings.weight", {0, width_});
    word_ = words.data;
    words_ = words.shape[0];
    position_ = positions.data;
    longest_ = std::min(positions.shape[0], kSentenceLimit);
    type_ = file_.f32("embeddings.token_type_embeddings.weight", {0, width_}).data;
    embedding_norm_ = norm("embeddings.LayerNorm");
    for (size_t i = 0; i < depth; ++i) {
        const std::string name = "encoder.layer." + std::to_string(i) + ".";
        layers_.push_back({linear(name + "attention.self.query", width_, width_), linear(name + "attention.self.key", width_, width_),
                           linear(name + "attention.self.value", width_, width_), linear(name + "attention.output.dense", width_, width_),
                           linear(name + "intermediate.dense", width_, inner), linear(name + "output.dense", inner, width_),
                           norm(name + "attention.output.LayerNorm"), norm(name + "output.LayerNorm")});
    }
}

Linear Encoder::linear(const std::string& name, size_t in, size_t out) const {
    Linear made{in, out, std::vector<float>(in * out), file_.f32(name + ".bias", {out}).data};
    const float* weight = file_.f32(name + ".weight", {out, in}).data;
    for (size_t o = 0; o < out; ++o)
        for (size_t i = 0; i < in; ++i) made.weight[i * out + o] = weight[o * in + i];
    return made;
}

Encoder::Norm Encoder::norm(const std::string& name) const {
    return {file_.f32(name + ".weight", {width_}).data, file_.f32(name + ".bias", {width_}).data};
}

/// Memory of the device for one launch. Without a device: the host's.
struct Encoder::DeviceArray {
    DeviceArray(flex::CudaDevice* on, void* host, size_t size) : device(on), data(host), bytes(size) {
        if (!device) return;
        data = nullptr;
        demand(device->allocate(bytes, &data));
        const flex::Status status = device->to_device(data, host, bytes);
        if (status.ok()) return;
        (void)device->free(data);
        demand(status);
    }
    ~DeviceArray() {
        if (device) (void)device->free(data);
    }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;

    flex::CudaDevice* device;
    void* data;
    size_t bytes;
};

void Encoder::attend(std::vector<float>& q, std::vector<float>& k, std::vector<float>& v, std::vector<float>& o,
                     std::vector<int32_t>& lengths, size_t batch, size_t length) {
    const size_t bytes = batch * length * width_ * sizeof(float);
    const DeviceArray dq(device_, q.data(), bytes), dk(device_, k.data(), bytes), dv(device_, v.data(), bytes),
        to(device_, o.data(), bytes), len(device_, lengths.data(), batch * sizeof(int32_t));
    // [B, H, S, D] as a view of [B, S, H * D]: nothing is moved.
    const auto view = [&](const DeviceArray& array) {
        const auto b = static_cast<int64_t>(batch), s = static_cast<int64_t>(length), h = static_cast<int64_t>(heads_);
        const auto w = static_cast<int64_t>(width_), d = w / h;
        flex::Tensor tensor = flex::Tensor::contiguous(array.data, flex::DType::F32, {b, h, s, d});
        tensor.stride[0] = s * w;
        tensor.stride[1] = d;
        tensor.stride[2] = w;
        return tensor;
    };
    demand(minilm::forward(stream_, {view(dq), view(dk), view(dv), view(to)},
                           {flex::Tensor::contiguous(len.data, flex::DType::I32, {static_cast<int64_t>(batch)})}));
    if (device_) demand(device_->to_host(o.data(), to.data, bytes));
}

std::vector<float> Encoder::encode(const std::vector<std::vector<int32_t>>& sentences) {
    const size_t batch = sentences.size();
    size_t length = 0;
    std::vector<int32_t> lengths;
    for (const auto& sentence : sentences) {
        if (sentence.empty() || sentence.size() > longest_) throw std::runtime_error("a sentence has no word pieces, or too many");
        length = std::max(length, sentence.size());
        lengths.push_back(static_cast<int32_t>(sentence.size()));
    }
    const size_t rows = batch * length;
    std::vector<float> x(rows * width_);
    for (size_t b = 0; b < batch; ++b) {
        for (size_t s = 0; s < length; ++s) {
            // Padding is any word: nobody looks at it.
            const auto word = s < sentences[b].size() ? static_cast<size_t>(sentences[b][s]) : 0;
            if (word >= words_) throw std::runtime_error("the vocabulary and the model do not belong together");
            for (size_t i = 0; i < width_; ++i)
                x[(b * length + s) * width_ + i] = word_[word * width_ + i] + position_[s * width_ + i] + type_[i];
        }
    }
    embedding_norm_.apply(x.data(), rows, width_, epsilon_);

    std::vector<float> q(x.size()), k(x.size()), v(x.size()), o(x.size()), y(x.size()), hidden;
    for (const Layer& layer : layers_) {
        layer.query.apply(x.data(), rows, q.data());
        layer.key.apply(x.data(), rows, k.data());
        layer.value.apply(x.data(), rows, v.data());
        attend(q, k, v, o, lengths, batch, length);
        layer.output.apply(o.data(), rows, y.data());
        for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
        layer.after_attention.apply(x.data(), rows, width_, epsilon_);

        hidden.resize(rows * layer.up.out);
        layer.up.apply(x.data(), rows, hidden.data());
        for (float& each : hidden) each = 0.5f * each * (1.0f + std::erf(each * 0.70710678f));  // GELU
        layer.down.apply(hidden.data(), rows, y.data());
        for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
        layer.after_mlp.apply(x.data(), rows, width_, epsilon_);
    }

    // The mean over a sentence's own tokens, made a unit vector.
    std::vector<float> out(batch * width_);
    for (size_t b = 0; b < batch; ++b) {
        std::vector<double> mean(width_);
        for (size_t s = 0; s < sentences[b].size(); ++s)
            for (size_t i = 0; i < width_; ++i) mean[i] += x[(b * length + s) * width_ + i];
        double square = 0;
        for (const double each : mean) square += each * each;
        const double scale = 1 / std::max(std::sqrt(square), 1e-12);
        for (size_t i = 0; i < width_; ++i) out[b * width_ + i] = static_cast<float>(mean[i] * scale);
    }
    return out;
}
