// The hooks of a variant, in the order that lets the vector hooks say what they want of a row.
#include "backend/cpu/lowering.h"

#include "diag/check.h"
#include "runtime/abi.h"

namespace flexc::cpu {

using ir::NodeId;
using llvm::Value;

namespace {

constexpr int kRowSlots = 128;  // of RowState in backend/skeletons/cpu/hooks.h

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
    for (unsigned i = 0; i < ir::kFirstSummary; i++) inputs.bounds.push_back(function->getArg(3 + i));  // QLo QHi KLo KHi
    Lowering lowering(facts, target, function, inputs, nullptr);
    llvm::IRBuilder<>& builder = lowering.builder();
    llvm::Function* query = module.getFunction("flex_summary_range");
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

/// The value of one summary: (args, b, h, q) -> i32, or (args, b, h, k, active) -> a vector.
llvm::Function* lower_summary(const Facts& facts, const ir::Summary& summary, llvm::FunctionType* type, const VectorTarget& target,
                              llvm::Module& module) {
    auto* function = llvm::Function::Create(type, llvm::GlobalValue::InternalLinkage, "flex_summary", module);
    const llvm::AttributeList features = module.getFunction("flex_cpu_tile_state")->getAttributes();  // target-cpu and the like
    function->addFnAttrs(llvm::AttrBuilder(module.getContext(), features.getFnAttrs()));
    Lowering::Inputs inputs = common_inputs(function, 1);
    if (summary.of_keys) {
        inputs.k = function->getArg(3);
        inputs.active = function->getArg(4);
    } else {
        inputs.q = function->getArg(3);
    }
    Lowering lowering(facts, target, function, inputs, nullptr);
    lowering.emit({&summary.value, 1});
    llvm::IRBuilder<>& builder = lowering.builder();
    Value* result = summary.of_keys ? lowering.vector(summary.value) : lowering.value(summary.value);
    if (facts.attention.graph.type(summary.value) == ir::Type::Bool) result = builder.CreateZExt(result, type->getReturnType());
    builder.CreateRet(result);
    lowering.finish();
    return function;
}

/// The hooks that take the index of a summary: a switch over calls, or over constants for the flags.
void lower_summaries(const Facts& facts, const ir::TileState& state, const VectorTarget& target, llvm::Module& module) {
    llvm::Function* const keys = hook(module, "flex_hook_key_summary");
    llvm::Function* const queries = hook(module, "flex_hook_query_summary");
    llvm::Function* const flags = hook(module, "flex_hook_summary_flags");
    llvm::LLVMContext& context = module.getContext();
    llvm::IRBuilder<> builder(context);
    for (llvm::Function* function : {keys, queries, flags}) {
        auto* entry = llvm::BasicBlock::Create(context, "entry", function);
        auto* none = llvm::BasicBlock::Create(context, "none", function);
        builder.SetInsertPoint(none);
        builder.CreateRet(llvm::Constant::getAllOnesValue(function->getReturnType()));
        builder.SetInsertPoint(entry);
        llvm::SwitchInst* choice = builder.CreateSwitch(function->getArg(function == flags ? 0 : 1), none);
        for (uint32_t i = 0; i < state.summaries.size(); i++) {
            const ir::Summary& summary = state.summaries[i];
            if (function != flags && summary.of_keys != (function == keys)) continue;
            auto* block = llvm::BasicBlock::Create(context, "summary", function);
            choice->addCase(builder.getInt32(i), block);
            builder.SetInsertPoint(block);
            if (function == flags) {
                const int value = (summary.of_keys ? FLEX_SUMMARY_OF_KEYS : 0) | (summary.by_b ? FLEX_SUMMARY_BY_B : 0) |
                                  (summary.by_h ? FLEX_SUMMARY_BY_H : 0);
                builder.CreateRet(builder.getInt32(uint32_t(value)));
                continue;
            }
            std::vector<Value*> arguments;
            std::vector<llvm::Type*> types;
            for (llvm::Argument& argument : function->args()) {
                if (argument.getArgNo() == 1) continue;
                arguments.push_back(&argument);
                types.push_back(argument.getType());
            }
            auto* type = llvm::FunctionType::get(function->getReturnType(), types, false);
            builder.CreateRet(builder.CreateCall(lower_summary(facts, summary, type, target, module), arguments));
        }
    }
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
    lower_summaries(facts, tile_state, target, module);
}

}  // namespace flexc::cpu
