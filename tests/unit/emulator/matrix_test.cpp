// Matrix instructions against the tables of the ISA, written down element by element, and plain sums.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "emulator/numeric/float.h"
#include "emulator/numeric/mma.h"
#include "ptx_run.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;
using numeric::Element;

struct Place {
    int row, column;
};
/// Where element i of a lane's fragment lies, as the ISA gives it: g = lane / 4, t = lane % 4.
using Layout = std::function<Place(int g, int t, int i)>;

struct Case {
    std::string spelling;
    int m, n, k;
    Element a, b;
    std::string sum;  // f16, f32, f64, s32
    int a_count, b_count, c_count;
    Layout a_at, b_at, c_at;
};

// Element tables of the ISA, section "Matrix fragments for mma".
Place c16(int g, int t, int i) {
    return {i < 2 ? g : g + 8, t * 2 + (i & 1)};
}
Place c8(int g, int t, int i) {
    return {g, t * 2 + (i & 1)};
}

std::vector<Case> cases() {
    std::vector<Case> all;
    const auto halves = [&](const std::string& type, Element element, const std::string& sum) {
        all.push_back(
            {"m16n8k16.row.col." + sum + "." + type + "." + type + "." + sum, 16, 8, 16, element, element, sum, 8, 4, 4,
             [](int g, int t, int i) { return Place{i < 2 || (i >= 4 && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i >= 4 ? 8 : 0)}; },
             [](int g, int t, int i) { return Place{t * 2 + (i & 1) + (i >= 2 ? 8 : 0), g}; }, c16});
        all.push_back({"m16n8k8.row.col." + sum + "." + type + "." + type + "." + sum, 16, 8, 8, element, element, sum, 4, 2, 4,
                       [](int g, int t, int i) { return Place{i < 2 ? g : g + 8, t * 2 + (i & 1)}; },
                       [](int g, int t, int i) { return Place{t * 2 + i, g}; }, c16});
    };
    halves("f16", Element::F16, "f32");
    halves("f16", Element::F16, "f16");
    halves("bf16", Element::BF16, "f32");
    all.push_back({"m16n8k4.row.col.f32.tf32.tf32.f32", 16, 8, 4, Element::TF32, Element::TF32, "f32", 2, 1, 4,
                   [](int g, int t, int i) { return Place{i == 0 ? g : g + 8, t}; }, [](int g, int t, int) { return Place{t, g}; }, c16});
    all.push_back({"m16n8k8.row.col.f32.tf32.tf32.f32", 16, 8, 8, Element::TF32, Element::TF32, "f32", 4, 2, 4,
                   [](int g, int t, int i) { return Place{i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4}; },
                   [](int g, int t, int i) { return Place{i == 0 ? t : t + 4, g}; }, c16});
    all.push_back({"m8n8k4.row.col.f64.f64.f64.f64", 8, 8, 4, Element::F64, Element::F64, "f64", 1, 1, 2,
                   [](int g, int t, int) { return Place{g, t}; }, [](int g, int t, int) { return Place{t, g}; }, c8});
    for (const int k : {4, 8, 16})
        all.push_back({"m16n8k" + std::to_string(k) + ".row.col.f64.f64.f64.f64", 16, 8, k, Element::F64, Element::F64, "f64", k / 2, k / 4,
                       4, [](int g, int t, int i) { return Place{i % 2 == 0 ? g : g + 8, t + i / 2 * 4}; },
                       [](int g, int t, int i) { return Place{t + i * 4, g}; }, c16});
    const auto bytes = [&](const std::string& a, Element a_element, const std::string& b, Element b_element, const std::string& sum) {
        const std::string types = ".row.col." + sum + "." + a + "." + b + "." + sum;
        all.push_back(
            {"m16n8k32" + types, 16, 8, 32, a_element, b_element, sum, 16, 8, 4,
             [](int g, int t, int i) { return Place{i < 4 || (i >= 8 && i < 12) ? g : g + 8, t * 4 + (i & 3) + (i >= 8 ? 16 : 0)}; },
             [](int g, int t, int i) { return Place{t * 4 + (i & 3) + (i >= 4 ? 16 : 0), g}; }, c16});
        all.push_back({"m16n8k16" + types, 16, 8, 16, a_element, b_element, sum, 8, 4, 4,
                       [](int g, int t, int i) { return Place{i < 4 ? g : g + 8, t * 4 + (i & 3)}; },
                       [](int g, int t, int i) { return Place{t * 4 + i, g}; }, c16});
    };
    bytes("s8", Element::S8, "s8", Element::S8, "s32");
    bytes("u8", Element::U8, "s8", Element::S8, "s32");
    bytes("s8", Element::S8, "u8", Element::U8, "s32");
    bytes("e4m3", Element::E4M3, "e4m3", Element::E4M3, "f32");
    bytes("e5m2", Element::E5M2, "e4m3", Element::E4M3, "f32");
    all.push_back({"m8n8k16.row.col.s32.s8.s8.s32", 8, 8, 16, Element::S8, Element::S8, "s32", 4, 4, 2,
                   [](int g, int t, int i) { return Place{g, t * 4 + i}; }, [](int g, int t, int i) { return Place{t * 4 + i, g}; }, c8});
    all.push_back({"m8n8k32.row.col.s32.s4.u4.s32", 8, 8, 32, Element::S4, Element::U4, "s32", 8, 8, 2,
                   [](int g, int t, int i) { return Place{g, t * 8 + i}; }, [](int g, int t, int i) { return Place{t * 8 + i, g}; }, c8});
    all.push_back(
        {"m16n8k64.row.col.s32.u4.s4.s32", 16, 8, 64, Element::U4, Element::S4, "s32", 32, 16, 4,
         [](int g, int t, int i) { return Place{i < 8 || (i >= 16 && i < 24) ? g : g + 8, t * 8 + (i & 7) + (i >= 16 ? 32 : 0)}; },
         [](int g, int t, int i) { return Place{t * 8 + (i & 7) + (i >= 8 ? 32 : 0), g}; }, c16});
    all.push_back(
        {"m16n8k256.row.col.s32.b1.b1.s32.and.popc", 16, 8, 256, Element::B1, Element::B1, "s32", 128, 64, 4,
         [](int g, int t, int i) { return Place{i < 32 || (i >= 64 && i < 96) ? g : g + 8, t * 32 + (i & 31) + (i >= 64 ? 128 : 0)}; },
         [](int g, int t, int i) { return Place{t * 32 + (i & 31) + (i >= 32 ? 128 : 0), g}; }, c16});
    all.push_back({"m8n8k128.row.col.s32.b1.b1.s32.xor.popc", 8, 8, 128, Element::B1, Element::B1, "s32", 32, 32, 2,
                   [](int g, int t, int i) { return Place{g, t * 32 + i}; }, [](int g, int t, int i) { return Place{t * 32 + i, g}; }, c8});
    return all;
}

