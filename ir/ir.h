// The expression IR: what an attention variant means, with every function inlined and every name resolved.
//
// A Graph is an append-only arena of hash-consed nodes: building the same operation on the same operands
// twice returns the same NodeId, so value equality is id equality and the number of nodes is bounded by the number
// of distinct values. Operands always have smaller ids than their user: iterating ids upwards is a
// topological order, and every pass is a loop, never a recursion (deep expressions cannot overflow the stack).
//
// Types are f32, i32 and bool. The semantics of each op is in ops.def and is total: nothing traps, loads out
// of range give 0 or false, i32 wraps, division by zero gives 0 (integers) or IEEE (floats). So a node may always
// be evaluated speculatively, and `select` needs no control flow.
//
// An Attention is a graph plus roots (scale, score, mask, and the other clauses) plus what is captured at launch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::ir {

enum class Type : uint8_t { F32, I32, Bool };

/// What a captured tensor stores. Loads widen: floats to f32, integers to i32.
enum class ElemType : uint8_t { F32, F16, BF16, I32, I16, I8, U8, Bool };

[[nodiscard]] std::string_view name(Type type);
[[nodiscard]] std::string_view name(ElemType type);
[[nodiscard]] Type widened(ElemType type);

enum class Op : uint8_t {
#define FLEX_OP(ident, text, arity, result, kind) ident,
#include "ir/ops.def"
#undef FLEX_OP
};

/// How the ops table classes an operation; see ops.def.
enum class OpKind : uint8_t { Leaf, Unary, Binary, Compare, Logic, Select, Math, Cast, Load, Reduce };

/// The type of a result; see ops.def.
enum class OpResult : uint8_t { F32, I32, Bool, Same, Leaf };

struct OpInfo {
    std::string_view name;  // as printed: "add"
    int arity;              // -1: variable (load)
    OpResult result;
    OpKind kind;
};
[[nodiscard]] const OpInfo& info(Op op);
inline constexpr size_t kOpCount = 0
#define FLEX_OP(ident, text, arity, result, kind) +1
#include "ir/ops.def"
#undef FLEX_OP
    ;

/// The type that `op` gives on operands of these types, or nothing if it does not take them. Not for leaves and loads.
[[nodiscard]] std::optional<Type> result_type(Op op, std::span<const Type> operands);

/// The built-in indices. `hkv` is the KV head of `h`. `d` is the element index in the clauses `output`, `query`, `key`.
enum class IndexVar : uint8_t { B, H, Q, K, Hkv, D };
inline constexpr int kIndexVars = 6;

/// The built-in extents, in this order; ids from kBuiltinExtents on are the free extents of the attention.
enum class ExtentVar : uint8_t { B, H, HKV, Q, K, D, DV };
inline constexpr int kBuiltinExtents = 7;

/// Inclusive ends of a tile, the leaves of tile-state expressions (see tile_state.h).
enum class TileBound : uint8_t { QLo, QHi, KLo, KHi };
/// Payloads of the leaf from here on: 2 * summary + (1 for the greatest value).
inline constexpr uint32_t kFirstSummary = 4;
inline constexpr uint32_t kMaxSummaries = 8;

/// Values that clauses read: the raw score, the normalised output element, the row under transform, and in an `emit` the attention
/// weight of (q, k) (after normalisation).
enum class ClauseVar : uint8_t { Score, Out, QueryRow, KeyRow, Weight };

[[nodiscard]] std::string_view name(IndexVar which);
[[nodiscard]] std::string_view name(TileBound which);
[[nodiscard]] std::string_view name(ClauseVar which);

struct NodeId {
    uint32_t value = UINT32_MAX;
    [[nodiscard]] bool valid() const { return value != UINT32_MAX; }
    friend bool operator==(NodeId, NodeId) = default;
};

struct Node {
    Op op;
    Type type;
    uint16_t operand_count;
    uint32_t first_operand;  // into the graph's operand pool
    uint32_t payload;        // constants: the bits; leaves: which; load: parameter index; loop_var: nesting depth
};

class Graph {
public:
    Graph();

    // Leaves.
    NodeId f32(float value);
    NodeId i32(int32_t value);
    NodeId boolean(bool value);
    NodeId index(IndexVar which);
    NodeId extent(uint32_t extent_id);                // i32
    NodeId scalar(uint32_t param, Type type);         // a scalar parameter
    NodeId tile_bound(TileBound which);               // i32
    NodeId tile_summary(uint32_t index, bool upper);  // i32: least or greatest value of a summary on the tile (tile_state.h)
    NodeId score();                                   // f32: scale * dot(q, k) before the score clause
    NodeId out();                                     // f32: o[b, h, q, d] in the `output` clause
    NodeId weight();                                  // f32: the attention weight of (q, k) in an `emit`

    /// A generic operation; operand types are checked by FLEX_CHECK against the ops table.
    /// A cast to the type that the operand has already gives the operand.
    NodeId make(Op op, std::initializer_list<NodeId> operands);
    NodeId make(Op op, std::span<const NodeId> operands);
    /// The operation of `node` (of this or another graph) on other operands of the same types: how passes copy.
    NodeId like(Node node, std::span<const NodeId> operands);
    NodeId load(uint32_t param, ElemType elem, std::span<const NodeId> indices);
    /// query_row[i] or key_row[i] in a transform clause: f32, 0 out of [0, D).
    NodeId row_load(ClauseVar which, NodeId index);

