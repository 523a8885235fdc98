#include "backend/lowering/lowering.h"

#include <algorithm>
#include <limits>

#include "diag/check.h"
#include "ir/intervals.h"

#include <llvm/IR/Intrinsics.h>

namespace flexc::codegen {

using ir::NodeId;
using ir::Op;
using llvm::Value;

namespace {

/// Instructions of one operation, roughly; where the operation has a loop or a branch, many.
uint32_t own_cost(const ir::Node& node, const Target& target) {
    constexpr uint32_t kDivision = 16, kMath = 8, kLoad = 8, kLoop = 64;
    switch (node.op) {
        case Op::ConstF32:
        case Op::ConstI32:
        case Op::ConstBool: return 0;
        case Op::Index: return target.lanes == 1 && ir::IndexVar(node.payload) == ir::IndexVar::Hkv ? kDivision : 0;
        case Op::Div:
        case Op::FloorDiv:
        case Op::Mod: return kDivision;
        default: break;
    }
    switch (ir::info(node.op).kind) {
        case ir::OpKind::Math: return kMath;
        case ir::OpKind::Load: return kLoad;
        case ir::OpKind::Reduce: return kLoop;
        default: return 1;
    }
}

std::vector<uint32_t> costs(const ir::Graph& graph, const Target& target) {
    constexpr uint32_t kMost = 1 << 16;
    std::vector<uint32_t> cost(graph.size());
    for (uint32_t i = 0; i < graph.size(); i++) {
        cost[i] = own_cost(graph[NodeId{i}], target);
        for (const NodeId operand : graph.operands(NodeId{i})) cost[i] = std::min(kMost, cost[i] + cost[operand.value]);
    }
    return cost;
}

}  // namespace

llvm::Value* invariant_load(llvm::IRBuilder<>& at, llvm::Type* type, llvm::Value* pointer, unsigned align) {
    llvm::LoadInst* load = at.CreateAlignedLoad(type, pointer, llvm::Align(align));
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(at.getContext(), {}));
    return load;
}

Facts::Facts(const ir::Attention& attention_in, const Target& target, Axis axis_in)
    : attention(attention_in),
      axis(axis_in),
      variance(ir::variance(attention_in.graph)),
      proven(ir::proven_dims(attention_in)),
      step(axis == Axis::Keys ? ir::key_steps(attention_in.graph, variance) : ir::element_steps(attention_in.graph, variance)),
      cost(costs(attention_in.graph, target)) {}

int RowSlots::find_or_add(NodeId id) {
    const auto at = std::lower_bound(by_id_.begin(), by_id_.end(), std::pair(id.value, -1));
    if (at != by_id_.end() && at->first == id.value) return at->second;
    if (int(nodes_.size()) >= capacity_) return -1;
    const int slot = int(nodes_.size());
    by_id_.insert(at, {id.value, slot});
    nodes_.push_back(id);
    return slot;
}

Lowering::Lowering(const Facts& facts, const Target& target, const Arguments& arguments, llvm::Function* function, const Inputs& inputs,
                   RowSlots* slots)
    : facts_(facts),
      graph_(facts.attention.graph),
      target_(target),
      arguments_(arguments),
      function_(function),
      module_(function->getParent()),
      inputs_(inputs),
      slots_(slots),
      builder_(function->getContext()),
      entry_(function->getContext()),
      values_(graph_.size(), nullptr),
      lane0_(graph_.size(), nullptr),
      tensors_(facts.attention.params.size()) {
    entry_.SetInsertPoint(llvm::BasicBlock::Create(function->getContext(), "entry", function));
    body_ = llvm::BasicBlock::Create(function->getContext(), "body", function);
    builder_.SetInsertPoint(body_);
    if (!first() || target.lanes == 1) return;
    std::vector<uint32_t> lane(size_t(target.lanes));
    for (size_t i = 0; i < lane.size(); i++) lane[i] = uint32_t(i);
    Value* lanes = llvm::ConstantDataVector::get(function->getContext(), lane);
    active_ = entry_.CreateICmpSLT(lanes, entry_.CreateVectorSplat(unsigned(target.lanes), inputs_.active), "active");
    all_active_ = entry_.CreateICmpEQ(inputs_.active, entry_.getInt32(uint32_t(target.lanes)), "all_active");
}