/// Random bits of a finite element, and its value.
uint64_t random_element(Random& random, Element element) {
    const uint64_t r = random.next();
    switch (element) {
        case Element::F16: return numeric::to_f16((static_cast<double>(r % 4096) - 2048) / 256.0).bits;
        case Element::BF16:
            return numeric::to_bf16(std::ldexp(static_cast<double>(r % 512) - 256, static_cast<int>(r >> 20 & 15) - 12)).bits;
        case Element::TF32:
            return std::bit_cast<uint32_t>(static_cast<float>(std::ldexp(static_cast<double>(r % 65536) - 32768, -12)) * 1.2345f);
        case Element::F64: return std::bit_cast<uint64_t>((static_cast<double>(r >> 11) - 0x1p52) * 0x1p-50);
        case Element::E4M3: return (r & 0x7f) == 0x7f ? 0 : r & 0xff;
        case Element::E5M2: return r & 0xb7;
        case Element::B1: return r >> 40 & 1;
        case Element::S4:
        case Element::U4: return r >> 40 & 15;
        default: return r >> 40 & 255;
    }
}
double value_of(Element element, uint64_t bits) {
    switch (element) {
        case Element::F16: return numeric::widen(numeric::kF16, static_cast<uint32_t>(bits));
        case Element::BF16: return numeric::widen(numeric::kBF16, static_cast<uint32_t>(bits));
        case Element::TF32: return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits) & 0xffffe000));
        case Element::F64: return std::bit_cast<double>(bits);
        case Element::E4M3: return numeric::widen(numeric::kE4M3, static_cast<uint32_t>(bits));
        case Element::E5M2: return numeric::widen(numeric::kE5M2, static_cast<uint32_t>(bits));
        case Element::S8: return static_cast<int8_t>(bits);
        case Element::S4: return bits >= 8 ? static_cast<double>(bits) - 16 : static_cast<double>(bits);
        default: return static_cast<double>(bits);
    }
}

int sum_bits(const std::string& sum) {
    return sum == "f16" ? 16 : sum == "f64" ? 64 : 32;
}

/// The registers of a lane as words of memory: word w of register r of lane l at (r * words + w) * 32 + l.
struct Words {
    std::vector<uint32_t> words;
    void put(int lane, int first_bit, int bits, uint64_t value) {
        for (int bit = 0; bit < bits; bit += 32) {
            const int at = first_bit + bit, word = at / 32 * 32 + lane;
            if (words.size() <= static_cast<size_t>(word / 32 * 32 + 31)) words.resize(static_cast<size_t>(word / 32 * 32 + 32));
            words[static_cast<size_t>(word)] |= static_cast<uint32_t>(value >> bit) << (at % 32);
        }
    }
    [[nodiscard]] uint64_t get(int lane, int first_bit, int bits) const {
        uint64_t value = words[static_cast<size_t>(first_bit / 32 * 32 + lane)] >> (first_bit % 32);
        if (bits == 64) value |= uint64_t{words[static_cast<size_t>((first_bit / 32 + 1) * 32 + lane)]} << 32;
        return bits >= 32 ? value : value & ((uint64_t{1} << bits) - 1);
    }
};

