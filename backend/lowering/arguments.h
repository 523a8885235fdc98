// Where the captured arguments of a launch lie: behind pointers in memory on the CPU (runtime/abi.h), in the parameter of a kernel on a
// GPU (runtime/gpu_layout.h). Lowering asks for them once a hook; what it gets are loads that never change in a launch.
#pragma once

#include <vector>

#include <llvm/IR/IRBuilder.h>

namespace flexc::codegen {

class Arguments {
public:
    struct Tensor {
        llvm::Value* data = nullptr;            // of the address space in which captured tensors live
        std::vector<llvm::Value*> stride, dim;  // i64 in elements, i32
    };

    virtual ~Arguments() = default;
    // `args` is the first argument of every hook; code is emitted at `at`.
    virtual llvm::Value* extent(llvm::IRBuilder<>& at, llvm::Value* args, uint32_t id) const = 0;
    /// The slot of a scalar parameter, read as a `type` of 32 bits.
    virtual llvm::Value* scalar(llvm::IRBuilder<>& at, llvm::Value* args, uint32_t param, llvm::Type* type) const = 0;
    virtual Tensor tensor(llvm::IRBuilder<>& at, llvm::Value* args, uint32_t param, size_t rank) const = 0;
};

/// A load of memory that nothing writes while the kernel runs.
llvm::Value* invariant_load(llvm::IRBuilder<>& at, llvm::Type* type, llvm::Value* pointer, unsigned align);

}  // namespace flexc::codegen
