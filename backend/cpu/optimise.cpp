// The passes between the hooks' IR and code generation. The skeleton's bitcode is optimised already and the hooks contain no
// redundancy worth a search, so what is left is to put them together: inline, dissolve the row's slots, fold what became
// constant, and move out of the loops what does not change in them. A default -O3 takes several times as long for the same loops.
#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/PassManager.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Transforms/IPO/AlwaysInliner.h>
#include <llvm/Transforms/IPO/GlobalDCE.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/ADCE.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/LoopPassManager.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include "backend/cpu/module.h"
#include "backend/lowering/analyses.h"
#include "diag/check.h"

namespace flexc::cpu {

void optimise(Unit& unit) {
    codegen::Analyses analyses(*unit.machine);
    llvm::FunctionPassManager function;
    function.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
    function.addPass(llvm::EarlyCSEPass(true));
    function.addPass(llvm::SimplifyCFGPass());
    function.addPass(llvm::InstCombinePass());
    function.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
    function.addPass(llvm::SimplifyCFGPass());
    function.addPass(llvm::ADCEPass());

    llvm::ModulePassManager module;
    module.addPass(llvm::AlwaysInlinerPass(/*InsertLifetime=*/false));
    module.addPass(llvm::GlobalDCEPass());
    module.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(function)));
    module.run(*unit.module, analyses.modules);
}

// Register allocation and scheduling take quadratic time in the length of a block. Beyond what anybody writes by hand (the usual module
// has 1500 instructions), code is generated in linear time instead.
constexpr unsigned kMostForOptimisedCode = 8000;

llvm::SmallVector<char, 0> generate(Unit& unit, llvm::CodeGenFileType type) {
    llvm::SmallVector<char, 0> out;
    llvm::raw_svector_ostream stream(out);
    const bool huge = unit.module->getInstructionCount() > kMostForOptimisedCode;
    unit.machine->setOptLevel(huge ? llvm::CodeGenOptLevel::None : llvm::CodeGenOptLevel::Default);
    llvm::legacy::PassManager passes;
    const bool refused = unit.machine->addPassesToEmitFile(passes, stream, nullptr, type, /*DisableVerify=*/true);
    FLEX_CHECK(!refused, "the target can emit this type of file");
    passes.run(*unit.module);
    return out;
}

}  // namespace flexc::cpu
