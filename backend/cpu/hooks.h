// IR -> the bodies of the hooks of the CPU skeleton (backend/skeletons/cpu/hooks.h).
#pragma once

#include "backend/lowering/hooks.h"
#include "ir/tile_state.h"

namespace flexc::cpu {

/// Gives every hook declared in a skeleton module its body.
void lower_hooks(const ir::Attention& attention, const ir::TileState& tile_state, const codegen::Target& target, llvm::Module& module);

/// The hooks of the backward step. Call it before lower_row: they too say what they want of a row.
void lower_gradient(const codegen::HookContext& context);

}  // namespace flexc::cpu
