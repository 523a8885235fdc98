// The names that the language itself gives: builtin functions, constants, types, extents and indices, and the names
// that users of other systems write instead of them.
#pragma once

#include "frontend/sema_tree.h"

namespace flexc::sema {

/// What a builtin function takes and gives.
enum class Shape : uint8_t {
    Float,        // f32 -> f32
    Float2,       // f32, f32 -> f32
    Numeric,      // T -> T, T one of f32 i32
    Numeric2,     // T, T -> T
    Clamp,        // T, T, T -> T
    SelectShape,  // bool, T, T -> T for any T
    ToF32,        // i32 or bool or f32 -> f32
    ToI32,
    Dot,  // two slices -> f32 or i32
};

struct Builtin {
    std::string_view name;
    Shape shape;
    ir::Op op;
    std::string_view usage;  // as a message shows it: "clamp(x, lo, hi)"
};
[[nodiscard]] const Builtin* builtin_named(std::string_view name);

/// `inf` and `pi`.
[[nodiscard]] std::optional<float> constant_named(std::string_view name);

/// "an index", "an extent", "a builtin function", ... if the language owns the name; else empty.
[[nodiscard]] std::string_view owner_of(std::string_view name);

/// "the array `v` of every attention", if a launch takes an array of this name beside the parameters; else empty.
[[nodiscard]] std::string_view launch_array_named(std::string_view name);

/// What a name of another system or language is called here (`q_idx` -> `q`), or empty. For values and functions; for types.
[[nodiscard]] std::string_view foreign_name(std::string_view name);
[[nodiscard]] std::string_view foreign_type(std::string_view name);

/// All names of the language that an expression may hold, for `did you mean`.
[[nodiscard]] const std::vector<std::string>& language_names();

/// "a" or "an" as the word wants it: for "`x` is a mask".
[[nodiscard]] std::string_view describe(ast::DeclKind kind);

}  // namespace flexc::sema
