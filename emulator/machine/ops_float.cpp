// Floating-point opcodes that integers do not have: fma, rcp, sqrt, rsqrt, the approximate functions, testp, copysign.
#include "emulator/machine/arithmetic.h"
#include "emulator/machine/float_flags.h"
#include "emulator/machine/lanes.h"
#include "emulator/numeric/approximate.h"

namespace flexemu {
namespace {

using numeric::BF16;
using numeric::F16;
using ptx::Type;

/// A function of f32 with .ftz.
template <float (*function)(float, bool)>
struct Approximate {
    explicit Approximate(const Op& op) : flush((op.flags & kFlush) != 0) {}
    float operator()(float a) const { return function(a, flush); }
    bool flush;
};
struct Exp2 {
    template <typename T>
    T operator()(T a) const {
        return numeric::ex2_approx(a);
    }
};
struct Tanh {
    template <typename T>
    T operator()(T a) const {
        return numeric::tanh_approx(a);
    }
};
struct Reciprocal {
    explicit Reciprocal(const Op& op) : mode(mode_of(op)) {}
    float operator()(float a) const { return numeric::rcp(a, mode); }
    double operator()(double a) const { return numeric::rcp(a, mode.rounding); }
    numeric::Mode mode;
};
struct SquareRoot {
    explicit SquareRoot(const Op& op) : mode(mode_of(op)) {}
    float operator()(float a) const { return numeric::sqrt(a, mode); }
    double operator()(double a) const { return numeric::sqrt(a, mode.rounding); }
    numeric::Mode mode;
};
template <double (*function)(double)>
struct ApproximateDouble {
    double operator()(double a) const { return function(a); }
};

bool decode_fma(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type)) return false;
    if (!is_float(type)) return decoding.fail(fmt::format("`fma` is not known with type `.{}`", ptx::name(type)));
    return decode_float_fma(decoding, type);
}

/// rcp and sqrt: .approx or a rounding.
bool decode_root(Decoding& decoding) {
    const bool is_rcp = decoding.text.opcode == "rcp";
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F64})) return false;
    const bool approximate = decoding.take("approx");
    if (!approximate && !take_rounding(decoding))
        return decoding.fail(fmt::format("`{}` needs a rounding like `.rn`, or `.approx`", decoding.text.opcode));
    if (type == Type::F32) {
        take_flag(decoding, "ftz", kFlush);
        const Handler approximation =
            is_rcp ? map<Approximate<numeric::rcp_approx>, float, float> : map<Approximate<numeric::sqrt_approx>, float, float>;
        const Handler exact = is_rcp ? map<Reciprocal, float, float> : map<SquareRoot, float, float>;
        decoding.op.run = approximate ? approximation : exact;
    } else if (approximate) {
        if (!is_rcp || !decoding.take("ftz")) return decoding.fail("of f64 there is `rcp.approx.ftz` and `rsqrt.approx` alone");
        decoding.op.run = map<ApproximateDouble<numeric::rcp_approx_f64>, double, double>;
    } else {
        decoding.op.run = is_rcp ? map<Reciprocal, double, double> : map<SquareRoot, double, double>;
    }
    return decoding.operation(type, 1) && decoding.finish();
}

bool decode_rsqrt(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F64})) return false;
    if (!decoding.take("approx")) return decoding.fail("`rsqrt` needs `.approx`");
    take_flag(decoding, "ftz", kFlush);
    decoding.op.run = type == Type::F32 ? map<Approximate<numeric::rsqrt_approx>, float, float>
                                        : map<ApproximateDouble<numeric::rsqrt_approx_f64>, double, double>;
    return decoding.operation(type, 1) && decoding.finish();
}

template <float (*function)(float, bool)>
bool decode_approximate(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32})) return false;
    if (!decoding.take("approx")) return decoding.fail(fmt::format("`{}` needs `.approx`", decoding.text.opcode));
    take_flag(decoding, "ftz", kFlush);
    decoding.op.run = map<Approximate<function>, float, float>;
    return decoding.operation(type, 1) && decoding.finish();
}

template <typename F>
Handler of_halves(Type type) {
    switch (type) {
        case Type::F16: return map<F, F16, F16>;
        case Type::BF16: return map<F, BF16, BF16>;
        case Type::F16x2: return map<Both<F>, Pair<F16>, Pair<F16>>;
        case Type::BF16x2: return map<Both<F>, Pair<BF16>, Pair<BF16>>;
        default: return nullptr;
    }
}