std::string tuple(const std::string& prefix, int first, int count) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += (i != 0 ? ", " : "") + prefix + std::to_string(first + i);
    return text + "}";
}

TEST_CASE("mma.sync in every shape and type") {
    for (const Case& test : cases()) {
        CAPTURE(test.spelling);
        Random random{std::hash<std::string>()(test.spelling)};
        const int a_bits = numeric::bits(test.a), b_bits = numeric::bits(test.b), c_bits = sum_bits(test.sum);
        const bool is_double = test.sum == "f64";
        std::vector<uint64_t> a(static_cast<size_t>(test.m * test.k)), b(static_cast<size_t>(test.k * test.n)),
            c(static_cast<size_t>(test.m * test.n));
        for (auto& each : a) each = random_element(random, test.a);
        for (auto& each : b) each = random_element(random, test.b);
        for (auto& each : c) {
            const double value = (static_cast<double>(random.next() % 200001) - 100000) / 64.0;
            each = test.sum == "s32"   ? static_cast<uint32_t>(static_cast<int32_t>(value))
                   : test.sum == "f16" ? numeric::to_f16(value / 16).bits
                   : is_double         ? std::bit_cast<uint64_t>(value)
                                       : std::bit_cast<uint32_t>(static_cast<float>(value));
        }
        Words a_words, b_words, c_words;
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int i = 0; i < test.a_count; ++i) {
                const Place at = test.a_at(g, t, i);
                a_words.put(lane, i * a_bits, a_bits, a[static_cast<size_t>(at.row * test.k + at.column)]);
            }
            for (int i = 0; i < test.b_count; ++i) {
                const Place at = test.b_at(g, t, i);
                b_words.put(lane, i * b_bits, b_bits, b[static_cast<size_t>(at.row * test.n + at.column)]);
            }
            for (int i = 0; i < test.c_count; ++i) {
                const Place at = test.c_at(g, t, i);
                c_words.put(lane, i * c_bits, c_bits, c[static_cast<size_t>(at.row * test.n + at.column)]);
            }
        }
        // Load all words, multiply, store the words of d.
        const int a_size = static_cast<int>(a_words.words.size()) / 32, b_size = static_cast<int>(b_words.words.size()) / 32,
                  c_size = static_cast<int>(c_words.words.size()) / 32;
        std::string body = addresses("%lane");
        const auto load = [&](const std::string& reg, int word) {
            body += "ld.global.b32 " + reg + ", [%rd30 + " + std::to_string(word * 128) + "];\n";
        };
        std::string operands;
        if (is_double) {
            const int counts[] = {c_size / 2, a_size / 2, b_size / 2, c_size / 2};
            int word = 0;
            for (int i = 0; i < (a_size + b_size + c_size) / 2; ++i) {
                load("%r0", word++);
                load("%r1", word++);
                body += "mov.b64 %fd" + std::to_string(i) + ", {%r0, %r1};\n";
            }
            operands = tuple("%fd", 20, counts[0]) + ", " + tuple("%fd", 0, counts[1]) + ", " + tuple("%fd", counts[1], counts[2]) + ", " +
                       tuple("%fd", counts[1] + counts[2], counts[3]);
        } else {
            for (int i = 0; i < a_size + b_size; ++i) load("%r" + std::to_string(i), i);
            const std::string sums = test.sum == "f32" ? "%f" : "%r";
            for (int i = 0; i < c_size; ++i) load(sums + std::to_string(40 + i), a_size + b_size + i);
            operands = tuple(sums, 50, c_size) + ", " + tuple("%r", 0, a_size) + ", " + tuple("%r", a_size, b_size) + ", " +
                       tuple(sums, 40, c_size);
        }
        body += "mma.sync.aligned." + test.spelling + " " + operands + ";\n";
        for (int i = 0; i < c_size; ++i) {
            std::string reg = (test.sum == "f32" ? "%f" : "%r") + std::to_string(50 + i);
            if (is_double) {
                if (i % 2 == 0) body += "mov.b64 {%r0, %r1}, %fd" + std::to_string(20 + i / 2) + ";\n";
                reg = "%r" + std::to_string(i % 2);
            }
            body += "st.global.b32 [%rd31 + " + std::to_string(i * 128) + "], " + reg + ";\n";
        }
        std::vector<uint32_t> in = a_words.words;
        in.insert(in.end(), b_words.words.begin(), b_words.words.end());
        in.insert(in.end(), c_words.words.begin(), c_words.words.end());
        Words d_words;
        d_words.words = run_well(body, in, c_words.words.size());
        for (int lane = 0; lane < 32; ++lane) {
            for (int i = 0; i < test.c_count; ++i) {
                const Place at = test.c_at(lane / 4, lane % 4, i);
                const uint64_t got = d_words.get(lane, i * c_bits, c_bits), start = c[static_cast<size_t>(at.row * test.n + at.column)];
                const auto left = [&](int j) { return a[static_cast<size_t>(at.row * test.k + j)]; };
                const auto right = [&](int j) { return b[static_cast<size_t>(j * test.n + at.column)]; };
                if (test.sum == "s32") {
                    int64_t sum = static_cast<int32_t>(start);
                    for (int j = 0; j < test.k; ++j) {
                        if (test.a == Element::B1)
                            sum += static_cast<int64_t>(test.spelling.ends_with("and.popc") ? left(j) & right(j) : left(j) ^ right(j));
                        else
                            sum += static_cast<int64_t>(value_of(test.a, left(j)) * value_of(test.b, right(j)));
                    }
                    REQUIRE(static_cast<int32_t>(got) == sum);
                } else if (is_double) {
                    double sum = std::bit_cast<double>(start);
                    for (int j = 0; j < test.k; ++j) sum = std::fma(value_of(test.a, left(j)), value_of(test.b, right(j)), sum);
                    REQUIRE(std::bit_cast<double>(got) == sum);
                } else {
                    long double sum = test.sum == "f16" ? numeric::widen(numeric::kF16, static_cast<uint32_t>(start))
                                                        : std::bit_cast<float>(static_cast<uint32_t>(start));
                    long double magnitude = std::fabs(sum);
                    for (int j = 0; j < test.k; ++j) {
                        const long double product = static_cast<long double>(value_of(test.a, left(j))) * value_of(test.b, right(j));
                        sum += product;
                        magnitude += std::fabs(product);
                    }
                    const long double slack = magnitude * 0x1p-48L;
                    if (test.sum == "f16") {
                        const double result = numeric::widen(numeric::kF16, static_cast<uint32_t>(got));
                        REQUIRE(std::fabs(result - sum) <= std::fabs(sum) * 0x1p-11L + 0x1p-25L);
                    } else {
                        // Cut off: not above, and less than a unit of f32 below.
                        const long double result = std::bit_cast<float>(static_cast<uint32_t>(got));
                        REQUIRE(std::fabs(result) <= std::fabs(sum) + slack);
                        REQUIRE(std::fabs(sum - result) <= std::fabs(sum) * 0x1p-23L + slack);
                    }
                }
            }
        }
    }
}

