#include "driver/cpp_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace flexc {

namespace {

// Keywords and their other spellings, what the header itself uses, and macros of common systems.
constexpr std::string_view kTaken[] = {
    "Args",         "NULL",     "alignas",      "alignof",   "and",        "and_eq",    "asm",
    "auto",         "bitand",   "bitor",        "bool",      "break",      "case",      "catch",
    "char",         "char16_t", "char32_t",     "char8_t",   "class",      "co_await",  "co_return",
    "co_yield",     "compl",    "concept",      "const",     "const_cast", "consteval", "constexpr",
    "constinit",    "continue", "decltype",     "default",   "delete",     "do",        "double",
    "dynamic_cast", "else",     "enum",         "errno",     "explicit",   "export",    "extern",
    "false",        "flex",     "flexc",        "float",     "for",        "friend",    "goto",
    "if",           "inline",   "int",          "linux",     "long",       "main",      "mutable",
    "namespace",    "new",      "noexcept",     "not",       "not_eq",     "nullptr",   "operator",
    "or",           "or_eq",    "private",      "protected", "public",     "register",  "reinterpret_cast",
    "requires",     "return",   "short",        "signed",    "sizeof",     "static",    "static_assert",
    "static_cast",  "std",      "stderr",       "stdin",     "stdout",     "struct",    "switch",
    "template",     "this",     "thread_local", "throw",     "true",       "try",       "typedef",
    "typeid",       "typename", "union",        "unix",      "unsigned",   "using",     "virtual",
    "void",         "volatile", "wchar_t",      "while",     "xor",        "xor_eq"};

bool is_identifier(std::string_view text) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    if (text.empty() || !letter(text[0])) return false;
    return std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// Lines of a comment. One that ended in a backslash would swallow the next.
std::string comment(std::string_view text, std::string_view mark) {
    std::string out;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string line(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        while (!line.empty() && (line.back() == ' ' || line.back() == '\r' || line.back() == '\t')) line.pop_back();
        if (line.ends_with('\\')) line += " .";
        out += fmt::format("{}{}{}\n", mark, line.empty() ? "" : " ", line);
    }
    return out;
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out + '"';
}

std::string_view type_name(const flex::ParamDesc& param) {
    if (param.is_tensor) return "flex::Tensor";
    switch (param.dtype) {
        case flex::DType::F32: return "float";
        case flex::DType::Bool: return "bool";
        default: return "std::int32_t";
    }
}

std::string_view dtype_name(flex::DType type) {
    switch (type) {
        case flex::DType::F32: return "F32";
        case flex::DType::F16: return "F16";
        case flex::DType::BF16: return "BF16";
        case flex::DType::I32: return "I32";
        case flex::DType::I16: return "I16";
        case flex::DType::I8: return "I8";
        case flex::DType::U8: return "U8";
        case flex::DType::Bool: return "Bool";
    }
    return "";
}

/// The default as an expression of C++ that has exactly its value.
std::string default_text(const flex::ParamDesc& param) {
    if (param.dtype == flex::DType::Bool) return param.default_bits ? "true" : "false";
    if (param.dtype == flex::DType::I32) {
        const auto value = static_cast<int32_t>(param.default_bits);
        return value == std::numeric_limits<int32_t>::min() ? "std::numeric_limits<std::int32_t>::min()" : std::to_string(value);
    }
    float value = 0;
    std::memcpy(&value, &param.default_bits, sizeof value);
    if (std::isnan(value)) return "std::numeric_limits<float>::quiet_NaN()";
    if (std::isinf(value)) return value < 0 ? "-std::numeric_limits<float>::infinity()" : "std::numeric_limits<float>::infinity()";
    std::string text = fmt::format("{}", value);
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text + "f";
}

std::string declared_shape(const flex::KernelDesc& desc, const flex::ParamDesc& param) {
    std::string text;
    for (const flex::DimDesc& dim : param.dims) text += (text.empty() ? "" : ", ") + desc.dim_text(dim);
    return fmt::format("{} [{}]", flex::name(param.dtype), text);
}

// The literals of a description take each structure apart by all its members: one that gains a member does not compile here until
// the member is written, too.

std::string dim_literal(const flex::DimDesc& dim) {
    const auto& [multiplier, extent, offset] = dim;
    return fmt::format("{{{}, {}, {}}}", multiplier, extent, offset);
}

std::string param_literal(const flex::ParamDesc& param) {
    const auto& [name, is_tensor, dtype, dims, grad, has_default, default_bits, apart] = param;
    std::string list;
    for (const flex::DimDesc& dim : dims) list += (list.empty() ? "" : ", ") + dim_literal(dim);
    return fmt::format("{{{}, {}, flex::DType::{}, {{{}}}, {}, {}, {}u, {}}}", quoted(name), is_tensor, dtype_name(dtype), list, grad,
                       has_default, default_bits, apart);
}

std::string rule_literal(const flex::ExtentRule& rule) {
    const auto& [left, right, reason] = rule;
    return fmt::format("{{{}, {}, {}}}", dim_literal(left), dim_literal(right), quoted(reason));
}

/// struct Args: the parameters in their order, tensors with their shapes.
std::string args_struct(const flex::KernelDesc& desc) {
    if (desc.params.empty()) return "/// It captures nothing.\nstruct Args {};\n";
    std::string out =
        "/// What it captures: tensors in memory of the stream's device, scalars by value. A tensor is a view: data, type, shape, "
        "strides.\nstruct Args {\n";
    size_t width = 0;
    std::vector<std::string> fields;
    for (const flex::ParamDesc& param : desc.params) {
        std::string field = fmt::format("    {} {}", type_name(param), cpp_name(param.name));
        if (param.has_default) field += " = " + default_text(param);
        fields.push_back(field + ";");
        width = std::max(width, fields.back().size());
    }
    for (size_t i = 0; i < fields.size(); ++i) {
        const flex::ParamDesc& param = desc.params[i];
        if (param.is_tensor)
            out += fmt::format("{:<{}}  ///< {}\n", fields[i], width, declared_shape(desc, param));
        else
            out += fields[i] + "\n";
    }
    return out + "};\n";
}

std::string desc_function(const flex::KernelDesc& desc) {
    std::string out =
        "/// What a launch takes, as the runtime checks it.\n[[nodiscard]] inline const flex::KernelDesc& desc() {\n"
        "    static const flex::KernelDesc& description = *new flex::KernelDesc{  // for the life of the process\n";
    const auto& [name, params, extents, rules] = desc;
    out += fmt::format("        {},\n        {{", quoted(name));
    for (const flex::ParamDesc& param : params) out += "\n            " + param_literal(param) + ",";
    out += params.empty() ? "},\n        {" : "\n        },\n        {";
    for (size_t i = 0; i < extents.size(); ++i) out += (i ? ", " : "") + quoted(extents[i]);
    out += "},\n        {";
    for (const flex::ExtentRule& rule : rules) out += "\n            " + rule_literal(rule) + ",";
    out += rules.empty() ? "},\n" : "\n        },\n";
    return out + "    };\n    return description;\n}\n";
}

std::string launcher(const flex::KernelDesc& desc) {
    const bool all_default = std::all_of(desc.params.begin(), desc.params.end(), [](const flex::ParamDesc& p) { return p.has_default; });
    const std::string_view args = all_default ? "const Args& args = {}" : "const Args& args";
    const std::string_view args_first = "const Args& args";
    std::string values;
    for (const flex::ParamDesc& param : desc.params) {
        const std::string field = "args." + cpp_name(param.name);
        values += (values.empty() ? "" : ", ") + (param.is_tensor ? field : "flex::scalar(" + field + ")");
    }
    const auto body = [&](std::string_view call, std::string_view last) {
        if (desc.params.empty())
            return fmt::format("    static_cast<void>(args);\n    return detail::kernel().{}(stream, arrays, nullptr, 0{});\n}}\n", call,
                               last);
        return fmt::format("    const flex::Tensor values[] = {{{}}};\n    return detail::kernel().{}(stream, arrays, values, {}{});\n}}\n",
                           values, call, desc.params.size(), last);
    };
    std::string out =
        "/// Computes o, and lse and max_score where their data is given: forward(stream, {q, k, v, o}, {...}). See "
        "flex::Kernel::forward.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status forward(const flex::Stream& stream, const flex::AttentionArrays& arrays, {}) noexcept {{\n{}",
        args, body("forward", ""));
    out += "\n/// Bytes of device memory that forward needs on this stream; of interest where the caller owns the workspace.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status workspace(const flex::Stream& stream, const flex::AttentionArrays& arrays, {},\n"
        "                                            std::size_t* bytes) noexcept {{\n{}",
        args_first, body("workspace", ", bytes"));
    return out;
}

