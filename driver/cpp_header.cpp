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

/// A name that no other has, for a member of the structure that `used` belongs to.
std::string unused(std::string name, std::vector<std::string>* used) {
    while (std::find(used->begin(), used->end(), name) != used->end()) name += '_';
    used->push_back(name);
    return name;
}

/// What the members for a parameter are called: in Args, and in Gradients, where it has one.
struct ParamFields {
    std::string value, gradient;
};

std::vector<ParamFields> param_fields(const flex::KernelDesc& desc) {
    const std::vector<std::string> own = {"d_o", "d_lse", "d_max_score"};  // of Gradients, with dq, dk and dv
    std::vector<std::string> values, gradients = own;
    const auto free = [&](const std::string& gradient) { return std::find(own.begin(), own.end(), gradient) == own.end(); };
    // Names that stay as they are come first, so that `int` gives way to `int_` and not the other way round.
    for (const flex::ParamDesc& param : desc.params) {
        if (cpp_name(param.name) == param.name) values.push_back(param.name);
        if (param.grad && free("d_" + param.name)) gradients.push_back("d_" + param.name);
    }
    std::vector<ParamFields> out;
    for (const flex::ParamDesc& param : desc.params) {
        const std::string name = cpp_name(param.name), gradient = "d_" + param.name;
        ParamFields& fields = out.emplace_back();
        fields.value = name == param.name ? name : unused(name, &values);
        if (param.grad) fields.gradient = free(gradient) ? gradient : unused(gradient, &gradients);
    }
    return out;
}

/// Members of a structure, one a line, and what is said of each.
class Members {
public:
    void add(std::string member, std::string comment = {}) {
        lines_.push_back({std::move(member), std::move(comment)});
        width_ = std::max(width_, lines_.back().member.size());
    }
    [[nodiscard]] std::string text() const {
        std::string out;
        for (const auto& [member, comment] : lines_)
            out += comment.empty() ? fmt::format("    {}\n", member) : fmt::format("    {:<{}}  ///< {}\n", member, width_, comment);
        return out;
    }

private:
    struct Line {
        std::string member, comment;
    };
    std::vector<Line> lines_;
    size_t width_ = 0;
};

/// struct Args: the parameters in their order, tensors with their shapes.
std::string args_struct(const flex::KernelDesc& desc, const std::vector<ParamFields>& fields) {
    if (desc.params.empty()) return "/// It captures nothing.\nstruct Args {};\n";
    Members members;
    for (size_t i = 0; i < fields.size(); ++i) {
        const flex::ParamDesc& param = desc.params[i];
        const std::string value = param.has_default ? " = " + default_text(param) : "";
        members.add(fmt::format("{} {}{};", type_name(param), fields[i].value, value), param.is_tensor ? declared_shape(desc, param) : "");
    }
    return "/// What it captures: tensors in memory of the stream's device, scalars by value. A tensor is a view: data, type, shape, "
           "strides.\nstruct Args {\n" +
           members.text() + "};\n";
}

