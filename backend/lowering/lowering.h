// IR -> LLVM IR, for every target: values of clauses inside of a hook, a function that a skeleton calls (backend/skeletons/*/hooks.h).
//
// Where a target has lanes, a value that varies with k (or with the score) is a vector of one lane a key; every other value is a scalar. With one
// lane, as on a GPU, all values are scalars and a hook is about one key. In hooks about a row (`query`, `key`, `output`) the lanes are elements d of it. Bools are i1.
// Scalars that hold for a whole row are computed once, in flex_hook_row, and reach the other hooks through the slots of the row.
// Nothing emitted is undefined for any input, traps, or reads outside a captured tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend/lowering/arguments.h"
#include "ir/ir.h"
#include "ir/variance.h"

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

namespace flexc::codegen {

/// The target as far as code is shaped by it.
struct Target {
    int lanes = 4;        // 1: no vectors
    bool gather = false;  // a hardware gather of 32-bit elements exists
    bool half = false;    // conversions between f16 and f32 exist
    /// A value of a row takes a slot if it costs as much (Facts::cost); what is cheaper is computed again. 1: all but constants and indices.
    uint32_t slot_cost = 1;
};

/// What lanes stand for: keys, or elements of a row.
enum class Axis : uint8_t { Keys, Elements };

/// What is known about each node before any code is emitted.
struct Facts {
    Facts(const ir::Attention& attention_in, const Target& target, Axis axis_in = Axis::Keys);

    const ir::Attention& attention;
    Axis axis;
    std::vector<ir::Variance> variance;
    std::vector<uint8_t> proven;  // ir::proven_dims
    std::vector<int8_t> step;     // along the axis: ir::key_steps, ir::element_steps
    std::vector<uint32_t> cost;   // of computing the value, in simple instructions; saturates

    [[nodiscard]] bool varies_along(ir::NodeId id) const {
        return variance[id.value] & (axis == Axis::Keys ? ir::kVariesK | ir::kVariesScore : ir::kVariesD);
    }
};

/// Which nodes flex_hook_row leaves in which slot.
class RowSlots {
public:
    explicit RowSlots(int capacity) : capacity_(capacity) {}
    /// The slot of a node, a new one if need be; -1 if all are taken.
    int find_or_add(ir::NodeId id);
    [[nodiscard]] const std::vector<ir::NodeId>& nodes() const { return nodes_; }

private:
    int capacity_;
    std::vector<ir::NodeId> nodes_;
    std::vector<std::pair<uint32_t, int>> by_id_;  // sorted
};

/// Emits one hook: give it the arguments, ask for values, and return.
class Lowering {
public:
    struct Inputs {
        llvm::Value* args = nullptr;
        llvm::Value *b = nullptr, *h = nullptr, *q = nullptr;
        llvm::Value* k = nullptr;          // the (first) key, in hooks about keys
        llvm::Value* d = nullptr;          // the (first) element, in hooks about rows
        llvm::Value* active = nullptr;     // how many lanes are keys (elements); only with lanes
        llvm::Value* score = nullptr;      // float, or a vector of them
        llvm::Value* out = nullptr;        // likewise, in the hook of `output`
        llvm::Value* elements = nullptr;   // f32 [D]: the row that `query` and `key` transform
        llvm::Value* row = nullptr;        // where slots are read from
        std::vector<llvm::Value*> bounds;  // tile state: by the payload of Op::TileBound
    };

    /// `function` must have no body. With `slots`, values of a row are taken from (and asked of) the slots.
    Lowering(const Facts& facts, const Target& target, const Arguments& arguments, llvm::Function* function, const Inputs& inputs,
             RowSlots* slots);

    /// Values of roots: scalars, or vectors where they vary with the key.
    void emit(std::span<const ir::NodeId> roots);
    /// A loop nest over loop variables, outermost first. `body` emits the innermost body and may ask for what has these variables free; active() then says
    /// which keys take part in the step.
    void emit_loops(std::span<const ir::NodeId> loops, const std::function<void()>& body);
    /// Emits code that runs only on one side of a branch: what it computes is not remembered for the other side.
    void in_branch(const std::function<void()>& body);
    /// Values that have loop variables free, inside of emit_loops.
    void emit_inside(std::span<const ir::NodeId> roots) { emit_scope(roots, open_loops_); }
    [[nodiscard]] llvm::Value* value(ir::NodeId id) const { return values_[id.value]; }
    [[nodiscard]] llvm::Value* vector(ir::NodeId id) { return as_vector(value(id)); }
    [[nodiscard]] const Arguments::Tensor& tensor(uint32_t param);
    [[nodiscard]] llvm::Value* active() const { return active_; }
    [[nodiscard]] llvm::Value* all_active() const { return all_active_; }
    /// Of a value that steps (Facts::step): at the first key, as a scalar.
    [[nodiscard]] llvm::Value* first_lane(ir::NodeId id);
    [[nodiscard]] llvm::IRBuilder<>& builder() { return builder_; }
    /// One more of Inputs::bounds, computed in this function.
    void add_bound(llvm::Value* v) { inputs_.bounds.push_back(v); }
    /// As it lies in a slot or a result: i1 becomes 0 or 1, floats their bits.
    [[nodiscard]] llvm::Value* to_bits(llvm::Value* scalar);
    /// Call when the body is complete.
    void finish();

