// What the files of matrix instructions share: ops_matrix.cpp (ldmatrix, stmatrix, movmatrix, mma), ops_mma_quads.cpp and
// ops_wmma.cpp.
#pragma once

#include <optional>
#include <string_view>

#include "emulator/machine/decode.h"
#include "emulator/machine/op.h"
#include "emulator/machine/warp.h"
#include "emulator/numeric/mma.h"

namespace flexemu {

/// Matrix instructions take the whole warp. False if there is nothing to do: the guard is off in all lanes, or (a fault) in some.
bool takes_whole_warp(Warp& warp, const Op& op, LaneMask active);

/// The elements of a tuple operand; an operand that is no tuple is its one element.
std::span<const ptx::Operand> elements_of(const ptx::Operand& operand);
/// Append `count` registers of operand `index` to the sources or destinations of the op; a base address, to the sources.
bool tuple_source(Decoding& decoding, size_t index, size_t count, ptx::Type type);
bool tuple_destination(Decoding& decoding, size_t index, size_t count, ptx::Type type);
bool address_source(Decoding& decoding, size_t index);

std::optional<numeric::Element> element_named(std::string_view name);
/// "m16n8k16"
std::optional<numeric::MmaShape> shape_named(std::string_view name);
bool take_shape(Decoding& decoding, numeric::MmaShape* out);
/// All modifiers that are types of elements or sums, in order.
std::vector<std::string> take_elements(Decoding& decoding);
/// .shared, .shared::cta, .global; generic if none is named.
ptx::Space take_space(Decoding& decoding);

/// .row or .col, in the order of the text: true for rows.
bool take_layout(Decoding& decoding, bool* by_rows);

bool decode_wmma(Decoding& decoding);
/// m8n8k4 of f16: .sync, .aligned and the shape are taken already.
bool decode_quad_mma(Decoding& decoding);

}  // namespace flexemu
