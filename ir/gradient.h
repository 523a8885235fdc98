// Reverse-mode differentiation of the score, scale and sink clauses: how they change with the score and with each element that they read of a `grad` tensor.
//
// The derivatives are IR in the graph of the attention (Attention::gradient), over the same leaves as the clauses, so every engine computes them
// like any expression. Conventions, as PyTorch has them: at ties of min and max (of two, or in a reduction) equal shares; clamp passes on its closed range;
// abs and sign 0 at 0; floor, ceil, round, integers, bools and conditions carry nothing; pow as torch.pow at a base of 0.
// What an `if` does not choose contributes an exact 0, even where its derivative is infinite or NaN.
#pragma once

#include "ir/ir.h"

namespace flexc::ir {

/// Sets `attention.gradient`. The attention should be optimised before, and again after.
void differentiate(Attention& attention);

}  // namespace flexc::ir
