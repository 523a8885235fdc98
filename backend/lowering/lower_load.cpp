// Reads of captured tensors.
//
// A tensor has any strides at launch, so an element's address is data + sum of index * stride, in 64 bits. A dimension that is not
// proven in range is compared; a scalar load that fails reads zeros of our own instead, a lane that fails is masked out.
//
// A vector load has three forms:
//   uniform index                         a scalar load (not here: the value does not vary)
//   one index k + c (or c - k) and,       one vector load (reversed for c - k)
//     at run time, stride 1, all lanes
//     active and in range
//   anything else                         a gather of the lanes that are active and in range
// The second form is a branch at run time, with the third as its other side. Elements below 32 bits are gathered one by one, since a
// hardware gather of words would read beyond the tensor.
#include "backend/lowering/lowering.h"

#include "diag/check.h"

#include <llvm/IR/Intrinsics.h>

namespace flexc::codegen {

using ir::ElemType;
using ir::NodeId;
using llvm::Value;

namespace {

unsigned bytes_of(ElemType elem) {
    switch (elem) {
        case ElemType::F32:
        case ElemType::I32: return 4;
        case ElemType::F16:
        case ElemType::BF16:
        case ElemType::I16: return 2;
        case ElemType::I8:
        case ElemType::U8:
        case ElemType::Bool: return 1;
    }
    return 0;
}

}  // namespace

llvm::Type* Lowering::raw_type(ElemType elem) {
    return builder_.getIntNTy(8 * bytes_of(elem));
}

llvm::Constant* Lowering::zero_bytes(unsigned address_space) {
    if (llvm::GlobalVariable* zero = module_->getNamedGlobal("flex_zero")) return zero;
    auto* zero = new llvm::GlobalVariable(*module_, builder_.getInt64Ty(), true, llvm::GlobalValue::InternalLinkage, builder_.getInt64(0),
                                          "flex_zero", nullptr, llvm::GlobalValue::NotThreadLocal, address_space);
    zero->setAlignment(llvm::Align(8));
    return zero;
}

bool Lowering::needs_guard(NodeId load, size_t dim) const {
    return !(facts_.proven[load.value] >> dim & 1);
}

const Arguments::Tensor& Lowering::tensor(uint32_t param) {
    Arguments::Tensor& fields = tensors_[param];
    if (!fields.data) fields = arguments_.tensor(entry_, inputs_.args, param, facts_.attention.params[param].dims.size());
    return fields;
}

Value* Lowering::emit_load(NodeId id) {
    if (graph_[id].op == ir::Op::RowLoad) return emit_row_load(id);
    return is_vector(id) ? emit_vector_load(id) : emit_scalar_load(id);
}

// An element of the row that a clause transforms: it lies in our own memory, and is 0 out of range.
Value* Lowering::emit_row_load(NodeId id) {
    FLEX_CHECK(inputs_.elements, "a row is read only where there is one");
    Value* index = values_[graph_.operand(id, 0).value];
    Value* count = extent(uint32_t(ir::ExtentVar::D));
    if (index->getType()->isVectorTy())
        return builder_.CreateCall(module_->getFunction("flex_row_lanes"), {inputs_.elements, count, index});
    Value* inside = builder_.CreateICmpULT(index, count);
    Value* place = builder_.CreateSExt(builder_.CreateSelect(inside, index, builder_.getInt32(0)), builder_.getInt64Ty());
    Value* element = builder_.CreateAlignedLoad(builder_.getFloatTy(), builder_.CreateGEP(builder_.getFloatTy(), inputs_.elements, place),
                                                llvm::Align(4));
    return builder_.CreateSelect(inside, element, llvm::ConstantFP::get(builder_.getFloatTy(), 0.0));
}

// What varies with the key is added last, so that the rest of the address is one value of the row.
Value* Lowering::emit_scalar_load(NodeId id) {
    const uint32_t param = graph_[id].payload;
    const ElemType elem = facts_.attention.params[param].elem;
    const Arguments::Tensor& t = tensor(param);
    Value* address = t.data;
    Value* inside = nullptr;
    for (const bool by_key : {false, true}) {
        Value* offset = nullptr;
        for (size_t i = 0; i < t.dim.size(); i++) {
            const NodeId operand = graph_.operand(id, i);
            if (varying(operand) != by_key) continue;
            Value* index = values_[operand.value];
            Value* distance = builder_.CreateMul(builder_.CreateSExt(index, builder_.getInt64Ty()), t.stride[i]);
            offset = offset ? builder_.CreateAdd(offset, distance) : distance;
            if (!needs_guard(id, i)) continue;
            Value* ok = builder_.CreateICmpULT(index, t.dim[i]);
            inside = inside ? builder_.CreateAnd(inside, ok) : ok;
        }
        if (offset) address = builder_.CreateGEP(raw_type(elem), address, offset);
    }
    if (inside) address = builder_.CreateSelect(inside, address, zero_bytes(address->getType()->getPointerAddressSpace()));
    return widen(elem, invariant_load(builder_, raw_type(elem), address, bytes_of(elem)));
}

Value* Lowering::emit_vector_load(NodeId id) {
    const uint32_t param = graph_[id].payload;
    const ElemType elem = facts_.attention.params[param].elem;
    const Arguments::Tensor& t = tensor(param);
    const unsigned lanes = unsigned(target_.lanes);
    llvm::Type* i64 = builder_.getInt64Ty();

    // What is the same for all lanes: part of the address, and whether it is in range.
    Value* base_offset = builder_.getInt64(0);
    Value* base_inside = nullptr;
    size_t varying_dims = 0, varying_dim = 0;
    for (size_t i = 0; i < t.dim.size(); i++) {
        const NodeId index = graph_.operand(id, i);
        if (varying(index)) {
            varying_dims++;
            varying_dim = i;
            continue;
        }
        Value* v = values_[index.value];
        base_offset = builder_.CreateAdd(base_offset, builder_.CreateMul(builder_.CreateSExt(v, i64), t.stride[i]));
        if (!needs_guard(id, i)) continue;
        Value* ok = builder_.CreateICmpULT(v, t.dim[i]);
        base_inside = base_inside ? builder_.CreateAnd(base_inside, ok) : ok;
    }
    llvm::Type* raw_vector = llvm::FixedVectorType::get(raw_type(elem), lanes);

    const NodeId stepping = graph_.operand(id, varying_dim);
    const int step = varying_dims == 1 ? facts_.step[stepping.value] : 0;
    llvm::BasicBlock* joined = nullptr;
    llvm::BasicBlock* contiguous = nullptr;
    Value* contiguous_value = nullptr;
    if (step != 0 && all_active_ != builder_.getFalse()) {
        Value* start = builder_.CreateSExt(first_lane(stepping), i64);
        Value* lowest = step > 0 ? start : builder_.CreateSub(start, builder_.getInt64(lanes - 1));
        Value* can = builder_.CreateAnd(all_active_, builder_.CreateICmpEQ(t.stride[varying_dim], builder_.getInt64(1)));
        if (base_inside) can = builder_.CreateAnd(can, base_inside);
        if (needs_guard(id, varying_dim)) {
            Value* end = builder_.CreateSub(builder_.CreateSExt(t.dim[varying_dim], i64), builder_.getInt64(lanes));
            can = builder_.CreateAnd(
                can, builder_.CreateAnd(builder_.CreateICmpSGE(lowest, builder_.getInt64(0)), builder_.CreateICmpSLE(lowest, end)));
        }
        contiguous = llvm::BasicBlock::Create(builder_.getContext(), "contiguous", function_);
        llvm::BasicBlock* scattered = llvm::BasicBlock::Create(builder_.getContext(), "scattered", function_);
        joined = llvm::BasicBlock::Create(builder_.getContext(), "loaded", function_);
        builder_.CreateCondBr(can, contiguous, scattered);
        builder_.SetInsertPoint(contiguous);
        Value* address = builder_.CreateGEP(raw_type(elem), t.data, builder_.CreateAdd(base_offset, lowest));
        contiguous_value = invariant_load(builder_, raw_vector, address, bytes_of(elem));
        if (step < 0) contiguous_value = builder_.CreateVectorReverse(contiguous_value);
        builder_.CreateBr(joined);
        builder_.SetInsertPoint(scattered);
    }

    Value* mask = base_inside ? builder_.CreateAnd(active_, splat(base_inside)) : active_;
    Value* offsets = splat(base_offset);
    for (size_t i = 0; i < t.dim.size(); i++) {
        const NodeId index = graph_.operand(id, i);
        if (!varying(index)) continue;
        Value* v = values_[index.value];
        Value* wide = builder_.CreateSExt(v, llvm::FixedVectorType::get(i64, lanes));
        offsets = builder_.CreateAdd(offsets, builder_.CreateMul(wide, splat(t.stride[i])));
        if (needs_guard(id, i)) mask = builder_.CreateAnd(mask, builder_.CreateICmpULT(v, splat(t.dim[i])));
    }
    Value* raw = gather(elem, t.data, offsets, mask);
    if (joined) {
        llvm::BasicBlock* scattered_end = builder_.GetInsertBlock();
        builder_.CreateBr(joined);
        builder_.SetInsertPoint(joined);
        llvm::PHINode* phi = builder_.CreatePHI(raw_vector, 2);
        phi->addIncoming(contiguous_value, contiguous);
        phi->addIncoming(raw, scattered_end);
        raw = phi;
    }
    return widen(elem, raw);
}

Value* Lowering::gather(ElemType elem, Value* base, Value* offsets, Value* mask) {
    const unsigned lanes = unsigned(target_.lanes);
    llvm::Type* element = raw_type(elem);
    llvm::Type* vector = llvm::FixedVectorType::get(element, lanes);
    Value* addresses = builder_.CreateGEP(element, base, offsets);
    const unsigned bytes = bytes_of(elem);
    if (target_.gather && bytes == 4)
        return builder_.CreateMaskedGather(vector, addresses, llvm::Align(4), mask, llvm::Constant::getNullValue(vector));
    addresses = builder_.CreateSelect(mask, addresses, splat(zero_bytes(0)));
    Value* result = llvm::PoisonValue::get(vector);
    for (unsigned i = 0; i < lanes; i++) {
        Value* one = invariant_load(builder_, element, builder_.CreateExtractElement(addresses, uint64_t(i)), bytes);
        result = builder_.CreateInsertElement(result, one, uint64_t(i));
    }
    return result;
}

Value* Lowering::widen(ElemType elem, Value* raw) {
    llvm::IRBuilder<>& f = builder_;
    const bool vector = raw->getType()->isVectorTy();
    llvm::Type* f32 = type_of(ir::Type::F32, vector);
    llvm::Type* i32 = type_of(ir::Type::I32, vector);
    switch (elem) {
        case ElemType::F32: return f.CreateBitCast(raw, f32);
        case ElemType::I32: return raw;
        case ElemType::BF16: {
            Value* bits = f.CreateZExt(raw, i32);
            return f.CreateBitCast(f.CreateShl(bits, integer_like(bits, 16)), f32);
        }
        case ElemType::F16: {
            if (target_.half) {
                llvm::Type* half = f.getHalfTy();
                if (vector) half = llvm::FixedVectorType::get(half, unsigned(target_.lanes));
                return f.CreateFPExt(f.CreateBitCast(raw, half), f32);
            }
            // Exponent and mantissa moved into place are 2^112 too small, subnormals included; the largest exponent is inf or NaN.
            Value* bits = f.CreateZExt(raw, i32);
            Value* magnitude = f.CreateShl(f.CreateAnd(bits, integer_like(bits, 0x7fff)), integer_like(bits, 13));
            Value* sign = f.CreateShl(f.CreateAnd(bits, integer_like(bits, 0x8000)), integer_like(bits, 16));
            Value* finite = f.CreateFMul(f.CreateBitCast(magnitude, f32), llvm::ConstantFP::get(f32, 0x1p112));
            Value* special = f.CreateOr(magnitude, integer_like(bits, 0x7f800000));
            Value* is_special = f.CreateICmpUGE(magnitude, integer_like(bits, 0x7c00 << 13));
            Value* chosen = f.CreateSelect(is_special, special, f.CreateBitCast(finite, i32));
            return f.CreateBitCast(f.CreateOr(chosen, sign), f32);
        }
        case ElemType::I16:
        case ElemType::I8: return f.CreateSExt(raw, i32);
        case ElemType::U8: return f.CreateZExt(raw, i32);
        case ElemType::Bool: return f.CreateICmpNE(raw, integer_like(raw, 0));
    }
    return nullptr;
}

// The value at the first key, as a scalar, of one that steps by 1 or -1. Its operands that vary step too, down to k itself.
Value* Lowering::first_lane(NodeId id) {
    std::vector<NodeId> chain{id};
    while (!lane0_[chain.back().value] && graph_[chain.back()].op != ir::Op::Index) {
        const NodeId top = chain.back();
        for (const NodeId operand : graph_.operands(top))
            if (varying(operand)) {
                chain.push_back(operand);
                break;
            }
    }
    for (; !chain.empty(); chain.pop_back()) {
        const NodeId at = chain.back();
        if (lane0_[at.value]) continue;
        const ir::Node& node = graph_[at];
        Value* v = first();
        if (node.op != ir::Op::Index) {
            const auto scalar = [&](size_t i) {
                const NodeId operand = graph_.operand(at, i);
                return varying(operand) ? lane0_[operand.value] : values_[operand.value];
            };
            v = emit_arithmetic(at, scalar(0), node.operand_count > 1 ? scalar(1) : nullptr);
        }
        lane0_[at.value] = v;
        trail_.push_back(&lane0_[at.value]);
    }
    return lane0_[id.value];
}

}  // namespace flexc::codegen
