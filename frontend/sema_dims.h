// Extents: `a * NAME + c` from syntax, and the unification of a function's declared extents with those of the tensors passed.
#pragma once

#include <functional>

#include "diag/diagnostic.h"
#include "frontend/sema_tree.h"

namespace flexc::sema {

/// What a name inside an extent stands for: a constant, an extent's id, or an error (text for the message).
struct ExtentName {
    std::optional<int64_t> constant;
    std::optional<int32_t> extent;
    std::string error;
    std::string help;
    std::optional<Span> error_span;  // of the declaration that explains it
};
using ExtentNames = std::function<ExtentName(const ast::Expr& name)>;

/// Nothing after reporting `bad-extent` or `constant-overflow`.
[[nodiscard]] std::optional<ir::Dim> read_dim(const ast::Expr& e, const ExtentNames& names, diag::Sink& sink);

/// How two extents compare, whatever values the names have.
enum class Agreement : uint8_t { Same, Different, Unknown };
[[nodiscard]] Agreement compare(const ir::Dim& a, const ir::Dim& b);

/// `dim` with each free extent replaced. `bound` is indexed by id - kBuiltinExtents. Nothing if it leaves the range of an extent.
[[nodiscard]] std::optional<ir::Dim> substitute(const ir::Dim& dim, const std::vector<std::optional<ir::Dim>>& bound);

/// The free extents of a callee, solved from the tensors passed.
struct BoundExtents {
    std::vector<std::optional<ir::Dim>> free;
    struct Pair {
        uint32_t param;
        uint32_t dim;
        ir::Dim passed, wanted;
    };
    std::vector<Pair> conflicts;    // certainly different
    std::vector<Pair> constraints;  // to be checked at launch
    std::optional<uint32_t> unsolved;
};
/// `passed[i]`: the extents of the tensor given for parameter i, or null if it is no tensor. Ranks agree.
[[nodiscard]] BoundExtents bind_extents(const Decl& callee, const std::vector<const std::vector<ir::Dim>*>& passed);

/// "N + 1", with the names of a declaration's extents.
[[nodiscard]] std::string dim_text(const ir::Dim& dim, const std::vector<std::string>& free_extents);

}  // namespace flexc::sema
