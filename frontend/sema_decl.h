// Declarations: which exist, what each file sees, in which order they are checked, and their signatures.
#pragma once

#include "frontend/sema_body.h"
#include "frontend/sema_dims.h"

namespace flexc::sema {

inline constexpr size_t kMaxParams = 1024;

/// Makes the declarations of a module and its table of visible names. Its imports were collected before.
/// `clashes` holds the pairs that were reported, so that importers do not repeat them.
using Clashes = std::vector<std::pair<const Decl*, const Decl*>>;
void collect_declarations(const Context& context, Module& module, Clashes& clashes);

/// All declarations, each after those that it names. Reports cycles and marks what lies on one as broken.
[[nodiscard]] std::vector<Decl*> dependency_order(const Context& context);

/// Resolves parameters, extents and the result type. What the signature names has been checked before.
void resolve_signature(const Context& context, Decl& decl);

/// The extents of a tensor parameter, with values for the constant parameters that they name.
[[nodiscard]] std::optional<std::vector<ir::Dim>> read_dims(const Decl& decl, const ast::TypeRef& type,
                                                            const std::function<std::optional<int32_t>(const Param&)>& const_value,
                                                            std::vector<std::string>& free_extents, diag::Sink& sink, bool* names_const);

}  // namespace flexc::sema
