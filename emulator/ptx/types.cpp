#include <algorithm>
#include <iterator>

#include "emulator/ptx/module.h"

namespace flexemu::ptx {
namespace {

struct TypeInfo {
    Type type;
    std::string_view name;
    int bits;
};
constexpr TypeInfo kTypes[] = {
    {Type::None, "", 0},        {Type::Pred, "pred", 1},      {Type::B8, "b8", 8},          {Type::B16, "b16", 16},
    {Type::B32, "b32", 32},     {Type::B64, "b64", 64},       {Type::B128, "b128", 128},    {Type::U8, "u8", 8},
    {Type::U16, "u16", 16},     {Type::U32, "u32", 32},       {Type::U64, "u64", 64},       {Type::S8, "s8", 8},
    {Type::S16, "s16", 16},     {Type::S32, "s32", 32},       {Type::S64, "s64", 64},       {Type::F16, "f16", 16},
    {Type::F16x2, "f16x2", 32}, {Type::BF16, "bf16", 16},     {Type::BF16x2, "bf16x2", 32}, {Type::TF32, "tf32", 32},
    {Type::F32, "f32", 32},     {Type::F32x2, "f32x2", 64},   {Type::F64, "f64", 64},       {Type::E4M3, "e4m3", 8},
    {Type::E5M2, "e5m2", 8},    {Type::E4M3x2, "e4m3x2", 16}, {Type::E5M2x2, "e5m2x2", 16},
};

}  // namespace

int bits(Type type) {
    return kTypes[static_cast<size_t>(type)].bits;
}

std::string_view name(Type type) {
    return kTypes[static_cast<size_t>(type)].name;
}

Type type_named(std::string_view name) {
    const auto* at = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeInfo& each) { return each.name == name; });
    return at == std::end(kTypes) ? Type::None : at->type;
}

bool Instruction::has(std::string_view modifier) const {
    return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
}

std::string Instruction::spelling() const {
    std::string text = opcode;
    for (const std::string& modifier : modifiers) text += "." + modifier;
    return text;
}

int32_t Module::find_function(std::string_view wanted) const {
    for (size_t i = 0; i < functions.size(); ++i)
        if (functions[i].name == wanted) return static_cast<int32_t>(i);
    return -1;
}

int32_t Module::find_variable(std::string_view wanted) const {
    for (size_t i = 0; i < variables.size(); ++i)
        if (variables[i].name == wanted) return static_cast<int32_t>(i);
    return -1;
}

}  // namespace flexemu::ptx
