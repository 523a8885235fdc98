// The hooks of a backward pass (backend/skeletons/nvptx/hooks.h, "Of a backward pass"): the derivative of the score, the adjoints of reads whose sums the
// skeleton makes (ir::gpu_gradient_sums chooses which), and the additions of all others. Out of range reads add nothing.
#include "backend/lowering/gradients.h"
#include "backend/nvptx/hooks.h"
#include "diag/check.h"
#include "ir/gradient_sums.h"

namespace flexc::nvptx {

using codegen::HookContext;
using codegen::Lowering;
using ir::GradientRead;
using ir::GradientSum;
using ir::NodeId;
using llvm::Value;

namespace {

// Of backend/skeletons/nvptx/hooks.h.
enum SummedRead { kSummedByRow = 1, kSummedByKey = 2, kSummedByHead = 3 };

class GradientHooks {
public:
    GradientHooks(const HookContext& c, const flex::GpuLayout& layout) : c_(c), layout_(layout), gradient_(*c.facts.attention.gradient) {
        const ir::GradientSums sums = ir::gpu_gradient_sums(c.facts.attention);
        for (size_t i = 0; i < gradient_.score_reads.size(); i++) {
            const GradientRead& read = gradient_.score_reads[i];
            switch (sums.score_reads[i]) {
                case GradientSum::Row: summed_.push_back({&read, kSummedByRow}); break;
                case GradientSum::Key: summed_.push_back({&read, kSummedByKey}); break;
                case GradientSum::Head: summed_.push_back({&read, kSummedByHead}); break;
                default: scattered_.push_back(&read); break;
            }
        }
        for (const ir::Param& param : c.facts.attention.params) {
            numbers_.push_back(count_);
            if (param.grad) count_++;
        }
    }

    void lower() {
        lower_score_gradient();
        lower_summed_adjoint();
        lower_add_summed();
        lower_scatter();
        lower_bounds();
        lower_scatter_scale();
        lower_bounds_scale();
        lower_constant("flex_hook_gradient_count", count_);
        lower_constant("flex_hook_summed_count", unsigned(summed_.size()));
        lower_constant("flex_hook_has_scatter", !scattered_.empty());
        lower_constant("flex_hook_has_scale_gradient", !gradient_.scale_reads.empty());
        lower_summed_kind();
        lower_gradient_record();
    }

private:
    struct Summed {
        const GradientRead* read;
        SummedRead kind;
    };

    [[nodiscard]] unsigned number(const GradientRead& read) const { return numbers_[c_.facts.attention.graph[read.load].payload]; }

    /// (launch, row, b, h, q, k, score, ...)
    [[nodiscard]] Lowering::Inputs element_inputs(llvm::Function* function) const {
        Lowering::Inputs inputs = codegen::key_inputs(function, c_.target);
        inputs.score = function->getArg(6);
        return inputs;
    }
    Lowering start(llvm::Function* function, const Lowering::Inputs& inputs, bool slots) const {
        return {c_.facts, c_.target, c_.arguments, function, inputs, slots ? &c_.slots : nullptr};
    }
    static void end(Lowering& lowering) {
        lowering.builder().CreateRetVoid();
        lowering.finish();
    }

    void lower_constant(const char* name, unsigned value) const {
        llvm::Function* function = codegen::hook(c_.module, name);
        if (!function) return;
        llvm::IRBuilder<> f(llvm::BasicBlock::Create(c_.module.getContext(), "entry", function));
        f.CreateRet(llvm::ConstantInt::get(function->getReturnType(), value));
    }

    void lower_score_gradient() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_score_gradient");
        if (!function) return;
        Lowering lowering = start(function, element_inputs(function), true);
        const NodeId root = gradient_.score;
        lowering.emit({&root, 1});
        lowering.builder().CreateRet(lowering.value(root));
        lowering.finish();
    }

