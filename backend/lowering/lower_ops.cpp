// One operation of the IR at a time, on scalars or on vectors (ir/ops.def has the semantics).
#include "backend/lowering/lowering.h"

#include <bit>
#include <string>

#include "diag/check.h"

#include <llvm/IR/Intrinsics.h>

namespace flexc::codegen {

using ir::IndexVar;
using ir::NodeId;
using ir::Op;
using llvm::Value;
namespace Intrinsic = llvm::Intrinsic;

namespace {

bool is_float(Value* v) {
    return v->getType()->isFPOrFPVectorTy();
}

const char* math_name(Op op) {
    switch (op) {
        case Op::Exp: return "exp";
        case Op::Exp2: return "exp2";
        case Op::Log: return "log";
        case Op::Log2: return "log2";
        case Op::Tanh: return "tanh";
        case Op::Sigmoid: return "sigmoid";
        case Op::Sin: return "sin";
        case Op::Cos: return "cos";
        case Op::Tan: return "tan";
        case Op::Erf: return "erf";
        case Op::Floor: return "floor";
        case Op::Ceil: return "ceil";
        case Op::Round: return "round";
        case Op::Pow: return "pow";
        default: return nullptr;
    }
}

}  // namespace

Value* Lowering::emit_node(NodeId id) {
    const ir::Node& node = graph_[id];
    switch (ir::info(node.op).kind) {
        case ir::OpKind::Leaf: return emit_leaf(id);
        case ir::OpKind::Load: return emit_load(id);
        default: break;
    }
    Value* operand[3] = {};
    FLEX_CHECK(node.operand_count >= 1 && node.operand_count <= 3, "an operation has one to three operands");
    for (size_t i = 0; i < node.operand_count; i++) operand[i] = values_[graph_.operand(id, i).value];
    if (is_vector(id))
        for (size_t i = 0; i < node.operand_count; i++) operand[i] = as_vector(operand[i]);

    switch (node.op) {
        case Op::Select: return builder_.CreateSelect(operand[0], operand[1], operand[2]);
        case Op::Clamp: return emit_min(emit_max(operand[0], operand[1]), operand[2]);
        case Op::FloorDiv:
        case Op::Mod:
            if (const auto divisor = graph_.as_i32(graph_.operand(id, 1)))
                return emit_divide_constant(node.op == Op::Mod, operand[0], *divisor);
            return emit_divide(node.op == Op::Mod, operand[0], operand[1]);
        case Op::Div:
            if (target_.lanes == 1 && varying(graph_.operand(id, 0)) && !varying(graph_.operand(id, 1)))
                return emit_divide_by_uniform(operand[0], operand[1]);
            break;
        case Op::Pow: return call_math(math("pow"), {operand[0], operand[1]});
        // These two the skeleton may have as functions of their own.
        case Op::TanhApprox: return call_math(math("tanh_approx") ? math("tanh_approx") : math("tanh"), {operand[0]});
        case Op::Rsqrt:
            if (math("rsqrt")) return call_math(math("rsqrt"), {operand[0]});
            break;
        default: break;
    }
    if (const char* name = math_name(node.op)) return call_math(math(name), {operand[0]});
    return emit_arithmetic(id, operand[0], operand[1]);
}

Value* Lowering::emit_leaf(NodeId id) {
    const ir::Node& node = graph_[id];
    switch (node.op) {
        case Op::ConstF32: return llvm::ConstantFP::get(builder_.getContext(), llvm::APFloat(std::bit_cast<float>(node.payload)));
        case Op::ConstI32: return builder_.getInt32(node.payload);
        case Op::ConstBool: return builder_.getInt1(node.payload != 0);
        case Op::Extent: return extent(node.payload);
        case Op::TileBound:
            FLEX_CHECK(node.payload < inputs_.bounds.size(), "tile bounds are read by the tile state only");
            return inputs_.bounds[node.payload];
        case Op::ClauseVar:
            if (ir::ClauseVar(node.payload) == ir::ClauseVar::Score && inputs_.score) return inputs_.score;
            FLEX_CHECK(ir::ClauseVar(node.payload) == ir::ClauseVar::Out && inputs_.out, "what a clause reads is given to its hook");
            return inputs_.out;
        case Op::Scalar: {
            if (node.type == ir::Type::F32) return arguments_.scalar(entry_, inputs_.args, node.payload, entry_.getFloatTy());
            Value* bits = arguments_.scalar(entry_, inputs_.args, node.payload, entry_.getInt32Ty());
            return node.type == ir::Type::I32 ? bits : entry_.CreateICmpNE(bits, entry_.getInt32(0));
        }
        case Op::Index:
            switch (IndexVar(node.payload)) {
                case IndexVar::B: return inputs_.b;
                case IndexVar::H: return inputs_.h;
                case IndexVar::Q: return inputs_.q;
                case IndexVar::Hkv: return hkv();
                case IndexVar::K:
                    FLEX_CHECK(inputs_.k, "k has a value only in a hook about keys");
                    return is_vector(id) ? along(inputs_.k) : inputs_.k;
                case IndexVar::D:
                    FLEX_CHECK(inputs_.d, "d has a value only in a hook about rows");
                    return is_vector(id) ? along(inputs_.d) : inputs_.d;
            }
            break;
        default: break;
    }
    FLEX_CHECK(false, "a leaf that can be lowered");
    return nullptr;
}

Value* Lowering::hkv() {
    if (hkv_) return hkv_;
    // At the start of the body, where it holds for the whole hook.
    llvm::IRBuilder<>::InsertPointGuard guard(builder_);
    builder_.SetInsertPoint(body_, body_->begin());
    Value* group = emit_divide(false, extent(uint32_t(ir::ExtentVar::H)), extent(uint32_t(ir::ExtentVar::HKV)));
    hkv_ = emit_divide(false, inputs_.h, group);
    return hkv_;
}

Value* Lowering::emit_arithmetic(NodeId id, Value* a, Value* b) {
    llvm::IRBuilder<>& f = builder_;
    switch (graph_[id].op) {
        case Op::Neg: return is_float(a) ? f.CreateFNeg(a) : f.CreateNeg(a);
        case Op::Abs: return is_float(a) ? unary(Intrinsic::fabs, a) : f.CreateBinaryIntrinsic(Intrinsic::abs, a, f.getFalse());
        case Op::Sign: {
            if (!is_float(a)) {
                Value* low = f.CreateBinaryIntrinsic(Intrinsic::smax, a, integer_like(a, -1));
                return f.CreateBinaryIntrinsic(Intrinsic::smin, low, integer_like(a, 1));
            }
            Value* zero = constant_like(a, 0.0);
            Value* other = f.CreateSelect(f.CreateFCmpUNO(a, a), a, zero);
            Value* negative = f.CreateSelect(f.CreateFCmpOLT(a, zero), constant_like(a, -1.0), other);
            return f.CreateSelect(f.CreateFCmpOGT(a, zero), constant_like(a, 1.0), negative);
        }
        case Op::BitNot:
        case Op::Not: return f.CreateNot(a);
        case Op::Add: return is_float(a) ? f.CreateFAdd(a, b) : f.CreateAdd(a, b);
        case Op::Sub: return is_float(a) ? f.CreateFSub(a, b) : f.CreateSub(a, b);
        case Op::Mul: return is_float(a) ? f.CreateFMul(a, b) : f.CreateMul(a, b);
        case Op::Div: return f.CreateFDiv(a, b);
        case Op::Min: return emit_min(a, b);
        case Op::Max: return emit_max(a, b);
        case Op::BitAnd:
        case Op::And: return f.CreateAnd(a, b);
        case Op::BitOr:
        case Op::Or: return f.CreateOr(a, b);
        case Op::BitXor: return f.CreateXor(a, b);
        case Op::Shl: {
            Value* shifted = f.CreateShl(a, f.CreateAnd(b, integer_like(b, 31)));
            return f.CreateSelect(f.CreateICmpULT(b, integer_like(b, 32)), shifted, integer_like(a, 0));
        }
        case Op::Shr: return f.CreateAShr(a, f.CreateBinaryIntrinsic(Intrinsic::umin, b, integer_like(b, 31)));
        case Op::Eq: return is_float(a) ? f.CreateFCmpOEQ(a, b) : f.CreateICmpEQ(a, b);
        case Op::Ne: return is_float(a) ? f.CreateFCmpUNE(a, b) : f.CreateICmpNE(a, b);
        case Op::Lt: return is_float(a) ? f.CreateFCmpOLT(a, b) : f.CreateICmpSLT(a, b);
        case Op::Le: return is_float(a) ? f.CreateFCmpOLE(a, b) : f.CreateICmpSLE(a, b);
        case Op::Sqrt: return unary(Intrinsic::sqrt, a);
        case Op::Rsqrt: return f.CreateFDiv(constant_like(a, 1.0), unary(Intrinsic::sqrt, a));
        case Op::ToF32: {
            llvm::Type* type = type_of(ir::Type::F32, a->getType()->isVectorTy());
            if (is_float(a)) return a;
            return a->getType()->isIntOrIntVectorTy(1) ? f.CreateUIToFP(a, type) : f.CreateSIToFP(a, type);
        }
        case Op::ToI32:
            if (is_float(a)) return emit_to_i32(a);
            return f.CreateZExt(a, type_of(ir::Type::I32, a->getType()->isVectorTy()));
        default: break;
    }
    FLEX_CHECK(false, "an operation that can be lowered");
    return nullptr;
}

// IEEE 754-2019 minimum and maximum: NaN if either is, -0 below +0.
Value* Lowering::emit_min(Value* a, Value* b) {
    return builder_.CreateBinaryIntrinsic(is_float(a) ? Intrinsic::minimum : Intrinsic::smin, a, b);
}
Value* Lowering::emit_max(Value* a, Value* b) {
    return builder_.CreateBinaryIntrinsic(is_float(a) ? Intrinsic::maximum : Intrinsic::smax, a, b);
}

Value* Lowering::emit_to_i32(Value* x) {
    llvm::Type* type = type_of(ir::Type::I32, x->getType()->isVectorTy());
    Value* zero = constant_like(x, 0.0);
    Value* in_range = builder_.CreateFCmpOLT(unary(Intrinsic::fabs, x), constant_like(x, 0x1p31));
    Value* truncated = builder_.CreateFPToSI(builder_.CreateSelect(in_range, x, zero), type);
    Value* high = builder_.CreateSelect(builder_.CreateFCmpOGT(x, zero), llvm::ConstantInt::get(type, uint64_t(INT32_MAX)),
                                        llvm::ConstantInt::get(type, 0));
    Value* saturated =
        builder_.CreateSelect(builder_.CreateFCmpOLT(x, zero), llvm::ConstantInt::get(type, uint64_t(INT32_MIN), true), high);
    return builder_.CreateSelect(in_range, truncated, saturated);
}

// Division of many values by the same one, where an instruction for a quotient does not exist (an f32 division of a GPU is twenty instructions and a branch): its
// reciprocal, once, and for each value a product and one step of correction. Off by at most one in the last place (Markstein, "IA-64 and Elementary
// Functions", chapter 8: mostly correctly rounded); a quotient of subnormal numbers may lose its last bits.
Value* Lowering::emit_divide_by_uniform(Value* a, Value* b) {
    llvm::IRBuilder<>& f = builder_;
    const auto fma = [&](Value* x, Value* y, Value* z) { return f.CreateIntrinsic(x->getType(), llvm::Intrinsic::fma, {x, y, z}); };
    // Of a subnormal divisor the reciprocal would overflow.
    Value* is_small = f.CreateFCmpOLT(unary(llvm::Intrinsic::fabs, b), constant_like(b, 0x1p-126));
    Value* unit = f.CreateSelect(is_small, constant_like(b, 0x1p64), constant_like(b, 1.0));
    Value* divisor = f.CreateFMul(b, unit);
    Value* dividend = f.CreateFMul(a, unit);
    Value* reciprocal = f.CreateFDiv(constant_like(b, 1.0), divisor);
    Value* quotient = f.CreateFMul(dividend, reciprocal);
    Value* rest = fma(f.CreateFNeg(quotient), divisor, dividend);
    Value* corrected = fma(rest, reciprocal, quotient);
    // There is no rest where the quotient is not finite, or the divisor.
    return f.CreateSelect(f.CreateFCmpUNO(corrected, corrected), quotient, corrected);
}

// Floor division or modulo by what is known only at run time. The quotient of vectors is taken in f64: for 32-bit integers the
// rounded quotient truncates to the exact one, and no x86 has an integer division of vectors.
Value* Lowering::emit_divide(bool modulo, Value* a, Value* b) {
    llvm::IRBuilder<>& f = builder_;
    Value* zero = integer_like(a, 0);
    Value* by_zero = f.CreateICmpEQ(b, zero);
    Value* overflow = f.CreateAnd(f.CreateICmpEQ(a, integer_like(a, INT32_MIN)), f.CreateICmpEQ(b, integer_like(b, -1)));
    Value* divisor = f.CreateSelect(f.CreateOr(by_zero, overflow), integer_like(b, 1), b);  // INT_MIN / 1 is the wrapped quotient
    Value* quotient;
    if (a->getType()->isVectorTy()) {
        llvm::Type* wide = llvm::FixedVectorType::get(f.getDoubleTy(), unsigned(target_.lanes));
        quotient = f.CreateFPToSI(f.CreateFDiv(f.CreateSIToFP(a, wide), f.CreateSIToFP(divisor, wide)), a->getType());
    } else {
        quotient = f.CreateSDiv(a, divisor);
    }
    Value* rest = f.CreateSub(a, f.CreateMul(quotient, divisor));
    Value* adjust = f.CreateAnd(f.CreateICmpNE(rest, zero), f.CreateICmpSLT(f.CreateXor(rest, divisor), zero));
    Value* result = modulo ? f.CreateSelect(adjust, f.CreateAdd(rest, divisor), rest)
                           : f.CreateSelect(adjust, f.CreateSub(quotient, integer_like(a, 1)), quotient);
    return f.CreateSelect(by_zero, zero, result);
}

Value* Lowering::emit_divide_constant(bool modulo, Value* a, int32_t divisor) {
    llvm::IRBuilder<>& f = builder_;
    Value* zero = integer_like(a, 0);
    if (divisor == 0) return zero;
    if (divisor == -1) return modulo ? zero : f.CreateNeg(a);
    if (divisor > 0 && std::has_single_bit(uint32_t(divisor))) {
        if (modulo) return f.CreateAnd(a, integer_like(a, divisor - 1));
        return f.CreateAShr(a, integer_like(a, std::countr_zero(uint32_t(divisor))));
    }
    Value* b = integer_like(a, divisor);
    Value* quotient = f.CreateSDiv(a, b);  // a multiplication in the end
    Value* rest = f.CreateSub(a, f.CreateMul(quotient, b));
    Value* adjust = divisor > 0 ? f.CreateICmpSLT(rest, zero) : f.CreateICmpSGT(rest, zero);
    if (modulo) return f.CreateSelect(adjust, f.CreateAdd(rest, b), rest);
    return f.CreateSelect(adjust, f.CreateSub(quotient, integer_like(a, 1)), quotient);
}

llvm::Function* Lowering::math(const char* name) {
    return module_->getFunction(std::string("flex_math_") + name);
}

// Mathematics is code of the skeleton: of vectors where the target has lanes. There a scalar is computed in all lanes, so that it has
// the same bits as in a vector.
Value* Lowering::call_math(llvm::Function* function, std::initializer_list<Value*> operands) {
    FLEX_CHECK(function, "the skeleton has the function");
    const bool extract = target_.lanes > 1 && !(*operands.begin())->getType()->isVectorTy();
    llvm::SmallVector<Value*, 2> arguments;
    for (Value* operand : operands) arguments.push_back(as_vector(operand));
    Value* result = builder_.CreateCall(function, arguments);
    return extract ? builder_.CreateExtractElement(result, uint64_t(0)) : result;
}

}  // namespace flexc::codegen
