#include "backend/lowering/hooks.h"

#include "diag/check.h"
#include "runtime/abi.h"

namespace flexc::codegen {

using ir::NodeId;
using llvm::Value;

Lowering::Inputs common_inputs(llvm::Function* function, unsigned b) {
    Lowering::Inputs inputs;
    inputs.args = function->getArg(0);
    inputs.b = function->getArg(b);
    inputs.h = function->getArg(b + 1);
    return inputs;
}

Lowering::Inputs row_inputs(llvm::Function* function) {
    Lowering::Inputs inputs = common_inputs(function, 1);
    inputs.q = function->getArg(3);
    return inputs;
}

Lowering::Inputs key_inputs(llvm::Function* function, const Target& target) {
    Lowering::Inputs inputs = common_inputs(function, 2);
    inputs.row = function->getArg(1);
    inputs.q = function->getArg(4);
    inputs.k = function->getArg(5);
    if (target.lanes > 1) inputs.active = function->getArg(6);
    return inputs;
}

llvm::Function* hook(llvm::Module& module, const char* name) {
    llvm::Function* function = module.getFunction(name);
    if (!function) return nullptr;
    FLEX_CHECK(function->isDeclaration(), "the skeleton only declares the hook");
    function->setLinkage(llvm::GlobalValue::InternalLinkage);
    function->setDSOLocal(true);
    function->addFnAttr(llvm::Attribute::AlwaysInline);
    function->addFnAttr(llvm::Attribute::NoUnwind);
    return function;
}

void lower_score(const HookContext& c) {
    llvm::Function* function = hook(c.module, "flex_hook_score");
    if (!function) return;
    Lowering::Inputs inputs = key_inputs(function, c.target);
    inputs.score = function->getArg(unsigned(function->arg_size()) - 1);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, &c.slots);
    const NodeId root = c.facts.attention.score;
    Value* result = inputs.score;
    if (root.valid()) {
        lowering.emit({&root, 1});
        result = lowering.vector(root);
    }
    lowering.builder().CreateRet(result);
    lowering.finish();
}

// A vector of -1 or 0 a lane; with one lane a bool.
void lower_mask(const HookContext& c) {
    llvm::Function* function = hook(c.module, "flex_hook_mask");
    if (!function) return;
    Lowering lowering(c.facts, c.target, c.arguments, function, key_inputs(function, c.target), &c.slots);
    const NodeId root = c.facts.attention.mask;
    Value* result = llvm::Constant::getAllOnesValue(function->getReturnType());
    if (root.valid()) {
        lowering.emit({&root, 1});
        result = lowering.builder().CreateSExtOrTrunc(lowering.vector(root), function->getReturnType());
    }
    lowering.builder().CreateRet(result);
    lowering.finish();
}

void lower_row(const HookContext& c) {
    llvm::Function* function = hook(c.module, "flex_hook_row");
    if (!function) return;
    const Lowering::Inputs inputs = row_inputs(function);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, nullptr);
    lowering.emit(c.slots.nodes());
    llvm::IRBuilder<>& builder = lowering.builder();
    for (size_t i = 0; i < c.slots.nodes().size(); i++) {
        Value* at = builder.CreateConstInBoundsGEP1_32(builder.getInt32Ty(), function->getArg(4), unsigned(i));
        builder.CreateAlignedStore(lowering.to_bits(lowering.value(c.slots.nodes()[i])), at, llvm::Align(4));
    }
    builder.CreateRetVoid();
    lowering.finish();
}

void lower_scale(const HookContext& c) {
    llvm::Function* function = hook(c.module, "flex_hook_scale");
    if (!function) return;
    const Lowering::Inputs inputs = row_inputs(function);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, nullptr);
    const NodeId root = c.facts.attention.scale;
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

void lower_sink(const HookContext& c) {
    llvm::Function* function = hook(c.module, "flex_hook_sink");
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering lowering(c.facts, c.target, c.arguments, function, row_inputs(function), nullptr);
    lowering.emit({&c.facts.attention.sink, 1});
    lowering.builder().CreateRet(lowering.value(c.facts.attention.sink));
    lowering.finish();
}

void lower_tile_state(const HookContext& c, const ir::TileState& state) {
    llvm::Function* function = hook(c.module, "flex_hook_tile_state");
    if (!function) return;
    Lowering::Inputs inputs = common_inputs(function, 1);
    for (unsigned i = 0; i < ir::kFirstSummary; i++) inputs.bounds.push_back(function->getArg(3 + i));  // QLo QHi KLo KHi
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, nullptr);
    llvm::IRBuilder<>& builder = lowering.builder();
    llvm::Function* query = c.module.getFunction("flex_summary_range");
    FLEX_CHECK(query, "the skeleton has the query of summaries");
    for (uint32_t i = 0; i < state.summaries.size(); i++) {
        const unsigned axis = state.summaries[i].of_keys ? 2 : 0;
        Value* range =
            builder.CreateCall(query, {inputs.args, builder.getInt32(i), inputs.b, inputs.h, inputs.bounds[axis], inputs.bounds[axis + 1]});
        lowering.add_bound(builder.CreateTrunc(range, builder.getInt32Ty()));
        lowering.add_bound(builder.CreateTrunc(builder.CreateLShr(range, 32), builder.getInt32Ty()));
    }
    const NodeId roots[] = {state.maybe, state.always};
    lowering.emit(roots);
    Value* kept = builder.CreateSelect(lowering.value(state.always), builder.getInt32(FLEX_TILE_FULL), builder.getInt32(FLEX_TILE_PARTIAL));
    builder.CreateRet(builder.CreateSelect(lowering.value(state.maybe), kept, builder.getInt32(FLEX_TILE_SKIP)));
    lowering.finish();
}

int summary_flags(const ir::Summary& summary) {
    return (summary.of_keys ? FLEX_SUMMARY_OF_KEYS : 0) | (summary.by_b ? FLEX_SUMMARY_BY_B : 0) | (summary.by_h ? FLEX_SUMMARY_BY_H : 0);
}

}  // namespace flexc::codegen
