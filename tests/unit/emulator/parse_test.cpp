// The PTX parser: what each construct becomes, messages, and garbage.
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "emulator/ptx/parse.h"

using namespace flexemu::ptx;

namespace {

constexpr const char* kHead = ".version 8.3\n.target sm_90a\n.address_size 64\n";

Module parsed(const std::string& text) {
    ParseResult result = parse(kHead + text);
    REQUIRE_MESSAGE(result.ok(), result.error);
    return std::move(result.module);
}

std::string error_of(const std::string& text) {
    return parse(kHead + text).error;
}

/// A function whose body declares p, h, r, d and f registers, and a label `Out`.
Function body(const std::string& instructions) {
    Module module = parsed(
        ".global .align 4 .b32 data[8];\n.func callee(.param .b32 a);\n.func f() {\n.reg .pred %p<4>;\n.reg .b16 %h<4>;\n.reg .b32 %r<8>;\n"
        ".reg .b64 %d<4>;\n.reg .f32 %f<4>;\n" +
        instructions + "\nOut: ret;\n}\n");
    return module.functions[static_cast<size_t>(module.find_function("f"))];
}

Operand operand(const std::string& instruction, size_t index) {
    const Function function = body(instruction);
    REQUIRE(index < function.instructions[0].operands.size());
    return function.instructions[0].operands[index];
}

std::vector<std::string> texts() {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(FLEXC_SOURCE_DIR "/tests/emulator/ptx")) {
        if (entry.path().extension() != ".ptx") continue;
        std::ifstream file(entry.path());
        std::stringstream text;
        text << file.rdbuf();
        result.push_back(text.str());
    }
    return result;
}

}  // namespace

TEST_CASE("a module's head") {
    const Module module = parsed("");
    CHECK(module.version == "8.3");
    CHECK(module.target == "sm_90a");
    CHECK(module.address_size == 64);
    CHECK(parse("// c\n/* c\n */ .version 6.0 .target debug, sm_70, texmode_independent").module.target == "sm_70");
    CHECK(parse(std::string(".version 6.0\n.target sm_70\n") + '\0' + "garbage {").ok());
    CHECK(parse("").error == "line 1: PTX begins with `.version`, found the end of the text");
    CHECK(parse(".version 7.0\n.target foo").error == "line 2: no target like `sm_80` is named");
    CHECK(error_of(".address_size 32") == "line 4: only addresses of 64 bits are emulated");
}

TEST_CASE("instructions of compilers") {
    const std::vector<std::string> all = texts();
    REQUIRE(all.size() >= 3);
    for (const std::string& text : all) {
        const ParseResult result = parse(text);
        CHECK_MESSAGE(result.ok(), result.error);
        CHECK(!result.module.functions.empty());
    }
}

