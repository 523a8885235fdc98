// Checks the expressions of one declaration: names are resolved, types found, literals adapted, and typed trees built.
//
// An expression that is in error gets the type Error, which every rule accepts in silence, so that one mistake gives one diagnostic.
// The class is one; its parts are spread by subject: sema_scope.cpp (names), sema_expr.cpp (literals, types, operators), sema_call.cpp
// (functions, masks, scores), sema_tensor.cpp (loads, dot, reductions), sema_attention.cpp (clauses).
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "diag/diagnostic.h"
#include "frontend/sema_names.h"
#include "frontend/sema_tree.h"

namespace flexc::sema {

using diag::Kind;

/// Where the nodes go, and how to speak to the user. One a program.
struct Context {
    frontend::Program::Impl& program;
    diag::Sink& sink;

    Node* node(NodeKind kind, Type type, Span span) const;
    Node* error(Span span) const { return node(NodeKind::Error, Type::Error, span); }
    [[nodiscard]] std::string text(Span span) const { return std::string(program.sources->text(span)); }
};

/// What a declaration may name besides its own parameters.
enum class Surroundings : uint8_t { Constant, Function, Indices };

struct Local {
    enum class Kind : uint8_t { Param, Let, Loop, Extent } kind = Kind::Param;
    uint32_t index = 0;  // Param, Loop, Extent
    Let* let = nullptr;
    Span span;
    bool poisoned = false;  // declared twice: uses are not looked into
};

class BodyChecker {
public:
    /// Declares the parameters and free extents of `decl`, whose signature is resolved.
    BodyChecker(const Context& context, Decl& decl, Surroundings surroundings);

    /// The body of a const, fn, mask or score.
    Node* body(const ast::Expr& e, Type wanted);
    /// A constant expression: a default value.
    Node* constant(const ast::Expr& e, Type wanted);
    /// Whether the body of a `mask` leaves the score alone; reports it if not.
    bool mask_reads_no_score(const Node* body) { return check_reads(body, kAllIndices, "a `mask`"); }
    /// All clauses of an attention, into decl.attention.
    void attention();

private:
    // sema_scope.cpp
    Node* name_value(const ast::Expr& e);
    Node* local_value(const Local& local, const ast::Expr& e);
    Node* unknown(const std::string& name, Span span, bool called);
    bool declare(const ast::Identifier& id, const Local& local, std::string_view what);
    /// Ends the scope of all but the first `count` names declared.
    void forget(size_t count);
    [[nodiscard]] const Local* find_local(std::string_view text) const;
    /// What the clause being checked adds to the names in scope: `d`, `o`, `weight`, `query`, `key`.
    [[nodiscard]] bool is_clause_name(std::string_view text) const;

    // sema_expr.cpp
    Node* expr(const ast::Expr& e);
    Node* expr(const ast::Expr& e, Type wanted);
    Node* int_literal(const ast::Expr& e);
    Node* float_literal(const ast::Expr& e);
    Node* unary(const ast::Expr& e);
    Node* binary(const ast::Expr& e);
    Node* chain(const ast::Expr& e);
    void warn_of_float_equality(std::string_view sign, const Node& a, const Node& b);
    bool compares_with_truth(ast::CompareOp sign, const Node* a, const Node* b);
    Node* conditional(const ast::Expr& e);
    Node* block(const ast::Expr& e);
    Let* let(const ast::Let& l);

    /// The node as `wanted`: literals adapt, other types are an error.
    Node* want(Node* n, Type wanted);
    /// An integer literal that stays an i32: its range is checked now.
    Node* settle(Node* n);
    /// A literal tree as f32.
    Node* adapt(Node* n);
    /// Gives two operands one type; false after reporting.
    bool unify(Node*& left, Node*& right, std::string_view what, const std::string& help = {});
    diag::Diagnostic& mismatch(Type wanted, const Node* found);
    /// The source text for a message; `...` if it is long.
    [[nodiscard]] std::string short_text(Span span) const;
    Node* select(Node* condition, Node* yes, Node* no, Span span, std::string_view what);
    Node* op(ir::Op op, Type type, Span span, std::vector<Node*> args);
    Node* literal_op(ir::Op op, Span span, const std::vector<Node*>& args);
    Node* literal(Type type, uint32_t bits, Span span);
    Node* truth(Node* n, std::string_view what);

