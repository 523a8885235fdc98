// What the backward hooks of all targets share: where the adjoint of a read of a captured tensor goes.
#pragma once

#include <functional>

#include "backend/lowering/lowering.h"

namespace flexc::codegen {

/// An element of a gradient, which is dense, row-major in the parameter's shape. Vectors if an index is one.
struct GradientPlace {
    llvm::Value* offset = nullptr;  // i64, in elements
    llvm::Value* inside = nullptr;  // i1: every index is in range; elsewhere nothing is added
};

/// Of a read whose indices have values.
[[nodiscard]] GradientPlace gradient_place(Lowering& lowering, const Facts& facts, const ir::GradientRead& read);

/// Emits a branch around what `body` emits.
void emit_if(llvm::IRBuilder<>& builder, llvm::Value* condition, const std::function<void()>& body);

}  // namespace flexc::codegen