bool needs_limits(const flex::KernelDesc& desc) {
    return std::any_of(desc.params.begin(), desc.params.end(), [](const flex::ParamDesc& param) {
        return param.has_default && default_text(param).find("numeric_limits") != std::string::npos;
    });
}

}  // namespace

std::string cpp_name(std::string_view name) {
    const bool taken = std::binary_search(std::begin(kTaken), std::end(kTaken), name);
    return std::string(name) + (taken ? "_" : "");
}

bool is_cpp_namespace(std::string_view text) {
    for (;;) {
        const size_t end = std::min(text.find("::"), text.size());
        const std::string_view part = text.substr(0, end);
        if (!is_identifier(part) || cpp_name(part) != part) return false;
        if (end == text.size()) return true;
        text.remove_prefix(end + 2);
    }
}

std::string cpp_header(const flex::KernelDesc& desc, const HeaderFacts& facts) {
    std::string out = comment(
        fmt::format(
            "The attention `{}` of {}, made by `flexc build --emit=header`: changes are lost when it is made again.\nA program links {} "
            "and the runtime (flexc::runtime). C++17.",
            desc.name, facts.source, facts.object),
        "//");
    out += "#pragma once\n\n#include <cstddef>\n#include <cstdint>\n";
    if (needs_limits(desc)) out += "#include <limits>\n";
    out += "\n#include \"runtime/stream.h\"\n\n";
    out += fmt::format("extern \"C\" const flex_linked {};  // in the object\n\n", facts.table);

    if (!facts.doc.empty()) out += comment(facts.doc, "///") + "///\n";
    out += "/// q [B, H, Q, D], k [B or 1, HKV, K, D], v [B or 1, HKV, K, DV] -> o [B, H, Q, DV], lse and max_score f32 [B, H, Q].\n";
    if (facts.cpu) out += "///   the CPU: f32, f16 and bf16, any D and DV up to 512\n";
    for (const std::string& line : facts.gpu) out += comment(line, "///  ");
    out += fmt::format("namespace {} {{\n\n", facts.name);
    out += args_struct(desc) + "\n" + desc_function(desc) + "\n";
    out += fmt::format(
        "namespace detail {{\n[[nodiscard]] inline const flex::Kernel& kernel() noexcept {{\n"
        "    static const flex::Kernel* const linked = flex::Kernel::linked(&desc, ::{}, {:#018x}u);\n    return *linked;\n}}\n}}  // "
        "namespace detail\n\n",
        facts.table, facts.fingerprint);
    out += launcher(desc);
    out += fmt::format("\n}}  // namespace {}\n", facts.name);
    return out;
}

}  // namespace flexc
