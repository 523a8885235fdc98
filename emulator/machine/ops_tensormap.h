// Tensor maps that kernels make or change: ops_tensormap.cpp.
#pragma once

#include "emulator/machine/decode.h"

namespace flexemu {

class WarpState;

/// tensormap.replace, tensormap.cp_fenceproxy
bool decode_tensor_map(Decoding& decoding);
/// fence.proxy.tensormap::generic
bool decode_tensor_map_fence(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error);

}  // namespace flexemu
