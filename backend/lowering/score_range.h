// Whether the score clause can give -inf, which counts as masked.
#pragma once

#include "ir/ir.h"

namespace flexc::codegen {

/// False proves that the score clause gives no -inf, whatever is captured, as long as scale * dot is finite and below 2^100 in magnitude. (A product of
/// that size, or an infinity in q or k, may still make one.)
[[nodiscard]] bool score_may_hide(const ir::Attention& attention);

}  // namespace flexc::codegen
