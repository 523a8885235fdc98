#include "backend/lowering/gradients.h"

namespace flexc::codegen {

using ir::NodeId;
using llvm::Value;

GradientPlace gradient_place(Lowering& lowering, const Facts& facts, const ir::GradientRead& read) {
    llvm::IRBuilder<>& f = lowering.builder();
    const std::span<const NodeId> indices = facts.attention.graph.operands(read.load);
    const Arguments::Tensor& tensor = lowering.tensor(facts.attention.graph[read.load].payload);
    llvm::VectorType* vector = nullptr;
    for (const NodeId index : indices)
        if (auto* type = llvm::dyn_cast<llvm::VectorType>(lowering.value(index)->getType())) vector = type;
    const auto as_wide = [&](Value* value) {
        llvm::Type* wide = f.getInt64Ty();
        if (vector) wide = llvm::VectorType::get(wide, vector->getElementCount());
        return f.CreateSExt(value, wide);
    };
    GradientPlace place;
    for (size_t i = 0; i < indices.size(); i++) {
        Value* index = vector ? lowering.vector(indices[i]) : lowering.value(indices[i]);
        Value* extent = tensor.dim[i];
        if (vector) extent = f.CreateVectorSplat(vector->getElementCount(), extent);
        Value* ok = facts.proven[read.load.value] >> i & 1 ? f.getTrue() : f.CreateICmpULT(index, extent);
        if (vector && !ok->getType()->isVectorTy()) ok = f.CreateVectorSplat(vector->getElementCount(), ok);
        place.inside = place.inside ? f.CreateAnd(place.inside, ok) : ok;
        Value* term = as_wide(index);
        place.offset = place.offset ? f.CreateAdd(f.CreateMul(place.offset, as_wide(extent)), term) : term;
    }
    return place;
}

void emit_if(llvm::IRBuilder<>& builder, Value* condition, const std::function<void()>& body) {
    if (const auto* constant = llvm::dyn_cast<llvm::ConstantInt>(condition)) {
        if (constant->isOne()) body();
        return;
    }
    llvm::Function* function = builder.GetInsertBlock()->getParent();
    auto* inside = llvm::BasicBlock::Create(builder.getContext(), "wanted", function);
    auto* after = llvm::BasicBlock::Create(builder.getContext(), "done", function);
    builder.CreateCondBr(condition, inside, after);
    builder.SetInsertPoint(inside);
    body();
    builder.CreateBr(after);
    builder.SetInsertPoint(after);
}

}  // namespace flexc::codegen