TEST_CASE("m8n8k4 of f16: four products side by side, in every layout") {
    // Layouts of the ISA: (row, column) of element i of a lane, within the lane's group.
    const auto shift = [](int lane) { return lane < 16 ? 0 : 4; };
    for (int layouts = 0; layouts < 4; ++layouts)
        for (int sums = 0; sums < 3; ++sums) {
            const bool a_rows = (layouts & 1) != 0, b_rows = (layouts & 2) != 0, d_half = sums == 1, c_half = sums != 0;
            const auto a_at = [&](int lane, int i) {
                return a_rows ? Place{lane % 4 + shift(lane), i} : Place{i % 4 + shift(lane), lane % 4};
            };
            const auto b_at = [&](int lane, int i) { return b_rows ? Place{lane % 4, i + shift(lane)} : Place{i, lane % 4 + shift(lane)}; };
            const auto sum_at = [&](int lane, int i, bool half) {
                if (half) return Place{lane % 4 + shift(lane), i};
                return Place{(lane & 1) + (i & 2) + shift(lane), (i & 4) + (lane & 2) + (i & 1)};
            };
            CAPTURE(layouts);
            CAPTURE(sums);
            Random random{static_cast<uint64_t>(layouts * 3 + sums + 1)};
            int a[4][8][4], b[4][4][8], c[4][8][8];
            for (auto& value : reinterpret_cast<int(&)[128]>(a)) value = static_cast<int>(random.next() % 17) - 8;
            for (auto& value : reinterpret_cast<int(&)[128]>(b)) value = static_cast<int>(random.next() % 17) - 8;
            for (auto& value : reinterpret_cast<int(&)[256]>(c)) value = static_cast<int>(random.next() % 201) - 100;
            Words words;
            const int c_bits = c_half ? 16 : 32, d_bits = d_half ? 16 : 32, c_start = 128;
            for (int lane = 0; lane < 32; ++lane) {
                const int group = lane % 16 / 4;
                for (int i = 0; i < 4; ++i) {
                    const Place at = a_at(lane, i), bt = b_at(lane, i);
                    words.put(lane, i * 16, 16, numeric::to_f16(a[group][at.row][at.column]).bits);
                    words.put(lane, 64 + i * 16, 16, numeric::to_f16(b[group][bt.row][bt.column]).bits);
                }
                for (int i = 0; i < 8; ++i) {
                    const Place at = sum_at(lane, i, c_half);
                    const int value = c[group][at.row][at.column];
                    words.put(lane, c_start + i * c_bits, c_bits,
                              c_half ? numeric::to_f16(value).bits : std::bit_cast<uint32_t>(static_cast<float>(value)));
                }
            }
            const int c_size = c_half ? 4 : 8, d_size = d_half ? 4 : 8;
            const std::string c_reg = c_half ? "%r" : "%f", d_reg = d_half ? "%r" : "%f";
            std::string body = addresses("%lane");
            for (int i = 0; i < 4; ++i) body += "ld.global.b32 %r" + std::to_string(i) + ", [%rd30 + " + std::to_string(i * 128) + "];\n";
            for (int i = 0; i < c_size; ++i)
                body += "ld.global.b32 " + c_reg + std::to_string(10 + i) + ", [%rd30 + " + std::to_string((4 + i) * 128) + "];\n";
            body += "mma.sync.aligned.m8n8k4." + std::string(a_rows ? "row." : "col.") + (b_rows ? "row." : "col.") +
                    (d_half ? "f16" : "f32") + ".f16.f16." + (c_half ? "f16 " : "f32 ") + tuple(d_reg, 20, d_size) +
                    ", {%r0, %r1}, {%r2, %r3}, " + tuple(c_reg, 10, c_size) + ";\n";
            for (int i = 0; i < d_size; ++i)
                body += "st.global.b32 [%rd31 + " + std::to_string(i * 128) + "], " + d_reg + std::to_string(20 + i) + ";\n";
            Words out;
            out.words = run_well(body, words.words, static_cast<size_t>(d_size) * 32);
            for (int lane = 0; lane < 32; ++lane)
                for (int i = 0; i < 8; ++i) {
                    const int group = lane % 16 / 4;
                    const Place at = sum_at(lane, i, d_half);
                    int want = c[group][at.row][at.column];
                    for (int k = 0; k < 4; ++k) want += a[group][at.row][k] * b[group][k][at.column];
                    const uint64_t got = out.get(lane, i * d_bits, d_bits);
                    const double value = d_half ? numeric::widen(numeric::kF16, static_cast<uint32_t>(got))
                                                : static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(got)));
                    REQUIRE(value == want);
                }
        }
}

