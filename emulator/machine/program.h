// A loaded module: every function as decoded instructions, with addresses given to all variables.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/machine/memory.h"
#include "emulator/machine/op.h"

namespace flexemu {

/// A parameter or result of a function: a register, or bytes of its frame (of a kernel: of the parameter block).
struct CodeParameter {
    bool in_register = false;
    uint32_t reg = 0;
    ptx::Type type = ptx::Type::B32;
    int64_t offset = 0, bytes = 0;
};

/// Functions of the CUDA runtime that a module may declare and call without defining them.
enum class Builtin : uint8_t { None, AssertFail, Print, Malloc, Free };

[[nodiscard]] Builtin builtin_named(std::string_view name);

struct Code {
    const ptx::Function* text = nullptr;
    bool is_defined = false;
    std::vector<Op> ops;
    /// For each instruction that may send lanes different ways: where they meet again; the number of instructions stands for the end of the function.
    std::vector<int32_t> meet;
    std::vector<uint32_t> slot_of;  // register of the text -> slot of the frame (b128 take two)
    uint32_t registers = 0;
    std::vector<int64_t> local_offset;  // of text->locals that lie in the frame
    int64_t frame_bytes = 0;
    std::vector<CodeParameter> parameters, results;
    // Of kernels, over all functions they may reach.
    int64_t static_shared = 0, dynamic_align = 16;
};

struct Program {
    ptx::Module module;
    std::vector<Code> codes;        // as module.functions
    std::vector<uint64_t> address;  // of module.variables: of their space; 0 for what has none
    std::vector<const Op*> ops_by_number;
    std::deque<Lanes> constants;
    std::unordered_map<uint64_t, const Lanes*> constant_of;
    std::vector<std::vector<uint64_t>> local_shared_address;  // of shared variables in bodies, by function and local
    DeviceMemory* memory = nullptr;
    std::vector<uint64_t> allocations;

    const Lanes* constant(uint64_t value);
};

/// Decodes and links program->module; variables are allocated in `memory`. False with "line N: ...".
bool link(Program* program, DeviceMemory& memory, std::string* error);
/// Gives addresses to shared variables: those that one kernel may reach do not overlap.
void lay_out_shared(Program* program);
/// Fills Code::meet with immediate post-dominators.
void find_meeting_points(Code* code);

}  // namespace flexemu
