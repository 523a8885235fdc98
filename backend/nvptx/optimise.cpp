// From a module to PTX.
#include <map>

#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/Pass.h>
#include <llvm/PassInfo.h>
#include <llvm/PassRegistry.h>
#include <llvm/Support/raw_ostream.h>

#include "backend/lowering/arguments.h"
#include "backend/lowering/join.h"
#include "backend/nvptx/module.h"
#include "diag/check.h"

namespace flexc::nvptx {

namespace {

/// What is read of a kernel's parameter at fixed places.
struct Field {
    llvm::LoadInst* load;
    int64_t offset;
};
std::vector<Field> parameter_fields(llvm::Function& kernel) {
    std::vector<Field> fields;
    std::vector<std::pair<llvm::Value*, int64_t>> pointers{{kernel.getArg(0), 0}};
    while (!pointers.empty()) {
        const auto [pointer, offset] = pointers.back();
        pointers.pop_back();
        for (llvm::User* user : pointer->users()) {
            llvm::APInt more(64, 0);
            if (auto* address = llvm::dyn_cast<llvm::GetElementPtrInst>(user)) {
                if (address->accumulateConstantOffset(kernel.getDataLayout(), more))
                    pointers.emplace_back(address, offset + more.getSExtValue());
            } else if (auto* load = llvm::dyn_cast<llvm::LoadInst>(user); load && load->isSimple()) {
                fields.push_back({load, offset});
            }
        }
    }
    return fields;
}

/// Reads the fields of the parameter in each block that uses them, just before the first use. ptxas takes them from the constant bank there; a value
/// that is read once and kept would be a register for the whole kernel.
void read_parameter_where_used(llvm::Function& kernel) {
    for (const auto& [load, offset] : parameter_fields(kernel)) {
        std::map<llvm::BasicBlock*, llvm::LoadInst*> copies;
        for (llvm::Use& use : llvm::make_early_inc_range(load->uses())) {
            auto* user = llvm::cast<llvm::Instruction>(use.getUser());
            auto* phi = llvm::dyn_cast<llvm::PHINode>(user);
            llvm::BasicBlock* block = phi ? phi->getIncomingBlock(use) : user->getParent();
            llvm::Instruction* before = phi ? block->getTerminator() : user;
            llvm::LoadInst*& copy = copies[block];
            if (!copy) {
                llvm::IRBuilder<> builder(before);
                llvm::Value* address = builder.CreateConstInBoundsGEP1_64(builder.getInt8Ty(), kernel.getArg(0), uint64_t(offset));
                copy = llvm::cast<llvm::LoadInst>(
                    codegen::invariant_load(builder, load->getType(), address, unsigned(load->getAlign().value())));
            } else if (before->comesBefore(copy)) {
                llvm::cast<llvm::Instruction>(copy->getPointerOperand())->moveBefore(before);
                copy->moveBefore(before);
            }
            use.set(copy);
        }
        load->eraseFromParent();
    }
}

}  // namespace

void optimise(Unit& unit) {
    codegen::join_and_simplify(*unit.module, *unit.machine);
    for (llvm::Function& each : *unit.module)
        if (each.arg_size() > 0 && each.getArg(0)->hasByValAttr()) read_parameter_where_used(each);
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
