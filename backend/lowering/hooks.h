// The hooks that every skeleton has, with the same name and meaning on all targets: score, mask, row, scale and tile state.
#pragma once

#include "backend/lowering/lowering.h"
#include "ir/tile_state.h"

namespace flexc::codegen {

/// What all hooks of one module are made with.
struct HookContext {
    const Facts& facts;
    const Target& target;
    const Arguments& arguments;
    llvm::Module& module;
    RowSlots& slots;
};

/// The declaration of a hook in the skeleton, made internal and always inlined, to be given a body. Null if the skeleton does not call it.
[[nodiscard]] llvm::Function* hook(llvm::Module& module, const char* name);

/// What a hook's arguments are: args first, b and h from position `b` on.
[[nodiscard]] Lowering::Inputs common_inputs(llvm::Function* function, unsigned b);
/// Of a hook about a row: (args, b, h, q, ...).
[[nodiscard]] Lowering::Inputs row_inputs(llvm::Function* function);
/// Of a hook about keys: (args, row, b, h, q, k, [active], ...).
[[nodiscard]] Lowering::Inputs key_inputs(llvm::Function* function, const Target& target);

// The hooks about keys say what they want of a row, so lower_row is the last of these three.
void lower_score(const HookContext& context);
void lower_mask(const HookContext& context);
void lower_row(const HookContext& context);
void lower_scale(const HookContext& context);
/// Of an attention that has one.
void lower_sink(const HookContext& context);
void lower_tile_state(const HookContext& context, const ir::TileState& state);

/// The sum of flex_summary_flag (runtime/abi.h).
[[nodiscard]] int summary_flags(const ir::Summary& summary);

}  // namespace flexc::codegen
