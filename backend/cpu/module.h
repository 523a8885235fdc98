// One LLVM module for one attention and level: the skeleton with its hooks filled in, then optimised, then machine code.
#pragma once

#include <memory>
#include <string>

#include "backend/cpu/compile.h"

#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/Support/CodeGen.h>
#include <llvm/Target/TargetMachine.h>

namespace flexc::cpu {

struct Unit {
    std::unique_ptr<llvm::LLVMContext> context;
    std::unique_ptr<llvm::Module> module;
    std::unique_ptr<llvm::TargetMachine> machine;
};

[[nodiscard]] Unit build_unit(const ir::Attention& attention, flex::CpuLevel level);
void optimise(Unit& unit);
[[nodiscard]] llvm::SmallVector<char, 0> generate(Unit& unit, llvm::CodeGenFileType type);

}  // namespace flexc::cpu
