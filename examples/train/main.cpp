// Trains a model whose only idea of order is a learned relative position bias to say which token stood some places before.
//
//   train [--steps N] [--lag N] [--rate X] [--seed N] [--threads N] [--device cuda] [--dump DIR]
//
// --threads is of the attention on the CPU: the losses are the same to the last bit with any number. --device cuda runs the attention on the first GPU
// (FLEX_CUDA_DRIVER=.../libflexemu_cuda.so: on the emulated one). --dump writes what each step read and computed as .npy files. Exit code 3: no such device.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model.h"
#include "npy.h"

namespace {

struct Options {
    int steps = 300, lag = 6, seed = 1, threads = 0;
    float rate = 0.01f;
    bool gpu = false;
    std::string dump;
};

/// The first half of the buckets hold one distance each. What lies farther shares its bucket with others and cannot be told from them.
int64_t most_exact_distance(const Sizes& sizes) {
    return sizes.buckets / 2 - 1;
}

/// The whole of `text` as a number in a range.
template <class T>
bool number(const char* text, T least, T most, T* out) {
    const char* end = text + std::strlen(text);
    const auto result = std::from_chars(text, end, *out);
    return result.ec == std::errc() && result.ptr == end && *out >= least && *out <= most;
}

bool parse(int argc, char** argv, const Sizes& sizes, Options* options) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i];
        const char* value = argv[i + 1];
        const auto most_lag = static_cast<int>(most_exact_distance(sizes));
        bool good = false;
        if (name == "--steps") good = number(value, 1, 100000, &options->steps);
        if (name == "--lag") good = number(value, 1, most_lag, &options->lag);
        if (name == "--seed") good = number(value, 0, 1 << 30, &options->seed);
        if (name == "--threads") good = number(value, 0, 1024, &options->threads);
        if (name == "--rate") good = number(value, 0.0f, 1.0f, &options->rate);
        if (name == "--device") good = options->gpu = std::strcmp(value, "cuda") == 0;
        if (name == "--dump") good = !(options->dump = value).empty();
        if (!good) return false;
    }
    return argc % 2 == 1;
}

/// What the steps read and computed, one behind the other.
struct Record {
    std::vector<int32_t> tokens;
    std::vector<double> losses;
    std::map<std::string, std::vector<float>> values;  // NAME before the step, d_NAME
    std::map<std::string, std::vector<int64_t>> shapes;

    void add(const Model& model, const std::vector<int32_t>& step_tokens, double loss) {
        tokens.insert(tokens.end(), step_tokens.begin(), step_tokens.end());
        losses.push_back(loss);
        for (const Parameter& p : model.parameters()) {
            for (const auto& [name, array] : {std::pair(p.name, &p.value), std::pair("d_" + p.name, &p.gradient)}) {
                values[name].insert(values[name].end(), array->begin(), array->end());
                shapes[name] = p.shape;
            }
        }
    }
    [[nodiscard]] bool write(const std::string& folder, const Sizes& sizes) const {
        const auto steps = static_cast<int64_t>(losses.size());
        bool good = write_npy(folder + "/tokens.npy", {steps, sizes.batch, sizes.length}, tokens);
        good = write_npy(folder + "/loss.npy", {steps}, losses) && good;
        for (const auto& [name, array] : values) {
            std::vector<int64_t> shape = shapes.at(name);
            shape.insert(shape.begin(), steps);
            good = write_npy(folder + "/" + name + ".npy", shape, array) && good;
        }
        return good;
    }
};

/// The biases of all heads by distance, as bars between their least and greatest value.
void plot(const Parameter& bias, const Sizes& sizes) {
    constexpr int kBar = 24;
    float least = bias.value[0], greatest = bias.value[0];
    for (const float x : bias.value) least = std::fmin(least, x), greatest = std::fmax(greatest, x);
    std::puts("\nlearned bias by distance");
    for (int64_t distance = 0; distance <= most_exact_distance(sizes); ++distance) {
        std::printf("%5d", static_cast<int>(distance));
        for (int64_t head = 0; head < sizes.heads; ++head) {
            const float x = bias.value[static_cast<size_t>(head * sizes.buckets + distance)];
            const int length = greatest > least ? static_cast<int>(std::lround(kBar * (x - least) / (greatest - least))) : 0;
            std::printf("  %6.2f %-*s", static_cast<double>(x), kBar, std::string(static_cast<size_t>(length), '#').c_str());
        }
        std::puts("");
    }
}

int fail(const flex::Status& status) {
    std::fprintf(stderr, "train: %s\n", status.text().c_str());
    return status.code() == flex::Code::DeviceError ? 3 : 1;
}

int train(const Options& options, const Sizes& sizes) {
    Place place;
    if (const flex::Status status = place.open(options.gpu, options.threads); !status.ok()) return fail(status);
    Model model(sizes, static_cast<uint32_t>(options.seed), place);
    std::printf("copy the token %d back: %d tokens, ln %d = %.4f; attention on %s\n", options.lag, static_cast<int>(sizes.vocabulary),
                static_cast<int>(sizes.vocabulary), std::log(static_cast<double>(sizes.vocabulary)), place.name().c_str());

    std::mt19937 random(static_cast<uint32_t>(options.seed) + 1);
    std::vector<int32_t> tokens(static_cast<size_t>(sizes.batch * sizes.length)), targets(tokens.size());
    Record record;
    for (int step = 0; step < options.steps; ++step) {
        for (size_t i = 0; i < tokens.size(); ++i) {
            tokens[i] = static_cast<int32_t>(random() % static_cast<uint32_t>(sizes.vocabulary));
            const bool has = static_cast<int64_t>(i) % sizes.length >= options.lag;
            targets[i] = has ? tokens[i - static_cast<size_t>(options.lag)] : -1;
        }
        double loss = 0;
        if (const flex::Status status = model.forward_backward(tokens, targets, &loss); !status.ok()) return fail(status);
        if (step % 25 == 0 || step + 1 == options.steps)
            std::printf("step %4d   loss %.6f   right %5.1f %%\n", step, loss, 100 * model.accuracy());
        if (!options.dump.empty()) record.add(model, tokens, loss);
        model.update(options.rate);
    }
    plot(model.bias(), sizes);
    if (!options.dump.empty() && !record.write(options.dump, sizes)) {
        std::fprintf(stderr, "train: cannot write all arrays into `%s`\n", options.dump.c_str());
        return 1;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const Sizes sizes;
    Options options;
    if (!parse(argc, argv, sizes, &options)) {
        std::fprintf(stderr, "usage: train [--steps N] [--lag 1..%d] [--rate X] [--seed N] [--threads N] [--device cuda] [--dump DIR]\n",
                     static_cast<int>(most_exact_distance(sizes)));
        return 2;
    }
    return train(options, sizes);
}