/// struct Gradients: what a backward pass is given and gives.
std::string gradients_struct(const flex::KernelDesc& desc, const std::vector<ParamFields>& fields) {
    Members members;
    members.add("flex::Tensor d_o;", "given, [B, H, Q, DV], the type of q; last dimension contiguous");
    members.add("flex::Tensor dq;", "written, [B, H, Q, D], the type of q");
    members.add("flex::Tensor dk;", "written, [B or 1, HKV, K, D], the type of q");
    members.add("flex::Tensor dv;", "written, [B or 1, HKV, K, DV], the type of q");
    for (size_t i = 0; i < fields.size(); ++i) {
        const flex::ParamDesc& param = desc.params[i];
        if (!param.grad) continue;
        std::string shape = declared_shape(desc, param);
        if (param.dtype != flex::DType::F32) shape.replace(0, shape.find(' '), "f32");
        members.add(fmt::format("flex::Tensor {}{{}};", fields[i].gradient), fmt::format("written, {}, dense; unset: not wanted", shape));
    }
    members.add("flex::Tensor d_lse{};", "given, f32 [B, H, Q]; unset: zeros");
    members.add("flex::Tensor d_max_score{};", "given, f32 [B, H, Q]; unset: zeros. Keys that attain the maximum share it equally");
    return "/// Derivatives of the loss, in memory of the stream's device: those by what forward computed are given, those by what it read "
           "are "
           "written.\nstruct Gradients {\n" +
           members.text() + "};\n";
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

std::string joined(const std::vector<std::string>& parts) {
    std::string out;
    for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
    return out;
}

/// forward and workspace; with gradients, backward and backward_workspace.
std::string launchers(const flex::KernelDesc& desc, const std::vector<ParamFields>& fields, bool gradients) {
    const bool all_default = std::all_of(desc.params.begin(), desc.params.end(), [](const flex::ParamDesc& p) { return p.has_default; });
    const std::string_view args = all_default ? "const Args& args = {}" : "const Args& args";
    std::vector<std::string> values, d_values;
    for (size_t i = 0; i < fields.size(); ++i) {
        const std::string field = "args." + fields[i].value;
        values.push_back(desc.params[i].is_tensor ? field : "flex::scalar(" + field + ")");
        d_values.push_back(fields[i].gradient.empty() ? "flex::Tensor{}" : "gradients." + fields[i].gradient);
    }
    const auto body = [&](std::string_view call, bool backward, std::string_view last) {
        std::string out;
        if (desc.params.empty()) {
            out += "    static_cast<void>(args);\n";
        } else {
            out += fmt::format("    const flex::Tensor values[] = {{{}}};\n", joined(values));
            if (backward) out += fmt::format("    const flex::Tensor d_values[] = {{{}}};\n", joined(d_values));
        }
        return out + fmt::format("    return detail::kernel().{}(stream, arrays, {}{}{}, {}{});\n}}\n", call,
                                 backward ? "detail::arrays_of(gradients), " : "", desc.params.empty() ? "nullptr" : "values",
                                 !backward             ? ""
                                 : desc.params.empty() ? ", nullptr"
                                                       : ", d_values",
                                 desc.params.size(), last);
    };
    std::string out =
        "/// Computes o, and lse and max_score where their data is given: forward(stream, {q, k, v, o}, {...}). See "
        "flex::Kernel::forward.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status forward(const flex::Stream& stream, const flex::AttentionArrays& arrays, {}) noexcept {{\n{}",
        args, body("forward", false, ""));
    out += "\n/// Bytes of device memory that forward needs on this stream; of interest where the caller owns the workspace.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status workspace(const flex::Stream& stream, const flex::AttentionArrays& arrays, const Args& args,\n"
        "                                            std::size_t* bytes) noexcept {{\n{}",
        body("workspace", false, ", bytes"));
    if (!gradients) return out;
    out +=
        "\n/// The backward pass: backward(stream, {q, k, v, o, lse}, {d_o, dq, dk, dv, ...}, {...}), where o and lse hold what forward "
        "wrote "
        "with the same\n/// arrays and arguments. See flex::Kernel::backward.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status backward(const flex::Stream& stream, const flex::AttentionArrays& arrays, const Gradients& "
        "gradients,\n                                           {}) noexcept {{\n{}",
        args, body("backward", true, ""));
    out += "\n/// Bytes of device memory that backward needs on this stream.\n";
    out += fmt::format(
        "[[nodiscard]] inline flex::Status backward_workspace(const flex::Stream& stream, const flex::AttentionArrays& arrays,\n"
        "                                                     const Gradients& gradients, const Args& args, std::size_t* bytes) noexcept "
        "{{\n{}",
        body("backward_workspace", true, ", bytes"));
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
    const std::vector<ParamFields> fields = param_fields(desc);
    out += args_struct(desc, fields) + "\n";
    if (facts.gradients) out += gradients_struct(desc, fields) + "\n";
    out += desc_function(desc) + "\n";
    out += fmt::format(
        "namespace detail {{\n[[nodiscard]] inline const flex::Kernel& kernel() noexcept {{\n"
        "    static const flex::Kernel* const linked = flex::Kernel::linked(&desc, ::{}, {:#018x}u);\n    return *linked;\n}}\n",
        facts.table, facts.fingerprint);
    if (facts.gradients)
        out +=
            "[[nodiscard]] inline flex::GradientArrays arrays_of(const Gradients& given) noexcept {\n    flex::GradientArrays arrays;\n"
            "    arrays.d_o = given.d_o;\n    arrays.d_lse = given.d_lse;\n    arrays.d_max_score = given.d_max_score;\n"
            "    arrays.dq = given.dq;\n    arrays.dk = given.dk;\n    arrays.dv = given.dv;\n    return arrays;\n}\n";
    out += "}  // namespace detail\n\n";
    out += launchers(desc, fields, facts.gradients);
    out += fmt::format("\n}}  // namespace {}\n", facts.name);
    return out;
}

}  // namespace flexc