TEST_CASE("sums of products: special values and limits") {
    const numeric::MmaShape shape{16, 8, 8};
    std::vector<uint16_t> a(128, 0), b(64, 0);
    std::vector<float> c(128, 0.0f), d(128);
    const auto half = [](double value) { return numeric::to_f16(value).bits; };
    const auto multiply = [&] { numeric::mma_to_f32(shape, Element::F16, a.data(), Element::F16, b.data(), c.data(), d.data()); };
    a[0] = half(1.0), b[0] = half(1.0), c[0] = std::numeric_limits<float>::infinity();
    a[8] = half(std::numeric_limits<double>::infinity());  // row 1 times column 1, which is zero
    a[16] = half(-65504.0), c[16] = -0x1.fffffep127f;
    multiply();
    CHECK(d[0] == std::numeric_limits<float>::infinity());
    CHECK(d[8] == std::numeric_limits<float>::infinity());
    CHECK(std::bit_cast<uint32_t>(d[9]) == numeric::kCanonicalF32);
    CHECK(d[16] == -0x1.fffffep127f);
    // Cut off, not rounded: one unit short of what rounding to nearest gives.
    c[0] = 1.0f, a[0] = half(0x1.8p-12), b[0] = half(0x1p-12);
    multiply();
    CHECK(d[0] == 1.0f);
    c[0] = -1.0f, a[0] = half(-0x1.ffp-12);
    multiply();
    CHECK(d[0] == -1.0f);
    c[0] = 0x1p-140f, a[0] = half(0x1p-24);
    b[0] = half(0x1p-24);
    multiply();
    CHECK(d[0] == 0x1p-48f);
    // The lower 13 bits of tf32 operands do not count, whatever they hold.
    const float x[4] = {1.0f + 0x1p-11f + 0x1p-12f, 0, 0, 0};
    std::vector<float> left(64), right(32), sums(128, 0.0f), result(128);
    left[0] = x[0], right[0] = 1.0f;
    numeric::mma_to_f32({16, 8, 4}, Element::TF32, left.data(), Element::TF32, right.data(), sums.data(), result.data());
    CHECK(result[0] == 1.0f);
    // Integers wrap, or are clamped.
    std::vector<int8_t> s(256, 127), t(128, 127);
    std::vector<int32_t> start(128, INT32_MAX - 5), sum(128);
    numeric::mma_to_s32({16, 8, 16}, Element::S8, s.data(), Element::S8, t.data(), start.data(), sum.data(), false);
    CHECK(sum[3] == static_cast<int32_t>(static_cast<uint32_t>(INT32_MAX - 5) + 16 * 127 * 127));
    numeric::mma_to_s32({16, 8, 16}, Element::S8, s.data(), Element::S8, t.data(), start.data(), sum.data(), true);
    CHECK(sum[3] == INT32_MAX);
}

