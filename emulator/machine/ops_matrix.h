// What the files of matrix instructions share: ops_matrix.cpp (ldmatrix, stmatrix, movmatrix, mma) and ops_wmma.cpp.
#pragma once

#include <optional>
#include <string_view>

#include "emulator/machine/op.h"
#include "emulator/machine/warp.h"
#include "emulator/numeric/mma.h"

namespace flexemu {

/// Matrix instructions take the whole warp. False if there is nothing to do: the guard is off in all lanes, or (a fault) in some.
bool takes_whole_warp(Warp& warp, const Op& op, LaneMask active);

/// The elements of a tuple operand; an operand that is no tuple is its one element.
std::span<const ptx::Operand> elements_of(const ptx::Operand& operand);
bool decode_sources(std::span<const ptx::Operand> operands, ptx::Type type, DecodeContext& context, Op* out, std::string* error);
bool decode_destinations(std::span<const ptx::Operand> operands, DecodeContext& context, Op* out, std::string* error);
std::optional<numeric::Element> element_named(std::string_view name);
/// "m16n8k16"
std::optional<numeric::MmaShape> shape_named(std::string_view name);
/// From .shared, .shared::cta, .global, ...; generic if none is named.
ptx::Space space_of(const ptx::Instruction& instruction);

bool decode_wmma(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error);

}  // namespace flexemu
