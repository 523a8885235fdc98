// The syntax tree: what the user wrote, nothing resolved. Made by parse.h, read by sema and by the printer.
//
// Nodes live in the arena of their File and are referred to by plain pointers, so destruction is never recursive.
// The parser bounds nesting (kMaxNesting) and the depth of every expression (kMaxDepth), so walks may recurse.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "diag/source.h"

namespace flexc::ast {

using diag::Span;

inline constexpr uint32_t kMaxNesting = 256;  // brackets and `if` within each other in the text
inline constexpr uint32_t kMaxDepth = 512;    // of an expression tree: long chains of operators count as well

struct Expr;

struct Identifier {
    std::string text;
    Span span;
};

enum class ExprKind : uint8_t {
    IntLiteral,    // text; value
    FloatLiteral,  // text
    BoolLiteral,   // value 0 or 1
    Name,          // text
    Unary,         // op; args[0]
    Binary,        // op; args[0], args[1]
    Chain,         // a < b <= c ...: args n+1, chain n operators; a single comparison is a Chain of one
    If,            // args: condition, then, else
    Call,          // text = callee; args positional; named
    Index,         // args[0] = base; then the indices; `:` is a Slice
    Slice,         // the `:` in x[b, h, q, :]
    Reduce,        // text = sum any all min max; variable; args: lo, hi, body
    Block,         // { lets; args[0] }
    Pipe,          // args[0] |> args[1] (a Call or Name)
};

enum class BinaryOp : uint8_t { Or, And, BitOr, BitXor, BitAnd, Shl, Shr, Add, Sub, Mul, Div, FloorDiv, Mod };
enum class UnaryOp : uint8_t { Neg, BitNot, Not };
enum class CompareOp : uint8_t { Eq, Ne, Lt, Le, Gt, Ge };

struct NamedArg {
    Identifier name;
    Expr* value = nullptr;
};

struct Let {
    Identifier name;
    Expr* value = nullptr;
    Span span;
};

struct Expr {
    ExprKind kind = ExprKind::Name;
    Span span;
    Span operator_span;  // Unary, Binary, Pipe, Chain (the first), If (the word); Call, Reduce: the name
    std::string text;
    uint64_t value = 0;  // IntLiteral (saturated at UINT64_MAX), BoolLiteral
    BinaryOp binary = BinaryOp::Add;
    UnaryOp unary = UnaryOp::Neg;
    std::vector<CompareOp> chain;
    std::vector<Expr*> args;
    std::vector<NamedArg> named;  // Call
    Identifier variable;          // Reduce
    std::vector<Let> lets;        // Block
    bool parenthesised = false;   // the span then includes the parentheses
    uint32_t depth = 1;           // of the tree below, at most kMaxDepth
};

/// A type as written: `f32`, `mask`, `i32[N + 1, 2]`. The element name is not checked by the parser.
struct TypeRef {
    Identifier name;
    std::vector<Expr*> dims;  // empty: scalar
    bool is_tensor = false;   // brackets were written
    Span span;
};

struct ParamDecl {
    Identifier name;
    TypeRef type;
    bool is_const = false;
    bool is_grad = false;
    Expr* default_value = nullptr;
    Span span;
};

enum class DeclKind : uint8_t { Import, Const, Fn, Mask, Score, Attention };

enum class ClauseKind : uint8_t { Scale, Score, Mask, Normalize, Sink, Blocks, Query, Key, Output, Emit };

/// `mask = e;`  `emit entropy = mean(e);`: the call name `mean` or `column_sum` is in `emit_kind`
struct Clause {
    ClauseKind kind = ClauseKind::Score;
    Span keyword;
    Expr* value = nullptr;  // Blocks: a Name; Normalize: none
    Identifier normalize;   // Normalize: softmax, sigmoid, none
    Identifier emit_name;   // Emit
    Identifier emit_kind;   // Emit
    Span span;
};

struct Decl {
    DeclKind kind = DeclKind::Fn;
    Identifier name;              // Import: the path or `std`
    bool import_is_path = false;  // import "masks.flex"
    std::string doc;              // the `##` lines above, joined by newlines
    std::vector<ParamDecl> params;
    TypeRef type;                 // Const, Fn: the result
    Expr* body = nullptr;         // Const, Fn, Mask, Score
    std::vector<Let> lets;        // Attention, in source order relative to clauses
    std::vector<Clause> clauses;  // Attention
    Span span;
    bool damaged = false;  // part of it could not be read, and was reported; only the name is certain
};

/// One parsed file.
struct File {
    diag::FileId id = 0;
    std::vector<Decl*> decls;
    std::deque<Expr> exprs;
    std::deque<Decl> decl_arena;
    std::unordered_set<std::string> unread;  // names in what could not be read, reported already: not unknown to expressions
    bool unread_import = false;
};

[[nodiscard]] std::string_view text(BinaryOp op);
[[nodiscard]] std::string_view text(UnaryOp op);
[[nodiscard]] std::string_view text(CompareOp op);
[[nodiscard]] std::string_view text(ClauseKind kind);

/// The tree as indented S-expressions, one node a line: what `flexc build --emit=ast` prints.
[[nodiscard]] std::string print(const File& file);

}  // namespace flexc::ast
