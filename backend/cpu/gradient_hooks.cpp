// The hooks of the backward step (backend/skeletons/cpu/hooks.h): the derivative of the score, and where the adjoints of captured tensors go.
//
// A read is scattered in one of three ways, which ir::cpu_gradient_sums chooses:
//   at one place for the whole row     its adjoints are summed over the row in a vector, and added once; the first kCpuRowSums such reads
//   at one place for a vector of keys  a horizontal sum and one addition (reads in loops, and row reads beyond these)
//   elsewhere                          a vector addition where the last index steps with the key (or against it) and all lanes lie inside; else by
//                                      flex_add_lanes of the skeleton
// Indices out of range add nothing. All of it is in the order of keys and rows, so the result does not depend on the vector level's timing or threads.
#include "backend/cpu/hooks.h"

#include "backend/lowering/gradients.h"
#include "diag/check.h"
#include "ir/gradient_sums.h"

namespace flexc::cpu {

using codegen::HookContext;
using codegen::Lowering;
using ir::GradientRead;
using ir::GradientSum;
using ir::NodeId;
using llvm::Value;

namespace {

/// The place of each read among the row sums; -1: it has none.
std::vector<int> row_sums(const ir::GradientSums& sums) {
    std::vector<int> places;
    int next = 0;
    for (const GradientSum sum : sums.score_reads) places.push_back(sum == GradientSum::Row ? next++ : -1);
    return places;
}

/// Emits what adds to the gradient of one read.
class Scatter {
public:
    Scatter(const HookContext& c, Lowering& lowering, const GradientRead& read, Value* d_tensors)
        : c_(c), lowering_(lowering), f_(lowering.builder()), read_(read), d_tensors_(d_tensors) {
        const std::span<const NodeId> indices = c.facts.attention.graph.operands(read.load);
        indices_.assign(indices.begin(), indices.end());
        param_ = c.facts.attention.graph[read.load].payload;
    }

    /// Runs `body` where the gradient of this tensor is wanted.
    template <typename Body>
    void if_wanted(const Body& body) {
        Value* slot = f_.CreateConstInBoundsGEP1_32(f_.getPtrTy(), d_tensors_, param_);
        base_ = f_.CreateAlignedLoad(f_.getPtrTy(), slot, llvm::Align(8));
        codegen::emit_if(f_, f_.CreateIsNotNull(base_), body);
    }

    [[nodiscard]] const std::vector<NodeId>& indices() const { return indices_; }

    /// All indices are scalars.
    void add_at_one_place(Value* sum_or_scalar) {
        const codegen::GradientPlace place = codegen::gradient_place(lowering_, c_.facts, read_);
        codegen::emit_if(f_, place.inside, [&] {
            if (sum_or_scalar->getType()->isVectorTy()) {
                f_.CreateCall(c_.module.getFunction("flex_add_sum"), {base_, place.offset, sum_or_scalar});
                return;
            }
            Value* at = f_.CreateGEP(f_.getFloatTy(), base_, place.offset);
            f_.CreateAlignedStore(f_.CreateFAdd(f_.CreateAlignedLoad(f_.getFloatTy(), at, llvm::Align(4)), sum_or_scalar), at,
                                  llvm::Align(4));
        });
    }

    /// `neighbours`: the lanes lie side by side.
    void add_lanes(Value* value, Value* keep, bool neighbours) {
        const codegen::GradientPlace place = codegen::gradient_place(lowering_, c_.facts, read_);
        Value* const offsets = place.offset;
        Value* const inside = place.inside;
        const unsigned lanes = unsigned(c_.target.lanes);
        const auto scattered = [&, value] {
            Value* kept = f_.CreateAnd(inside, f_.CreateICmpNE(keep, llvm::Constant::getNullValue(keep->getType())));
            if (!read_.loops.empty()) kept = f_.CreateAnd(kept, lowering_.active());
            llvm::AllocaInst* memory = nullptr;
            {
                llvm::IRBuilder<>::InsertPointGuard guard(f_);
                llvm::BasicBlock& entry = f_.GetInsertBlock()->getParent()->getEntryBlock();
                f_.SetInsertPoint(&entry, entry.begin());
                memory = f_.CreateAlloca(offsets->getType());
            }
            f_.CreateAlignedStore(offsets, memory, memory->getAlign());
            f_.CreateCall(c_.module.getFunction("flex_add_lanes"), {base_, memory, value, f_.CreateSExt(kept, keep->getType())});
        };
        if (!neighbours) return scattered();
        Value* all = f_.CreateAnd(f_.CreateAndReduce(inside), lowering_.all_active());
        llvm::Function* function = f_.GetInsertBlock()->getParent();
        auto* together = llvm::BasicBlock::Create(f_.getContext(), "together", function);
        auto* apart = llvm::BasicBlock::Create(f_.getContext(), "apart", function);
        auto* after = llvm::BasicBlock::Create(f_.getContext(), "added", function);
        f_.CreateCondBr(all, together, apart);
        f_.SetInsertPoint(together);
        const bool downwards = c_.facts.step[indices_.back().value] < 0;
        Value* least = f_.CreateExtractElement(offsets, uint64_t(downwards ? lanes - 1 : 0));
        Value* at = f_.CreateGEP(f_.getFloatTy(), base_, least);
        if (downwards) value = f_.CreateVectorReverse(value);
        llvm::Type* vector = llvm::FixedVectorType::get(f_.getFloatTy(), lanes);
        f_.CreateAlignedStore(f_.CreateFAdd(f_.CreateAlignedLoad(vector, at, llvm::Align(4)), value), at, llvm::Align(4));
        f_.CreateBr(after);
        f_.SetInsertPoint(apart);
        scattered();
        f_.CreateBr(after);
        f_.SetInsertPoint(after);
    }

private:
    const HookContext& c_;
    Lowering& lowering_;
    llvm::IRBuilder<>& f_;
    const GradientRead& read_;
    Value* d_tensors_;
    Value* base_ = nullptr;
    uint32_t param_ = 0;
    std::vector<NodeId> indices_;
};

void lower_score_gradient(const HookContext& c) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_score_gradient");
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering::Inputs inputs = codegen::key_inputs(function, c.target);
    inputs.score = function->getArg(7);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, &c.slots);
    const NodeId root = c.facts.attention.gradient->score;
    lowering.emit({&root, 1});
    lowering.builder().CreateRet(lowering.vector(root));
    lowering.finish();
}

