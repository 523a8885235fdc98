// From a module to machine code.
#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/Support/raw_ostream.h>

#include "backend/cpu/module.h"
#include "backend/lowering/join.h"
#include "diag/check.h"

namespace flexc::cpu {

void optimise(Unit& unit) {
    codegen::join_and_simplify(*unit.module, *unit.machine);
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
