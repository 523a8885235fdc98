// The hooks of a variant on a GPU: those of all targets, one key at a time, and what the kernels ask of the variant as a whole.
#include "backend/nvptx/hooks.h"

#include <cstddef>

#include "backend/lowering/hooks.h"
#include "backend/lowering/score_range.h"
#include "diag/check.h"
#include "ir/reads.h"
#include "runtime/abi.h"

#include <llvm/IR/InstIterator.h>
#include <llvm/Support/Error.h>

namespace flexc::nvptx {

using codegen::HookContext;
using codegen::invariant_load;
using codegen::Lowering;
using ir::NodeId;
using llvm::Value;

namespace {

constexpr int kRowSlots = 16;  // of RowState in backend/skeletons/nvptx/hooks.h
/// Slots are registers of each row that a thread holds. What costs less than this is left to the optimiser, which hoists it if there is room.
constexpr uint32_t kSlotCost = 4;
constexpr unsigned kGlobal = 1;  // LLVM's address space of device memory

// enum Property of backend/skeletons/nvptx/hooks.h
enum Property {
    kPlainScore = 1,
    kDefaultScale = 2,
    kNoMask = 4,
    kMaskByHead = 8,
    kScoreMayHide = 16,
    kLongScore = 32,
    kLongMask = 64,
    kLongGradient = 128
};

/// Fixed offsets in the kernel's parameter (runtime/gpu_layout.h).
class ParameterArguments : public codegen::Arguments {
public:
    explicit ParameterArguments(const flex::GpuLayout& layout) : layout_(layout) {}

    Value* extent(llvm::IRBuilder<>& at, Value* args, uint32_t id) const override {
        return field(at, args, at.getInt32Ty(), layout_.extents + 4 * id);
    }
    Value* scalar(llvm::IRBuilder<>& at, Value* args, uint32_t param, llvm::Type* type) const override {
        return field(at, args, type, layout_.scalars + 4 * param);
    }
    Tensor tensor(llvm::IRBuilder<>& at, Value* args, uint32_t param, size_t rank) const override {
        const size_t begin = layout_.tensors[param];
        Tensor fields;
        Value* address = field(at, args, at.getInt64Ty(), begin);
        fields.data = at.CreateIntToPtr(address, llvm::PointerType::get(at.getContext(), kGlobal));
        for (size_t i = 0; i < rank; i++) {
            fields.stride.push_back(field(at, args, at.getInt64Ty(), begin + 8 + 8 * i));
            fields.dim.push_back(field(at, args, at.getInt32Ty(), begin + 8 + 8 * rank + 4 * i));
        }
        return fields;
    }

private:
    static Value* field(llvm::IRBuilder<>& at, Value* args, llvm::Type* type, size_t offset) {
        Value* address = at.CreateConstInBoundsGEP1_64(at.getInt8Ty(), args, offset);
        return invariant_load(at, type, address, unsigned(type->getPrimitiveSizeInBits() / 8));
    }

    const flex::GpuLayout& layout_;
};

bool depends_on_head(const ir::Attention& attention, const ir::TileState& state) {
    const auto reads = ir::reads(attention.graph);
    constexpr ir::Reads kHead = ir::reads_bit(ir::IndexVar::H) | ir::reads_bit(ir::IndexVar::Hkv);
    if ((reads[state.maybe.value] | reads[state.always.value]) & kHead) return true;
    for (const ir::Summary& summary : state.summaries)
        if (summary.by_h) return true;
    return false;
}

// A thread calls the hook of its scores for up to 64 elements of a tile. Copies of what is longer than this many instructions would neither fit the
// instruction cache nor compile in time, and the steps of a loop around one copy cost little beside it.
constexpr unsigned kLong = 48;

/// Of a hook with what it calls.
unsigned length(llvm::Function& function) {
    llvm::Error error = function.materialize();
    FLEX_CHECK(!error, "the embedded bitcode is sound");
    unsigned sum = 0;
    for (const llvm::Instruction& instruction : llvm::instructions(function)) {
        sum++;
        const auto* call = llvm::dyn_cast<llvm::CallInst>(&instruction);
        llvm::Function* callee = call ? call->getCalledFunction() : nullptr;
        if (callee && !callee->isIntrinsic() && !callee->isDeclaration()) sum += length(*callee);
    }
    return sum;
}

bool is_long(llvm::Module& module, const char* name) {
    llvm::Function* function = module.getFunction(name);
    if (!function || function->isDeclaration()) return false;
    return function->size() > 2 || length(*function) > kLong;  // besides entry and body, blocks are those of loops
}

bool is_long_gradient(const ir::Attention& attention, llvm::Module& module) {
    if (!attention.gradient) return false;
    for (const ir::GradientRead& read : attention.gradient->score_reads)
        if (!read.loops.empty()) return true;
    if (is_long(module, "flex_hook_score_gradient")) return true;
    for (const char* name : {"flex_hook_bounds", "flex_hook_summed_adjoint", "flex_hook_scatter"}) {
        llvm::Function* function = module.getFunction(name);
        if (function && !function->isDeclaration() && length(*function) > kLong) return true;
    }
    return false;
}

uint32_t properties(const ir::Attention& attention, const ir::TileState& state, llvm::Module& module) {
    const ir::Graph& graph = attention.graph;
    uint32_t result = 0;
    if (!attention.score.valid() || graph[attention.score].op == ir::Op::ClauseVar) result |= kPlainScore;
    if (!attention.scale.valid()) result |= kDefaultScale;
    if (!attention.mask.valid() || graph.as_bool(attention.mask).value_or(false)) result |= kNoMask;
    if (depends_on_head(attention, state)) result |= kMaskByHead;
    if (codegen::score_may_hide(attention)) result |= kScoreMayHide;
    if (is_long(module, "flex_hook_score")) result |= kLongScore;
    if (is_long(module, "flex_hook_mask")) result |= kLongMask;
    if (is_long_gradient(attention, module)) result |= kLongGradient;
    return result;
}

void lower_constant(llvm::Module& module, const char* name, uint32_t value) {
    llvm::Function* function = codegen::hook(module, name);
    if (!function) return;
    llvm::IRBuilder<> builder(llvm::BasicBlock::Create(module.getContext(), "entry", function));
    builder.CreateRet(builder.getInt32(value));
}

void lower_extent(const HookContext& c, const flex::GpuLayout& layout) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_extent");
    if (!function) return;
    llvm::IRBuilder<> builder(llvm::BasicBlock::Create(c.module.getContext(), "entry", function));
    Value* base = builder.CreateConstInBoundsGEP1_64(builder.getInt8Ty(), function->getArg(0), layout.extents);
    Value* address = builder.CreateInBoundsGEP(builder.getInt32Ty(), base, function->getArg(1));
    builder.CreateRet(invariant_load(builder, builder.getInt32Ty(), address, 4));
}

/// The address of a summary's record in the parameter.
void lower_summary_record(const HookContext& c, const flex::GpuLayout& layout) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_summary");
    if (!function) return;
    llvm::IRBuilder<> builder(llvm::BasicBlock::Create(c.module.getContext(), "entry", function));
    Value* base = builder.CreateConstInBoundsGEP1_64(builder.getInt8Ty(), function->getArg(0), layout.summaries);
    auto* record = llvm::ArrayType::get(builder.getInt8Ty(), sizeof(flex_gpu_summary));
    builder.CreateRet(builder.CreateInBoundsGEP(record, base, function->getArg(1)));
}

