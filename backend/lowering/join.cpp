#include "backend/lowering/join.h"

#include <llvm/IR/PassManager.h>
#include <llvm/Transforms/IPO/AlwaysInliner.h>
#include <llvm/Transforms/IPO/GlobalDCE.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/ADCE.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include "backend/lowering/analyses.h"

namespace flexc::codegen {

void join_and_simplify(llvm::Module& module, llvm::TargetMachine& machine) {
    Analyses analyses(machine);
    llvm::FunctionPassManager function;
    function.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
    function.addPass(llvm::EarlyCSEPass(true));
    function.addPass(llvm::SimplifyCFGPass());
    function.addPass(llvm::InstCombinePass());
    function.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
    function.addPass(llvm::SimplifyCFGPass());
    function.addPass(llvm::ADCEPass());

    llvm::ModulePassManager all;
    all.addPass(llvm::AlwaysInlinerPass(/*InsertLifetime=*/false));
    all.addPass(llvm::GlobalDCEPass());
    all.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(function)));
    all.run(module, analyses.modules);
}

}  // namespace flexc::codegen
