// The textual form: it reads back to the same, and bad text gives a message with its line, never anything worse.
#include <bit>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc::ir;

namespace {

/// Every statement and kind of node.
const std::string kEverything = R"(attention alibi_window
doc "Two lines,\na \"quote\" and \xc3\xa9."
extent N
extent "odd name"
param slope: grad f32[H]
param window: i32 = 1024
param c: f32 = -0.0
param on: bool = true
param off: i32[N + 1, 2 * K - 3, 7]
param "odd [name]": bool["odd name"]
param routes: i32[B, 1, N, 4]
require N + 1 == 2 * K - 3: "`off` has the extent `N + 1`"
normalize sigmoid
blocks routes
%0: i32 = index b
%1: i32 = index h
%2: i32 = index q
%3: i32 = index k
%4: i32 = index hkv
%5: i32 = index d
%6: i32 = extent N
%7: i32 = extent "odd name"
%8: i32 = param window
%9: f32 = param c
%10: bool = param on
%11: f32 = clause_var score
%12: f32 = clause_var out
%13: f32 = clause_var weight
%14: i32 = tile_bound k_hi
%15: f32 = const nan:7fc00001
%16: f32 = const -inf
%17: f32 = const 0.1
%18: f32 = const 3.4028235e+38
%19: i32 = const -2147483648
%20: bool = const false
%21: f32 = load slope[%1]
%22: i32 = loop 0 in %19..%6
%23: i32 = load off[%22, %3, %2]
%24: i32 = sum %22, %23
%25: bool = load "odd [name]"[%24]
%26: f32 = row_load query_row[%5]
%27: f32 = row_load key_row[%5]
%28: f32 = mul %11, %21
%29: bool = le %2, %3
%30: bool = and %25, %29
%31: f32 = select %30, %28, %15
%32: f32 = mul %12, %17
scale = %17
score = %31
mask = %30
sink = %21
output = %32
query = %26
key = %27
emit "column map" = column_sum %13
emit entropy = mean %13
)";

std::string error_of(const std::string& text) {
    std::string error = "no error";
    const auto attention = parse_text(text, &error);
    CHECK(!attention.has_value());
    return error;
}

const std::string kEnd = "score = %0\nmask = %1\n";
const std::string kStart = "%0: f32 = clause_var score\n%1: bool = const true\n";

}  // namespace

TEST_CASE("text: everything reads back") {
    std::string error;
    const auto attention = parse_text(kEverything, &error);
    REQUIRE_MESSAGE(attention.has_value(), error);
    CHECK(print(*attention) == kEverything);
    CHECK(attention->doc == "Two lines,\na \"quote\" and \xc3\xa9.");
    CHECK(attention->params[1].default_bits == 1024u);
    CHECK(attention->params[2].default_bits == 0x80000000u);
    CHECK(attention->params[4].dims[1] == Dim{2, static_cast<int32_t>(ExtentVar::K), -3});
    CHECK(attention->params[5].name == "odd [name]");
    CHECK(attention->blocks == 6u);
    CHECK(attention->emits[0].name == "column map");
    CHECK(attention->emits[0].kind == Emit::Kind::ColumnSum);
    CHECK(std::bit_cast<uint32_t>(*attention->graph.as_f32(NodeId{15})) == 0x7fc00001u);
}

TEST_CASE("text: floats keep every bit") {
    testing::Rng rng(1);
    for (int i = 0; i < 20'000; ++i) {
        const auto bits = i < 4 ? std::array<uint32_t, 4>{0, 0x80000000u, 1, 0x7f7fffffu}[static_cast<size_t>(i)] : rng.below(UINT32_MAX);
        Attention a;
        a.name = "f";
        a.score = a.graph.f32(std::bit_cast<float>(bits));
        a.mask = a.graph.boolean(true);
        const auto again = parse_text(print(a), nullptr);
        REQUIRE(again.has_value());
        REQUIRE(again->graph[again->score].payload == bits);
    }
}

TEST_CASE("text: names of any bytes read back") {
    for (const std::string& name : {std::string("grad"), std::string(""), std::string("a b"), std::string("1x"),
                                    std::string("\"\\\n\0\xff", 5), std::string("f32"), std::string("%0")}) {
        Attention a;
        a.name = name;
        a.extents = {name + "x"};
        Param param;
        param.name = name;
        param.is_tensor = true;
        param.dims = {Dim{1, kBuiltinExtents, 0}};
        a.params.push_back(param);
        const NodeId q = a.graph.index(IndexVar::Q);
        a.score = a.graph.load(0, ElemType::F32, std::span(&q, 1));
        a.mask = a.graph.boolean(true);
        a.emits.push_back({name, Emit::Kind::Mean, a.score});
        std::string error;
        const auto again = parse_text(print(a), &error);
        REQUIRE_MESSAGE(again.has_value(), error);
        CHECK(again->name == name);
        CHECK(again->params[0].name == name);
        CHECK(again->extents[0] == name + "x");
        CHECK(again->emits[0].name == name);
    }
}