void Lowering::finish() {
    entry_.CreateBr(body_);
}

void Lowering::emit(std::span<const NodeId> roots) {
    emit_scope(roots, 0);
}

void Lowering::in_branch(const std::function<void()>& body) {
    const size_t mark = trail_.size();
    body();
    forget(mark);
}

void Lowering::emit_loops(std::span<const NodeId> loops, const std::function<void()>& body) {
    if (loops.empty()) return body();
    const NodeId variable = loops.front(), bounds[] = {graph_.operand(variable, 0), graph_.operand(variable, 1)};
    emit_scope(bounds, open_loops_);
    Value* lo = values_[bounds[0].value];
    Value* hi = values_[bounds[1].value];
    Value *lanes_lo = nullptr, *lanes_hi = nullptr;
    if (is_vector(variable)) {
        // All lanes take the steps of all; those whose own bounds a step lies outside of are not active in it.
        lanes_lo = as_vector(lo);
        lanes_hi = as_vector(hi);
        Value* running = builder_.CreateAnd(active_, builder_.CreateICmpSLT(lanes_lo, lanes_hi));
        lo = builder_.CreateIntMinReduce(builder_.CreateSelect(running, lanes_lo, integer_like(lanes_lo, INT32_MAX)), true);
        hi = builder_.CreateIntMaxReduce(builder_.CreateSelect(running, lanes_hi, integer_like(lanes_hi, INT32_MIN)), true);
    }
    llvm::BasicBlock* before = builder_.GetInsertBlock();
    llvm::BasicBlock* loop = llvm::BasicBlock::Create(builder_.getContext(), "scatter", function_);
    llvm::BasicBlock* after = llvm::BasicBlock::Create(builder_.getContext(), "scattered", function_);
    builder_.CreateCondBr(builder_.CreateICmpSLT(lo, hi), loop, after);
    builder_.SetInsertPoint(loop);
    llvm::PHINode* i = builder_.CreatePHI(lo->getType(), 2);
    i->addIncoming(lo, before);
    const size_t mark = trail_.size();
    const uint32_t outer = open_loops_;
    Value* const outer_active = active_;
    Value* const outer_all_active = all_active_;
    if (lanes_lo) {
        Value* at = splat(i);
        active_ =
            builder_.CreateAnd(active_, builder_.CreateAnd(builder_.CreateICmpSLE(lanes_lo, at), builder_.CreateICmpSLT(at, lanes_hi)));
        all_active_ = builder_.getFalse();
    }
    set(variable, lanes_lo ? splat(i) : i);
    open_loops_ |= uint32_t{1} << graph_[variable].payload;
    emit_loops(loops.subspan(1), body);
    open_loops_ = outer;
    active_ = outer_active;
    all_active_ = outer_all_active;
    forget(mark);
    Value* next = builder_.CreateAdd(i, integer_like(i, 1));
    i->addIncoming(next, builder_.GetInsertBlock());
    builder_.CreateCondBr(builder_.CreateICmpSLT(next, hi), loop, after);
    builder_.SetInsertPoint(after);
}

void Lowering::set(NodeId id, Value* v) {
    values_[id.value] = v;
    trail_.push_back(&values_[id.value]);
}

void Lowering::forget(size_t mark) {
    while (trail_.size() > mark) {
        *trail_.back() = nullptr;
        trail_.pop_back();
    }
}

// Emits what the roots need and what belongs to this scope: values whose free loop variables are all bound. The traversal goes
// through bodies of reductions too, so that what a body does not change is computed here, before the loop.
void Lowering::emit_scope(std::span<const NodeId> roots, uint32_t bound_loops) {
    struct Item {
        NodeId id;
        int slot;
    };
    std::vector<Item> order;
    std::vector<NodeId> stack(roots.begin(), roots.end());
    std::vector<bool> seen(graph_.size(), false);
    while (!stack.empty()) {
        const NodeId id = stack.back();
        stack.pop_back();
        if (values_[id.value] || seen[id.value]) continue;
        seen[id.value] = true;
        if (slots_ && graph_.free_loops(id) == 0 && !varying(id) && facts_.cost[id.value] >= target_.slot_cost) {
            const int slot = slots_->find_or_add(id);
            if (slot >= 0) {
                order.push_back({id, slot});
                continue;
            }
        }
        if ((graph_.free_loops(id) & ~bound_loops) == 0) order.push_back({id, -1});
        for (const NodeId operand : graph_.operands(id)) stack.push_back(operand);
    }
    std::sort(order.begin(), order.end(), [](const Item& a, const Item& b) { return a.id.value < b.id.value; });
    for (const Item& item : order) {
        if (item.slot >= 0)
            set(item.id, from_slot(item.id, item.slot));
        else if (ir::info(graph_[item.id].op).kind == ir::OpKind::Reduce)
            emit_reduce(item.id, bound_loops);
        else
            set(item.id, emit_node(item.id));
    }
}

