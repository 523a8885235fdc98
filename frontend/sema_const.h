// The value of a constant expression, by walking its tree. Integer overflow is an error here (in a running program it wraps).
#pragma once

#include "diag/diagnostic.h"
#include "frontend/sema_tree.h"

namespace flexc::sema {

/// Nothing after reporting: overflow, something that is known only at launch, or too many steps.
[[nodiscard]] std::optional<Value> evaluate_constant(const Node* node, diag::Sink& sink);

/// The value of a `const` parameter from text: "1024", "-0.5", "true". Nothing if it is not exactly one of the type.
[[nodiscard]] std::optional<Value> parse_value(std::string_view text, Type type);

}  // namespace flexc::sema