TEST_CASE("modifiers and operands") {
    const Function function = body("@!%p1 ld.global.L1::no_allocate.L2::128B.v4.b32 {%r0, %r1, _, %r3}, [%d1+-16];");
    const Instruction& load = function.instructions[0];
    CHECK(load.opcode == "ld");
    CHECK(load.modifiers == std::vector<std::string>{"global", "L1::no_allocate", "L2::128B", "v4", "b32"});
    CHECK(load.spelling() == "ld.global.L1::no_allocate.L2::128B.v4.b32");
    CHECK(load.guard == 1);
    CHECK(load.guard_negated);
    CHECK(load.line == 12);
    REQUIRE(load.operands.size() == 2);
    CHECK(load.operands[0].kind == Operand::Kind::Vector);
    CHECK(load.operands[0].elements[2].kind == Operand::Kind::Sink);
    CHECK(load.operands[0].elements[3].number == 4 + 4 + 3);
    CHECK(load.operands[1].kind == Operand::Kind::Memory);
    CHECK(load.operands[1].elements[0].kind == Operand::Kind::Register);
    CHECK(load.operands[1].offset == -16);

    CHECK(operand("bra Out;", 0).kind == Operand::Kind::Label);
    CHECK(operand("bra Out;", 0).number == 1);
    CHECK(operand("mov.u32 %r1, %tid.y;", 1).kind == Operand::Kind::Special);
    CHECK(operand("mov.u32 %r1, %tid.y;", 1).component == 1);
    CHECK(operand("mov.u32 %r1, %laneid;", 1).number == static_cast<int32_t>(Special::LaneId));
    CHECK(operand("mov.u32 %r1, %envreg31;", 1).component == 31);
    CHECK(operand("mov.u32 %r1, WARP_SZ;", 1).bits == 32);
    CHECK(operand("mov.u64 %d1, data+8;", 1).kind == Operand::Kind::Symbol);
    CHECK(operand("mov.u64 %d1, data+8;", 1).offset == 8);
    CHECK(operand("mov.u64 %d1, data[3];", 1).offset == 12);
    CHECK(operand("ld.global.b32 %r1, data[3];", 1).kind == Operand::Kind::Memory);
    CHECK(operand("ld.global.b32 %r1, data[3];", 1).elements[0].kind == Operand::Kind::Symbol);
    CHECK(operand("ld.global.b32 %r1, [data+4*2-1];", 1).offset == 7);
    CHECK(operand("ld.global.b32 %r1, [4096];", 1).offset == 4096);
    CHECK(operand("ld.global.b32 %r1, [4096];", 1).elements[0].kind == Operand::Kind::None);
    CHECK(operand("mov.u64 %d1, callee;", 1).kind == Operand::Kind::Function);
    const Operand pair = operand("setp.lt.and.s32 %p1|%p2, %r1, -5, !%p3;", 0);
    CHECK(pair.number == 1);
    REQUIRE(pair.second.size() == 1);
    CHECK(pair.second[0].number == 2);
    CHECK(operand("setp.lt.and.s32 _|%p2, %r1, -5, !%p3;", 0).kind == Operand::Kind::Sink);
    CHECK(operand("setp.lt.and.s32 %p1|%p2, %r1, -5, !%p3;", 2).bits == static_cast<uint64_t>(-5));
    CHECK(operand("setp.lt.and.s32 %p1|%p2, %r1, -5, !%p3;", 3).negated);
    const Operand tensor =
        operand("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d1, {%r2, %r3}], [%r4];", 1);
    REQUIRE(tensor.elements.size() == 2);
    CHECK(tensor.elements[0].kind == Operand::Kind::Register);
    CHECK(tensor.elements[1].elements.size() == 2);
    const Operand whole = operand("mov.v4.u32 {%r0, %r1, %r2, %r3}, %tid;", 1);
    REQUIRE(whole.elements.size() == 4);
    CHECK(whole.elements[2].component == 2);
}