Value* Lowering::from_slot(NodeId id, int slot) {
    Value* at = builder_.CreateConstInBoundsGEP1_32(builder_.getInt32Ty(), inputs_.row, unsigned(slot));
    switch (graph_.type(id)) {
        case ir::Type::F32: return builder_.CreateAlignedLoad(builder_.getFloatTy(), at, llvm::Align(4));
        case ir::Type::I32: return builder_.CreateAlignedLoad(builder_.getInt32Ty(), at, llvm::Align(4));
        case ir::Type::Bool:
            return builder_.CreateICmpNE(builder_.CreateAlignedLoad(builder_.getInt32Ty(), at, llvm::Align(4)), builder_.getInt32(0));
    }
    return nullptr;
}

Value* Lowering::to_bits(Value* scalar) {
    if (scalar->getType()->isFloatTy()) return builder_.CreateBitCast(scalar, builder_.getInt32Ty());
    return builder_.CreateZExt(scalar, builder_.getInt32Ty());
}

llvm::Constant* Lowering::identity(Op op, ir::Type type) {
    const double inf = std::numeric_limits<double>::infinity();
    llvm::Type* f32 = builder_.getFloatTy();
    switch (op) {
        case Op::ReduceAny: return builder_.getFalse();
        case Op::ReduceAll: return builder_.getTrue();
        case Op::ReduceMin: return type == ir::Type::F32 ? llvm::ConstantFP::get(f32, inf) : builder_.getInt32(uint32_t(INT32_MAX));
        case Op::ReduceMax: return type == ir::Type::F32 ? llvm::ConstantFP::get(f32, -inf) : builder_.getInt32(uint32_t(INT32_MIN));
        default: return type == ir::Type::F32 ? llvm::ConstantFP::get(f32, 0.0) : builder_.getInt32(0);
    }
}

Value* Lowering::combine(Op op, ir::Type type, Value* a, Value* b) {
    switch (op) {
        case Op::ReduceAny: return builder_.CreateOr(a, b);
        case Op::ReduceAll: return builder_.CreateAnd(a, b);
        case Op::ReduceMin: return emit_min(a, b);
        case Op::ReduceMax: return emit_max(a, b);
        default: return type == ir::Type::F32 ? builder_.CreateFAdd(a, b) : builder_.CreateAdd(a, b);
    }
}

