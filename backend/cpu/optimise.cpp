// The passes between the hooks' IR and code generation. The skeleton's bitcode is optimised already and the hooks contain no
// redundancy worth a search, so what is left is to put them together: inline, dissolve the row's slots, fold what became
// constant, and move out of the loops what does not change in them. A default -O3 takes several times as long for the same loops.
#include <llvm/ADT/SmallVector.h>
#include <llvm/Analysis/AliasAnalysis.h>
#include <llvm/Analysis/AssumptionCache.h>
#include <llvm/Analysis/BasicAliasAnalysis.h>
#include <llvm/Analysis/BlockFrequencyInfo.h>
#include <llvm/Analysis/BranchProbabilityInfo.h>
#include <llvm/Analysis/LoopAnalysisManager.h>
#include <llvm/Analysis/LoopInfo.h>
#include <llvm/Analysis/MemorySSA.h>
#include <llvm/Analysis/OptimizationRemarkEmitter.h>
#include <llvm/Analysis/PostDominators.h>
#include <llvm/Analysis/ProfileSummaryInfo.h>
#include <llvm/Analysis/ScalarEvolution.h>
#include <llvm/Analysis/ScopedNoAliasAA.h>
#include <llvm/Analysis/TargetLibraryInfo.h>
#include <llvm/Analysis/TargetTransformInfo.h>
#include <llvm/Analysis/TypeBasedAliasAnalysis.h>
#include <llvm/IR/Dominators.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/PassInstrumentation.h>
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
#include "diag/check.h"

namespace flexc::cpu {

namespace {

/// What the passes below ask for, registered by hand: LLVM's PassBuilder would link every pass there is.
struct Analyses {
    explicit Analyses(llvm::TargetMachine& machine) {
        functions.registerPass([&] {
            llvm::AAManager aa;
            aa.registerFunctionAnalysis<llvm::BasicAA>();
            aa.registerFunctionAnalysis<llvm::ScopedNoAliasAA>();
            aa.registerFunctionAnalysis<llvm::TypeBasedAA>();
            return aa;
        });
        functions.registerPass([] { return llvm::BasicAA(); });
        functions.registerPass([] { return llvm::ScopedNoAliasAA(); });
        functions.registerPass([] { return llvm::TypeBasedAA(); });
        functions.registerPass([] { return llvm::AssumptionAnalysis(); });
        functions.registerPass([] { return llvm::BlockFrequencyAnalysis(); });
        functions.registerPass([] { return llvm::BranchProbabilityAnalysis(); });
        functions.registerPass([] { return llvm::DominatorTreeAnalysis(); });
        functions.registerPass([] { return llvm::PostDominatorTreeAnalysis(); });
        functions.registerPass([] { return llvm::LoopAnalysis(); });
        functions.registerPass([] { return llvm::MemorySSAAnalysis(); });
        functions.registerPass([] { return llvm::OptimizationRemarkEmitterAnalysis(); });
        functions.registerPass([] { return llvm::ScalarEvolutionAnalysis(); });
        functions.registerPass([] {
            llvm::TargetLibraryInfoImpl none;
            none.disableAllFunctions();  // no pass may make a call of a library function
            return llvm::TargetLibraryAnalysis(none);
        });
        functions.registerPass([&] { return machine.getTargetIRAnalysis(); });
        functions.registerPass([] { return llvm::PassInstrumentationAnalysis(); });
        functions.registerPass([&] { return llvm::LoopAnalysisManagerFunctionProxy(loops); });
        functions.registerPass([&] { return llvm::ModuleAnalysisManagerFunctionProxy(modules); });
        loops.registerPass([] { return llvm::PassInstrumentationAnalysis(); });
        loops.registerPass([&] { return llvm::FunctionAnalysisManagerLoopProxy(functions); });
        modules.registerPass([] { return llvm::PassInstrumentationAnalysis(); });
        modules.registerPass([] { return llvm::ProfileSummaryAnalysis(); });
        modules.registerPass([&] { return llvm::FunctionAnalysisManagerModuleProxy(functions); });
    }
    llvm::LoopAnalysisManager loops;
    llvm::FunctionAnalysisManager functions;
    llvm::ModuleAnalysisManager modules;
};

}  // namespace

void optimise(Unit& unit) {
    Analyses analyses(*unit.machine);
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