TEST_CASE("literals and constant expressions") {
    const auto bits = [](const std::string& text) { return operand("mov.b64 %d0, " + text + ";", 1).bits; };
    CHECK(bits("0x1F") == 31);
    CHECK(bits("0X1fU") == 31);
    CHECK(bits("017") == 15);
    CHECK(bits("0b101") == 5);
    CHECK(bits("0") == 0);
    CHECK(bits("18446744073709551615") == UINT64_MAX);
    CHECK(bits("-9223372036854775808") == uint64_t{1} << 63);
    CHECK(bits("0d3FF0000000000000") == std::bit_cast<uint64_t>(1.0));
    CHECK(bits("0f3F800000") == 0x3f800000);
    CHECK(operand("mov.f32 %f0, 0F3F800000;", 1).is_f32);
    CHECK_FALSE(operand("mov.f32 %f0, 0F3F800000;", 1).is_float);
    CHECK(bits("-0f3F800000") == 0xbf800000);
    CHECK(bits("1.5") == std::bit_cast<uint64_t>(1.5));
    CHECK(bits("-.5e-3") == std::bit_cast<uint64_t>(-.5e-3));
    CHECK(bits("2e3") == std::bit_cast<uint64_t>(2e3));
    CHECK(operand("mov.f64 %d0, 1.5;", 1).is_float);
    CHECK(bits("1+2*3") == 7);
    CHECK(bits("(1+2)*3") == 9);
    CHECK(bits("1<<4|3") == 19);
    CHECK(bits("-7/2") == static_cast<uint64_t>(-3));
    CHECK(bits("-7 % 3") == static_cast<uint64_t>(-1));
    CHECK(bits("-1 >> 60") == UINT64_MAX);
    CHECK(bits("(.u64)-1 >> 60") == 15);
    CHECK(bits("-1 < 1U") == 0);
    CHECK(bits("-1 < 1") == 1);
    CHECK(bits("~0 ^ 1") == UINT64_MAX - 1);
    CHECK(bits("!5 || 0 && 1") == 0);
    CHECK(bits("2 == 2 ? 10 : 20 / 4 * 0 + 1 == 1 ? 3 : 4") == 10);
    CHECK(bits("(.s64)2.75") == 2);
    CHECK(error_of(".func f() { .reg .b64 %d; mov.b64 %d, 1/0; }") == "line 4: `/` by zero");
    CHECK(error_of(".func f() { .reg .b64 %d; mov.b64 %d, 0f1; }") == "line 4: `0f` and 8 hexadecimal digits make a float, found 1");
    CHECK(error_of(".func f() { .reg .b64 %d; mov.b64 %d, 08; }") == "line 4: `8` does not belong into the number `0`");
    CHECK(error_of(".func f() { .reg .b64 %d; mov.b64 %d, 0x10000000000000000; }") == "line 4: the number does not fit into 64 bits");
}

TEST_CASE("scopes: the same names in different braces") {
    const Function function = body(
        "{ .reg .b32 t; Again: mov.b32 t, 1; @%p0 bra Again; }\n"
        "{ .reg .b64 t; Again: mov.b64 t, 1; { bra Again; bra Later; } Later: }\n");
    REQUIRE(function.instructions.size() == 6);
    CHECK(function.instructions[1].operands[0].number == 0);
    CHECK(function.instructions[3].operands[0].number == 2);
    CHECK(function.instructions[4].operands[0].number == 5);
    CHECK(function.registers[static_cast<size_t>(function.instructions[0].operands[0].number)].type == Type::B32);
    CHECK(function.registers[static_cast<size_t>(function.instructions[2].operands[0].number)].type == Type::B64);
    CHECK(error_of(".func f() {\n{ L: ret; }\nbra L;\n}") == "line 6: `L` is not declared");
    CHECK(error_of(".func f() {\n.reg .b32 a;\n.reg .b64 a;\n}") == "line 6: `a` is declared twice in its scope");
    CHECK(error_of(".func f() {\nret;") == "line 5: the body that begins at line 4 is not closed");
}

TEST_CASE("registers of vectors") {
    const Function function = body(".reg .v2 .f32 v; mov.f32 %f0, v.y; st.global.v2.f32 [%d0], v;");
    const int32_t first = function.instructions[1].operands[1].elements[0].number;
    CHECK(function.registers[static_cast<size_t>(first)].name == "v.x");
    CHECK(function.instructions[0].operands[1].number == first + 1);
    CHECK(error_of(".func f() {\n.reg .v2 .f32 v; .reg .f32 a; mov.f32 a, v.z; }") == "line 5: `v` has no `.z`");
}

