// One layer of attention between an embedding and a readout, with the gradients of everything:
//
//     x = embedding[token];   o = attention(x wq, x wk, x wv, bias);   logits = (x + o wo) readout
//     loss = mean over the positions that have a target of  -log softmax(logits)[target]
//
// The attention is copy_back.flex, forward and backward, on the CPU or a GPU. The rest is written here in plain loops of one thread, in float32,
// on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/stream.h"

/// The device of the attention. On the CPU an array is used where it is; on a GPU it has a copy there.
class Place {
public:
    Place() = default;
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    /// `threads` of the CPU; 0: all.
    flex::Status open(bool gpu, int threads);
    [[nodiscard]] std::string name() const { return device_ ? device_->name() : "the CPU"; }
    [[nodiscard]] const flex::Stream& stream() const { return stream_; }

    /// Where the attention finds `array`, which must keep its size and place.
    flex::Status address(std::vector<float>& array, void** out);
    /// Copies an array to the device, or back from it.
    flex::Status send(const std::vector<float>& array);
    flex::Status fetch(std::vector<float>& array);

private:
    std::unique_ptr<flex::CudaDevice> device_;  // null: the CPU
    flex::Stream stream_ = flex::Stream::cpu();
    std::map<const float*, void*> copies_;
};

struct Parameter {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> value, gradient;
    std::vector<float> mean, square;  // running, of Adam
};

struct Sizes {
    int64_t batch = 16, length = 64, vocabulary = 16, width = 32, heads = 2, buckets = 32;
};

class Model {
public:
    Model(const Sizes& sizes, uint32_t seed, Place& place);

    /// Tokens and targets are [batch, length]; a target of -1 is none. Leaves the gradients in the parameters.
    flex::Status forward_backward(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets, double* loss);
    /// Of the last forward_backward: the share of targets that had the largest logit.
    [[nodiscard]] double accuracy() const { return accuracy_; }
    /// One step of Adam (Kingma and Ba, 2015) with its usual constants.
    void update(float rate);

    [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
    [[nodiscard]] const Parameter& bias() const { return parameters_[kBias]; }

private:
    enum { kEmbedding, kWq, kWk, kWv, kBias, kWo, kReadout };
    using Array = std::vector<float>;

    flex::Status attend();
    flex::Status attend_backward();
    flex::Status bind_arrays();
    double cross_entropy(const std::vector<int32_t>& targets);

    const Sizes sizes_;
    Place& place_;
    std::vector<Parameter> parameters_;
    int64_t rows_;  // batch * length
    Array x_, q_, k_, v_, o_, lse_, y_,
        logits_;  // rows by width, in the layout [batch, length, heads, head_dim]; lse [batch, heads, length]
    Array dx_, dq_, dk_, dv_, d_o_, dy_, d_logits_, product_;  // the same
    flex::AttentionArrays arrays_;                             // views of q, k, v, o, lse
    flex::Tensor views_[6];                                    // of d_o, dq, dk, dv; of the bias and its gradient
    double accuracy_ = 0;
    int updates_ = 0;
};
