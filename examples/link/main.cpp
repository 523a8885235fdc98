// An application with compiled attentions inside: two .flex files, built ahead of time for the CPU and for GPUs into one header and one object each.
//
//   link                  runs them on the CPU
//   link --device cuda    runs them on the first GPU, by the same calls (FLEX_CUDA_DRIVER=.../libflexemu_cuda.so: on the emulated one)
//
// Random bf16 arrays go in; what comes out is compared with plain loops. Exit code 0 if it agrees, 3 if there is no such device.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "alibi_window.h"  // made from examples/demo/alibi_window.flex
#include "document.h"      // made from examples/gallery/document.flex

namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kLength = 300, kDim = 64;
constexpr int32_t kWindow = 40;
// o is rounded to bf16 (relative 2^-9), the weights may be before they meet V; |o| < 4.
constexpr double kTolerance = 3e-2;

float from_bf16(uint16_t bits) {
    const uint32_t wide = uint32_t{bits} << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t to_bf16(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

std::vector<uint16_t> random_array(uint32_t seed, int64_t heads) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> out(static_cast<size_t>(heads * kLength * kDim));
    std::generate(out.begin(), out.end(), [&] { return to_bf16(normal(engine)); });
    return out;
}

/// Where the attention runs and where its arrays live. On the CPU that is here; on a GPU everything is copied.
struct Place {
    std::unique_ptr<flex::CudaDevice> device;  // null: the CPU
    flex::Stream stream = flex::Stream::cpu();
    std::vector<void*> allocated;

    ~Place() {
        for (void* memory : allocated) (void)device->free(memory);
    }

    flex::Status open(bool gpu) {
        if (!gpu) return {};
        stream = flex::Stream::cuda(nullptr);
        return flex::CudaDevice::open(0, &device);
    }
    template <class T>
    flex::Status give(std::vector<T>& array, flex::DType type, std::initializer_list<int64_t> shape, flex::Tensor* view) {
        *view = flex::Tensor::contiguous(array.data(), type, shape);
        if (!device) return {};
        const size_t bytes = array.size() * sizeof(T);
        if (flex::Status status = device->allocate(bytes, &view->data); !status.ok()) return status;
        allocated.push_back(view->data);
        return device->to_device(view->data, array.data(), bytes);
    }
    template <class T>
    flex::Status take(const flex::Tensor& view, std::vector<T>* array) {
        return device ? device->to_host(array->data(), view.data, array->size() * sizeof(T)) : flex::Status();
    }
};

/// The largest difference of o from its definition over some rows. `score` and `keep` say what the .flex file says.
double largest_error(const std::vector<uint16_t>& q, const std::vector<uint16_t>& k, const std::vector<uint16_t>& v,
                     const std::vector<uint16_t>& o, const std::function<double(double, int64_t, int64_t, int64_t)>& score,
                     const std::function<bool(int64_t, int64_t)>& keep) {
    double worst = 0;
    for (int64_t h = 0; h < kHeads; ++h) {
        const int64_t kv = h / (kHeads / kKvHeads);
        for (int64_t row = 0; row < kLength; row += 37) {
            std::vector<double> sum(kDim);
            double total = 0;
            for (int64_t col = 0; col < kLength; ++col) {
                if (!keep(row, col)) continue;
                double dot = 0;
                for (int64_t d = 0; d < kDim; ++d)
                    dot += double{from_bf16(q[static_cast<size_t>((h * kLength + row) * kDim + d)])} *
                           from_bf16(k[static_cast<size_t>((kv * kLength + col) * kDim + d)]);
                const double weight = std::exp(score(dot / std::sqrt(double{kDim}), h, row, col));
                total += weight;
                for (int64_t d = 0; d < kDim; ++d)
                    sum[static_cast<size_t>(d)] += weight * from_bf16(v[static_cast<size_t>((kv * kLength + col) * kDim + d)]);
            }
            for (int64_t d = 0; d < kDim; ++d) {
                const double got = from_bf16(o[static_cast<size_t>((h * kLength + row) * kDim + d)]);
                const double error = std::abs(got - sum[static_cast<size_t>(d)] / total);
                worst = std::isnan(error) ? INFINITY : std::max(worst, error);
            }
        }
    }
    return worst;
}

int fail(const flex::Status& status) {
    std::fprintf(stderr, "link: %s\n", status.text().c_str());
    return status.code() == flex::Code::DeviceError ? 3 : 1;
}

int run(Place& place) {
    std::vector<uint16_t> q = random_array(1, kHeads), k = random_array(2, kKvHeads), v = random_array(3, kKvHeads), o(q.size());
    std::vector<float> slope = {-0.5f, -0.25f, -0.125f, -0.0625f};
    std::vector<int32_t> doc(static_cast<size_t>(kLength)), off = {0, 100, 101, 230};  // four documents of 100, 1, 129 and 70 tokens
    for (size_t i = 0; i < doc.size(); ++i) doc[i] = int32_t(std::upper_bound(off.begin(), off.end(), int32_t(i)) - off.begin()) - 1;

    flex::AttentionArrays arrays;
    flex::Tensor slopes, docs, offsets;
    for (const flex::Status& status :
         {place.give(q, flex::DType::BF16, {1, kHeads, kLength, kDim}, &arrays.q),
          place.give(k, flex::DType::BF16, {1, kKvHeads, kLength, kDim}, &arrays.k),
          place.give(v, flex::DType::BF16, {1, kKvHeads, kLength, kDim}, &arrays.v),
          place.give(o, flex::DType::BF16, {1, kHeads, kLength, kDim}, &arrays.o), place.give(slope, flex::DType::F32, {kHeads}, &slopes),
          place.give(doc, flex::DType::I32, {kLength}, &docs), place.give(off, flex::DType::I32, {4}, &offsets)})
        if (!status.ok()) return fail(status);

    // This is all there is to it. The same lines for the CPU and for a GPU.
    if (const auto status = alibi_window::forward(place.stream, arrays, {slopes, kWindow}); !status.ok()) return fail(status);
    if (const auto status = place.take(arrays.o, &o); !status.ok()) return fail(status);
    const double first = largest_error(
        q, k, v, o, [&](double s, int64_t h, int64_t i, int64_t j) { return s + slope[static_cast<size_t>(h)] * double(j - i); },
        [](int64_t i, int64_t j) { return j <= i && i - j <= kWindow; });

    if (const auto status = document::forward(place.stream, arrays, {docs, offsets}); !status.ok()) return fail(status);
    if (const auto status = place.take(arrays.o, &o); !status.ok()) return fail(status);
    const double second = largest_error(
        q, k, v, o, [](double s, int64_t, int64_t, int64_t) { return s; },
        [&](int64_t i, int64_t j) { return j <= i && doc[static_cast<size_t>(i)] == doc[static_cast<size_t>(j)]; });

    // A wrong argument is a sentence, not a crash.
    const flex::Status wrong = alibi_window::forward(place.stream, arrays, {docs});
    std::printf("alibi_window   largest error %.4f of %.4f\ndocument       largest error %.4f of %.4f\na wrong call   %s\n", first,
                kTolerance, second, kTolerance, wrong.text().c_str());
    return first <= kTolerance && second <= kTolerance && !wrong.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const bool gpu = argc == 3 && std::strcmp(argv[1], "--device") == 0 && std::strcmp(argv[2], "cuda") == 0;
    if (argc != 1 && !gpu) {
        std::fputs("usage: link [--device cuda]\n", stderr);
        return 2;
    }
    Place place;
    if (const flex::Status status = place.open(gpu); !status.ok()) return fail(status);
    if (gpu) std::printf("on %s\n", place.device->name().c_str());
    return run(place);
}