TEST_CASE("calls and tables") {
    const Function function = body(
        ".param .b32 out; .param .align 8 .b8 in[12];\n"
        "call.uni callee, (in);\n"
        "call (out), callee, (in, 5);\n"
        "Proto: .callprototype (.param .b32 _) _ (.param .align 8 .b8 _[12], .reg .b64 _) .noreturn;\n"
        "call (out), %d1, (in, %d2), Proto;\n"
        "call callee;\n"
        "Targets: .branchtargets Out, Here;\n"
        "brx.idx %r1, Targets;\n"
        "Here: ret;");
    for (size_t i = 0; i < 4; ++i) {
        CHECK(function.instructions[i].operands.size() == (i == 2 ? 4 : 3));
        CHECK(function.instructions[i].operands[0].kind == Operand::Kind::Vector);
        CHECK(function.instructions[i].operands[0].elements.size() == (i == 1 || i == 2 ? 1 : 0));
        CHECK(function.instructions[i].operands[1].kind == (i == 2 ? Operand::Kind::Register : Operand::Kind::Function));
        CHECK(function.instructions[i].operands[2].elements.size() == (i == 0 ? 1 : i == 3 ? 0 : 2));
    }
    CHECK(function.instructions[0].operands[2].elements[0].kind == Operand::Kind::Symbol);
    CHECK(function.locals[static_cast<size_t>(function.instructions[0].operands[2].elements[0].number - kFirstLocal)].bytes == 12);
    REQUIRE(function.tables.size() == 2);
    CHECK(function.instructions[2].operands[3].kind == Operand::Kind::Table);
    CHECK(function.tables[0][1].elements[0].bits == 12);
    CHECK(function.tables[0][1].elements[1].bits == 8);
    CHECK(function.instructions[4].operands[1].number == 1);
    CHECK(function.tables[1][0].number == 6);
    CHECK(function.tables[1][1].number == 5);
}

TEST_CASE("functions") {
    const Module module = parsed(
        ".func (.reg .b32 out) one (.reg .b32 a, .param .b64 b);\n"
        ".extern .func (.param .b32 r) vprintf (.param .b64 format, .param .b64 values);\n"
        ".weak .entry k (.param .u8 c, .param .u64 .ptr .global .align 16 p, .param .align 4 .b8 s[6], .param .f32 x)\n"
        ".maxntid 128, 2\n.minnctapersm 3\n.maxnreg 40 .reqnctapercluster 2 .explicitcluster\n{ ret; }\n"
        ".entry plain .reqntid 32 { .pragma \"nounroll\"; .loc 1 2 3, function_name $L, inlined_at 1 2 3\n exit; }\n"
        ".visible .func (.reg .b32 out) one (.reg .b32 a, .param .b64 b) .noreturn { mov.b32 out, a; add.cc.u32 a, a, 1; ret; }\n"
        ".alias two, one;\n.func user() { call two; ret; }\n");
    REQUIRE(module.functions.size() == 5);
    const Function& one = module.functions[0];
    CHECK_FALSE(one.is_declaration);
    CHECK(one.no_return);
    CHECK(one.results[0].reg == 0);
    CHECK(one.parameters[0].reg == 1);
    CHECK(one.parameters[1].reg == -1);
    CHECK(one.parameters[1].offset == 8);
    CHECK(one.carry >= 0);
    CHECK(module.functions[1].is_declaration);
    const Function& kernel = module.functions[2];
    CHECK(kernel.is_kernel);
    CHECK(kernel.carry == -1);
    CHECK(kernel.max_threads[0] == 128);
    CHECK(kernel.max_threads[1] == 2);
    CHECK(kernel.max_threads[2] == 1);
    CHECK(kernel.required_threads[0] == 0);
    CHECK(kernel.min_blocks == 3);
    CHECK(kernel.max_registers == 40);
    CHECK(kernel.cluster[0] == 2);
    CHECK(kernel.parameters[1].offset == 8);
    CHECK(kernel.parameters[2].offset == 16);
    CHECK(kernel.parameters[3].offset == 24);
    CHECK(kernel.parameter_bytes == 28);
    CHECK(module.functions[3].required_threads[0] == 32);
    CHECK(module.functions[4].instructions[0].operands[1].number == 0);
    CHECK(error_of(".func f() { ret; }\n.func f() { ret; }") == "line 5: `f` is defined twice, first at line 4");
    CHECK(error_of(".func f() { call g; }") == "line 4: `g` is not declared");
    CHECK(error_of(".entry k() .foo 1 { }") == "line 4: `.foo` is not known at the head of a function");
}