    // sema_call.cpp
    Node* call(const ast::Expr& e);
    Node* pipe(const ast::Expr& e);
    Node* builtin(const ast::Expr& e, const Builtin& b);
    std::string reduction_of(const ast::Expr& e);
    Node* call_mask(const ast::Expr& e, uint32_t param);
    Node* call_decl(const ast::Expr& e, const Decl& callee, Node* piped);
    Node* argument(const ast::Expr& e, const Decl& callee, const Param& param);
    bool arity(const ast::Expr& e, std::string_view name, size_t wanted, std::string_view usage);
    bool replace(std::vector<Replacement>& list, const ast::NamedArg& arg);
    void check_extents(const ast::Expr& e, const Decl& callee, const std::vector<Node*>& args);
    void gather_reads(Node* n) const;

    // sema_tensor.cpp
    Node* index(const ast::Expr& e);
    void warn_of_indices(const ast::Expr& e, const Param& p, const std::vector<Node*>& indices);
    Node* dot(const ast::Expr& e);
    bool slice(const ast::Expr& e, Slice& out, Type& type, ir::Dim& last);
    Node* reduce(const ast::Expr& e);
    Node* index_value(const ast::Expr& e);
    /// The tensor parameter or row that an expression names, after reporting if it is neither.
    struct TensorRef {
        const Param* param = nullptr;
        uint32_t index = 0;
        bool is_row = false;
        ir::ClauseVar row = ir::ClauseVar::QueryRow;
    };
    bool tensor(const ast::Expr& base, TensorRef& out, bool quiet = false);
    bool chained_indices(const ast::Expr& whole);
    void check_rank(const ast::Expr& e, size_t rank, size_t found, const Param* param);

    // sema_attention.cpp
    Node* clause_value(const ast::Clause& clause);
    void blocks_clause(const ast::Clause& clause);
    void emit_clause(const ast::Clause& clause);
    void normalize_clause(const ast::Clause& clause);
    void check_clause_names();
    /// Reports the first place under `root` that reads a slot outside `allowed`.
    bool check_reads(const Node* root, Reads allowed, const std::string& where);

    const Context& context_;
    diag::Sink& sink_;
    Decl& decl_;
    Surroundings surroundings_;
    std::unordered_map<std::string_view, Local> locals_;
    /// Local names in the order declared, with what they hid (after a complaint), to undo a block's.
    std::vector<std::pair<std::string_view, std::optional<Local>>> scope_;
    std::unordered_map<std::string_view, Span> later_lets_;
    std::optional<ast::ClauseKind> clause_;
    uint32_t loops_ = 0;
};

/// Warnings for parameters and lets that nothing reads. For programs without errors only: what is wrong may have been a use.
void report_unused(const Decl& decl, diag::Sink& sink);

/// "2 arguments", "1 index"
[[nodiscard]] std::string count_text(size_t n, std::string_view one, std::string_view many);
/// How a message calls a parameter: "a tensor", "a scalar", "a mask".
[[nodiscard]] std::string_view describe(const Param& param);
/// How a tensor is read as a rule: `bias[b, h, q, k]` if its extents are those of the launch, else `bias[...]`.
[[nodiscard]] std::string usual_access(const Param& param);
/// The slots a replacement list hides from the callee: `h` takes `hkv` along.
[[nodiscard]] Reads hidden_by(const std::vector<Replacement>& replacements);

}  // namespace flexc::sema
