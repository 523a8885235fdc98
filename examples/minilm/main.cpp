// Sentences in, one a line; out comes, for each, the sentence nearest in meaning. README.md says where the model comes from.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "encoder.h"
#include "json.h"
#include "tokenizer.h"

#ifndef EMULATED_DRIVER
#define EMULATED_DRIVER "libflexemu_cuda.so"
#endif

namespace {

constexpr const char* kUsage =
    "usage: minilm MODEL [FILE] [--query TEXT] [--device cpu|cuda|emulated] [--json]\n"
    "  MODEL     folder of model.safetensors, config.json and vocab.txt\n"
    "  FILE      sentences, one a line; standard input if absent\n"
    "  --query   the sentences nearest to TEXT, instead of each one's nearest\n"
    "  --device  where the attention runs; emulated is the GPU that comes with flexc. FLEX_CUDA_DRIVER names another driver library\n"
    "  --json    word pieces and vectors instead, one object a line\n";

struct Options {
    std::string model, file, query, device = "cpu";
    bool json = false, has_query = false;
};

bool parse(int argc, char** argv, Options* options) {
    std::vector<std::string> rest;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "--json") {
            options->json = true;
        } else if ((argument == "--query" || argument == "--device") && i + 1 < argc) {
            (argument == "--query" ? options->query : options->device) = argv[++i];
            options->has_query = options->has_query || argument == "--query";
        } else if (argument.size() > 1 && argument[0] == '-') {
            return false;
        } else {
            rest.push_back(argument);
        }
    }
    if (rest.empty() || rest.size() > 2) return false;
    options->model = rest[0];
    if (rest.size() == 2) options->file = rest[1];
    return options->device == "cpu" || options->device == "cuda" || options->device == "emulated";
}

std::vector<std::string> read_sentences(const std::string& path) {
    std::ifstream file;
    if (!path.empty()) {
        file.open(path);
        if (!file) throw std::runtime_error(path + ": it cannot be read");
    }
    std::vector<std::string> out;
    for (std::string line; std::getline(path.empty() ? std::cin : file, line);) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.find_first_not_of(" \t") != std::string::npos) out.push_back(line);
    }
    if (out.empty()) throw std::runtime_error("there are no sentences");
    return out;
}

/// Sentences of about one length share a batch, so that little is spent on padding.
std::vector<float> encode(Encoder& encoder, const std::vector<std::vector<int32_t>>& pieces) {
    constexpr size_t kBatch = 16;
    std::vector<size_t> order(pieces.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return pieces[a].size() < pieces[b].size(); });
    std::vector<float> out(pieces.size() * encoder.width());
    for (size_t first = 0; first < order.size(); first += kBatch) {
        const size_t count = std::min(kBatch, order.size() - first);
        std::vector<std::vector<int32_t>> batch;
        for (size_t i = 0; i < count; ++i) batch.push_back(pieces[order[first + i]]);
        const std::vector<float> vectors = encoder.encode(batch);
        for (size_t i = 0; i < count; ++i)
            std::copy_n(&vectors[i * encoder.width()], encoder.width(), &out[order[first + i] * encoder.width()]);
    }
    return out;
}

float cosine(const std::vector<float>& vectors, size_t width, size_t a, size_t b) {
    double sum = 0;
    for (size_t i = 0; i < width; ++i) sum += double{vectors[a * width + i]} * vectors[b * width + i];
    return static_cast<float>(sum);
}

void print_json(const std::vector<std::string>& sentences, const std::vector<std::vector<int32_t>>& pieces,
                const std::vector<float>& vectors, size_t width) {
    for (size_t i = 0; i < sentences.size(); ++i) {
        std::printf("{\"text\":%s,\"pieces\":[", json_string(sentences[i]).c_str());
        for (size_t j = 0; j < pieces[i].size(); ++j) std::printf(j ? ",%d" : "%d", pieces[i][j]);
        std::printf("],\"vector\":[");
        for (size_t j = 0; j < width; ++j) std::printf(j ? ",%.9g" : "%.9g", static_cast<double>(vectors[i * width + j]));
        std::puts("]}");
    }
}

int run(const Options& options) {
    std::unique_ptr<flex::CudaDevice> device;
    if (options.device != "cpu") {
        flex::Status status;
        if (options.device == "emulated" && !std::getenv("FLEX_CUDA_DRIVER")) status = flex::use_cuda_driver(EMULATED_DRIVER);
        if (status.ok()) status = flex::CudaDevice::open(0, &device);
        if (!status.ok()) {
            std::fprintf(stderr, "minilm: %s\n", status.text().c_str());
            return 3;
        }
    }
    std::vector<std::string> sentences = read_sentences(options.file);
    if (options.has_query) sentences.push_back(options.query);
    const Tokenizer tokenizer(options.model + "/vocab.txt");
    Encoder encoder(options.model, device.get());
    std::vector<std::vector<int32_t>> pieces;
    for (const std::string& sentence : sentences) pieces.push_back(tokenizer.encode(sentence, encoder.longest()));

    const auto begin = std::chrono::steady_clock::now();
    const std::vector<float> vectors = encode(encoder, pieces);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    const size_t width = encoder.width();
    if (options.json) {
        print_json(sentences, pieces, vectors, width);
        return 0;
    }

    const size_t count = sentences.size() - (options.has_query ? 1 : 0);
    if (options.has_query) {
        std::vector<std::pair<float, size_t>> near;
        for (size_t i = 0; i < count; ++i) near.emplace_back(cosine(vectors, width, count, i), i);
        std::sort(near.rbegin(), near.rend());
        std::printf("nearest to: %s\n", options.query.c_str());
        for (size_t i = 0; i < std::min<size_t>(near.size(), 5); ++i)
            std::printf("  %6.3f  %s\n", static_cast<double>(near[i].first), sentences[near[i].second].c_str());
    } else {
        for (size_t i = 0; i < count && count > 1; ++i) {
            size_t best = i == 0 ? 1 : 0;
            for (size_t j = 0; j < count; ++j)
                if (j != i && cosine(vectors, width, i, j) > cosine(vectors, width, i, best)) best = j;
            std::printf("%s\n  %6.3f  %s\n", sentences[i].c_str(), static_cast<double>(cosine(vectors, width, i, best)),
                        sentences[best].c_str());
        }
    }
    std::printf("%zu sentences in %.0f ms, attention on %s\n", sentences.size(), time.count(), device ? device->name().c_str() : "the CPU");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    if (!parse(argc, argv, &options)) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    try {
        return run(options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "minilm: %s\n", error.what());
        return 1;
    }
}