    void lower_summed_kind() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_summed_kind");
        if (!function) return;
        llvm::IRBuilder<> f(llvm::BasicBlock::Create(c_.module.getContext(), "entry", function));
        Value* kind = f.getInt32(0);
        for (unsigned i = 0; i < summed_.size(); i++)
            kind = f.CreateSelect(f.CreateICmpEQ(function->getArg(0), f.getInt32(i)), f.getInt32(summed_[i].kind), kind);
        f.CreateRet(kind);
    }

    /// The address of a flex_gpu_gradient in the parameter.
    void lower_gradient_record() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_gradient");
        if (!function) return;
        size_t first = 0;
        for (size_t i = layout_.gradients.size(); i-- > 0;)
            if (c_.facts.attention.params[i].grad) first = layout_.gradients[i];
        llvm::IRBuilder<> f(llvm::BasicBlock::Create(c_.module.getContext(), "entry", function));
        Value* base = f.CreateConstInBoundsGEP1_64(f.getInt8Ty(), function->getArg(0), first);
        auto* record = llvm::ArrayType::get(f.getInt8Ty(), sizeof(flex_gpu_gradient));
        f.CreateRet(f.CreateInBoundsGEP(record, base, function->getArg(1)));
    }

    /// A switch over the summed reads; `body` emits the code of one.
    template <typename Body>
    void for_summed(Lowering& lowering, Value* which, const Body& body) const {
        llvm::IRBuilder<>& f = lowering.builder();
        llvm::Function* function = f.GetInsertBlock()->getParent();
        auto* after = llvm::BasicBlock::Create(f.getContext(), "summed", function);
        llvm::SwitchInst* choice = f.CreateSwitch(which, after);
        for (unsigned i = 0; i < summed_.size(); i++) {
            auto* block = llvm::BasicBlock::Create(f.getContext(), "read", function);
            choice->addCase(f.getInt32(i), block);
            f.SetInsertPoint(block);
            lowering.in_branch([&] { body(summed_[i]); });
            f.CreateBr(after);
        }
        f.SetInsertPoint(after);
    }

    void lower_summed_adjoint() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_summed_adjoint");
        if (!function) return;
        Lowering lowering = start(function, element_inputs(function), true);
        llvm::IRBuilder<>& f = lowering.builder();
        llvm::BasicBlock* const before = f.GetInsertBlock();
        std::vector<std::pair<Value*, llvm::BasicBlock*>> results;
        for_summed(lowering, function->getArg(7), [&](const Summed& summed) {
            lowering.emit({&summed.read->adjoint, 1});
            results.emplace_back(lowering.value(summed.read->adjoint), f.GetInsertBlock());
        });
        llvm::PHINode* phi = f.CreatePHI(f.getFloatTy(), unsigned(results.size() + 1));
        phi->addIncoming(llvm::ConstantFP::get(f.getFloatTy(), 0.0), before);
        for (const auto& [value, block] : results) phi->addIncoming(value, block);
        f.CreateRet(phi);
        lowering.finish();
    }

    void add(Lowering& lowering, const GradientRead& read, Value* value) const {
        const codegen::GradientPlace place = codegen::gradient_place(lowering, c_.facts, read);
        llvm::IRBuilder<>& f = lowering.builder();
        llvm::Function* flex_add = c_.module.getFunction("flex_add");
        FLEX_CHECK(flex_add, "the skeleton of a backward pass adds to gradients");
        Value* const launch = f.GetInsertBlock()->getParent()->getArg(0);
        codegen::emit_if(f, place.inside, [&] { f.CreateCall(flex_add, {launch, f.getInt32(number(read)), place.offset, value}); });
    }

    [[nodiscard]] std::vector<NodeId> indices(const GradientRead& read) const {
        const std::span<const NodeId> operands = c_.facts.attention.graph.operands(read.load);
        return {operands.begin(), operands.end()};
    }

    void lower_add_summed() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_add_summed");
        if (!function) return;
        Lowering::Inputs inputs = codegen::row_inputs(function);
        inputs.k = function->getArg(4);
        Lowering lowering = start(function, inputs, false);
        for_summed(lowering, function->getArg(5), [&](const Summed& summed) {
            lowering.emit(indices(*summed.read));
            add(lowering, *summed.read, function->getArg(6));
        });
        end(lowering);
    }

    /// For a read of any loops: `body` is emitted where its indices and its adjoint have values, with the product of `factor` and the adjoint.
    template <typename Body>
    void each_adjoint(Lowering& lowering, const GradientRead& read, Value* factor, const Body& body) const {
        lowering.in_branch([&] {
            lowering.emit_loops(read.loops, [&] {
                std::vector<NodeId> roots = indices(read);
                roots.push_back(read.adjoint);
                lowering.emit_inside(roots);
                body(lowering.builder().CreateFMul(factor, lowering.value(read.adjoint)));
            });
        });
    }

    void lower_scatter() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_scatter");
        if (!function) return;
        Lowering lowering = start(function, element_inputs(function), true);
        llvm::IRBuilder<>& f = lowering.builder();
        Value* const ds = function->getArg(7);
        codegen::emit_if(f, f.CreateFCmpUNE(ds, llvm::ConstantFP::get(f.getFloatTy(), 0.0)), [&] {
            lowering.in_branch([&] {
                for (const GradientRead* read : scattered_)
                    each_adjoint(lowering, *read, ds, [&](Value* value) { add(lowering, *read, value); });
            });
        });
        end(lowering);
    }

    /// Infinities and NaN are no part of a bound: flex_add does not bring them into fixed point.
    void add_to_bound(Lowering& lowering, const GradientRead& read, Value* value, Value* bounds) const {
        llvm::IRBuilder<>& f = lowering.builder();
        llvm::Type* f32 = f.getFloatTy();
        Value* size = f.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, value);
        Value* counts = f.CreateAnd(codegen::gradient_place(lowering, c_.facts, read).inside,
                                    f.CreateFCmpOLT(size, llvm::ConstantFP::getInfinity(f32)));
        Value* at = f.CreateConstInBoundsGEP1_32(f32, bounds, std::min(number(read), unsigned(FLEX_GPU_BOUNDS) - 1));
        Value* sum =
            f.CreateFAdd(f.CreateAlignedLoad(f32, at, llvm::Align(4)), f.CreateSelect(counts, size, llvm::ConstantFP::get(f32, 0.0)));
        f.CreateAlignedStore(sum, at, llvm::Align(4));
    }

    void lower_bounds() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_bounds");
        if (!function) return;
        Lowering lowering = start(function, element_inputs(function), true);
        for (const GradientRead& read : gradient_.score_reads)
            each_adjoint(lowering, read, function->getArg(7),
                         [&](Value* value) { add_to_bound(lowering, read, value, function->getArg(8)); });
        end(lowering);
    }

    void lower_scatter_scale() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_scatter_scale");
        if (!function) return;
        Lowering lowering = start(function, codegen::row_inputs(function), false);
        for (const GradientRead& read : gradient_.scale_reads)
            each_adjoint(lowering, read, function->getArg(4), [&](Value* value) { add(lowering, read, value); });
        end(lowering);
    }

    void lower_bounds_scale() const {
        llvm::Function* function = codegen::hook(c_.module, "flex_hook_bounds_scale");
        if (!function) return;
        Lowering lowering = start(function, codegen::row_inputs(function), false);
        for (const GradientRead& read : gradient_.scale_reads)
            each_adjoint(lowering, read, function->getArg(4),
                         [&](Value* value) { add_to_bound(lowering, read, value, function->getArg(5)); });
        end(lowering);
    }

    const HookContext& c_;
    const flex::GpuLayout& layout_;
    const ir::Gradient& gradient_;
    std::vector<Summed> summed_;
    std::vector<const GradientRead*> scattered_;
    std::vector<unsigned> numbers_;  // of gradients, by parameter
    unsigned count_ = 0;
};

}  // namespace

void lower_gradient(const HookContext& context, const flex::GpuLayout& layout) {
    GradientHooks(context, layout).lower();
}

}  // namespace flexc::nvptx
