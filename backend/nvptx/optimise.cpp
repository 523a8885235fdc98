// The passes between the hooks' IR and code generation.
#include <map>

#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/IRBuilder.h>
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
#include "backend/lowering/arguments.h"
#include "backend/nvptx/module.h"
#include "diag/check.h"

namespace flexc::nvptx {

namespace {

/// The parameter of a kernel never changes, so all that is read of it at fixed places is read once, at the entry. ptxas takes such values from the
/// constant bank where they are used; in the middle of the code it finds an address in a register instead.
void hoist_parameter_loads(llvm::Function& kernel) {
    const llvm::DataLayout& layout = kernel.getParent()->getDataLayout();
    llvm::Argument* const parameter = kernel.getArg(0);
    std::map<std::pair<int64_t, llvm::Type*>, llvm::Value*> loaded;
    llvm::IRBuilder<> entry(&kernel.getEntryBlock(), kernel.getEntryBlock().getFirstInsertionPt());
    llvm::SmallVector<std::pair<llvm::Value*, int64_t>> pointers{{parameter, 0}};
    while (!pointers.empty()) {
        const auto [pointer, offset] = pointers.pop_back_val();
        for (llvm::User* user : llvm::make_early_inc_range(pointer->users())) {
            if (auto* address = llvm::dyn_cast<llvm::GetElementPtrInst>(user)) {
                llvm::APInt more(64, 0);
                if (address->accumulateConstantOffset(layout, more)) pointers.push_back({address, offset + more.getSExtValue()});
            } else if (auto* load = llvm::dyn_cast<llvm::LoadInst>(user); load && load->isSimple()) {
                llvm::Value*& value = loaded[{offset, load->getType()}];
                if (!value)
                    value = codegen::invariant_load(entry, load->getType(),
                                                    entry.CreateConstInBoundsGEP1_64(entry.getInt8Ty(), parameter, uint64_t(offset)),
                                                    unsigned(load->getAlign().value()));
                if (load == value) continue;
                load->replaceAllUsesWith(value);
                load->eraseFromParent();
            }
        }
    }
}

}  // namespace

void optimise(Unit& unit) {
    codegen::Analyses analyses(*unit.machine);
    llvm::FunctionPassManager first;
    first.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
    first.addPass(llvm::EarlyCSEPass());
    llvm::ModulePassManager module;
    module.addPass(llvm::AlwaysInlinerPass(/*InsertLifetime=*/false));
    module.addPass(llvm::GlobalDCEPass());
    module.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(first)));
    module.run(*unit.module, analyses.modules);
    for (llvm::Function& function : *unit.module)
        if (function.arg_size() == 1 && function.getArg(0)->hasByValAttr()) hoist_parameter_loads(function);

    llvm::FunctionPassManager second;
    second.addPass(llvm::EarlyCSEPass(true));
    second.addPass(llvm::SimplifyCFGPass());
    second.addPass(llvm::InstCombinePass());
    second.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), /*UseMemorySSA=*/true));
    second.addPass(llvm::SimplifyCFGPass());
    second.addPass(llvm::ADCEPass());
    codegen::Analyses again(*unit.machine);
    llvm::ModulePassManager rest;
    rest.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(second)));
    rest.run(*unit.module, again.modules);
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
