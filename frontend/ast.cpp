#include "frontend/ast.h"

#include <array>

namespace flexc::ast {

std::string_view text(BinaryOp op) {
    static constexpr std::array<std::string_view, 13> kText{"or", "and", "|", "^", "&", "<<", ">>", "+", "-", "*", "/", "//", "%"};
    return kText[static_cast<size_t>(op)];
}

std::string_view text(UnaryOp op) {
    static constexpr std::array<std::string_view, 3> kText{"-", "~", "not"};
    return kText[static_cast<size_t>(op)];
}

std::string_view text(CompareOp op) {
    static constexpr std::array<std::string_view, 6> kText{"==", "!=", "<", "<=", ">", ">="};
    return kText[static_cast<size_t>(op)];
}

std::string_view text(ClauseKind kind) {
    static constexpr std::array<std::string_view, 10> kText{"scale",  "score", "mask", "normalize", "sink",
                                                            "blocks", "query", "key",  "output",    "emit"};
    return kText[static_cast<size_t>(kind)];
}

}  // namespace flexc::ast
