#include <algorithm>
#include <numeric>

#include "tests/emulator/cases.h"

namespace emulator_test {

namespace {

constexpr int kFloat32 = 7, kUint16 = 1;

std::string tensor_transpose(Gpu& gpu) {
    // Not whole tiles: what lies outside comes as zeros, and is not stored.
    constexpr int kRows = 40, kColumns = 76;
    Numbers numbers(31);
    auto in = numbers.uniforms(kRows * kColumns);
    const std::vector<float> blank(in.size(), -1.0f);
    const uint64_t from = gpu.upload(in), out = gpu.upload(blank);
    const auto map = gpu.tensor_map({kFloat32, from, {kColumns, kRows}, {kColumns * 4}, {32, 32}, 3});
    const auto map_out = gpu.tensor_map({kFloat32, out, {kRows, kColumns}, {kRows * 4}, {32, 32}, 3});
    if (auto error = gpu.launch("tensor_transpose", {3, 2, 1}, {128, 1, 1}, 0, {map, map_out}); !error.empty()) return error;
    std::vector<float> right(in.size());
    for (size_t r = 0; r < kRows; ++r)
        for (size_t c = 0; c < kColumns; ++c) right[c * kRows + r] = in[r * kColumns + c];
    return compare("out", gpu.download<float>(out, in.size()), right);
}

std::string bulk_ring(Gpu& gpu) {
    Numbers numbers(32);
    for (const int pieces : {1, 2, 9}) {
        auto in = numbers.uniforms(static_cast<size_t>(pieces) * 256);
        const uint64_t out = gpu.allocate(in.size() * 4);
        if (auto error = gpu.launch("bulk_ring", {2, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), out, pieces}); !error.empty()) return error;
        for (float& x : in) x *= 2;
        if (auto wrong = compare("out", gpu.download<float>(out, in.size()), in); !wrong.empty()) return wrong;
    }
    return "";
}

std::string bulk_reduce(Gpu& gpu) {
    constexpr size_t kRows = 10, kColumns = 128;
    Numbers numbers(33);
    auto in = numbers.uniforms(kRows * kColumns);
    const uint64_t sums = gpu.upload(std::vector<float>(kColumns)), most = gpu.upload(std::vector<uint32_t>(kColumns));
    if (auto error = gpu.launch("bulk_reduce", {3, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), sums, most, static_cast<int>(kRows)});
        !error.empty())
        return error;
    std::vector<double> right(kColumns), largest(kColumns);
    for (size_t i = 0; i < in.size(); ++i) {
        right[i % kColumns] += static_cast<double>(in[i]);
        largest[i % kColumns] = std::max(largest[i % kColumns], std::fabs(static_cast<double>(in[i])));
    }
    if (auto wrong = compare("most", gpu.download<float>(most, kColumns), largest); !wrong.empty()) return wrong;
    return compare("sums", gpu.download<float>(sums, kColumns), right, 1e-6);
}

std::string device_map(Gpu& gpu) {
    constexpr int kRows = 12, kColumns = 36, kX = 20, kY = -3;
    Numbers numbers(34);
    auto in = numbers.uniforms(kRows * kColumns);
    const uint64_t out = gpu.allocate(8 * 32 * 4), room = gpu.allocate(128);
    if (auto error = gpu.launch("device_map", {1, 1, 1}, {32, 1, 1}, 0, {gpu.upload(in), out, kColumns, kRows, kX, kY, room});
        !error.empty())
        return error;
    std::vector<float> right(8 * 32);
    for (int r = 0; r < 8; ++r)
        for (int c = 0; c < 32; ++c)
            if (r + kY >= 0 && c + kX < kColumns)
                right[static_cast<size_t>(r * 32 + c)] = in[static_cast<size_t>((r + kY) * kColumns + c + kX)];
    return compare("out", gpu.download<float>(out, right.size()), right);
}

std::string cluster_histogram(Gpu& gpu) {
    Numbers numbers(35);
    auto in = numbers.integers(500, 256);
    const uint64_t bins = gpu.upload(std::vector<int>(256));
    if (auto error = gpu.launch("cluster_histogram", {8, 1, 1}, {32, 1, 1}, 0, {gpu.upload(in), bins, 500}); !error.empty()) return error;
    std::vector<int> right(256);
    for (int x : in) ++right[static_cast<size_t>(x)];
    return compare("bins", gpu.download<int>(bins, 256), right);
}

std::string multicast_ring(Gpu& gpu) {
    constexpr size_t kRows = 16, kColumns = 64;
    Numbers numbers(36);
    for (const size_t rounds : {1, 3, 6}) {
        std::vector<uint16_t> in(rounds * kRows * kColumns);
        for (uint16_t& x : in) x = static_cast<uint16_t>(numbers.below(1000));
        const uint64_t out = gpu.allocate(4 * rounds * kColumns * 4);
        const auto map = gpu.tensor_map({kUint16, gpu.upload(in), {kColumns, rounds * kRows}, {kColumns * 2}, {kColumns, kRows / 2}, 0});
        if (auto error = gpu.launch("multicast_ring", {4, 1, 1}, {96, 1, 1}, 0, {map, out, static_cast<int>(rounds)}); !error.empty())
            return error;
        std::vector<float> right(4 * rounds * kColumns);
        for (size_t i = 0; i < right.size(); ++i) {
            const size_t column = i % kColumns, round = i / kColumns % rounds, block = i / kColumns / rounds;
            for (size_t row = 0; row < kRows; ++row) right[i] += in[(round * kRows + row) * kColumns + column];
            right[i] *= static_cast<float>(block % 2 + 1);
        }
        if (auto wrong = compare("out", gpu.download<float>(out, right.size()), right); !wrong.empty()) return wrong;
    }
    return "";
}

std::string ring_sum(Gpu& gpu) {
    Numbers numbers(37);
    auto in = numbers.integers(8 * 128, 1000);
    const uint64_t out = gpu.allocate(in.size() * 4);
    if (auto error = gpu.launch("ring_sum", {8, 1, 1}, {128, 1, 1}, 0, {gpu.upload(in), out}); !error.empty()) return error;
    std::vector<int> right(in.size());
    for (size_t i = 0; i < in.size(); ++i)
        for (size_t block = 0; block < 4; ++block) right[i] += in[i / 512 * 512 + block * 128 + i % 128];
    return compare("out", gpu.download<int>(out, in.size()), right);
}

}  // namespace

std::vector<Case> hopper_cases() {
    return {
        {"tensor_transpose", "hopper_copies", tensor_transpose, "tensor_transpose"},
        {"bulk_ring", "hopper_copies", bulk_ring, "bulk_ring"},
        {"bulk_reduce", "hopper_copies", bulk_reduce, "bulk_reduce"},
        {"device_map", "hopper_copies", device_map, "device_map"},
        {"cluster_histogram", "hopper_cluster", cluster_histogram, "cluster_histogram"},
        {"multicast_ring", "hopper_cluster", multicast_ring, "multicast_ring"},
        {"ring_sum", "hopper_cluster", ring_sum, "ring_sum"},
    };
}

}  // namespace emulator_test
