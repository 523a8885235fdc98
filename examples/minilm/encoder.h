// all-MiniLM-L6-v2 and other BERT encoders of the same make: sentences -> unit vectors. Every layer's attention is the linked kernel of
// examples/demo/minilm.flex; the rest (products with weights, GELU, layer norms) is plain C++ in f32.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda.h"
#include "runtime/stream.h"
#include "safetensors.h"

/// One linear map, its weights turned so that outputs are contiguous: [in, out].
struct Linear {
    size_t in = 0, out = 0;
    std::vector<float> weight;
    const float* bias = nullptr;
    /// y [rows, out] = x [rows, in] weight + bias
    void apply(const float* x, size_t rows, float* y) const;
};

class Encoder {
public:
    /// `folder` holds model.safetensors and config.json. `device` null: attention on the CPU. Throws std::runtime_error.
    Encoder(const std::string& folder, flex::CudaDevice* device);

    /// One unit vector of `width()` numbers for each sentence, row after row. Sentences are lists of word pieces, at most `longest()` each. Throws
    /// std::runtime_error with what the attention said.
    [[nodiscard]] std::vector<float> encode(const std::vector<std::vector<int32_t>>& sentences);
    [[nodiscard]] size_t width() const { return width_; }
    [[nodiscard]] size_t longest() const { return longest_; }

private:
    struct Norm {
        const float *weight, *bias;
        void apply(float* x, size_t rows, size_t width, float epsilon) const;
    };
    struct Layer {
        Linear query, key, value, output, up, down;
        Norm after_attention, after_mlp;
    };
    struct DeviceArray;

    Linear linear(const std::string& name, size_t in, size_t out) const;
    Norm norm(const std::string& name) const;
    /// o = attention of q, k, v: all [batch, length, width], heads side by side in a row.
    void attend(std::vector<float>& q, std::vector<float>& k, std::vector<float>& v, std::vector<float>& o, std::vector<int32_t>& lengths,
                size_t batch, size_t length);

    SafeTensors file_;
    flex::CudaDevice* device_;
    flex::Stream stream_;
    size_t width_ = 0, heads_ = 0, longest_ = 0, words_ = 0;
    float epsilon_ = 1e-12f;
    const float *word_ = nullptr, *position_ = nullptr, *type_ = nullptr;
    Norm embedding_norm_{};
    std::vector<Layer> layers_;
};