/// 64 rows of 8 halves, numbered, in shared memory; each lane's address is row `lane` of a permutation.
std::string fill_shared() {
    return addresses("%lane") +
           "mov.u32 %r20, tile; shl.b32 %r21, %lane, 4; add.u32 %r20, %r20, %r21;\n"
           "ld.global.b32 %r0, [%rd30]; ld.global.b32 %r1, [%rd30 + 128]; ld.global.b32 %r2, [%rd30 + 256]; ld.global.b32 %r3, [%rd30 + "
           "384];\n"
           "st.shared.v4.b32 [%r20], {%r0, %r1, %r2, %r3};\nbar.sync 0;\n";
}
/// Word w of row r as fill_shared puts it there.
std::vector<uint32_t> numbered() {
    std::vector<uint32_t> in(128);
    for (uint32_t row = 0; row < 32; ++row)
        for (uint32_t word = 0; word < 4; ++word) in[word * 32 + row] = (row << 8 | (2 * word + 1)) << 16 | (row << 8 | (2 * word));
    return in;
}
const Shape kTile{.declarations = ".shared .align 16 .b8 tile[512];"};

TEST_CASE("ldmatrix") {
    for (const int count : {1, 2, 4})
        for (const bool transposed : {false, true}) {
            const std::string spelling =
                "ldmatrix.sync.aligned.m8n8.x" + std::to_string(count) + (transposed ? ".trans" : "") + ".shared.b16 ";
            CAPTURE(spelling);
            std::string body = fill_shared() + spelling + tuple("%r", 4, count) + ", [%r20];\n";
            for (int i = 0; i < count; ++i)
                body += "st.global.b32 [%rd31 + " + std::to_string(i * 128) + "], %r" + std::to_string(4 + i) + ";\n";
            const auto out = run_well(body, numbered(), static_cast<size_t>(count) * 32, kTile);
            for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i)
                for (uint32_t lane = 0; lane < 32; ++lane) {
                    const uint32_t line = lane / 4, at = lane % 4 * 2;
                    const auto element = [&](uint32_t row, uint32_t column) { return (i * 8 + row) << 8 | column; };
                    const uint32_t low = transposed ? element(at, line) : element(line, at),
                                   high = transposed ? element(at + 1, line) : element(line, at + 1);
                    REQUIRE(out[i * 32 + lane] == (low | high << 16));
                }
        }
}

TEST_CASE("stmatrix is the reverse of ldmatrix, movmatrix a transposition") {
    for (const std::string trans : {"", ".trans"}) {
        const std::string body = fill_shared() + "ldmatrix.sync.aligned.m8n8.x4" + trans +
                                 ".shared.b16 {%r4, %r5, %r6, %r7}, [%r20];\nbar.sync 0;\n" +
                                 "xor.b32 %r21, %r20, 128;\n"  // matrices 0 and 1 change places, 2 and 3 too
                                 "stmatrix.sync.aligned.m8n8.x4" +
                                 trans + ".shared.b16 [%r21], {%r4, %r5, %r6, %r7};\nbar.sync 0;\n" +
                                 "ld.shared.v4.b32 {%r0, %r1, %r2, %r3}, [%r20];\n"
                                 "st.global.b32 [%rd31], %r0; st.global.b32 [%rd31 + 128], %r1; st.global.b32 [%rd31 + 256], %r2; "
                                 "st.global.b32 [%rd31 + 384], %r3;\n";
        const auto out = run_well("mov.u32 %r20, tile;\n" + body, numbered(), 128, {.declarations = ".shared .align 256 .b8 tile[512];"});
        const auto in = numbered();
        for (uint32_t row = 0; row < 32; ++row)
            for (uint32_t word = 0; word < 4; ++word) REQUIRE(out[word * 32 + row] == in[word * 32 + (row ^ 8)]);
    }
    const auto in = numbered();
    const auto out =
        run_well(fill_shared() +
                     "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r20];\nmovmatrix.sync.aligned.m8n8.trans.b16 %r5, %r4;\n"
                     "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r6}, [%r20];\nst.global.b32 [%rd31], %r5; st.global.b32 [%rd31 + "
                     "128], %r6;\n",
                 in, 64, kTile);
    for (uint32_t lane = 0; lane < 32; ++lane) REQUIRE(out[lane] == out[32 + lane]);
}

