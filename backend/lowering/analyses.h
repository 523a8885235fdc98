// What the passes over a module ask for, registered by hand: LLVM's PassBuilder would link every pass there is.
#pragma once

#include <llvm/Analysis/LoopAnalysisManager.h>
#include <llvm/IR/PassManager.h>
#include <llvm/Target/TargetMachine.h>

namespace flexc::codegen {

struct Analyses {
    explicit Analyses(llvm::TargetMachine& machine);
    llvm::LoopAnalysisManager loops;
    llvm::FunctionAnalysisManager functions;
    llvm::ModuleAnalysisManager modules;
};

}  // namespace flexc::codegen
