// One LLVM module for one attention and instance: the skeleton with its hooks filled in, then optimised, then PTX.
#pragma once

#include <memory>
#include <string>

#include "backend/nvptx/compile.h"

#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Module.h>
#include <llvm/Target/TargetMachine.h>

namespace flexc::nvptx {

struct Unit {
    std::unique_ptr<llvm::LLVMContext> context;
    std::unique_ptr<llvm::Module> module;
    std::unique_ptr<llvm::TargetMachine> machine;
};

/// Fill in what the image has besides PTX.
[[nodiscard]] Unit build_unit(const ir::Attention& attention, const Instance& instance, Image* image);
[[nodiscard]] Unit build_unit(const ir::Attention& attention, const BackwardInstance& instance, bool atomic, BackwardImage* image);
void optimise(Unit& unit);
[[nodiscard]] std::string generate(Unit& unit);

}  // namespace flexc::nvptx
