// PTX text -> module. Takes what nvcc, clang, Triton and people write: PTX ISA 6.0 to 9.0, debug directives (.loc, .file, .section, pragmas) skipped.
#pragma once

#include <string>
#include <string_view>

#include "emulator/ptx/module.h"

namespace flexemu::ptx {

struct ParseResult {
    Module module;
    std::string error;  // empty: fine. "line 12: expected a register after `add.s32`, found `;`"
    [[nodiscard]] bool ok() const { return error.empty(); }
};
[[nodiscard]] ParseResult parse(std::string_view text);

}  // namespace flexemu::ptx