TEST_CASE("text: errors say the line and what is wrong") {
    CHECK(error_of("") == "line 0: the clause `score` is missing");
    CHECK(error_of(kStart + "score = %0\n") == "line 3: the clause `mask` is missing");
    CHECK(error_of("attention x\n\n  what %0\n") == "line 3: unknown statement `what`");
    CHECK(error_of("%0: f32 = const 1\n%1: f32 = add %0, %7\n") == "line 2: `%7` is used before it is defined");
    CHECK(error_of("%0: f32 = const 1\n%1: f32 = add %0\n") == "line 2: the operands do not fit `add`");
    CHECK(error_of("%0: i32 = const 1\n%1: f32 = exp %0\n") == "line 2: the operands do not fit `exp`");
    CHECK(error_of("%0: i32 = const 1.5\n") == "line 1: text after the end of the statement");
    CHECK(error_of("%0: i32 = const 2147483648\n") == "line 1: an i32 constant was expected");
    CHECK(error_of("%0: bool = const 1\n") == "line 1: `true` or `false` was expected");
    CHECK(error_of("%0: f32 = const nan\n") == "line 1: an f32 constant was expected");
    CHECK(error_of("%0: f32 = const nan:3f800000\n") == "line 1: an f32 constant was expected");
    CHECK(error_of("%0: f32 = index q\n") == "line 1: the value is of type i32, not f32");
    CHECK(error_of("%0: i32 = index z\n") == "line 1: unknown index `z`");
    CHECK(error_of("%0: i32 = index q\n%0: i32 = index k\n") == "line 2: `%0` is defined twice");
    CHECK(error_of("%0: i32 = frobnicate %0\n") == "line 1: unknown operation `frobnicate`");
    CHECK(error_of("%0: i32 = load x[%0]\n") == "line 1: `%0` is used before it is defined");
    CHECK(error_of("%0: i32 = index q\n%1: f32 = load x[%0]\n") == "line 2: unknown tensor `x`");
    CHECK(error_of("param x: f32[2, 3]\n%0: i32 = index q\n%1: f32 = load x[%0]\n") == "line 3: `x` has 2 dimensions, not 1");
    CHECK(error_of("param x: f32[2]\n%0: f32 = param x\n") == "line 2: `x` is a tensor, not a scalar");
    CHECK(error_of("param x: f32[Z]\n") == "line 1: unknown extent `Z`");
    CHECK(error_of("param x: f64[2]\n") == "line 1: unknown element type `f64`");
    CHECK(error_of("param x: f32[1, 1, 1, 1, 1, 1, 1, 1, 1]\n") == "line 1: a tensor has at most 8 dimensions");
    CHECK(error_of("param x: i32\nparam x: f32\n") == "line 2: the parameter `x` is declared twice");
    CHECK(error_of("extent H\n") == "line 1: the extent `H` is declared twice");
    CHECK(error_of("%0: i32 = const 0\n%1: i32 = loop 32 in %0..%0\n") == "line 2: a nesting depth below 32 was expected");
    CHECK(error_of("%0: i32 = const 0\n%1: i32 = sum %0, %0\n") == "line 2: the first operand of `sum` is a loop variable");
    CHECK(error_of("%0: i32 = const 0\n%1: i32 = loop 1 in %0..%0\n%2: i32 = loop 1 in %1..%0\n") ==
          "line 3: the bounds depend on a loop variable of the same or a deeper nesting");
    CHECK(error_of("%0: i32 = const 0\n%1: i32 = loop 0 in %0..%0\n%2: i32 = loop 1 in %0..%0\n%3: i32 = sum %1, %2\n") ==
          "line 4: the body depends on a loop variable of a deeper nesting");
    CHECK(error_of(kStart + kEnd + "score = %0\n") == "line 5: the clause is given twice");
    CHECK(error_of(kStart + "score = %1\nmask = %1\n") == "line 4: `score` is of type bool");
    CHECK(error_of(kStart + "mask = %0 extra\n") == "line 3: text after the end of the statement");
    CHECK(error_of("doc \"never ends\n") == "line 1: a quoted text was expected");
    CHECK(error_of("normalize maybe\n") == "line 1: `softmax`, `sigmoid` or `none` was expected");
    CHECK(error_of("blocks nowhere\n") == "line 1: the name of a parameter was expected");
}

TEST_CASE("text: comments, blank lines and CRLF") {
    CHECK(parse_text("# a comment\r\n\r\n" + kStart + "  # more\n" + kEnd, nullptr).has_value());
}

TEST_CASE("text: damaged text never crashes, and what is read is valid") {
    size_t read = 0;
    for (uint64_t seed = 0; seed < 30'000; ++seed) {
        testing::Rng rng(seed);
        std::string text = kEverything;
        const uint32_t edits = 1 + rng.below(4);
        for (uint32_t i = 0; i < edits; ++i) {
            if (text.empty()) break;
            const size_t at = rng.below(static_cast<uint32_t>(text.size()));
            switch (rng.below(5)) {
                case 0: text[at] = static_cast<char>(rng.below(256)); break;
                case 1: text.erase(at, 1 + rng.below(12)); break;
                case 2: text.insert(at, 1, "%0123456789,[]\"- "[rng.below(17)]); break;
                case 3: text.insert(at, text.substr(rng.below(static_cast<uint32_t>(text.size())), rng.below(40))); break;
                default: text.resize(at + 1); break;
            }
        }
        std::string error;
        const auto attention = parse_text(text, &error);
        if (!attention) {
            REQUIRE(error.starts_with("line "));
            continue;
        }
        ++read;
        REQUIRE(verify(*attention) == "");
        REQUIRE(print(*parse_text(print(*attention), nullptr)) == print(*attention));
    }
    CHECK(read > 300);  // edits of numbers and texts leave valid IR
}

TEST_CASE("text: a deep chain is no deep stack") {
    std::string text = "%0: f32 = clause_var score\n%1: bool = const true\n";
    uint32_t last = 0;
    for (uint32_t i = 2; i < 200'000; ++i) {
        text += "%" + std::to_string(i) + ": f32 = sin %" + std::to_string(last) + "\n";
        last = i;
    }
    text += "score = %" + std::to_string(last) + "\nmask = %1\n";
    auto attention = parse_text(text, nullptr);
    REQUIRE(attention.has_value());
    CHECK(print(*attention) == "attention \"\"\n" + text);
    optimise(*attention);
    CHECK(attention->graph.size() == 200'000);
}
