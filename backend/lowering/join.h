// The passes between the hooks' IR and code generation, the same for every target. The skeleton's bitcode is optimised already and the hooks contain no
// redundancy worth a search, so what is left is to put them together: inline, dissolve the row's slots, fold what became
// constant, and move out of the loops what does not change in them. A default -O3 takes several times as long for the same loops.
#pragma once

#include <llvm/IR/Module.h>
#include <llvm/Target/TargetMachine.h>

namespace flexc::codegen {

void join_and_simplify(llvm::Module& module, llvm::TargetMachine& machine);

}  // namespace flexc::codegen
