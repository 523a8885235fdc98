// The passes between the hooks' IR and code generation.
#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/PassManager.h>
#include <llvm/PassRegistry.h>
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

namespace {

// Passes of LLVM's code generator for NVPTX that make nothing better: ptxas, which turns PTX into instructions, does it all again and knows the
// registers. Moving values out of loops and to earlier blocks only lengthens lives there. By the names of llc's options.
constexpr llvm::StringLiteral kLeftOut[] = {"codegenprepare",
                                            "consthoist",
                                            "early-cse",
                                            "early-machinelicm",
                                            "early-tailduplication",
                                            "expand-memcmp",
                                            "loop-reduce",
                                            "machine-cse",
                                            "machine-sink",
                                            "mergeicmps",
                                            "nary-reassociate",
                                            "partially-inline-libcalls",
                                            "canon-freeze",
                                            "separate-const-offset-from-gep",
                                            "slsr",
                                            "speculative-execution",
                                            "load-store-vectorizer"};

/// Passes on to another pass manager what is not left out.
class Sieve : public llvm::legacy::PassManagerBase {
public:
    explicit Sieve(llvm::legacy::PassManager& to) : to_(to) {}
    void add(llvm::Pass* pass) override {
        const llvm::PassInfo* info = llvm::PassRegistry::getPassRegistry()->getPassInfo(pass->getPassID());
        if (info && llvm::is_contained(kLeftOut, info->getPassArgument()))
            delete pass;
        else
            to_.add(pass);
    }

private:
    llvm::legacy::PassManager& to_;
};

}  // namespace

std::string generate(Unit& unit) {
    llvm::SmallVector<char, 0> out;
    llvm::raw_svector_ostream stream(out);
    llvm::legacy::PassManager passes;
    Sieve sieve(passes);
    const bool refused =
        unit.machine->addPassesToEmitFile(sieve, stream, nullptr, llvm::CodeGenFileType::AssemblyFile, /*DisableVerify=*/true);
    FLEX_CHECK(!refused, "the target can emit this type of file");
    passes.run(*unit.module);
    return {out.begin(), out.end()};
}

}  // namespace flexc::nvptx
