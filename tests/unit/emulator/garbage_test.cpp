// Instructions made of random parts: decoders refuse them with a message, or take them; they never crash.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <random>

#include "emulator/device.h"

namespace {

constexpr const char* kOpcodes[] = {"add",        "sub",        "mul",          "mad",      "mad24",         "mul24",      "sad",
                                    "div",        "rem",        "abs",          "neg",      "min",           "max",        "popc",
                                    "clz",        "bfind",      "fns",          "brev",     "bfe",           "bfi",        "bmsk",
                                    "szext",      "dp4a",       "dp2a",         "addc",     "subc",          "madc",       "testp",
                                    "fma",        "rcp",        "sqrt",         "rsqrt",    "sin",           "cos",        "lg2",
                                    "ex2",        "tanh",       "copysign",     "set",      "setp",          "selp",       "slct",
                                    "and",        "or",         "xor",          "not",      "cnot",          "lop3",       "shf",
                                    "shl",        "shr",        "mov",          "shfl",     "prmt",          "ld",         "ldu",
                                    "st",         "prefetch",   "cvta",         "cvt",      "mapa",          "isspacep",   "cp",
                                    "wmma",       "mma",        "ldmatrix",     "stmatrix", "movmatrix",     "wgmma",      "bra",
                                    "brx",        "call",       "ret",          "exit",     "bar",           "barrier",    "membar",
                                    "fence",      "atom",       "red",          "vote",     "match",         "activemask", "redux",
                                    "elect",      "mbarrier",   "trap",         "brkpt",    "pmevent",       "nanosleep",  "griddepcontrol",
                                    "setmaxnreg", "getctarank", "createpolicy", "discard",  "applypriority", "vadd",       "tensormap"};
constexpr const char* kModifiers[] = {"u8",
                                      "u16",
                                      "u32",
                                      "u64",
                                      "s8",
                                      "s16",
                                      "s32",
                                      "s64",
                                      "b8",
                                      "b16",
                                      "b32",
                                      "b64",
                                      "b128",
                                      "f16",
                                      "f16x2",
                                      "bf16",
                                      "bf16x2",
                                      "tf32",
                                      "f32",
                                      "f64",
                                      "pred",
                                      "e4m3x2",
                                      "s16x2",
                                      "rn",
                                      "rz",
                                      "rni",
                                      "rna",
                                      "ftz",
                                      "sat",
                                      "relu",
                                      "approx",
                                      "full",
                                      "lo",
                                      "hi",
                                      "wide",
                                      "cc",
                                      "wrap",
                                      "clamp",
                                      "l",
                                      "r",
                                      "eq",
                                      "lt",
                                      "nan",
                                      "and",
                                      "or",
                                      "xor",
                                      "sync",
                                      "aligned",
                                      "bfly",
                                      "idx",
                                      "up",
                                      "global",
                                      "shared",
                                      "shared::cta",
                                      "shared::cluster",
                                      "local",
                                      "const",
                                      "param",
                                      "generic",
                                      "to",
                                      "v2",
                                      "v4",
                                      "relaxed",
                                      "acquire",
                                      "release",
                                      "gpu",
                                      "cta",
                                      "sys",
                                      "cas",
                                      "exch",
                                      "add",
                                      "inc",
                                      "min",
                                      "max",
                                      "async",
                                      "cg",
                                      "ca",
                                      "commit_group",
                                      "wait_group",
                                      "wait_all",
                                      "bulk",
                                      "tensor",
                                      "2d",
                                      "m16n8k16",
                                      "m16n8k8",
                                      "m8n8",
                                      "x1",
                                      "x4",
                                      "trans",
                                      "row",
                                      "col",
                                      "init",
                                      "arrive",
                                      "expect_tx",
                                      "try_wait",
                                      "parity",
                                      "test_wait",
                                      "all",
                                      "any",
                                      "ballot",
                                      "uni",
                                      "warp",
                                      "red",
                                      "popc",
                                      "mma",
                                      "load",
                                      "store",
                                      "a",
                                      "b",
                                      "d",
                                      "sp",
                                      "volatile",
                                      "mmio",
                                      "proxy",
                                      "fence",
                                      "noinc",
                                      "pack",
                                      "satfinite",
                                      "foo",
                                      "L2::128B"};
constexpr const char* kOperands[] = {"p1",
                                     "!p2",
                                     "h1",
                                     "r1",
                                     "r2",
                                     "d1",
                                     "d2",
                                     "c1",
                                     "q1",
                                     "0",
                                     "1",
                                     "-1",
                                     "255",
                                     "0xffffffff",
                                     "1.5",
                                     "0f3f800000",
                                     "_",
                                     "r1|p1",
                                     "_|p2",
                                     "{r1, r2}",
                                     "{r1, r2, r3, r4}",
                                     "{h1, h2}",
                                     "{}",
                                     "{d1, d2}",
                                     "[d1]",
                                     "[d1+4]",
                                     "[r1+16]",
                                     "[tile]",
                                     "[in]",
                                     "[8]",
                                     "[d1, {r1, r2}]",
                                     "tile",
                                     "data",
                                     "%tid.x",
                                     "%laneid",
                                     "%clock64",
                                     "trial",
                                     "callee",
                                     "Here",
                                     "Table"};

}  // namespace

TEST_CASE("random instructions") {
    std::mt19937 random(7);
    const auto any = [&](const auto& list) { return list[random() % std::size(list)]; };
    flexemu::Device device({.compute_capability = 90});
    int taken = 0, refused = 0;
    for (int round = 0; round < 20000; ++round) {
        std::string text;
        if (random() % 8 == 0) text += random() % 2 == 0 ? "@p1 " : "@!p2 ";
        const std::string opcode = any(kOpcodes);
        text += opcode;
        for (uint32_t i = random() % 4; i > 0; --i) text += fmt::format(".{}", any(kModifiers));
        text += " ";
        const uint32_t operands = random() % 6;
        for (uint32_t i = 0; i < operands; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", any(kOperands));
        const std::string module = fmt::format(
            ".version 8.6\n.target sm_90a\n.address_size 64\n.global .b32 data[4];\n.shared .b32 tile[4];\n.func callee(.reg .b32 a) {{ "
            "ret; }}\n"
            ".entry trial(.param .u64 in) {{\n.reg .pred p<4>; .reg .b8 c<4>; .reg .b16 h<4>; .reg .b32 r<8>; .reg .b64 d<4>; .reg .b128 "
            "q<2>;\n"
            "Table: .branchtargets Here;\n{};\nHere: ret;\n}}\n",
            text);
        std::string error;
        const auto loaded = device.load(module, &error);
        CHECK_MESSAGE((loaded != nullptr) == error.empty(), text);
        if (loaded == nullptr) {
            ++refused;
            CHECK_MESSAGE(error.find("line ") != std::string::npos, text, ": ", error);
        } else {
            ++taken;
        }
    }
    CHECK(taken > 50);
    CHECK(refused > 10000);
}
