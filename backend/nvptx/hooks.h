// IR -> the bodies of the hooks of the GPU skeletons (backend/skeletons/nvptx/hooks.h).
#pragma once

#include "backend/lowering/hooks.h"
#include "ir/ir.h"
#include "ir/tile_state.h"
#include "runtime/gpu_layout.h"

#include <llvm/IR/Module.h>

namespace flexc::nvptx {

/// Gives every hook that a skeleton's module declares its body. `layout` is where arguments lie.
void lower_hooks(const ir::Attention& attention, const ir::TileState& tile_state, const flex::GpuLayout& layout, llvm::Module& module);

/// Those of a backward pass. Call it before lower_row: they too say what they want of a row.
void lower_gradient(const codegen::HookContext& context, const flex::GpuLayout& layout);

}  // namespace flexc::nvptx