    /// 1 / sqrt(D), rounded once (by math(rsqrt), for D up to 256, where the skeleton has it).
    [[nodiscard]] llvm::Value* default_scale();

private:
    // lowering.cpp
    void emit_scope(std::span<const ir::NodeId> roots, uint32_t bound_loops);
    void emit_reduce(ir::NodeId id, uint32_t bound_loops);
    llvm::Value* combine(ir::Op op, ir::Type type, llvm::Value* a, llvm::Value* b);
    llvm::Constant* identity(ir::Op op, ir::Type type);
    llvm::Value* from_slot(ir::NodeId id, int slot);
    void set(ir::NodeId id, llvm::Value* v);
    void forget(size_t mark);
    llvm::Value* extent(uint32_t id);

    // lower_ops.cpp
    llvm::Value* emit_node(ir::NodeId id);
    llvm::Value* emit_leaf(ir::NodeId id);
    llvm::Value* emit_arithmetic(ir::NodeId id, llvm::Value* a, llvm::Value* b);
    llvm::Value* emit_divide_by_uniform(llvm::Value* a, llvm::Value* b);
    llvm::Value* emit_divide(bool modulo, llvm::Value* a, llvm::Value* b);
    llvm::Value* emit_divide_constant(bool modulo, llvm::Value* a, int32_t divisor);
    llvm::Value* emit_to_i32(llvm::Value* x);
    llvm::Value* emit_min(llvm::Value* a, llvm::Value* b);
    llvm::Value* emit_max(llvm::Value* a, llvm::Value* b);
    llvm::Function* math(const char* name);  // null if the skeleton has none
    llvm::Value* call_math(llvm::Function* function, std::initializer_list<llvm::Value*> operands);
    llvm::Value* hkv();

    // lower_load.cpp
    llvm::Value* emit_load(ir::NodeId id);
    llvm::Value* emit_row_load(ir::NodeId id);
    llvm::Value* emit_scalar_load(ir::NodeId id);
    llvm::Value* emit_vector_load(ir::NodeId id);
    llvm::Value* gather(ir::ElemType elem, llvm::Value* base, llvm::Value* offsets, llvm::Value* mask);
    llvm::Value* widen(ir::ElemType elem, llvm::Value* raw);
    llvm::Type* raw_type(ir::ElemType elem);
    llvm::Constant* zero_bytes(unsigned address_space);
    bool needs_guard(ir::NodeId load, size_t dim) const;

    // helpers of all
    [[nodiscard]] llvm::Value* first() const { return facts_.axis == Axis::Keys ? inputs_.k : inputs_.d; }
    [[nodiscard]] bool varying(ir::NodeId id) const { return first() && facts_.varies_along(id); }
    [[nodiscard]] bool is_vector(ir::NodeId id) const { return target_.lanes > 1 && varying(id); }
    llvm::Value* as_vector(llvm::Value* v);
    llvm::Value* splat(llvm::Value* scalar);
    llvm::Value* along(llvm::Value* first);  // first, first + 1, ... by lane
    llvm::Type* type_of(ir::Type type, bool vector);
    llvm::Constant* constant_like(llvm::Value* v, double f);  // of v's element type and lane count
    llvm::Constant* integer_like(llvm::Value* v, int64_t i);
    llvm::Value* unary(llvm::Intrinsic::ID id, llvm::Value* a);

    const Facts& facts_;
    const ir::Graph& graph_;
    Target target_;
    const Arguments& arguments_;
    llvm::Function* function_;
    llvm::Module* module_;
    Inputs inputs_;
    RowSlots* slots_;
    llvm::IRBuilder<> builder_, entry_;  // entry_: at the end of the entry block, for what holds in the whole hook
    llvm::BasicBlock* body_;
    std::vector<llvm::Value*> values_;        // by NodeId
    std::vector<llvm::Value*> lane0_;         // by NodeId: value of the first key, for values with a step
    std::vector<llvm::Value**> trail_;        // entries of the two above that are set, in order; a loop clears its own
    std::vector<Arguments::Tensor> tensors_;  // by parameter
    llvm::Value* active_ = nullptr;           // <lanes x i1>: lanes that may read memory
    llvm::Value* all_active_ = nullptr;       // i1
    llvm::Value* hkv_ = nullptr;
    uint32_t open_loops_ = 0;  // depths, of emit_loops
};

}  // namespace flexc::codegen
