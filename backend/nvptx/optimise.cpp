// The passes between the hooks' IR and code generation.
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

#include "backend/lowering/analyses.h"
#include "backend/nvptx/module.h"
#include "diag/check.h"

namespace flexc::nvptx {

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

std::string generate(Unit& unit) {
    llvm::SmallVector<char, 0> out;
    llvm::raw_svector_ostream stream(out);
    llvm::legacy::PassManager passes;
    const bool refused =
        unit.machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile, /*DisableVerify=*/true);
    FLEX_CHECK(!refused, "the target can emit this type of file");
    passes.run(*unit.module);
    return {out.begin(), out.end()};
}

}  // namespace flexc::nvptx
