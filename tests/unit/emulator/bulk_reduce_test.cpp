// Reductions in bulk: every operation and type, in global memory, between blocks' shared memories, and through tensor maps, against plain C++.
#include <cmath>
#include <functional>

#include "bulk_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

template <typename T>
T value_at(const std::vector<uint8_t>& bytes, size_t index) {
    T value;
    std::memcpy(&value, &bytes[index * sizeof(T)], sizeof(T));
    return value;
}

float bf16_to_float(uint16_t bits) {
    const uint32_t word = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
uint16_t float_to_bf16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

/// Applies an operation to all elements of `to`: to = op(to, from).
template <typename T, typename F>
void each(std::vector<uint8_t>& to, const std::vector<uint8_t>& from, F f) {
    for (size_t i = 0; i * sizeof(T) < to.size(); ++i) {
        const T result = f(value_at<T>(to, i), value_at<T>(from, i));
        std::memcpy(&to[i * sizeof(T)], &result, sizeof(T));
    }
}

void reference(const std::string& operation, const std::string& type, std::vector<uint8_t>& to, const std::vector<uint8_t>& from) {
    const auto integer = [&]<typename T>(T) {
        each<T>(to, from, [&](T a, T b) -> T {
            if (operation == "add") return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
            if (operation == "min") return std::min(a, b);
            if (operation == "max") return std::max(a, b);
            if (operation == "and") return a & b;
            if (operation == "or") return a | b;
            if (operation == "xor") return a ^ b;
            if (operation == "inc") return a >= b ? T(0) : T(a + 1);
            return a == 0 || a > b ? b : T(a - 1);
        });
    };
    if (type == "u32" || type == "b32") return integer(uint32_t{});
    if (type == "s32") return integer(int32_t{});
    if (type == "u64" || type == "b64") return integer(uint64_t{});
    if (type == "s64") return integer(int64_t{});
    if (type == "f32") return each<float>(to, from, [](float a, float b) { return a + b; });
    if (type == "f64") return each<double>(to, from, [](double a, double b) { return a + b; });
    if (type == "f16") {
        return each<_Float16>(to, from, [&](_Float16 a, _Float16 b) {
            if (operation == "add") return static_cast<_Float16>(static_cast<float>(a) + static_cast<float>(b));
            return (operation == "min") == (a < b) ? a : b;
        });
    }
    each<uint16_t>(to, from, [&](uint16_t a, uint16_t b) -> uint16_t {
        if (operation == "add") return float_to_bf16(bf16_to_float(a) + bf16_to_float(b));
        return (operation == "min") == (bf16_to_float(a) < bf16_to_float(b)) ? a : b;
    });
}

/// Values that do not overflow, for floats; any bits for integers.
std::vector<uint8_t> values_of(Random& random, const std::string& type, size_t bytes) {
    std::vector<uint8_t> result = random_bytes(random, bytes);
    if (type[0] != 'f' && type != "bf16") return result;
    const size_t size = type == "f64" ? 8 : type == "f32" ? 4 : 2;
    for (size_t i = 0; i * size < bytes; ++i) {
        const double value = static_cast<double>(static_cast<int64_t>(random.next() % 4001) - 2000) / 64;
        const auto f32 = static_cast<float>(value);
        const auto f16 = static_cast<_Float16>(value);
        const uint16_t bf16 = float_to_bf16(f32);
        const void* from = type == "f64"   ? static_cast<const void*>(&value)
                           : type == "f32" ? &f32
                           : type == "f16" ? static_cast<const void*>(&f16)
                                           : &bf16;
        std::memcpy(&result[i * size], from, size);
    }
    return result;
}

struct Reduction {
    std::string operation, type;
};
const std::vector<Reduction> kGlobal = {{"add", "u32"},  {"add", "s32"}, {"add", "u64"}, {"add", "f32"}, {"add", "f64"}, {"add", "f16"},
                                        {"add", "bf16"}, {"min", "u32"}, {"min", "s32"}, {"min", "u64"}, {"min", "s64"}, {"min", "f16"},
                                        {"min", "bf16"}, {"max", "u32"}, {"max", "s32"}, {"max", "u64"}, {"max", "s64"}, {"max", "f16"},
                                        {"max", "bf16"}, {"inc", "u32"}, {"dec", "u32"}, {"and", "b32"}, {"or", "b32"},  {"xor", "b32"},
                                        {"and", "b64"},  {"or", "b64"},  {"xor", "b64"}};
const std::string kFence = "fence.proxy.async; bar.sync 0;\n";
constexpr size_t kBytes = 512;

std::string spelled(const Reduction& reduction) {
    const bool is_half = reduction.type == "f16" || reduction.type == "bf16";
    return "." + reduction.operation + (is_half && reduction.operation == "add" ? ".noftz." : ".") + reduction.type;
}

TEST_CASE("bulk reductions in global memory") {
    Random random{11};
    for (const Reduction& reduction : kGlobal) {
        CAPTURE(reduction.operation);
        CAPTURE(reduction.type);
        const auto in = values_of(random, reduction.type, kBytes), before = values_of(random, reduction.type, kBytes);
        auto want = before;
        reference(reduction.operation, reduction.type, want, in);
        const std::string text = "cp.reduce.async.bulk.global.shared::cta.bulk_group" + spelled(reduction) + " [%out], [tile], 512;\n";
        for (uint64_t seed = 0; seed < 3; ++seed) {
            const auto run =
                run_bulk(in_to_tile(kBytes) + kFence + by_first(text + "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\n"),
                         nullptr, nullptr, in, before, {.seed = seed});
            if (!well(run)) return;
            REQUIRE(run.out == want);
        }
    }
}

TEST_CASE("bulk reductions in shared memory") {
    Random random{12};
    for (const Reduction& reduction : kGlobal) {
        const bool is_known = reduction.type == "u32" || reduction.type == "s32" || reduction.type == "b32" ||
                              (reduction.operation == "add" && reduction.type == "u64");
        if (!is_known) continue;
        CAPTURE(reduction.operation);
        CAPTURE(reduction.type);
        // The first half of the tile goes onto the second, which is written out.
        const auto in = values_of(random, reduction.type, 2 * kBytes);
        std::vector<uint8_t> want(in.begin() + kBytes, in.end());
        reference(reduction.operation, reduction.type, want, {in.begin(), in.begin() + kBytes});
        want.insert(want.begin(), in.begin(), in.begin() + kBytes);
        const std::string text = "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes" + spelled(reduction) +
                                 " [tile + 512], [tile], 512, [bar];\n";
        for (uint64_t seed = 0; seed < 3; ++seed) {
            const auto run = run_bulk(
                in_to_tile(2 * kBytes) + kFence +
                    by_first("mbarrier.init.shared::cta.b64 [bar], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;\n" + text) +
                    wait_for("bar", 0) + tile_to_out(2 * kBytes),
                nullptr, nullptr, in, std::vector<uint8_t>(2 * kBytes), {.seed = seed});
            if (!well(run)) return;
            REQUIRE(run.out == want);
        }
    }
}

TEST_CASE("bulk reductions through tensor maps, of many blocks at once") {
    Random random{13};
    // Type of the map, operation, type of the reference.
    struct Through {
        int type;
        Reduction reduction;
    };
    for (const auto& [type, reduction] : std::vector<Through>{{7, {"add", "f32"}},
                                                              {9, {"add", "bf16"}},
                                                              {6, {"max", "f16"}},
                                                              {2, {"add", "u32"}},
                                                              {3, {"min", "s32"}},
                                                              {4, {"xor", "b64"}},
                                                              {5, {"max", "s64"}},
                                                              {2, {"and", "b32"}}}) {
        CAPTURE(reduction.operation);
        CAPTURE(reduction.type);
        TensorSpec spec{.type = type, .dims = {64, 5}, .strides = {}, .box = {32, 4}, .swizzle = 0};
        const size_t element = spec.element();
        spec.strides = {64 * element};
        spec.box[0] = static_cast<uint32_t>(128 / element);
        spec.dims[0] = spec.box[0] - 16 / element;
        const std::vector<int32_t> at = {static_cast<int32_t>(16 / element), -1};
        const size_t tile = spec.tile_bytes();
        const auto in = values_of(random, reduction.type, tile);
        const auto before = values_of(random, reduction.type, 5 * 64 * element);
        auto want = before;
        // Three blocks do the same.
        for (int block = 0; block < 3; ++block) {
            spec.elements(at, [&](int64_t to, size_t from) {
                if (to < 0) return;
                std::vector<uint8_t> a(want.begin() + to, want.begin() + to + static_cast<int64_t>(element));
                reference(reduction.operation, reduction.type, a,
                          {in.begin() + static_cast<int64_t>(from), in.begin() + static_cast<int64_t>(from + element)});
                std::copy(a.begin(), a.end(), want.begin() + to);
            });
        }
        const std::string text = "cp.reduce.async.bulk.tensor.2d.global.shared::cta." + reduction.operation + ".tile.bulk_group [%map2, " +
                                 coordinates(at) + "], [tile];\n";
        for (uint64_t seed = 0; seed < 4; ++seed) {
            const auto run =
                run_bulk(in_to_tile(tile) + kFence + by_first(text + "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\n"),
                         nullptr, &spec, in, before, {.blocks = 3, .seed = seed});
            if (!well(run)) return;
            REQUIRE(run.out == want);
        }
    }
    // Floats have no maximum, and plain stores beside reductions are a race.
    const TensorSpec floats{.type = 7, .dims = {32, 4}, .strides = {128}, .box = {32, 4}};
    const auto run_text = [&](const std::string& text, uint64_t seed) {
        return run_bulk(in_to_tile(512) + kFence + by_first(text + "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\n"),
                        nullptr, &floats, std::vector<uint8_t>(512), std::vector<uint8_t>(512), {.blocks = 2, .seed = seed});
    };
    const std::string head = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.", tail = ".bulk_group [%map2, {0, 0}], [tile];\n";
    CHECK(run_text(head + "max" + tail, 0).fault.kind == Fault::Kind::BadInstruction);
    for (uint64_t seed = 0; seed < 4; ++seed) {
        const auto run = run_text("mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; @%p1 " + head + "add" + tail +
                                      "@!%p1 cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%map2, {0, 0}], [tile];\n",
                                  seed);
        const bool found = run.fault.kind == Fault::Kind::Race || run.fault.kind == Fault::Kind::UnfinishedCopy;
        CHECK_MESSAGE(found, verdict(run));
    }
}

}  // namespace
