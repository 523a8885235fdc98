// The five hooks of a variant, in the order that lets the vector hooks say what they want of a row.
#include "backend/cpu/lowering.h"

#include "diag/check.h"
#include "runtime/abi.h"

namespace flexc::cpu {

using ir::NodeId;
using llvm::Value;

namespace {

constexpr int kRowSlots = 128;   // of RowState in backend/skeletons/cpu/hooks.h

llvm::Function* hook(llvm::Module& module, const char* name) {
    llvm::Function* function = module.getFunction(name);
    FLEX_CHECK(function && function->isDeclaration(), "the skeleton declares the hook");
    function->setLinkage(llvm::GlobalValue::InternalLinkage);
    function->setDSOLocal(true);
    function->addFnAttr(llvm::Attribute::AlwaysInline);
    function->addFnAttr(llvm::Attribute::NoUnwind);
    return function;
}

Lowering::Inputs common_inputs(llvm::Function* function, unsigned b) {
    Lowering::Inputs inputs;
    inputs.args = function->getArg(0);
    inputs.b = function->getArg(b);
    inputs.h = function->getArg(b + 1);
    return inputs;
}

void lower_score(const Facts& facts, const VectorTarget& target, llvm::Module& module, RowSlots& slots) {
    llvm::Function* function = hook(module, "flex_hook_score");
    Lowering::Inputs inputs = common_inputs(function, 2);
    inputs.row = function->getArg(1);
    inputs.q = function->getArg(4);
    inputs.k = function->getArg(5);
    inputs.active = function->getArg(6);
    inputs.score = function->getArg(7);
    Lowering lowering(facts, target, function, inputs, &slots);
    const NodeId root = facts.attention.score;
    Value* result = inputs.score;
    if (root.valid()) {
        lowering.emit({&root, 1});
        result = lowering.vector(root);
    }
    lowering.builder().CreateRet(result);
    lowering.finish();
}

void lower_mask(const Facts& facts, const VectorTarget& target, llvm::Module& module, RowSlots& slots) {
    llvm::Function* function = hook(module, "flex_hook_mask");
    Lowering::Inputs inputs = common_inputs(function, 2);
    inputs.row = function->getArg(1);
    inputs.q = function->getArg(4);
    inputs.k = function->getArg(5);
    inputs.active = function->getArg(6);
    Lowering lowering(facts, target, function, inputs, &slots);
    const NodeId root = facts.attention.mask;
    Value* result = llvm::Constant::getAllOnesValue(function->getReturnType());
    if (root.valid()) {
        lowering.emit({&root, 1});
        result = lowering.builder().CreateSExt(lowering.vector(root), function->getReturnType());
    }
    lowering.builder().CreateRet(result);
    lowering.finish();
}

void lower_row(const Facts& facts, const VectorTarget& target, llvm::Module& module, const RowSlots& slots) {
    llvm::Function* function = hook(module, "flex_hook_row");
    Lowering::Inputs inputs = common_inputs(function, 1);
    inputs.q = function->getArg(3);
    Lowering lowering(facts, target, function, inputs, nullptr);
    lowering.emit(slots.nodes());
    llvm::IRBuilder<>& builder = lowering.builder();
    for (size_t i = 0; i < slots.nodes().size(); i++) {
        Value* at = builder.CreateConstInBoundsGEP1_32(builder.getInt32Ty(), function->getArg(4), unsigned(i));
        builder.CreateAlignedStore(lowering.to_bits(lowering.value(slots.nodes()[i])), at, llvm::Align(4));
    }
    builder.CreateRetVoid();
    lowering.finish();
}

void lower_scale(const Facts& facts, const VectorTarget& target, llvm::Module& module) {
    llvm::Function* function = hook(module, "flex_hook_scale");
    Lowering::Inputs inputs = common_inputs(function, 1);
    inputs.q = function->getArg(3);
    Lowering lowering(facts, target, function, inputs, nullptr);
    const NodeId root = facts.attention.scale;
    Value* result = nullptr;
    if (root.valid()) {
        lowering.emit({&root, 1});
        result = lowering.value(root);
    } else {
        result = lowering.default_scale();
    }
    lowering.builder().CreateRet(result);
    lowering.finish();
}

void lower_tile_state(const Facts& facts, const ir::TileState& state, const VectorTarget& target, llvm::Module& module) {
    llvm::Function* function = hook(module, "flex_hook_tile_state");
    Lowering::Inputs inputs = common_inputs(function, 1);
    for (unsigned i = 0; i < ir::kFirstSummary; i++) inputs.bounds.push_back(function->getArg(3 + i));   // QLo QHi KLo KHi
    // This target keeps no summaries of captured values by tile: their bounds are those of their type, which is sound.
    llvm::Type* i32 = llvm::Type::getInt32Ty(module.getContext());
    for (const ir::Summary& summary : state.summaries) {
        const bool is_bool = facts.attention.graph.type(summary.value) == ir::Type::Bool;
        inputs.bounds.push_back(llvm::ConstantInt::getSigned(i32, is_bool ? 0 : INT32_MIN));
        inputs.bounds.push_back(llvm::ConstantInt::getSigned(i32, is_bool ? 1 : INT32_MAX));
    }
    Lowering lowering(facts, target, function, inputs, nullptr);
    const NodeId roots[] = {state.maybe, state.always};
    lowering.emit(roots);
    llvm::IRBuilder<>& builder = lowering.builder();
    Value* kept = builder.CreateSelect(lowering.value(state.always), builder.getInt32(FLEX_TILE_FULL), builder.getInt32(FLEX_TILE_PARTIAL));
    builder.CreateRet(builder.CreateSelect(lowering.value(state.maybe), kept, builder.getInt32(FLEX_TILE_SKIP)));
    lowering.finish();
}

}  // namespace

void lower_hooks(const ir::Attention& attention, const ir::TileState& tile_state, const VectorTarget& target, llvm::Module& module) {
    const Facts facts(attention);
    RowSlots slots(kRowSlots);
    lower_score(facts, target, module, slots);
    lower_mask(facts, target, module, slots);
    lower_row(facts, target, module, slots);
    lower_scale(facts, target, module);
    lower_tile_state(facts, tile_state, target, module);
}

}  // namespace flexc::cpu