    /// The variable of a reduction over [lo, hi), at a nesting depth (0 outermost, at most kMaxLoopDepth - 1).
    /// Two reductions with the same bounds and depth share their variable, which is sound: it is bound by each reduction anew.
    NodeId loop_var(uint32_t depth, NodeId lo, NodeId hi);
    /// op is one of ReduceSum, ReduceAny, ReduceAll, ReduceMin, ReduceMax. What is free in the body besides the variable must be
    /// variables of smaller depth.
    NodeId reduce(Op op, NodeId loop_var, NodeId body);

    [[nodiscard]] size_t size() const { return nodes_.size(); }
    [[nodiscard]] const Node& operator[](NodeId id) const { return nodes_[id.value]; }
    [[nodiscard]] std::span<const NodeId> operands(NodeId id) const;
    [[nodiscard]] NodeId operand(NodeId id, size_t i) const { return operands(id)[i]; }
    [[nodiscard]] Type type(NodeId id) const { return nodes_[id.value].type; }

    /// Bit d set: the value depends on the loop variable of depth d and is not inside its reduction.
    [[nodiscard]] uint32_t free_loops(NodeId id) const { return free_loops_[id.value]; }

    [[nodiscard]] std::optional<float> as_f32(NodeId id) const;
    [[nodiscard]] std::optional<int32_t> as_i32(NodeId id) const;
    [[nodiscard]] std::optional<bool> as_bool(NodeId id) const;

private:
    friend struct GraphAccess;  // tests of the verifier damage a graph through it
    NodeId intern(Op op, Type type, uint32_t payload, std::span<const NodeId> operands);

    void grow_table();

    std::vector<Node> nodes_;
    std::vector<NodeId> operand_pool_;
    std::vector<uint32_t> free_loops_;
    std::vector<uint32_t> hashes_;  // one a node
    std::vector<uint32_t> table_;   // open addressing, linear probing: id + 1, or 0; a power of two, at most half full
};

inline constexpr uint32_t kMaxLoopDepth = 32;

/// One extent of a captured tensor: multiplier * extent + offset, or a constant (extent_id < 0).
struct Dim {
    int32_t multiplier = 0;
    int32_t extent_id = -1;
    int64_t offset = 0;
    friend bool operator==(const Dim&, const Dim&) = default;
};

struct Param {
    std::string name;
    bool is_tensor = false;
    Type type = Type::F32;          // scalars
    ElemType elem = ElemType::F32;  // tensors
    std::vector<Dim> dims;          // tensors; rank 1 to kMaxRank
    bool grad = false;
    std::optional<uint32_t> default_bits;  // scalars: the bits of an f32, i32 or bool (0/1)
};
inline constexpr size_t kMaxRank = 8;

/// Two extents that must agree at launch, with the words for the message if they do not.
struct ExtentConstraint {
    Dim left, right;
    std::string reason;  // "`off` has the extent `N + 1` in `within`"
};

enum class Normalize : uint8_t { Softmax, Sigmoid, None };

struct Emit {
    std::string name;
    enum class Kind : uint8_t { Mean, ColumnSum } kind = Kind::Mean;
    NodeId value;
};

/// How a clause changes with one read of a `grad` tensor. Out of range reads take no part: whoever scatters the adjoint checks the indices.
struct GradientRead {
    NodeId load;                // its operands are the indices
    NodeId adjoint;             // f32: the derivative of the clause by this read
    std::vector<NodeId> loops;  // loop variables free in load and adjoint, outermost first: the read happens once for each of their values
};

/// What differentiation adds to an attention (gradient.h).
struct Gradient {
    NodeId score;                           // f32: the derivative of the score clause by score()
    std::vector<GradientRead> score_reads;  // reads of the score clause
    std::vector<GradientRead> scale_reads;  // reads of the scale clause; their adjoints read b, h and q only
    std::vector<GradientRead> sink_reads;   // likewise of the sink

    /// Every list of reads, for what is the same for all of them.
    [[nodiscard]] std::array<std::vector<GradientRead>*, 3> reads() { return {&score_reads, &scale_reads, &sink_reads}; }
    [[nodiscard]] std::array<const std::vector<GradientRead>*, 3> reads() const { return {&score_reads, &scale_reads, &sink_reads}; }
};

struct Attention {
    std::string name;
    std::string doc;
    std::vector<Param> params;         // what a launcher takes, in order; `const` parameters are folded and absent
    std::vector<std::string> extents;  // names of the free extents; id = kBuiltinExtents + position
    std::vector<ExtentConstraint> constraints;
    Graph graph;

    NodeId scale;  // f32; reads b h q and scalars; invalid: 1 / sqrt(D)
    NodeId score;  // f32
    NodeId mask;   // bool
    Normalize normalize = Normalize::Softmax;
    NodeId sink;                     // f32 or invalid; reads b h q
    NodeId output;                   // f32 or invalid; reads out(), index d, b h q
    NodeId query;                    // f32 or invalid; reads row_load(QueryRow), b h q d
    NodeId key;                      // f32 or invalid; reads row_load(KeyRow), b hkv k d
    std::optional<uint32_t> blocks;  // the i32 tensor parameter [B|1, H|1, R, J] of `blocks =`
    std::vector<Emit> emits;
    std::optional<Gradient> gradient;

    [[nodiscard]] std::string extent_name(uint32_t id) const;
    /// "N + 1", "2 * K", "128"
    [[nodiscard]] std::string dim_text(const Dim& dim) const;
    /// Every valid root, in the order of the members above.
    [[nodiscard]] std::vector<NodeId> roots() const;
};

}  // namespace flexc::ir
