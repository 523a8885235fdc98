// The checked program: declarations with resolved signatures, and typed expression trees. Made by check(), read by lower().
//
// Every name of the syntax tree has become a reference (a parameter's position, a let, a declaration), every literal a
// value of its final type, every operator an ir::Op. What holds: node types are those of the ops table; operands are never
// of type Error in a program that check() returned; trees are at most as deep as the syntax trees they come from.
//
// A `let` is an abbreviation, and a mask argument is passed by name: both keep their tree, which is evaluated where
// it is used, under the indices that hold there. So a tree also says what it reads of its surroundings (`reads`).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "frontend/ast.h"
#include "frontend/frontend.h"
#include "ir/ir.h"

namespace flexc::sema {

using diag::Span;

enum class Type : uint8_t { Error, F32, I32, Bool };
[[nodiscard]] std::string_view name(Type type);
[[nodiscard]] ir::Type to_ir(Type type);
[[nodiscard]] Type from_ir(ir::Type type);

/// What a call may replace by a named argument. The order is that of ir::IndexVar, then the score.
enum class Slot : uint8_t { B, H, Q, K, Hkv, Score };
inline constexpr size_t kSlots = 6;
inline constexpr std::array<std::string_view, kSlots> kSlotNames = {"b", "h", "q", "k", "hkv", "score"};
inline constexpr std::array<std::string_view, ir::kBuiltinExtents> kExtentNames = {"B", "H", "HKV", "Q", "K", "D", "DV"};
[[nodiscard]] std::optional<Slot> slot_named(std::string_view name);
[[nodiscard]] std::optional<uint32_t> extent_named(std::string_view name);

/// A set of slots, one bit each by position, and of the names that single clauses add.
using Reads = uint16_t;
[[nodiscard]] constexpr Reads bit(Slot slot) {
    return static_cast<Reads>(1u << static_cast<unsigned>(slot));
}
inline constexpr Reads kAllSlots = (1u << kSlots) - 1;
inline constexpr Reads kAllIndices = kAllSlots & ~(1u << static_cast<unsigned>(Slot::Score));

struct Decl;
struct Let;

enum class NodeKind : uint8_t {
    Literal,       // bits
    Slot,          // index: a Slot
    Extent,        // index: a built-in extent
    FreeExtent,    // index: of the declaration's free extents
    Param,         // index: a scalar parameter (const ones too)
    LetRef,        // let
    LoopVar,       // index: how many loops of the declaration enclose this one
    Out,           // o, in an output clause
    ElementIndex,  // d, in the clauses output, query, key
    Weight,        // weight, in an emit
    Op,            // op on args
    Chain,         // args: the left operand, and for each link its two operands; a conjunction of `links` comparisons
    Load,          // index: a tensor parameter; args: the indices
    RowLoad,       // row; args[0]
    Dot,           // sides: two slices
    Reduce,        // op; args: lo, hi, body
    Call,          // callee with args (in the order of its parameters) and replacements
    CallMask,      // index: a mask parameter, with replacements
    Error,
};

struct Node;

struct Replacement {
    Slot slot;
    Node* value;
};

/// One comparison of a chain. `a < b < c` holds b twice; both links point at one node unless b is a literal.
struct Link {
    ir::Op op;
    Node* left;
    Node* right;
    bool exchanged = false;  // > and >=
};

/// A side of dot: all of a tensor parameter's indices but the last, or a row of a transform clause.
struct Slice {
    bool is_row = false;
    ir::ClauseVar row = ir::ClauseVar::QueryRow;
    uint32_t param = 0;
    std::vector<Node*> indices;
};

struct Node {
    NodeKind kind = NodeKind::Error;
    Type type = Type::Error;
    Span span;
    ir::Op op = ir::Op::Add;
    ir::ClauseVar row = ir::ClauseVar::QueryRow;
    uint32_t index = 0;
    uint32_t bits = 0;
    /// An integer literal or a constant expression of such: adapts to f32. `exact` is its value; `inexact` marks one that has left
    /// the range of i32 on the way, which is an error unless it adapts. A Select of two of them adapts too.
    bool adapts = false;
    bool overflows = false;
    double exact = 0;
    Reads reads = 0;   // slots read when evaluated, mask arguments included
    Reads passes = 0;  // slots that mask parameters of the declaration are let see
    std::vector<Node*> args;
    std::vector<Link> links;
    std::vector<Slice> sides;
    std::vector<Replacement> replacements;
    const Decl* callee = nullptr;
    const Let* let = nullptr;
};

struct Let {
    std::string name;
    Span span;
    Node* value = nullptr;
    uint32_t loops = 0;  // loops of the declaration around the let
    uint32_t used = 0;
};

/// The value of a constant.
struct Value {
    Type type = Type::Error;
    uint32_t bits = 0;
};

struct Param {
    enum class Kind : uint8_t { Scalar, Tensor, Mask, Error } kind = Kind::Error;
    std::string name;
    Span span;
    Type type = Type::Error;  // scalars; tensors: of an element
    ir::ElemType elem = ir::ElemType::F32;
    std::vector<ir::Dim> dims;  // extent ids: built-in ones, then the declaration's free extents
    bool is_const = false;
    bool grad = false;
    std::optional<Value> default_value;
    const ast::ParamDecl* syntax = nullptr;
    bool has_const_dims = false;  // a dimension names a `const` parameter: computed again when lowered
    bool used = false;
};

struct Module;

struct AttentionBody {
    Node* scale = nullptr;
    Node* score = nullptr;
    Node* mask = nullptr;
    ir::Normalize normalize = ir::Normalize::Softmax;
    Node* sink = nullptr;
    Node* output = nullptr;
    Node* query = nullptr;
    Node* key = nullptr;
    std::optional<uint32_t> blocks;
    struct Emit {
        std::string name;
        ir::Emit::Kind kind;
        Node* value;
    };
    std::vector<Emit> emits;
};

struct Decl {
    ast::DeclKind kind = ast::DeclKind::Fn;
    std::string name;
    const ast::Decl* syntax = nullptr;
    const Module* module = nullptr;
    std::vector<Param> params;
    std::unordered_map<std::string_view, uint32_t> param_index;
    std::vector<std::string> free_extents;
    std::vector<bool> extent_used;
    Type result = Type::Error;
    Node* body = nullptr;
    AttentionBody attention;
    std::optional<Value> constant;  // Const
    bool ambiguous = false;         // its name is declared again: what uses mean is not known
    std::vector<const Let*> lets;   // all of its lets, for warnings
    bool broken = false;            // on a cycle, or its text or signature is unusable: calls of it are not looked into
};

/// One file of the program.
struct Module {
    diag::FileId file = 0;
    std::string display;  // as messages name it: a path, or `std`
    std::string key;      // identity: the normalised path, or `<std>`
    bool embedded = false;
    std::unique_ptr<ast::File> syntax;
    struct Import {
        Module* module;
        Span span;
    };
    std::vector<Import> imports;
    bool import_failed = false;  // what it would have declared is not reported as unknown
    std::vector<Decl*> decls;
    std::unordered_map<std::string_view, Decl*> visible;  // what expressions of this file may name
};

}  // namespace flexc::sema

namespace flexc::frontend {

struct Program::Impl {
    diag::SourceManager* sources = nullptr;
    std::deque<sema::Module> modules;  // the main file first
    std::deque<sema::Decl> decls;
    std::deque<sema::Node> nodes;
    std::deque<sema::Let> lets;
    std::vector<AttentionInfo> attentions;
    std::vector<std::string> files;
};

}  // namespace flexc::frontend