TEST_CASE("matrix instructions are strict") {
    const auto kind = [](const Run& run) {
        return run.error.empty() ? std::string(name(run.fault.kind)) + ": " + run.fault.text : "load: " + run.error;
    };
    // A row that is no multiple of 16 bytes from 0.
    Run run =
        run_ptx(fill_shared() + "add.u32 %r20, %r20, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r20];", numbered(), 32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Misaligned, kind(run));
    // Rows nobody wrote.
    run = run_ptx("mov.u32 %r20, tile; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r20];", numbered(), 32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Uninitialised, kind(run));
    run =
        run_ptx(fill_shared() + "add.u32 %r20, %r20, 512; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r20];", numbered(), 32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::OutOfBounds, kind(run));
    // Written by others, with no barrier between.
    std::string racing = fill_shared();
    racing.erase(racing.find("bar.sync 0;"), 11);
    run = run_ptx(racing + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r20];", numbered(), 32, kTile);
    CHECK_MESSAGE((run.fault.kind == Fault::Kind::None || run.fault.kind == Fault::Kind::Race), kind(run));
    racing.replace(racing.find("shl.b32 %r21, %lane, 4;"), 23, "xor.b32 %r21, %lane, 9; shl.b32 %r21, %r21, 4;");
    run = run_ptx(racing +
                      "mov.u32 %r20, tile; shl.b32 %r21, %lane, 4; add.u32 %r20, %r20, %r21; ldmatrix.sync.aligned.m8n8.x4.shared.b16 "
                      "{%r4, %r5, %r6, %r7}, [%r20];",
                  numbered(), 32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Race, kind(run));
    // Not all lanes.
    run = run_ptx(fill_shared() + "setp.lt.u32 %p0, %lane, 16;\n@%p0 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%r20];", numbered(),
                  32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Divergence, kind(run));
    run = run_ptx(
        "mov.f32 %f0, 0f00000000; mov.u32 %r0, 0; setp.lt.u32 %p0, %lane, 16; @%p0 exit;\n"
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r0}, {%r0}, {%f0, %f0, %f0, %f0};",
        numbered(), 32, kTile);
    CHECK_MESSAGE(run.fault.kind == Fault::Kind::Divergence, kind(run));
    // What there is not, is refused by name.
    for (const char* wrong :
         {"mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f1, %f2, %f3, "
          "%f4};",
          "mma.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f1, %f2, %f3, %f4};",
          "mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f1, %f2, %f3, %f4};",
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2}, {%r4, %r5}, {%f1, %f2, %f3, %f4};",
          "mma.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f1, %f2, %f3, %f4};",
          "ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r4, %r5, %r6}, [%r20];"}) {
        run = run_ptx(wrong, {}, 32);
        CAPTURE(wrong);
        CHECK(!run.error.empty());
    }
}

struct WmmaCase {
    int m, n, k;
    std::string type;
    Element element;
    std::string d, c;
    int a_registers, b_registers;
};