TEST_CASE("variables and their values") {
    const Module module = parsed(
        ".visible .global .align 16 .b8 bytes[] = {1, 2, 0xff, -1};\n"
        ".const .f32 floats[2][3] = {{1, 2.5}, {0f40000000}};\n"
        ".global .v2 .s16 pairs[2] = {{1, -2}, {3, 4}};\n"
        ".global .f64 wide = 0d3FF0000000000000, other = 2;\n"
        ".extern .shared .align 128 .b8 dynamic[];\n"
        ".shared .b32 tile[4][8];\n"
        ".func code();\n"
        ".global .u64 pointers[3] = {code, generic(bytes)+4, floats-8};\n"
        ".global .b8 packed[5] = {7, 0xFF(bytes+1), 0xFF00(bytes+1), 0xFF0000(bytes+1), 0xFF000000(bytes+1)};\n"
        ".global .attribute(.managed) .b32 managed;\n"
        ".extern .global .b32 later;\n.global .b32 later = 5;\n"
        ".global .b8 text[8] = \"ab\\n\";\n.common .global .b64 shared_name;\n"
        ".global .b128 huge = -1;\n");
    const auto variable = [&](const char* name) -> const Variable& {
        return module.variables[static_cast<size_t>(module.find_variable(name))];
    };
    CHECK(variable("bytes").initial == std::vector<uint8_t>{1, 2, 255, 255});
    CHECK(variable("bytes").bytes == 4);
    CHECK(variable("bytes").align == 16);
    CHECK(variable("bytes").is_visible);
    float floats[6];
    REQUIRE(variable("floats").initial.size() == sizeof floats);
    std::memcpy(floats, variable("floats").initial.data(), sizeof floats);
    CHECK(floats[0] == 1);
    CHECK(floats[1] == 2.5F);
    CHECK(floats[2] == 0);
    CHECK(floats[3] == 2);
    CHECK(variable("pairs").initial == std::vector<uint8_t>{1, 0, 0xfe, 0xff, 3, 0, 4, 0});
    CHECK(variable("pairs").align == 4);
    double two = 0;
    std::memcpy(&two, variable("other").initial.data(), 8);
    CHECK(two == 2);
    CHECK(variable("dynamic").is_extern);
    CHECK(variable("dynamic").bytes == 0);
    CHECK(variable("dynamic").align == 128);
    CHECK(variable("tile").elements == 32);
    CHECK(variable("tile").bytes == 128);
    const auto& pointers = variable("pointers").fixups;
    REQUIRE(pointers.size() == 3);
    CHECK(pointers[0].is_function);
    CHECK(pointers[1].generic);
    CHECK(pointers[1].number == module.find_variable("bytes"));
    CHECK(pointers[1].offset == 4);
    CHECK(pointers[2].at == 16);
    CHECK(pointers[2].offset == -8);
    const auto& packed = variable("packed").fixups;
    REQUIRE(packed.size() == 4);
    CHECK(packed[2].at == 3);
    CHECK(packed[2].size == 1);
    CHECK(packed[2].shift == 16);
    CHECK(packed[2].offset == 1);
    CHECK(variable("later").initial == std::vector<uint8_t>{5, 0, 0, 0});
    CHECK_FALSE(variable("later").is_extern);
    CHECK(variable("text").initial == std::vector<uint8_t>{'a', 'b', '\n', 0, 0, 0, 0, 0});
    CHECK(variable("huge").initial == std::vector<uint8_t>(16, 255));
    CHECK(error_of(".global .b8 a[2] = {1, 2, 3};") == "line 4: too many initial values");
    CHECK(error_of(".global .u64 a = nobody;") == "line 4: `nobody` is not declared");
    CHECK(error_of(".global .b8 a[99999999999999];") == "line 4: an array of 99999999999999 elements");
    CHECK(error_of(".shared .b32 a = 1;") == "line 4: only `.global` and `.const` variables have initial values");
    CHECK(error_of(".global .align 3 .b32 a;") == "line 4: an alignment of 3 is no power of two");
    CHECK(error_of(".global .texref t;") == "line 4: `.texref`: textures and surfaces are not emulated");
}