// A loop. Where the bounds are the same for all keys, the variable is a scalar and all lanes take all steps; else the variable is
// a vector, a lane that has reached its end keeps its result and may not read memory, and the loop ends with the last lane.
void Lowering::emit_reduce(NodeId id, uint32_t bound_loops) {
    const NodeId variable = graph_.operand(id, 0), body = graph_.operand(id, 1);
    const Op op = graph_[id].op;
    const ir::Type type = graph_.type(id);
    const bool by_lane = is_vector(variable);
    Value* lo = values_[graph_.operand(variable, 0).value];
    Value* hi = values_[graph_.operand(variable, 1).value];
    Value* start = identity(op, type);
    if (is_vector(id)) start = splat(start);
    Value* running = nullptr;
    Value* enter;
    if (by_lane) {
        lo = as_vector(lo);
        hi = as_vector(hi);
        running = builder_.CreateAnd(active_, builder_.CreateICmpSLT(lo, hi));
        enter = builder_.CreateOrReduce(running);
    } else {
        enter = builder_.CreateICmpSLT(lo, hi);
    }

    llvm::BasicBlock* before = builder_.GetInsertBlock();
    llvm::BasicBlock* loop = llvm::BasicBlock::Create(builder_.getContext(), "reduce", function_);
    llvm::BasicBlock* after = llvm::BasicBlock::Create(builder_.getContext(), "reduced", function_);
    builder_.CreateCondBr(enter, loop, after);
    builder_.SetInsertPoint(loop);
    llvm::PHINode* i = builder_.CreatePHI(lo->getType(), 2);
    llvm::PHINode* sum = builder_.CreatePHI(start->getType(), 2);
    llvm::PHINode* mask = by_lane ? builder_.CreatePHI(running->getType(), 2) : nullptr;
    i->addIncoming(lo, before);
    sum->addIncoming(start, before);

    Value* const outer_active = active_;
    Value* const outer_all_active = all_active_;
    if (by_lane) {
        mask->addIncoming(running, before);
        active_ = mask;
        all_active_ = builder_.getFalse();
    }
    const size_t mark = trail_.size();
    set(variable, i);
    const NodeId roots[] = {body};
    emit_scope(roots, bound_loops | 1u << graph_[variable].payload);
    Value* element = values_[body.value];
    if (is_vector(id)) element = as_vector(element);
    Value* next_sum = combine(op, type, sum, element);
    if (by_lane) next_sum = builder_.CreateSelect(mask, next_sum, sum);
    forget(mark);
    active_ = outer_active;
    all_active_ = outer_all_active;

    Value* next = builder_.CreateAdd(i, integer_like(i, 1));
    Value* more = builder_.CreateICmpSLT(next, hi);
    llvm::BasicBlock* latch = builder_.GetInsertBlock();
    if (by_lane) {
        more = builder_.CreateAnd(mask, more);  // `next` may have wrapped in lanes that are done
        mask->addIncoming(more, latch);
        more = builder_.CreateOrReduce(more);
    }
    builder_.CreateCondBr(more, loop, after);
    i->addIncoming(next, latch);
    sum->addIncoming(next_sum, latch);

    builder_.SetInsertPoint(after);
    llvm::PHINode* result = builder_.CreatePHI(start->getType(), 2);
    result->addIncoming(start, before);
    result->addIncoming(next_sum, latch);
    set(id, result);
}

Value* Lowering::extent(uint32_t id) {
    return arguments_.extent(entry_, inputs_.args, id);
}

Value* Lowering::default_scale() {
    Value* extent_d = extent(uint32_t(ir::ExtentVar::D));
    if (llvm::Function* inverse_root = math("rsqrt"))
        return call_math(inverse_root, {builder_.CreateSIToFP(extent_d, builder_.getFloatTy())});
    Value* d = builder_.CreateSIToFP(extent_d, builder_.getDoubleTy());
    Value* root = unary(llvm::Intrinsic::sqrt, d);
    return builder_.CreateFPTrunc(builder_.CreateFDiv(llvm::ConstantFP::get(builder_.getDoubleTy(), 1.0), root), builder_.getFloatTy());
}

Value* Lowering::splat(Value* scalar) {
    return builder_.CreateVectorSplat(unsigned(target_.lanes), scalar);
}

Value* Lowering::along(Value* first) {
    std::vector<uint32_t> lane(size_t(target_.lanes));
    for (size_t i = 0; i < lane.size(); i++) lane[i] = uint32_t(i);
    return builder_.CreateAdd(splat(first), llvm::ConstantDataVector::get(builder_.getContext(), lane));
}

Value* Lowering::as_vector(Value* v) {
    return target_.lanes == 1 || v->getType()->isVectorTy() ? v : splat(v);
}

llvm::Type* Lowering::type_of(ir::Type type, bool vector) {
    llvm::Type* scalar = type == ir::Type::F32   ? builder_.getFloatTy()
                         : type == ir::Type::I32 ? static_cast<llvm::Type*>(builder_.getInt32Ty())
                                                 : builder_.getInt1Ty();
    return vector ? llvm::FixedVectorType::get(scalar, unsigned(target_.lanes)) : scalar;
}

llvm::Constant* Lowering::constant_like(Value* v, double f) {
    return llvm::ConstantFP::get(v->getType(), f);
}
llvm::Constant* Lowering::integer_like(Value* v, int64_t i) {
    return llvm::ConstantInt::get(v->getType(), uint64_t(i), true);
}
Value* Lowering::unary(llvm::Intrinsic::ID id, Value* a) {
    return builder_.CreateUnaryIntrinsic(id, a);
}

}  // namespace flexc::codegen
