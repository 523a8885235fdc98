// What a decoded call carries.
#pragma once

#include <vector>

#include "emulator/machine/op.h"

namespace flexemu {

/// An argument or a place for a result in the caller: a value, a register, or bytes of its frame (a .param variable).
struct CallValue {
    bool in_memory = false;
    int64_t offset = 0, bytes = 0;
    Source source;               // of an argument that is a value
    uint32_t reg = kNoRegister;  // of a result
};

struct CallInfo {
    std::vector<CallValue> arguments, results;
    int32_t function = -1;  // -1: the callee is a value
    Source callee;
    std::vector<int32_t> targets;  // of an indirect call: those it names; empty: any
};

}  // namespace flexemu