bool decode_ex2(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F16, Type::F16x2, Type::BF16, Type::BF16x2})) return false;
    if (type == Type::F32) {
        if (!decoding.take("approx")) return decoding.fail("`ex2` needs `.approx`");
        take_flag(decoding, "ftz", kFlush);
        decoding.op.run = map<Approximate<numeric::ex2_approx>, float, float>;
        return decoding.operation(type, 1) && decoding.finish();
    }
    const bool is_bfloat = type == Type::BF16 || type == Type::BF16x2;
    if (!decoding.take("approx") || (is_bfloat && !decoding.take("ftz")))
        return decoding.fail(is_bfloat ? "`ex2` of bf16 needs `.approx.ftz`" : "`ex2` needs `.approx`");
    if (!decoding.needs_target(is_bfloat ? 90 : 75, decoding.text.spelling())) return false;
    decoding.op.run = of_halves<Exp2>(type);
    return decoding.operation(type, 1) && decoding.finish();
}

bool decode_tanh(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F16, Type::F16x2, Type::BF16, Type::BF16x2})) return false;
    if (!decoding.take("approx")) return decoding.fail("`tanh` needs `.approx`");
    const bool is_bfloat = type == Type::BF16 || type == Type::BF16x2;
    if (!decoding.needs_target(is_bfloat ? 90 : 75, decoding.text.spelling())) return false;
    decoding.op.run = type == Type::F32 ? map<Tanh, float, float> : of_halves<Tanh>(type);
    return decoding.operation(type, 1) && decoding.finish();
}

enum class Test : uint32_t { Finite, Infinite, Number, NotANumber, Normal, Subnormal };
struct TestProperty {
    explicit TestProperty(const Op& op) : test(static_cast<Test>(op.flags)) {}
    template <typename T>
    bool operator()(T a) const {
        const T magnitude = std::fabs(a), least = std::numeric_limits<T>::min(), infinity = std::numeric_limits<T>::infinity();
        switch (test) {
            case Test::Finite: return magnitude < infinity;
            case Test::Infinite: return magnitude == infinity;
            case Test::Number: return a == a;
            case Test::NotANumber: return a != a;
            case Test::Normal: return (magnitude >= least && magnitude < infinity) || magnitude == 0;  // zeros count as normal
            case Test::Subnormal: return magnitude > 0 && magnitude < least;
        }
        return false;
    }
    Test test;
};

bool decode_testp(Decoding& decoding) {
    const int test = decoding.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
    if (test < 0) return decoding.fail("`testp` needs a property like `.finite`");
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F64})) return false;
    decoding.op.flags = static_cast<uint32_t>(test);
    decoding.op.type = type;
    decoding.op.run = type == Type::F32 ? map<TestProperty, bool, float> : map<TestProperty, bool, double>;
    return decoding.operands(2) && decoding.destination(0, Type::Pred) && decoding.source(1, type) && decoding.finish();
}

/// The sign of a on the magnitude of b.
struct CopySign {
    uint32_t operator()(uint32_t a, uint32_t b) const { return (a & 0x80000000) | (b & 0x7fffffff); }
    uint64_t operator()(uint64_t a, uint64_t b) const { return (a & uint64_t{1} << 63) | (b & ~(uint64_t{1} << 63)); }
};

bool decode_copysign(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::F32, Type::F64})) return false;
    decoding.op.run = type == Type::F32 ? map<CopySign, uint32_t, uint32_t, uint32_t> : map<CopySign, uint64_t, uint64_t, uint64_t>;
    return decoding.operation(type, 2) && decoding.finish();
}

constexpr DecoderEntry kDecoders[] = {
    {"fma", decoder<decode_fma>},
    {"rcp", decoder<decode_root>},
    {"sqrt", decoder<decode_root>},
    {"rsqrt", decoder<decode_rsqrt>},
    {"sin", decoder<decode_approximate<numeric::sin_approx>>},
    {"cos", decoder<decode_approximate<numeric::cos_approx>>},
    {"lg2", decoder<decode_approximate<numeric::lg2_approx>>},
    {"ex2", decoder<decode_ex2>},
    {"tanh", decoder<decode_tanh>},
    {"testp", decoder<decode_testp>},
    {"copysign", decoder<decode_copysign>},
};

}  // namespace

std::span<const DecoderEntry> float_decoders() {
    return kDecoders;
}

}  // namespace flexemu
