// wgmma: every type, shape, major-ness and swizzle against plain loops.
#include <algorithm>

#include "wgmma_kernel.h"

namespace {

using namespace flexemu;
using namespace flexemu::test;

struct Types {
    std::string name;  // d.a.b
    Element a, b;
    int k;
};
const std::vector<Types> kTypes = {
    {"f32.f16.f16", Element::F16, Element::F16, 16},     {"f16.f16.f16", Element::F16, Element::F16, 16},
    {"f32.bf16.bf16", Element::BF16, Element::BF16, 16}, {"f32.tf32.tf32", Element::TF32, Element::TF32, 8},
    {"f32.e4m3.e4m3", Element::E4M3, Element::E4M3, 32}, {"f32.e4m3.e5m2", Element::E4M3, Element::E5M2, 32},
    {"f16.e5m2.e4m3", Element::E5M2, Element::E4M3, 32}, {"f16.e5m2.e5m2", Element::E5M2, Element::E5M2, 32},
    {"s32.s8.s8", Element::S8, Element::S8, 32},         {"s32.u8.s8", Element::U8, Element::S8, 32},
    {"s32.u8.u8", Element::U8, Element::U8, 32},         {"s32.b1.b1", Element::B1, Element::B1, 256},
};

/// A random line element, as bits, and its value.
uint32_t random_bits(Random& random, Element element) {
    const auto r = static_cast<uint32_t>(random.next() >> 20);
    switch (element) {
        case Element::F16: return numeric::to_f16((static_cast<double>(r % 4096) - 2048) / 256.0).bits;
        case Element::BF16: return numeric::to_bf16(std::ldexp(static_cast<double>(r % 512) - 256, static_cast<int>(r >> 20 & 7) - 8)).bits;
        case Element::TF32: return std::bit_cast<uint32_t>((static_cast<float>(r % 65536) - 32768) * 0x1.3p-12f);
        case Element::E4M3: return (r & 0x7f) == 0x7f ? 0 : r & 0xff;
        case Element::E5M2: return r & 0xb7;
        case Element::B1: return r & 1;
        default: return r & 255;
    }
}
double value_of(Element element, uint32_t bits) {
    switch (element) {
        case Element::F16: return numeric::widen(numeric::kF16, bits);
        case Element::BF16: return numeric::widen(numeric::kBF16, bits);
        case Element::TF32: return static_cast<double>(std::bit_cast<float>(bits & 0xffffe000));
        case Element::E4M3: return numeric::widen(numeric::kE4M3, bits);
        case Element::E5M2: return numeric::widen(numeric::kE5M2, bits);
        case Element::S8: return static_cast<int8_t>(bits);
        default: return bits;
    }
}

/// A matrix of lines: bits of elements, and the 32 bytes of each line.
struct Matrix {
    Element element;
    int lines, k;
    std::vector<uint32_t> bits;
    Matrix(Random& random, Element type, int count, int along)
        : element(type), lines(count), k(along), bits(static_cast<size_t>(count * along)) {
        for (uint32_t& each : bits) each = random_bits(random, type);
    }
    [[nodiscard]] double at(int line, int i) const { return value_of(element, bits[static_cast<size_t>(line * k + i)]); }
    [[nodiscard]] std::vector<uint8_t> bytes(int line) const {
        std::vector<uint8_t> result(32);
        const int width = 256 / k;
        for (int i = 0; i < k; ++i) {
            for (int bit = 0; bit < width; ++bit) {
                const int to = i * width + bit;
                if ((bits[static_cast<size_t>(line * k + i)] >> bit & 1) != 0)
                    result[static_cast<size_t>(to / 8)] |= static_cast<uint8_t>(1 << to % 8);
            }
        }
        return result;
    }
};

float cut(double value) {
    const auto nearest = static_cast<float>(value);
    return std::fabs(static_cast<double>(nearest)) > std::fabs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

void put(std::vector<uint8_t>& shared, const Layout& layout, const Matrix& matrix) {
    const int size = matrix.k == 8 ? 4 : matrix.k == 16 ? 2 : 1;
    for (int line = 0; line < matrix.lines; ++line) {
        const auto bytes = matrix.bytes(line);
        for (int byte = 0; byte < 32; ++byte) {
            const uint32_t at = layout.at(line, byte, size);
            if (shared.size() <= at) shared.resize((at + 1024) / 1024 * 1024);
            shared[at] = bytes[static_cast<size_t>(byte)];
        }
    }
}

struct Trial {
    Types types;
    int n = 64;
    Layout a = {}, b = {};
    bool a_in_registers = false;
    bool adds = true;  // scale-d
    int sign_a = 1, sign_b = 1;
    bool saturate = false;
    int products = 2;
    uint64_t seed = 0;
};

/// D = A B (+ C), then D += A B as often as there are products, with the same operands.
void try_product(const Trial& trial) {
    Random random{static_cast<uint64_t>(trial.n) * 977 + trial.seed + 5};
    const bool is_integer = trial.types.name[0] == 's', is_half = trial.types.name.starts_with("f16");
    const int n = trial.n, k = trial.types.k;
    const Matrix a(random, trial.types.a, 64, k), b(random, trial.types.b, n, k);
    std::vector<uint8_t> shared(2048);
    if (!trial.a_in_registers) put(shared, trial.a, a);
    put(shared, trial.b, b);
    shared.resize((shared.size() + 15) / 16 * 16);

    Wgmma kernel;
    kernel.seed = trial.seed;
    kernel.shared_words = shared.size() / 4;
    kernel.in.resize(kernel.shared_words);
    std::memcpy(kernel.in.data(), shared.data(), shared.size());
    // C: by thread, as it lies in registers.
    const auto sums = static_cast<size_t>(is_half ? n / 4 : n / 2);
    const auto place = [&](size_t reg, size_t thread, int half) {
        const size_t lane = thread % 32, row = thread / 32 * 16 + lane / 4 + 8 * (is_half ? reg % 2 : reg / 2 % 2);
        const size_t column = (is_half ? reg / 2 : reg / 4) * 8 + lane % 4 * 2 + (is_half ? static_cast<size_t>(half) : reg % 2);
        return row * static_cast<size_t>(n) + column;
    };
    std::vector<double> c(static_cast<size_t>(64 * n));
    const size_t c_word = kernel.in.size();
    for (size_t reg = 0; reg < sums; ++reg) {
        for (size_t thread = 0; thread < 128; ++thread) {
            const auto r = static_cast<int32_t>(random.next() >> 40);
            uint32_t word = 0;
            if (is_half) {
                const uint16_t low = numeric::to_f16(static_cast<double>(r % 1000) / 8).bits,
                               high = numeric::to_f16(static_cast<double>(r % 777) / 4).bits;
                c[place(reg, thread, 0)] = numeric::widen(numeric::kF16, low);
                c[place(reg, thread, 1)] = numeric::widen(numeric::kF16, high);
                word = low | uint32_t{high} << 16;
            } else if (is_integer) {
                const int32_t value = trial.saturate ? INT32_MAX - r % 100000 : r % 100000 - 50000;
                c[place(reg, thread, 0)] = value;
                word = static_cast<uint32_t>(value);
            } else {
                const float value = static_cast<float>(r % 100000) * 0x1p-7f;
                c[place(reg, thread, 0)] = static_cast<double>(value);
                word = std::bit_cast<uint32_t>(value);
            }
            kernel.in.push_back(word);
        }
    }
    const size_t a_word = kernel.in.size();
    for (size_t reg = 0; reg < 4; ++reg) {
        for (size_t thread = 0; thread < 128; ++thread) {
            const size_t lane = thread % 32, row = thread / 32 * 16 + lane / 4 + 8 * (reg % 2), word = lane % 4 + 4 * (reg / 2);
            uint32_t value = 0;
            std::memcpy(&value, a.bytes(static_cast<int>(row)).data() + word * 4, 4);
            kernel.in.push_back(value);
        }
    }
    kernel.out_words = sums * 128;
    std::string options = ", %p1";
    if (!is_integer) options += ", " + std::to_string(trial.sign_a) + ", " + std::to_string(trial.sign_b);
    if (k == 16 && !trial.a_in_registers) options += trial.a.mn_major ? ", 1" : ", 0";
    if (k == 16) options += trial.b.mn_major ? ", 1" : ", 0";
    const std::string shape = "m64n" + std::to_string(n) + "k" + std::to_string(k) + (trial.saturate ? ".satfinite." : ".") +
                              trial.types.name + (trial.types.a == Element::B1 ? ".and.popc" : "");
    std::string product = "wgmma.mma_async.sync.aligned." + shape + " " + registers("acc", 0, sums) + ", ";
    product += trial.a_in_registers ? registers("frag", 0, 4) : "%rd10";
    product += ", %rd11";
    kernel.body = load_registers("acc", sums, c_word) + load_registers("frag", 4, a_word) + kReady + "mov.b64 %rd10, " +
                  hex(trial.a.descriptor()) + "; mov.b64 %rd11, " + hex(trial.b.descriptor()) + ";\nsetp.eq.u32 %p1, " +
                  (trial.adds ? "0" : "1") + ", 0;\nwgmma.fence.sync.aligned;\n" + product + options + ";\n";
    for (int i = 1; i < trial.products; ++i) kernel.body += "setp.eq.u32 %p1, 0, 0;\n" + product + options + ";\n";
    kernel.body += "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n" + store_registers("acc", 0, sums);
    const Run run = run_wgmma(kernel);
    CHECK_MESSAGE(run.error.empty(), run.error);
    REQUIRE_MESSAGE(run.fault.kind == Fault::Kind::None, run.fault.text);

    std::vector<double> right(c);
    for (int row = 0; row < 64; ++row) {
        for (int column = 0; column < n; ++column) {
            double& sum = right[static_cast<size_t>(row * n + column)];
            double exact = 0;
            for (int i = 0; i < k; ++i) exact += a.at(row, i) * b.at(column, i);
            exact *= trial.sign_a * trial.sign_b;
            if (!trial.adds) sum = 0;
            for (int i = 0; i < trial.products; ++i) {
                sum += exact;
                if (is_half)
                    sum = numeric::widen(numeric::kF16, numeric::to_f16(sum).bits);
                else if (is_integer)
                    sum = trial.saturate ? std::min(sum, static_cast<double>(INT32_MAX)) : sum;
                else
                    sum = static_cast<double>(cut(sum));
            }
        }
    }
    size_t wrong = 0;
    for (size_t reg = 0; reg < sums; ++reg) {
        for (size_t thread = 0; thread < 128; ++thread) {
            const uint32_t got = run.out[reg * 128 + thread];
            for (int half = 0; half < (is_half ? 2 : 1); ++half) {
                const double must = right[place(reg, thread, half)];
                const double is = is_half      ? numeric::widen(numeric::kF16, got >> 16 * half & 0xffff)
                                  : is_integer ? static_cast<double>(static_cast<int32_t>(got))
                                               : static_cast<double>(std::bit_cast<float>(got));
                if (is != must && wrong++ == 0)
                    FAIL_CHECK(shape << (trial.a_in_registers ? " RS" : " SS") << " swizzle " << trial.a.span << " " << trial.b.span
                                     << " mn " << trial.a.mn_major << trial.b.mn_major << " register " << reg << " thread " << thread
                                     << ": " << is << ", must be " << must);
            }
        }
    }
}

/// A place for `lines` lines, with strides that leave gaps.
Layout layout_of(int span, bool mn_major, int lines, uint32_t start, int gap) {
    Layout layout;
    layout.span = span;
    layout.mn_major = mn_major;
    layout.start = start;
    const auto atom = static_cast<uint32_t>((span == 0 ? 16 : span) * 8), extra = static_cast<uint32_t>(gap) * atom;
    const auto eights = static_cast<uint32_t>(lines / 8);
    if (!mn_major) {
        layout.stride = atom + extra;
        layout.leading = span == 0 ? eights * layout.stride : 16;
    } else if (span == 0) {
        layout.stride = 128 + extra;
        layout.leading = eights * layout.stride;
    } else {
        layout.stride = atom;
        layout.leading = 2 * atom + extra;
    }
    return layout;
}

TEST_CASE("types and numbers of columns, from shared memory and from registers") {
    uint64_t seed = 0;
    for (const Types& types : kTypes) {
        for (const int n : {8, 16, 24, 32, 48, 64, 80, 96, 128, 176, 192, 256}) {
            for (const bool in_registers : {false, true}) {
                Trial trial{.types = types, .n = n};
                trial.a = layout_of(128, false, 64, 0, 0);
                trial.b = layout_of(128, false, n, 16384, 0);
                trial.a_in_registers = in_registers;
                trial.adds = ++seed % 3 != 0;
                trial.seed = seed % 5;
                if (n > 64 && n != 256 && (seed / 2 + static_cast<uint64_t>(n / 8)) % 3 != 0) continue;
                try_product(trial);
            }
        }
    }
    for (int n = 8; n <= 256; n += 8) {
        Trial trial{.types = kTypes[2], .n = n};
        trial.a = layout_of(128, false, 64, 0, 0);
        trial.b = layout_of(64, true, n, 16384, 0);
        trial.products = 1;
        try_product(trial);
    }
}

TEST_CASE("swizzles and major-ness") {
    uint64_t seed = 0;
    for (const int span_a : {0, 32, 64, 128}) {
        for (const int span_b : {0, 32, 64, 128}) {
            for (int major = 0; major < 4; ++major) {
                for (const int n : {8, 40, 136}) {
                    Trial trial{.types = kTypes[major % 2 == 0 ? 0 : 2], .n = n};
                    trial.a = layout_of(span_a, (major & 1) != 0, 64, 1024, n == 40 ? 1 : 0);
                    trial.b = layout_of(span_b, (major & 2) != 0, n, 40960, n == 136 ? 0 : 1);
                    trial.seed = ++seed % 7;
                    trial.products = 1;
                    try_product(trial);
                    trial.a_in_registers = true;
                    if (major % 2 == 0) try_product(trial);
                }
            }
        }
    }
    // Other types: K-major alone.
    for (const Types& types : kTypes) {
        for (const int span : {0, 32, 64}) {
            Trial trial{.types = types, .n = 32};
            trial.a = layout_of(span, false, 64, 512, 1);
            trial.b = layout_of(span, false, 32, 32768, 0);
            try_product(trial);
        }
    }
}

TEST_CASE("matrices inside of a swizzle, and patterns that begin at any row") {
    for (const int span : {32, 64, 128}) {
        for (uint32_t step = 0; step < static_cast<uint32_t>(span); step += 32) {
            Trial trial{.types = kTypes[2], .n = 24};
            trial.a = layout_of(span, false, 64, 2048 + step, 0);
            trial.b = layout_of(span, false, 24, 16384 + step, 0);
            try_product(trial);
            // N-major: some of the columns of one swizzle.
            if (step * 2 + 16 > static_cast<uint32_t>(span)) continue;
            trial.n = 8;
            trial.b = layout_of(span, true, 8, 16384 + step, 0);
            try_product(trial);
        }
        for (uint32_t row = 0; row < static_cast<uint32_t>(span / 16); ++row) {
            Trial trial{.types = kTypes[0], .n = 40};
            trial.a = layout_of(span, false, 64, 4096 + row * 128, 0);
            trial.a.base_offset = row;
            trial.b = layout_of(span, true, 40, 32768 + row * 128, 0);
            trial.b.base_offset = row;
            try_product(trial);
        }
    }
}

TEST_CASE("signs, scale-d and clamping") {
    for (const size_t type : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{5}}) {
        for (const int sign_a : {1, -1}) {
            for (const int sign_b : {1, -1}) {
                for (const bool adds : {false, true}) {
                    Trial trial{.types = kTypes[type], .n = 16};
                    trial.a = layout_of(128, false, 64, 0, 0);
                    trial.b = layout_of(128, false, 16, 16384, 0);
                    trial.sign_a = sign_a, trial.sign_b = sign_b, trial.adds = adds;
                    trial.a_in_registers = sign_a < 0;
                    trial.products = 3;
                    try_product(trial);
                }
            }
        }
    }
    Trial trial{.types = kTypes[10], .n = 16};
    trial.a = layout_of(128, false, 64, 0, 0);
    trial.b = layout_of(128, false, 16, 16384, 0);
    trial.saturate = true;
    try_product(trial);
}

/// Descriptors of any bits: where the reads go is what Layout says, or there is a fault that names the descriptor.
TEST_CASE("random descriptors") {
    Random random{77};
    constexpr size_t kBytes = 65536;
    std::vector<uint16_t> image(kBytes / 2);
    for (uint16_t& each : image) each = static_cast<uint16_t>(random_bits(random, Element::F16));
    size_t ran = 0, refused = 0;
    for (int trial = 0; trial < 300; ++trial) {
        const auto below = [&](uint64_t bound) { return static_cast<uint32_t>(random.next() % bound); };
        const auto layout = [&] {
            Layout result;
            result.span = std::array{0, 32, 64, 128}[below(4)];
            result.mn_major = below(2) != 0;
            result.leading = below(512) * 16;
            result.stride = below(128) * 16;
            const auto pattern = static_cast<uint32_t>(result.span == 0 ? 16 : result.span * 8);
            result.start = below(32768 / pattern) * pattern;
            // Half of them begin inside of a swizzle, or in another row of the pattern.
            if (result.span != 0 && below(2) != 0) result.start += below(static_cast<uint64_t>(result.span / 16)) * 16;
            if (result.span != 0 && below(4) == 0) {
                result.base_offset = below(static_cast<uint64_t>(result.span / 16));
                result.start += (below(4) == 0 ? result.base_offset ^ 1 : result.base_offset) * 128;
            }
            return result;
        };
        const Layout a = layout(), b = layout();
        const int n = 8 * static_cast<int>(1 + below(6));
        Wgmma kernel;
        kernel.shared_words = kBytes / 4;
        kernel.in.resize(kernel.shared_words);
        std::memcpy(kernel.in.data(), image.data(), kBytes);
        kernel.threads = 128;
        const auto sums = static_cast<size_t>(n / 2);
        kernel.out_words = sums * 128;
        kernel.seed = below(4);
        kernel.body = kReady + "mov.b64 %rd10, " + hex(a.descriptor()) + "; mov.b64 %rd11, " + hex(b.descriptor()) +
                      ";\nsetp.eq.u32 %p1, 0, 1;\nwgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned.m64n" + std::to_string(n) +
                      "k16.f32.f16.f16 " + registers("acc", 0, sums) + ", %rd10, %rd11, %p1, 1, 1, " + (a.mn_major ? "1, " : "0, ") +
                      (b.mn_major ? "1" : "0") + ";\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n" +
                      store_registers("acc", 0, sums);
        const Run run = run_wgmma(kernel);
        REQUIRE_MESSAGE(run.error.empty(), run.error);
        // What must be refused: a row of the pattern that is not said, or a line that leaves its swizzle.
        bool is_bad = false, is_outside = false;
        for (const auto& [operand, lines] : {std::pair{&a, 64}, std::pair{&b, n}}) {
            const auto span = static_cast<uint32_t>(operand->span);
            if (span != 0) {
                is_bad |= (operand->start / 128 - operand->base_offset) % (span / 16) != 0 || operand->start % 128 >= span;
                const uint32_t inside = operand->start % span, along = operand->mn_major ? static_cast<uint32_t>(lines) * 2 : 32;
                is_bad |= inside != 0 && inside + along > span;
            }
            for (int line = 0; line < lines; ++line)
                for (int byte = 0; byte < 32; byte += 2) is_outside |= operand->at(line, byte, 2) >= kBytes;
        }
        if (is_bad || is_outside) {
            ++refused;
            const bool found =
                (is_bad && run.fault.kind == Fault::Kind::BadInstruction) || (is_outside && run.fault.kind == Fault::Kind::OutOfBounds);
            CHECK_MESSAGE(found, run.fault.text);
            continue;
        }
        REQUIRE_MESSAGE(!run.fault, run.fault.text);
        ++ran;
        const auto element = [&](const Layout& from, int line, int k) {
            return numeric::widen(numeric::kF16, image[from.at(line, 2 * k, 2) / 2]);
        };
        size_t wrong = 0;
        for (size_t reg = 0; reg < sums; ++reg) {
            for (size_t thread = 0; thread < 128; ++thread) {
                const size_t lane = thread % 32;
                const int row = static_cast<int>(thread / 32 * 16 + lane / 4 + 8 * (reg / 2 % 2)),
                          column = static_cast<int>(reg / 4 * 8 + lane % 4 * 2 + reg % 2);
                double sum = 0;
                for (int k = 0; k < 16; ++k) sum += element(a, row, k) * element(b, column, k);
                wrong += std::bit_cast<uint32_t>(cut(sum)) != run.out[reg * 128 + thread] && sum != 0;
            }
        }
        CHECK_MESSAGE(wrong == 0, "span " << a.span << " " << b.span << " mn " << a.mn_major << b.mn_major);
    }
    CHECK(ran > 100);
    CHECK(refused > 30);
}

}  // namespace