/// flags(index): a switch over constants; -1 if there is no such summary.
void lower_summary_flags(const HookContext& c, const ir::TileState& state) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_summary_flags");
    if (!function) return;
    llvm::LLVMContext& context = c.module.getContext();
    llvm::IRBuilder<> builder(llvm::BasicBlock::Create(context, "entry", function));
    Value* result = builder.getInt32(uint32_t(-1));
    for (uint32_t i = 0; i < state.summaries.size(); i++) {
        Value* is_this = builder.CreateICmpEQ(function->getArg(0), builder.getInt32(i));
        result = builder.CreateSelect(is_this, builder.getInt32(uint32_t(codegen::summary_flags(state.summaries[i]))), result);
    }
    builder.CreateRet(result);
}

/// value(launch, index, b, h, p): a switch over calls of one function a summary.
void lower_summary_values(const HookContext& c, const ir::TileState& state) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_summary_value");
    if (!function) return;
    llvm::LLVMContext& context = c.module.getContext();
    llvm::IRBuilder<> builder(context);
    auto* entry = llvm::BasicBlock::Create(context, "entry", function);
    auto* none = llvm::BasicBlock::Create(context, "none", function);
    builder.SetInsertPoint(none);
    builder.CreateRet(builder.getInt32(0));
    builder.SetInsertPoint(entry);
    llvm::SwitchInst* choice = builder.CreateSwitch(function->getArg(1), none);
    llvm::Type* i32 = builder.getInt32Ty();
    auto* type = llvm::FunctionType::get(i32, {function->getArg(0)->getType(), i32, i32, i32}, false);
    for (uint32_t i = 0; i < state.summaries.size(); i++) {
        const ir::Summary& summary = state.summaries[i];
        auto* each = llvm::Function::Create(type, llvm::GlobalValue::InternalLinkage, "flex_summary", c.module);
        each->addFnAttrs(llvm::AttrBuilder(context, function->getAttributes().getFnAttrs()));
        Lowering::Inputs inputs;
        inputs.args = each->getArg(0);
        inputs.b = each->getArg(1);
        inputs.h = each->getArg(2);
        (summary.of_keys ? inputs.k : inputs.q) = each->getArg(3);
        Lowering lowering(c.facts, c.target, c.arguments, each, inputs, nullptr);
        lowering.emit({&summary.value, 1});
        lowering.builder().CreateRet(lowering.to_bits(lowering.value(summary.value)));
        lowering.finish();

        auto* block = llvm::BasicBlock::Create(context, "summary", function);
        choice->addCase(builder.getInt32(i), block);
        builder.SetInsertPoint(block);
        builder.CreateRet(builder.CreateCall(each, {function->getArg(0), function->getArg(2), function->getArg(3), function->getArg(4)}));
    }
}

}  // namespace

void lower_hooks(const ir::Attention& attention, const ir::TileState& tile_state, const flex::GpuLayout& layout, llvm::Module& module) {
    codegen::Target target;
    target.lanes = 1;
    target.half = true;
    target.slot_cost = kSlotCost;
    const codegen::Facts facts(attention, target);
    codegen::RowSlots slots(kRowSlots);
    const ParameterArguments arguments(layout);
    const HookContext context{facts, target, arguments, module, slots};
    codegen::lower_score(context);
    codegen::lower_mask(context);
    if (attention.gradient) lower_gradient(context, layout);
    codegen::lower_row(context);
    codegen::lower_scale(context);
    codegen::lower_tile_state(context, tile_state);
    lower_constant(module, "flex_hook_properties", properties(attention, tile_state, module));
    lower_constant(module, "flex_hook_summary_count", uint32_t(tile_state.summaries.size()));
    lower_extent(context, layout);
    lower_summary_record(context, layout);
    lower_summary_flags(context, tile_state);
    lower_summary_values(context, tile_state);
}

}  // namespace flexc::nvptx
