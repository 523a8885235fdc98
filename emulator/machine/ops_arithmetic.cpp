// Opcodes that integers and floats share: the type decides who decodes them.
#include "emulator/machine/arithmetic.h"

namespace flexemu {
namespace {

using ptx::Type;

template <bool (*integer)(Decoding&, Type), bool (*floating)(Decoding&, Type)>
bool decode_by_type(Decoding& decoding) {
    const int pair = decoding.take_one({"u16x2", "s16x2"});
    if (pair >= 0) return decode_integer_pairs(decoding, pair == 1);
    Type type;
    if (!decoding.type(&type)) return false;
    return is_float(type) ? floating(decoding, type) : integer(decoding, type);
}

bool no_float(Decoding& decoding, Type type) {
    return decoding.fail(fmt::format("`{}` is not known with type `.{}`", decoding.text.opcode, ptx::name(type)));
}

constexpr DecoderEntry kDecoders[] = {
    {"add", decoder<decode_by_type<decode_integer_add, decode_float_add>>},
    {"sub", decoder<decode_by_type<decode_integer_add, decode_float_add>>},
    {"addc", decoder<decode_by_type<decode_integer_add, no_float>>},
    {"subc", decoder<decode_by_type<decode_integer_add, no_float>>},
    {"mul", decoder<decode_by_type<decode_integer_mul, decode_float_add>>},
    {"mad", decoder<decode_by_type<decode_integer_mad, decode_float_fma>>},
    {"madc", decoder<decode_by_type<decode_integer_mad, no_float>>},
    {"div", decoder<decode_by_type<decode_integer_div, decode_float_div>>},
    {"rem", decoder<decode_by_type<decode_integer_div, no_float>>},
    {"min", decoder<decode_by_type<decode_integer_min_max, decode_float_min_max>>},
    {"max", decoder<decode_by_type<decode_integer_min_max, decode_float_min_max>>},
    {"abs", decoder<decode_by_type<decode_integer_abs_neg, decode_float_abs_neg>>},
    {"neg", decoder<decode_by_type<decode_integer_abs_neg, decode_float_abs_neg>>},
    {"setp", decoder<decode_setp>},
    {"set", decoder<decode_set>},
    {"selp", decoder<decode_selp>},
    {"slct", decoder<decode_slct>},
    {"mov", decoder<decode_mov>},
    {"cvt", decoder<decode_cvt>},
};

}  // namespace

bool is_float(Type type) {
    switch (type) {
        case Type::F16:
        case Type::F16x2:
        case Type::BF16:
        case Type::BF16x2:
        case Type::TF32:
        case Type::F32:
        case Type::F32x2:
        case Type::F64: return true;
        default: return false;
    }
}

std::span<const DecoderEntry> shared_decoders() {
    return kDecoders;
}

}  // namespace flexemu