TEST_CASE("messages name what was found") {
    CHECK(error_of(".func f() {\n.reg .b32 a;\nadd.s32 a, ;\n}") == "line 6: expected an operand after `add.s32`, found `;`");
    CHECK(error_of(".func f() {\n.reg .b32 a;\nadd.s32 a a;\n}") == "line 6: expected `;` after the operands of `add.s32`, found `a`");
    CHECK(error_of(".func f() {\n.reg .b32 a;\n@a ret;\n}") == "line 6: the guard `a` is no predicate register");
    CHECK(error_of(".func f() {\nld.b32 b, [Out];\nOut: ret; .reg .b32 b;\n}") ==
          "line 5: an address begins with a register, a variable or a number, not with a label or a function");
    CHECK(error_of("add.s32;") == "line 4: expected a directive, found `add`");
    CHECK(error_of(".func f() { ` }") == "line 4: ``` is no character of PTX");
    CHECK(error_of("/* never closed") == "line 4: the comment `/*` is not closed");
}

TEST_CASE("a few bytes do not ask for all memory") {
    std::string functions, variables;
    for (int i = 0; i < 1000; ++i) {
        functions += ".func f" + std::to_string(i) + "() { .reg .b32 %r<260000>; }\n";
        variables += ".global .b8 v" + std::to_string(i) + "[134217000] = {1};\n";
    }
    CHECK(error_of(functions) == "line 12: too many registers");
    CHECK(error_of(".func f() { .reg .b32 %r<99999999>; }").find("a number of registers of 99999999") != std::string::npos);
    CHECK(error_of(".global .b8 v[300000000] = {1};") == "line 4: too large for an initial value");
    CHECK(error_of(variables) == "line 6: too large for an initial value");
}

TEST_CASE("garbage neither crashes nor hangs") {
    const std::vector<std::string> all = texts();
    std::mt19937 random(20261121);
    const std::string alphabet = "{}()[],;:=+-*/<>|&^~!?@.%$_09afxU\"\n ";
    size_t failed = 0, tried = 0;
    for (const std::string& text : all) {
        for (int round = 0; round < 300; ++round, ++tried) {
            std::string mutant = text.substr(0, std::min<size_t>(text.size(), 6000));
            const int changes = 1 + static_cast<int>(random() % 4);
            for (int i = 0; i < changes && !mutant.empty(); ++i) {
                const size_t at = random() % mutant.size(), length = std::min<size_t>(random() % 40, mutant.size() - at);
                switch (random() % 5) {
                    case 0: mutant[at] = alphabet[random() % alphabet.size()]; break;
                    case 1: mutant.erase(at, length); break;
                    case 2: mutant.insert(random() % mutant.size(), mutant.substr(at, length)); break;
                    case 3: mutant.resize(at); break;
                    default: mutant[at] = static_cast<char>(random() % 256);
                }
            }
            const ParseResult result = parse(mutant);
            if (!result.ok()) ++failed;
            CHECK((result.ok() || result.error.starts_with("line ")));
        }
    }
    CHECK(failed > tried / 4);  // the mutations do something
    // Depth is limited, whatever nests.
    for (const char* nested : {"(", "-", "1?", "{", "[", "!"}) {
        std::string deep;
        for (int i = 0; i < 100000; ++i) deep += nested;
        CHECK_FALSE(parse(std::string(kHead) + ".func f() { mov.b32 " + deep).ok());
        CHECK_FALSE(parse(std::string(kHead) + ".global .b32 x[1] = " + deep).ok());
    }
}
