// Decoded instructions. Loading a module turns each ptx::Instruction into an Op: a handler and operands that need no further looking up. Each family of
// instructions is one file of this folder, which offers one table of decoders by opcode; what no table has is refused at load.
//
// A register of a warp is 32 slots of 64 bits, one a lane. Narrower values lie zero-extended; predicates are 0 or 1; f16x2 and the like are their 32
// bits; a .b128 takes two neighbouring registers, low half first. Handlers work on whole registers and write active lanes only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/device.h"
#include "emulator/ptx/module.h"

namespace flexemu {

using LaneMask = uint32_t;
inline constexpr int kLanes = 32;
using Lanes = std::array<uint64_t, kLanes>;

class Warp;
struct Op;

/// Executes for the lanes of `active` (the guard is applied already, and may leave none: handlers of .aligned instructions are still called).
using Handler = void (*)(Warp& warp, const Op& op, LaneMask active);

/// A value that is read: a register, a constant in all lanes, a special register, or an address that depends on the running frame or kernel.
struct Source {
    enum class Kind : uint8_t { Absent, Register, Constant, Special, Frame, DynamicShared };
    Kind kind = Kind::Absent;
    bool negated = false;             // of predicates
    uint32_t number = 0;              // register, or ptx::Special; an offset from the start of a frame or of dynamic shared memory
    int8_t component = 0;             // of a special register
    const Lanes* constant = nullptr;  // in the module's pool
};
inline constexpr uint32_t kNoRegister = UINT32_MAX;

struct Op {
    Handler run = nullptr;
    std::vector<Source> sources;
    std::vector<uint32_t> destinations;  // registers; kNoRegister: a sink or absent
    ptx::Type type = ptx::Type::None;    // the main type (of the last type modifier, as a rule), and a second one
    ptx::Type type2 = ptx::Type::None;
    ptx::Space space = ptx::Space::Generic;
    uint32_t flags = 0, flags2 = 0;     // of the family: rounding, saturation, ...
    int64_t offset = 0;                 // of an address
    std::shared_ptr<const void> extra;  // whatever else a family needs, decoded once
    int32_t target = -1;                // of a branch: index of an instruction; of a call: function
    uint32_t guard = kNoRegister;
    bool guard_negated = false;
    bool aligned = false;  // all lanes of the warp that have not exited must come together (.aligned, and .sync forms that imply it)
    bool uniform_control = false;  // .uni: all lanes that execute it together go the same way
    /// Registers of products (products.h) that the instruction reads (2 * register) or writes (2 * register + 1).
    std::vector<uint32_t> product_registers;
    int32_t line = 0;
    uint32_t number = 0;  // in the module, for short references to it
    const ptx::Instruction* text = nullptr;
};

/// What a decoder may ask. Errors are given as text without the line.
class DecodeContext {
public:
    virtual ~DecodeContext() = default;
    [[nodiscard]] virtual const ptx::Module& module() const = 0;
    [[nodiscard]] virtual const ptx::Function& function() const = 0;
    /// A value operand of the type: register, immediate (converted: a float literal for f32 gives its bits, an integer wraps), special, or the address of a symbol.
    virtual bool source(const ptx::Operand& operand, ptx::Type type, Source* out, std::string* error) = 0;
    /// The register of a destination; a sink gives kNoRegister.
    virtual bool destination(const ptx::Operand& operand, uint32_t* out, std::string* error) = 0;
    /// [base + offset]: base as a 64-bit (or 32-bit, in shared memory) source.
    virtual bool address(const ptx::Operand& operand, Source* base, int64_t* offset, std::string* error) = 0;
};

/// Fills `out` but for line, text and guard. False with an error ("`.rz` is not known here") if it cannot.
using Decoder = bool (*)(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error);
struct DecoderEntry {
    std::string_view opcode;
    Decoder decode;
};

// The tables of the families, each in the file of its name. An opcode stands in one table only.
std::span<const DecoderEntry>
integer_decoders();  // ops_integer.cpp: add sub mul mad ... of integers delegate here; bitwise, shifts, bfe, prmt, lop3, ...
std::span<const DecoderEntry> float_decoders();  // ops_float.cpp: fma, rcp, ex2, tanh, testp, ...
std::span<const DecoderEntry>
shared_decoders();  // ops_arithmetic.cpp: opcodes of both (add, sub, mul, mad, min, max, abs, neg, div, rem, setp, set, selp, slct, cvt, mov, ...)
std::span<const DecoderEntry> control_decoders();  // ops_control.cpp: bra, brx, call, ret, exit, trap, bar, barrier, ...
std::span<const DecoderEntry> memory_decoders();   // ops_memory.cpp: ld, st, ldu, cvta, isspacep, prefetch, fence, membar, mapa, ...
std::span<const DecoderEntry> atomic_decoders();   // ops_atomic.cpp: atom, red
std::span<const DecoderEntry> warp_decoders();     // ops_warp.cpp: shfl, vote, match, redux, activemask, elect
std::span<const DecoderEntry> async_decoders();    // ops_async.cpp: cp.async*, mbarrier.*, griddepcontrol, ...
std::span<const DecoderEntry> matrix_decoders();   // ops_matrix.cpp: ldmatrix, stmatrix, mma, wmma, movmatrix
std::span<const DecoderEntry> wgmma_decoders();    // ops_wgmma.cpp: wgmma, setmaxnreg

}  // namespace flexemu