TEST_CASE("wmma: load, multiply, store, in every layout") {
    const WmmaCase all[] = {
        {16, 16, 16, "f16", Element::F16, "f32", "f32", 8, 8},  {32, 8, 16, "f16", Element::F16, "f16", "f16", 8, 8},
        {8, 32, 16, "f16", Element::F16, "f32", "f16", 8, 8},   {16, 16, 16, "bf16", Element::BF16, "f32", "f32", 4, 4},
        {32, 8, 16, "bf16", Element::BF16, "f32", "f32", 8, 2}, {8, 32, 16, "bf16", Element::BF16, "f32", "f32", 2, 8},
        {16, 16, 8, "tf32", Element::TF32, "f32", "f32", 4, 4}, {16, 16, 16, "s8", Element::S8, "s32", "s32", 2, 2},
        {8, 32, 16, "u8", Element::U8, "s32", "s32", 1, 4},
    };
    for (const WmmaCase& test : all)
        for (int layouts = 0; layouts < 16; ++layouts) {
            const bool a_rows = (layouts & 1) != 0, b_rows = (layouts & 2) != 0, c_rows = (layouts & 4) != 0, d_rows = (layouts & 8) != 0;
            const auto layout = [](bool rows) { return std::string(rows ? "row" : "col"); };
            const std::string shape = "m" + std::to_string(test.m) + "n" + std::to_string(test.n) + "k" + std::to_string(test.k);
            CAPTURE(shape);
            CAPTURE(test.type);
            CAPTURE(layouts);
            Random random{static_cast<uint64_t>(layouts) + 7};
            // Each matrix with lines 64 elements apart, at fixed places of `in`.
            constexpr int kStride = 64, kBytes = 64 * 32 * 4;
            std::vector<uint8_t> memory(kBytes * 3, 0);
            const auto index = [](bool rows, int row, int column) { return rows ? row * kStride + column : column * kStride + row; };
            const auto at = [&](int matrix, int place, size_t size) {
                return memory.data() + matrix * kBytes + static_cast<size_t>(place) * size;
            };
            const auto size = static_cast<size_t>(numeric::bits(test.element)) / 8;
            std::vector<double> a(static_cast<size_t>(test.m * test.k)), b(static_cast<size_t>(test.k * test.n)),
                c(static_cast<size_t>(test.m * test.n));
            for (int i = 0; i < test.m * test.k; ++i) {
                const uint64_t bits = random_element(random, test.element);
                a[static_cast<size_t>(i)] = value_of(test.element, bits);
                std::memcpy(at(0, index(a_rows, i / test.k, i % test.k), size), &bits, size);
            }
            for (int i = 0; i < test.k * test.n; ++i) {
                const uint64_t bits = random_element(random, test.element);
                b[static_cast<size_t>(i)] = value_of(test.element, bits);
                std::memcpy(at(1, index(b_rows, i / test.n, i % test.n), size), &bits, size);
            }
            const size_t c_size = test.c == "f16" ? 2 : 4, d_size = test.d == "f16" ? 2 : 4;
            for (int i = 0; i < test.m * test.n; ++i) {
                const int value = static_cast<int>(random.next() % 100) - 50;
                c[static_cast<size_t>(i)] = value;
                const uint32_t bits = test.c == "f16"   ? numeric::to_f16(value).bits
                                      : test.c == "s32" ? static_cast<uint32_t>(value)
                                                        : std::bit_cast<uint32_t>(static_cast<float>(value));
                std::memcpy(at(2, index(c_rows, i / test.n, i % test.n), c_size), &bits, c_size);
            }
            const auto sums = [&](const std::string& type) { return type == "f32" ? std::string("%f") : std::string("%r"); };
            const int c_registers = test.c == "f16" ? 4 : 8, d_registers = test.d == "f16" ? 4 : 8;
            const std::string types =
                test.type == "f16" ? test.d + "." + test.c : test.d + "." + test.type + "." + test.type + "." + test.c;
            const std::string body =
                "add.u64 %rd1, %in, " + std::to_string(kBytes) + "; add.u64 %rd2, %in, " + std::to_string(2 * kBytes) +
                "; mov.u32 %r63, 64;\n" + "wmma.load.a.sync.aligned." + layout(a_rows) + "." + shape + ".global." + test.type + " " +
                tuple("%r", 0, test.a_registers) + ", [%in], %r63;\n" + "wmma.load.b.sync.aligned." + layout(b_rows) + "." + shape + "." +
                test.type + " " + tuple("%r", 8, test.b_registers) + ", [%rd1], %r63;\n" + "wmma.load.c.sync.aligned." + layout(c_rows) +
                "." + shape + ".global." + test.c + " " + tuple(sums(test.c), 20, c_registers) + ", [%rd2], 64;\n" +
                "wmma.mma.sync.aligned." + layout(a_rows) + "." + layout(b_rows) + "." + shape + "." + types + " " +
                tuple(sums(test.d), 30, d_registers) + ", " + tuple("%r", 0, test.a_registers) + ", " + tuple("%r", 8, test.b_registers) +
                ", " + tuple(sums(test.c), 20, c_registers) + ";\n" + "wmma.store.d.sync.aligned." + layout(d_rows) + "." + shape +
                ".global." + test.d + " [%out], " + tuple(sums(test.d), 30, d_registers) + ", %r63;\n";
            std::vector<uint32_t> in(memory.size() / 4);
            std::memcpy(in.data(), memory.data(), memory.size());
            const auto out = run_well(body, in, kBytes / 4);
            for (int row = 0; row < test.m; ++row)
                for (int column = 0; column < test.n; ++column) {
                    double want = c[static_cast<size_t>(row * test.n + column)], magnitude = std::fabs(want);
                    for (int i = 0; i < test.k; ++i) {
                        const double product = a[static_cast<size_t>(row * test.k + i)] * b[static_cast<size_t>(i * test.n + column)];
                        want += product;
                        magnitude += std::fabs(product);
                    }
                    uint32_t bits = 0;
                    std::memcpy(&bits,
                                reinterpret_cast<const uint8_t*>(out.data()) + static_cast<size_t>(index(d_rows, row, column)) * d_size,
                                d_size);
                    const double got = test.d == "f16"   ? numeric::widen(numeric::kF16, bits)
                                       : test.d == "s32" ? static_cast<double>(static_cast<int32_t>(bits))
                                                         : static_cast<double>(std::bit_cast<float>(bits));
                    REQUIRE(std::fabs(got - want) <= magnitude * (test.d == "f16" ? 0x1p-10 : 0x1p-22));
                }
        }
}

}  // namespace