void lower_scatter(const HookContext& c) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_scatter");
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering::Inputs inputs = codegen::key_inputs(function, c.target);
    inputs.score = function->getArg(7);
    Value* ds = function->getArg(8);
    Value* keep = function->getArg(9);
    Value* sums = function->getArg(10);
    Value* d_tensors = function->getArg(11);
    Lowering lowering(c.facts, c.target, c.arguments, function, inputs, &c.slots);
    llvm::IRBuilder<>& f = lowering.builder();
    const ir::GradientSums ways = ir::cpu_gradient_sums(c.facts.attention);
    const std::vector<int> places = row_sums(ways);
    size_t number = 0;
    for (const GradientRead& read : c.facts.attention.gradient->score_reads) {
        const GradientSum way = ways.score_reads[number];
        const int place = places[number++];
        const auto value = [&] {
            Value* product = f.CreateFMul(ds, lowering.vector(read.adjoint));
            Value* kept = f.CreateICmpNE(keep, llvm::Constant::getNullValue(keep->getType()));
            if (!read.loops.empty()) kept = f.CreateAnd(kept, lowering.active());
            return f.CreateSelect(kept, product, llvm::Constant::getNullValue(product->getType()));
        };
        if (place >= 0) {
            lowering.emit({&read.adjoint, 1});
            Value* at = f.CreateConstInBoundsGEP1_32(ds->getType(), sums, unsigned(place));
            const llvm::Align align(4 * unsigned(c.target.lanes));
            f.CreateAlignedStore(f.CreateFAdd(f.CreateAlignedLoad(ds->getType(), at, align), value()), at, align);
            continue;
        }
        Scatter scatter(c, lowering, read, d_tensors);
        scatter.if_wanted([&] {
            lowering.in_branch([&] {
                lowering.emit_loops(read.loops, [&] {
                    std::vector<NodeId> roots = scatter.indices();
                    roots.push_back(read.adjoint);
                    lowering.emit_inside(roots);
                    if (way == GradientSum::Vector)
                        scatter.add_at_one_place(value());
                    else
                        scatter.add_lanes(value(), keep, way == GradientSum::Neighbours);
                });
            });
        });
    }
    f.CreateRetVoid();
    lowering.finish();
}

/// Reads whose indices are scalars, given one adjoint each.
void lower_scatter_row(const HookContext& c) {
    llvm::Function* function = codegen::hook(c.module, "flex_hook_scatter_row");
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering lowering(c.facts, c.target, c.arguments, function, codegen::row_inputs(function), nullptr);
    llvm::IRBuilder<>& f = lowering.builder();
    llvm::Type* vector = llvm::FixedVectorType::get(f.getFloatTy(), unsigned(c.target.lanes));
    const std::vector<int> places = row_sums(ir::cpu_gradient_sums(c.facts.attention));
    size_t number = 0;
    for (const GradientRead& read : c.facts.attention.gradient->score_reads) {
        const int place = places[number++];
        if (place < 0) continue;
        Scatter scatter(c, lowering, read, function->getArg(5));
        scatter.if_wanted([&] {
            lowering.in_branch([&] {
                lowering.emit(scatter.indices());
                Value* at = f.CreateConstInBoundsGEP1_32(vector, function->getArg(4), unsigned(place));
                scatter.add_at_one_place(f.CreateAlignedLoad(vector, at, llvm::Align(4 * unsigned(c.target.lanes))));
            });
        });
    }
    f.CreateRetVoid();
    lowering.finish();
}

/// Of a clause that has one value a row: (args, b, h, q, its derivative, d_tensors).
void lower_scatter_of_row(const HookContext& c, const char* name, const std::vector<GradientRead>& reads) {
    llvm::Function* function = codegen::hook(c.module, name);
    FLEX_CHECK(function, "the skeleton has the hook");
    Lowering lowering(c.facts, c.target, c.arguments, function, codegen::row_inputs(function), nullptr);
    llvm::IRBuilder<>& f = lowering.builder();
    for (const GradientRead& read : reads) {
        Scatter scatter(c, lowering, read, function->getArg(5));
        scatter.if_wanted([&] {
            lowering.in_branch([&] {
                lowering.emit_loops(read.loops, [&] {
                    std::vector<NodeId> roots = scatter.indices();
                    roots.push_back(read.adjoint);
                    lowering.emit_inside(roots);
                    scatter.add_at_one_place(f.CreateFMul(function->getArg(4), lowering.value(read.adjoint)));
                });
            });
        });
    }
    f.CreateRetVoid();
    lowering.finish();
}

}  // namespace

void lower_gradient(const HookContext& context) {
    lower_score_gradient(context);
    lower_scatter(context);
    lower_scatter_row(context);
    const ir::Attention& attention = context.facts.attention;
    lower_scatter_of_row(context, "flex_hook_scatter_scale", attention.gradient->scale_reads);
    if (attention.sink.valid()) lower_scatter_of_row(context, "flex_hook_scatter_sink", attention.gradient->sink_reads);
}

}  // namespace flexc::cpu
