// A PTX module as data: what the text says, with names resolved and nothing executed. parse.h makes it, the machine decodes it.
//
// Instructions keep their spelling (opcode and modifiers as strings): which of them exist, and what they do, is known to the decoders of the
// machine alone (emulator/machine/), so that the parser need not change when an instruction is added. Registers, labels, variables and functions
// are numbers here: scopes of braces, parametrised names (%r<10>) and forward references are the parser's business.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace flexemu::ptx {

/// Fundamental types of PTX, as in `.reg .b32` or as modifiers of instructions.
enum class Type : uint8_t {
    None,
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    TF32,
    F32,
    F32x2,
    F64,
    E4M3,
    E5M2,
    E4M3x2,
    E5M2x2,
};
[[nodiscard]] int bits(Type type);  // Pred: 1
/// "f32" -> F32; None if it is no type.
[[nodiscard]] Type type_named(std::string_view name);
[[nodiscard]] std::string_view name(Type type);

enum class Space : uint8_t { Generic, Global, Shared, Local, Param, Const };

enum class Special : uint8_t {
    Tid,
    NTid,
    CtaId,
    NCtaId,
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    GlobalTimerLo,
    GlobalTimerHi,
    DynamicSmemSize,
    TotalSmemSize,
    AggrSmemSize,
    ClusterId,
    NClusterId,
    ClusterCtaId,
    ClusterNCtaId,
    ClusterCtaRank,
    ClusterNCtaRank,
    IsExplicitCluster,
    WarpSize,
    EnvReg,
    Pm,
};

struct Operand {
    enum class Kind : uint8_t {
        None,      // absent
        Sink,      // `_`
        Register,  // number
        Immediate,  // bits: integers as written (two's complement, 64 bits), floats as f64 bits with is_float; 0f3F800000 as f32 bits with is_f32 (alone)
        Symbol,    // number: a variable (its address), + offset
        Function,  // number: a function of the module
        Label,     // number: an instruction of the function
        Special,   // number: a ptx::Special; component 0 to 3 for x y z w
        Memory,    // [base + offset]: base is a register, a symbol or absent (elements[0] holds it: Register, Symbol or None); offset.
                   // [map, {c0, c1}]: elements[1] is the Vector of coordinates
        Vector,  // {a, b, ...}: elements. Also the tuples of call parameters: `call` always has the operands results, callee, arguments (Vectors,
                 // perhaps empty, about the callee) and, if one is given, a Table
        Table,  // number: in Function::tables
    };
    Kind kind = Kind::None;
    bool negated = false;  // !p
    bool is_float = false, is_f32 = false;
    int32_t number = -1;
    int8_t component = -1;  // .x .y .z .w, also of video byte selectors (.b0 = 0 ...)
    int64_t offset = 0;
    uint64_t bits = 0;
    std::vector<Operand> elements;
    /// A predicate destination behind another: `d|p`. At most one element.
    std::vector<Operand> second;
};

struct Instruction {
    std::string opcode;                  // "cp"; always without modifiers
    std::vector<std::string> modifiers;  // {"async", "cg", "shared", "global"}; `::` stays inside one: "shared::cta"
    std::vector<Operand> operands;
    int32_t guard = -1;  // predicate register, or -1
    bool guard_negated = false;
    int32_t line = 0;  // in the text, from 1

    [[nodiscard]] bool has(std::string_view modifier) const;
    /// "cp.async.cg.shared.global", for messages.
    [[nodiscard]] std::string spelling() const;
};

struct Register {
    std::string name;
    Type type = Type::B32;
};

/// A variable of the module or of a function (.shared and .local in a body, .param of calls).
struct Variable {
    std::string name;
    Space space = Space::Global;
    Type type = Type::B8;
    int64_t elements = 1;  // of the type, all dimensions and .v2/.v4 multiplied; 0: an unsized array (extern shared)
    int64_t align = 1, bytes = 0;
    bool is_extern = false, is_visible = false, is_weak = false;
    std::vector<uint8_t> initial;  // empty: zero (global, const) or undefined (shared, local)
    struct Fixup {                 // addresses inside `initial`
        int64_t at = 0;
        bool is_function = false, generic = false;
        int32_t number = -1;  // variable or function
        int64_t offset = 0;
        int size = 8;
        int shift = 0;  // bits of the address that are dropped first: 8 for the second byte, `0xFF00(symbol)`
    };
    std::vector<Fixup> fixups;
    int32_t line = 0;
};

struct Parameter {
    std::string name;
    int32_t variable = -1;  // of space Param, where it lies in memory; -1 for a .reg parameter
    int32_t reg = -1;
    Type type = Type::B32;
    int64_t offset = 0, bytes = 0, align = 1;  // in the parameter block of a kernel
};

struct Function {
    std::string name;
    bool is_kernel = false, is_declaration = false;
    std::vector<Parameter> parameters, results;
    int64_t parameter_bytes = 0;
    std::vector<Register> registers;        // all of the body, every scope
    int32_t carry = -1;                     // the register of CC.CF, in functions that use it
    std::vector<Instruction> instructions;  // straight through; labels are indices, possibly one past the end
    std::vector<Variable> locals;           // numbers of symbols from kFirstLocal on
    /// Labels of .branchtargets, functions of .calltargets; of .callprototype two Vectors of Immediates, the bytes of results and parameters.
    std::vector<std::vector<Operand>> tables;
    // Performance directives; 0: absent.
    int32_t max_threads[3] = {0, 0, 0}, required_threads[3] = {0, 0, 0}, min_blocks = 0, max_registers = 0;
    int32_t cluster[3] = {0, 0, 0};
    bool no_return = false;
    int32_t line = 0;
};

/// Symbol numbers: variables of the module count from 0, those of the function from here.
inline constexpr int32_t kFirstLocal = 1 << 24;

struct Module {
    std::string version, target;  // "8.3", "sm_90a"
    int address_size = 64;
    std::vector<Variable> variables;
    std::vector<Function> functions;
    [[nodiscard]] int32_t find_function(std::string_view name) const;  // -1 if absent
    [[nodiscard]] int32_t find_variable(std::string_view name) const;
};

}  // namespace flexemu::ptx
