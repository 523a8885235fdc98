// The hooks of a variant on the CPU: those of all targets, and the values of summaries, which are vectors along k and scalars along q.
#include "backend/cpu/hooks.h"

#include <cstddef>

#include "backend/lowering/hooks.h"
#include "diag/check.h"
#include "runtime/abi.h"

namespace flexc::cpu {

using codegen::HookContext;
using codegen::invariant_load;
using codegen::Lowering;
using codegen::Target;
using llvm::Value;

namespace {

constexpr int kRowSlots = 128;  // of RowState in backend/skeletons/cpu/hooks.h

/// The pointers of flex_args (runtime/abi.h).
class MemoryArguments : public codegen::Arguments {
public:
    Value* extent(llvm::IRBuilder<>& at, Value* args, uint32_t id) const override {
        Value* extents = invariant_load(at, at.getPtrTy(), args, 8);
        return invariant_load(at, at.getInt32Ty(), at.CreateConstInBoundsGEP1_32(at.getInt32Ty(), extents, id), 4);
    }
    Value* scalar(llvm::IRBuilder<>& at, Value* args, uint32_t param, llvm::Type* type) const override {
        Value* field = at.CreateConstInBoundsGEP1_32(at.getPtrTy(), args, 1);
        Value* slots = invariant_load(at, at.getPtrTy(), field, 8);
        return invariant_load(at, type, at.CreateConstInBoundsGEP1_32(at.getInt32Ty(), slots, param), 4);
    }
    Tensor tensor(llvm::IRBuilder<>& at, Value* args, uint32_t param, size_t rank) const override {
        llvm::Type* byte = at.getInt8Ty();
        Value* field = at.CreateConstInBoundsGEP1_32(byte, args, unsigned(offsetof(flex_args, tensors)));
        Value* tensors = invariant_load(at, at.getPtrTy(), field, 8);
        const auto member = [&](size_t offset) {
            return at.CreateConstInBoundsGEP1_64(byte, tensors, param * sizeof(flex_tensor) + offset);
        };
        Tensor fields;
        fields.data = invariant_load(at, at.getPtrTy(), member(offsetof(flex_tensor, data)), 8);
        for (size_t i = 0; i < rank; i++) {
            fields.stride.push_back(invariant_load(at, at.getInt64Ty(), member(offsetof(flex_tensor, stride) + 8 * i), 8));
            fields.dim.push_back(invariant_load(at, at.getInt32Ty(), member(offsetof(flex_tensor, dim) + 4 * i), 4));
        }
        return fields;
    }
};

/// The value of one summary: (args, b, h, q) -> i32, or (args, b, h, k, active) -> a vector.
llvm::Function* lower_summary(const HookContext& c, const ir::Summary& summary, llvm::FunctionType* type) {
    llvm::Module& module = c.module;
    auto* function = llvm::Function::Create(type, llvm::GlobalValue::InternalLinkage, "flex_summary", module);
    const llvm::AttributeList features = module.getFunction("flex_cpu_tile_state")->getAttributes();  // target-cpu and the like
    function->addFnAttrs(llvm::AttrBuilder(module.getContext(), features.getFnAttrs()));
    Lowering::Inputs inputs;
    inputs.args = function->getArg(0);
    inputs.b = function->getArg(1);
    inputs.h = function->getArg(2);
    if (summary.of_keys) {
        inputs.k = function->getArg(3);
        inputs.active = function->getArg(4);
    } else {
        inputs.q = function->getArg(3);
    }
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, nullptr);
    lowering.emit({&summary.value, 1});
    llvm::IRBuilder<>& builder = lowering.builder();
    Value* result = summary.of_keys ? lowering.vector(summary.value) : lowering.value(summary.value);
    if (c.facts.attention.graph.type(summary.value) == ir::Type::Bool) result = builder.CreateZExt(result, type->getReturnType());
    builder.CreateRet(result);
    lowering.finish();
    return function;
}

/// The hooks that take the index of a summary: a switch over calls, or over constants for the flags.
void lower_summaries(const HookContext& c, const ir::TileState& state) {
    llvm::Module& module = c.module;
    llvm::Function* const keys = codegen::hook(module, "flex_hook_key_summary");
    llvm::Function* const queries = codegen::hook(module, "flex_hook_query_summary");
    llvm::Function* const flags = codegen::hook(module, "flex_hook_summary_flags");
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
                builder.CreateRet(builder.getInt32(uint32_t(codegen::summary_flags(summary))));
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
            builder.CreateRet(builder.CreateCall(lower_summary(c, summary, type), arguments));
        }
    }
}

/// A hook about elements of a row: (args, b, h, position, d, active, row or elements).
void lower_elements(const HookContext& c, const char* name, ir::NodeId root, bool of_key) {
    llvm::Function* function = codegen::hook(c.module, name);
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering::Inputs inputs = codegen::common_inputs(function, 1);
    (of_key ? inputs.k : inputs.q) = function->getArg(3);
    inputs.d = function->getArg(4);
    inputs.active = function->getArg(5);
    (function->getArg(6)->getType()->isPointerTy() ? inputs.elements : inputs.out) = function->getArg(6);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, nullptr);
    lowering.emit({&root, 1});
    lowering.builder().CreateRet(lowering.vector(root));
    lowering.finish();
}

void lower_rows(const ir::Attention& attention, const HookContext& of_keys) {
    if (!attention.query.valid() && !attention.key.valid() && !attention.output.valid()) return;
    const codegen::Facts facts(attention, of_keys.target, codegen::Axis::Elements);
    const HookContext context{facts, of_keys.target, of_keys.arguments, of_keys.module, of_keys.slots};
    if (attention.query.valid()) lower_elements(context, "flex_hook_query", attention.query, false);
    if (attention.key.valid()) lower_elements(context, "flex_hook_key", attention.key, true);
    if (attention.output.valid()) lower_elements(context, "flex_hook_output", attention.output, false);
}

}  // namespace

void lower_hooks(const ir::Attention& attention, const ir::TileState& tile_state, const Target& target, llvm::Module& module) {
    const codegen::Facts facts(attention, target);
    codegen::RowSlots slots(kRowSlots);
    const MemoryArguments arguments;
    const HookContext context{facts, target, arguments, module, slots};
    codegen::lower_score(context);
    codegen::lower_mask(context);
    if (attention.gradient) lower_gradient(context);
    codegen::lower_row(context);
    codegen::lower_scale(context);
    if (attention.sink.valid()) codegen::lower_sink(context);
    lower_rows(attention, context);
    codegen::lower_tile_state(context, tile_state);
    lower_summaries(context, tile_state);
}

}  // namespace flexc::cpu
