// Floating-point add, sub, mul, fma, div, min, max, abs, neg. The rounded operations themselves are in emulator/numeric/float.h.
#include "emulator/machine/arithmetic.h"
#include "emulator/machine/float_flags.h"
#include "emulator/machine/halves.h"
#include "emulator/machine/lanes.h"
#include "emulator/numeric/approximate.h"

namespace flexemu {
namespace {

using numeric::BF16;
using numeric::F16;
using numeric::Mode;
using numeric::Rounding;
using ptx::Type;

struct Add {
    using Half = HalfAdd;
    template <typename T, typename M>
    [[gnu::always_inline]] static T apply(T a, T b, const M& mode) {
        return numeric::add(a, b, mode);
    }
    static float native(float a, float b) { return a + b; }
};
struct Sub {
    using Half = HalfSub;
    template <typename T, typename M>
    [[gnu::always_inline]] static T apply(T a, T b, const M& mode) {
        return numeric::sub(a, b, mode);
    }
    static float native(float a, float b) { return a - b; }
};
struct Mul {
    using Half = HalfMul;
    template <typename T, typename M>
    [[gnu::always_inline]] static T apply(T a, T b, const M& mode) {
        return numeric::mul(a, b, mode);
    }
    static float native(float a, float b) { return a * b; }
};
struct Div {
    template <typename T, typename M>
    [[gnu::always_inline]] static T apply(T a, T b, const M& mode) {
        return numeric::div(a, b, mode);
    }
    static float native(float a, float b) { return a / b; }
};
struct Fma {
    using Half = HalfFma;
    template <typename T, typename M>
    [[gnu::always_inline]] static T apply(T a, T b, T c, const M& mode) {
        return numeric::fma(a, b, c, mode);
    }
    static float native(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

/// With the op's rounding, .ftz and .sat.
template <typename F>
struct Rounded {
    explicit Rounded(const Op& op) : mode(mode_of(op)) {}
    template <typename... T>
    auto operator()(T... values) const {
        return F::apply(values..., mode);
    }
    double operator()(double a, double b) const { return F::apply(a, b, mode.rounding); }
    double operator()(double a, double b, double c) const { return F::apply(a, b, c, mode.rounding); }
    Mode mode;
};
/// f32 to nearest, which is nearly always: what the processor does.
template <typename F, bool flush>
struct Nearest {
    template <typename... T>
    [[gnu::always_inline]] float operator()(T... values) const {
        const float result = numeric::canonical(F::native(flush ? numeric::flush(values) : values...));
        return flush ? numeric::flush(result) : result;
    }
};

template <typename F>
struct Halves : HalfOperation<F> {
    explicit Halves(const Op& op) : HalfOperation<F>{mode_of(op), (op.flags & kRelu) != 0} {}
};

template <typename F, typename T, size_t... I>
constexpr Handler map_same(std::index_sequence<I...>) {
    return map<F, T, std::enable_if_t<(I + 1 > 0), T>...>;
}
template <typename F, typename T, size_t count>
constexpr Handler map_of() {
    return map_same<F, T>(std::make_index_sequence<count>());
}

template <typename F, size_t count>
Handler rounded(Type type, const Op& op) {
    switch (type) {
        case Type::F32:
            if (op.flags == 0) return map_of<Nearest<F, false>, float, count>();
            if (op.flags == kFlush) return map_of<Nearest<F, true>, float, count>();
            return map_of<Rounded<F>, float, count>();
        case Type::F64: return map_of<Rounded<F>, double, count>();
        case Type::F32x2: return map_of<Both<Rounded<F>>, Pair<float>, count>();
        default: break;
    }
    // Division of halves does not exist.
    if constexpr (!std::is_same_v<F, Div>) {
        using H = Halves<typename F::Half>;
        switch (type) {
            case Type::F16: return map_of<H, F16, count>();
            case Type::F16x2: return map_of<Both<H>, Pair<F16>, count>();
            case Type::BF16: return map_of<H, BF16, count>();
            case Type::BF16x2: return map_of<Both<H>, Pair<BF16>, count>();
            default: break;
        }
    }
    return nullptr;
}

struct DivApprox {
    explicit DivApprox(const Op& op) : flush((op.flags & kFlush) != 0) {}
    float operator()(float a, float b) const { return numeric::div_approx(a, b, flush); }
    bool flush;
};
struct DivFull {
    explicit DivFull(const Op& op) : flush((op.flags & kFlush) != 0) {}
    float operator()(float a, float b) const { return numeric::div_full(a, b, flush); }
    bool flush;
};

template <bool is_min>
struct Choose {
    explicit Choose(const Op& op) : choice{(op.flags & kNanWins) != 0, (op.flags & kXorSign) != 0, (op.flags & kFlush) != 0} {}
    template <typename T>
    T operator()(T a, T b) const {
        return is_min ? numeric::min(a, b, choice) : numeric::max(a, b, choice);
    }
    template <typename T>
    T operator()(T a, T b, T c) const {
        return (*this)((*this)(a, b), c);
    }
    double operator()(double a, double b) const { return is_min ? numeric::min(a, b) : numeric::max(a, b); }
    numeric::Choice choice;
};
/// Without .NaN and .xorsign.abs, and without branches. Equal numbers of different bits are the zeros.
template <bool is_min, bool flush>
struct ChoosePlainly {
    float operator()(float a, float b) const {
        if (flush) a = numeric::flush(a), b = numeric::flush(b);
        const uint32_t x = std::bit_cast<uint32_t>(a), y = std::bit_cast<uint32_t>(b);
        const uint32_t same = is_min ? x | y : x & y;
        const bool a_nan = a != a, b_nan = b != b;
        uint32_t result = a < b ? (is_min ? x : y) : a > b ? (is_min ? y : x) : same;
        result = a_nan ? y : b_nan ? x : result;
        result = a_nan && b_nan ? numeric::kCanonicalF32 : result;
        return std::bit_cast<float>(result);
    }
};

/// Sign bits of a slot cleared or flipped; .ftz flushes first. NaN keeps its payload.
template <typename T>
struct ChangeSign {
    explicit ChangeSign(const Op& op) : keep(op.flags2 == 0 ? 0 : 1), flush((op.flags & kFlush) != 0) {}
    T operator()(T value) const {
        if constexpr (std::is_same_v<T, double>) {
            const uint64_t bits = std::bit_cast<uint64_t>(value);
            return std::bit_cast<double>(keep != 0 ? bits ^ uint64_t{1} << 63 : bits & ~(uint64_t{1} << 63));
        } else if constexpr (std::is_same_v<T, float>) {
            const uint32_t bits = std::bit_cast<uint32_t>(flush ? numeric::flush(value) : value);
            return std::bit_cast<float>(keep != 0 ? bits ^ uint32_t{1} << 31 : bits & ~(uint32_t{1} << 31));
        } else {
            const uint16_t bits = (flush ? numeric::flush(value) : value).bits;
            return {static_cast<uint16_t>(keep != 0 ? bits ^ 0x8000 : bits & 0x7fff)};
        }
    }
    uint32_t keep;  // flip the sign rather than clear it
    bool flush;
};

bool is_half(Type type) {
    return type == Type::F16 || type == Type::F16x2;
}
bool is_bfloat(Type type) {
    return type == Type::BF16 || type == Type::BF16x2;
}

/// .ftz of f32 and f16.
void take_flush(Decoding& decoding, Type type) {
    if (type == Type::F32 || type == Type::F32x2 || is_half(type)) take_flag(decoding, "ftz", kFlush);
}

bool rounding_fits(Decoding& decoding, Type type) {
    if ((is_half(type) || is_bfloat(type)) && (decoding.op.flags & kRoundingMask) != 0)
        return decoding.fail("halves are rounded by `.rn` alone");
    return true;
}

}  // namespace

bool decode_float_add(Decoding& decoding, Type type) {
    const std::string& opcode = decoding.text.opcode;
    take_rounding(decoding);
    take_flush(decoding, type);
    if (type == Type::F32 || is_half(type)) take_flag(decoding, "sat", kSaturate);
    if (!rounding_fits(decoding, type)) return false;
    if (is_bfloat(type) && !decoding.needs_target(90, decoding.text.spelling())) return false;
    if (type == Type::F32x2 && !decoding.needs_target(100, decoding.text.spelling())) return false;
    decoding.op.run = opcode == "add"   ? rounded<Add, 2>(type, decoding.op)
                      : opcode == "sub" ? rounded<Sub, 2>(type, decoding.op)
                                        : rounded<Mul, 2>(type, decoding.op);
    if (decoding.op.run == nullptr) return decoding.fail(fmt::format("`{}` is not known with type `.{}`", opcode, ptx::name(type)));
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_float_fma(Decoding& decoding, Type type) {
    const std::string& opcode = decoding.text.opcode;
    if (!take_rounding(decoding)) return decoding.fail(fmt::format("`{}` of floats needs a rounding like `.rn`", opcode));
    take_flush(decoding, type);
    if (type == Type::F32 || is_half(type)) take_flag(decoding, "sat", kSaturate);
    if (!rounding_fits(decoding, type)) return false;
    if (opcode == "mad" && type != Type::F32 && type != Type::F64)
        return decoding.fail(fmt::format("`mad` is not known with type `.{}`", ptx::name(type)));
    if (is_bfloat(type) && !decoding.needs_target(80, decoding.text.spelling())) return false;
    if (type == Type::F32x2 && !decoding.needs_target(100, decoding.text.spelling())) return false;
    if ((is_half(type) || is_bfloat(type)) && take_flag(decoding, "relu", kRelu)) {
        if ((decoding.op.flags & kSaturate) != 0) return decoding.fail("`.relu` and `.sat` exclude each other");
        if (!decoding.needs_target(80, "fma.relu")) return false;
    }
    decoding.op.run = rounded<Fma, 3>(type, decoding.op);
    if (decoding.op.run == nullptr) return decoding.fail(fmt::format("`{}` is not known with type `.{}`", opcode, ptx::name(type)));
    return decoding.operation(type, 3) && decoding.finish();
}

bool decode_float_div(Decoding& decoding, Type type) {
    if (!decoding.type_is(type, {Type::F32, Type::F64})) return false;
    const int approximate = type == Type::F32 ? decoding.take_one({"approx", "full"}) : -1;
    if (approximate < 0 && !take_rounding(decoding))
        return decoding.fail("`div` of floats needs a rounding like `.rn`, `.approx` or `.full`");
    take_flush(decoding, type);
    decoding.op.run = approximate == 0   ? map<DivApprox, float, float, float>
                      : approximate == 1 ? map<DivFull, float, float, float>
                                         : rounded<Div, 2>(type, decoding.op);
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_float_min_max(Decoding& decoding, Type type) {
    const bool is_min = decoding.text.opcode == "min";
    const std::string spelling = decoding.text.spelling();
    take_flush(decoding, type);
    if (type != Type::F64) {
        if (take_flag(decoding, "NaN", kNanWins) && !decoding.needs_target(80, spelling)) return false;
        if (decoding.take("xorsign")) {
            if (!decoding.take("abs")) return decoding.fail("`.xorsign` needs `.abs`");
            if (!decoding.needs_target(86, spelling)) return false;
            decoding.op.flags |= kXorSign;
        }
    }
    if ((is_half(type) || is_bfloat(type)) && !decoding.needs_target(80, spelling)) return false;
    const size_t sources = type == Type::F32 && decoding.text.operands.size() == 4 ? 3 : 2;
    if (sources == 3 && !decoding.needs_target(100, "min and max of three")) return false;
    switch (type) {
        case Type::F32:
            if (sources == 3) {
                decoding.op.run = is_min ? map_of<Choose<true>, float, 3>() : map_of<Choose<false>, float, 3>();
            } else if (decoding.op.flags == 0) {
                decoding.op.run = is_min ? map_of<ChoosePlainly<true, false>, float, 2>() : map_of<ChoosePlainly<false, false>, float, 2>();
            } else if (decoding.op.flags == kFlush) {
                decoding.op.run = is_min ? map_of<ChoosePlainly<true, true>, float, 2>() : map_of<ChoosePlainly<false, true>, float, 2>();
            } else {
                decoding.op.run = is_min ? map_of<Choose<true>, float, 2>() : map_of<Choose<false>, float, 2>();
            }
            break;
        case Type::F64: decoding.op.run = is_min ? map_of<Choose<true>, double, 2>() : map_of<Choose<false>, double, 2>(); break;
        case Type::F16: decoding.op.run = is_min ? map_of<Choose<true>, F16, 2>() : map_of<Choose<false>, F16, 2>(); break;
        case Type::BF16: decoding.op.run = is_min ? map_of<Choose<true>, BF16, 2>() : map_of<Choose<false>, BF16, 2>(); break;
        case Type::F16x2:
            decoding.op.run = is_min ? map_of<Both<Choose<true>>, Pair<F16>, 2>() : map_of<Both<Choose<false>>, Pair<F16>, 2>();
            break;
        case Type::BF16x2:
            decoding.op.run = is_min ? map_of<Both<Choose<true>>, Pair<BF16>, 2>() : map_of<Both<Choose<false>>, Pair<BF16>, 2>();
            break;
        default: return decoding.fail(fmt::format("`{}` is not known with type `.{}`", decoding.text.opcode, ptx::name(type)));
    }
    return decoding.operation(type, sources) && decoding.finish();
}

bool decode_float_abs_neg(Decoding& decoding, Type type) {
    take_flush(decoding, type);
    decoding.op.flags2 = decoding.text.opcode == "neg" ? 1 : 0;
    if (is_bfloat(type) && !decoding.needs_target(80, decoding.text.spelling())) return false;
    switch (type) {
        case Type::F32: decoding.op.run = map<ChangeSign<float>, float, float>; break;
        case Type::F64: decoding.op.run = map<ChangeSign<double>, double, double>; break;
        case Type::F16: decoding.op.run = map<ChangeSign<F16>, F16, F16>; break;
        case Type::BF16: decoding.op.run = map<ChangeSign<BF16>, BF16, BF16>; break;
        case Type::F16x2: decoding.op.run = map<Both<ChangeSign<F16>>, Pair<F16>, Pair<F16>>; break;
        case Type::BF16x2: decoding.op.run = map<Both<ChangeSign<BF16>>, Pair<BF16>, Pair<BF16>>; break;
        default: return decoding.fail(fmt::format("`{}` is not known with type `.{}`", decoding.text.opcode, ptx::name(type)));
    }
    return decoding.operation(type, 1) && decoding.finish();
}

}  // namespace flexemu
