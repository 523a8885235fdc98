#include "frontend/parse.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>

using namespace flexc;

namespace {

struct Parsed {
    diag::SourceManager sources;
    diag::Sink sink;
    std::unique_ptr<ast::File> file;

    explicit Parsed(std::string text) {
        const diag::FileId id = sources.add("f.flex", std::move(text));
        file = frontend::parse(sources, id, sink);
    }
    std::string first_code() const { return sink.all().empty() ? "" : std::string(diag::info(sink.all()[0].kind).code); }
};

/// An expression in prefix form on one line: "(+ a (* b c))".
std::string brief(const ast::Expr& e) {
    std::string head;
    switch (e.kind) {
        case ast::ExprKind::Unary: head = text(e.unary); break;
        case ast::ExprKind::Binary: head = text(e.binary); break;
        case ast::ExprKind::Chain:
            for (const auto op : e.chain) head += text(op);
            break;
        case ast::ExprKind::If: head = "if"; break;
        case ast::ExprKind::Call: head = e.text; break;
        case ast::ExprKind::Index: head = "[]"; break;
        case ast::ExprKind::Slice: return ":";
        case ast::ExprKind::Reduce: head = e.text + " " + e.variable.text; break;
        case ast::ExprKind::Block: head = "block"; break;
        case ast::ExprKind::Pipe: head = "|>"; break;
        default: return e.text;
    }
    std::string out = "(" + head;
    for (const ast::Let& l : e.lets) out += " " + l.name.text + "=" + brief(*l.value);
    for (const ast::Expr* a : e.args) out += " " + brief(*a);
    for (const ast::NamedArg& a : e.named) out += " " + a.name.text + "=" + brief(*a.value);
    return out + ")";
}

std::string expression(const std::string& source) {
    const Parsed p("fn f() -> f32 = " + source + ";");
    if (p.sink.has_errors()) return p.first_code() + " " + p.sink.all()[0].message;
    return brief(*p.file->decls.at(0)->body);
}

}  // namespace

TEST_CASE("precedence, loosest first") {
    CHECK(expression("a |> f(b) |> g") == "(|> (|> a (f b)) g)");
    CHECK(expression("if c then a else b |> f") == "(|> (if c a b) f)");
    CHECK(expression("if c or d then a or b else e or g") == "(if (or c d) (or a b) (or e g))");
    CHECK(expression("if a then b else if c then d else e") == "(if a b (if c d e))");
    CHECK(expression("if a then if b then c else d else e") == "(if a (if b c d) e)");
    CHECK(expression("a or b and c or d") == "(or (or a (and b c)) d)");
    CHECK(expression("not a and b") == "(and (not a) b)");
    CHECK(expression("not a == b") == "(not (== a b))");
    CHECK(expression("not not a") == "(not (not a))");
    CHECK(expression("a == b | c") == "(== a (| b c))");
    CHECK(expression("a | b ^ c & d << e + f * -g") == "(| a (^ b (& c (<< d (+ e (* f (- g)))))))");
    CHECK(expression("a - b - c") == "(- (- a b) c)");
    CHECK(expression("a / b // c % d * e") == "(* (% (// (/ a b) c) d) e)");
    CHECK(expression("a << b >> c") == "(>> (<< a b) c)");
    CHECK(expression("-a[b]") == "(- ([] a b))");
    CHECK(expression("-1 // 3") == "(// (- 1) 3)");
    CHECK(expression("- - ~a") == "(- (- (~ a)))");
    CHECK(expression("a - -b") == "(- a (- b))");
    CHECK(expression("a<-1") == "(< a (- 1))");
    CHECK(expression("(a + b) * c") == "(* (+ a b) c)");
}

TEST_CASE("comparison chains") {
    CHECK(expression("a < b") == "(< a b)");
    CHECK(expression("lo <= k < hi == c") == "(<=<== lo k hi c)");
    CHECK(expression("(a < b) == c") == "(== (< a b) c)");
}

TEST_CASE("calls, indices, reductions, blocks") {
    CHECK(expression("f()") == "(f)");
    CHECK(expression("f(a, b + 1, q = c, score = d)") == "(f a (+ b 1) q=c score=d)");
    CHECK(expression("f(a,)") == "(f a)");
    CHECK(expression("x[b, h, q, :]") == "([] x b h q :)");
    CHECK(expression("x[y[q]][1]") == "([] ([] x ([] y q)) 1)");
    CHECK(expression("sum (j in lo..n + 1: x[j])") == "(sum j lo (+ n 1) ([] x j))");
    CHECK(expression("any(sink in 0..3: { let a = sink; a == 1 })") == "(any sink 0 3 (block a=sink (== a 1)))");
    CHECK(expression("min(a, b)") == "(min a b)");
    CHECK(expression("{ let a = 1; let b = a; a + b }") == "(block a=1 b=a (+ a b))");
    CHECK(expression("({ let a = 1; a }) + 1") == "(+ (block a=1 a) 1)");
    CHECK(expression("if c then { a } else { b }") == "(if c (block a) (block b))");
}

TEST_CASE("numbers") {
    CHECK(expression("sum (j in 0..1_000: 1. + .5 + 1.e2 + 2e-3)") == "(sum j 0 1_000 (+ (+ (+ 1. .5) 1.e2) 2e-3))");
    CHECK(expression("1.0..2") != "");
    const auto value = [](const std::string& literal) {
        const Parsed p("fn f() -> i32 = " + literal + ";");
        return p.file->decls.at(0)->body->value;
    };
    CHECK(value("1_000") == 1000);
    CHECK(value("0xff") == 255);
    CHECK(value("0XF_F") == 255);
    CHECK(value("18446744073709551615") == UINT64_MAX);
    CHECK(value("99999999999999999999999") == UINT64_MAX);
    CHECK(value("true") == 1);
}

TEST_CASE("clause words are names in expressions") {
    CHECK(expression("query[d] + key[d] * scale + output + sink + emit + mean(none) + sigmoid(score)") ==
          "(+ (+ (+ (+ (+ (+ ([] query d) (* ([] key d) scale)) output) sink) emit) (mean none)) (sigmoid score))");
}

TEST_CASE("declarations") {
    const Parsed p(
        "import std;\nimport \"a/b.flex\";\nconst N: i32 = 3;\n"
        "attention a(x: grad f32[H, 2 * N + 1], m: mask, const w: i32 = 2,) {\n"
        "  let d = q;\n  normalize sigmoid;\n  emit e = column_sum(1.0);\n  score = { let z = score; z }\n  mask = true;\n}\nattention b { "
        "normalize = none; }");
    REQUIRE_FALSE(p.sink.has_errors());
    REQUIRE(p.file->decls.size() == 5);
    CHECK_FALSE(p.file->decls[0]->import_is_path);
    CHECK(p.file->decls[1]->import_is_path);
    CHECK(p.file->decls[1]->name.text == "a/b.flex");
    const ast::Decl& a = *p.file->decls[3];
    CHECK(a.kind == ast::DeclKind::Attention);
    REQUIRE(a.params.size() == 3);
    CHECK(a.params[0].is_grad);
    CHECK(a.params[0].type.is_tensor);
    CHECK(a.params[0].type.dims.size() == 2);
    CHECK(a.params[1].type.name.text == "mask");
    CHECK(a.params[2].is_const);
    CHECK(a.params[2].default_value->value == 2);
    CHECK(a.lets.size() == 1);
    REQUIRE(a.clauses.size() == 4);
    CHECK(a.clauses[0].normalize.text == "sigmoid");
    CHECK(a.clauses[1].emit_name.text == "e");
    CHECK(a.clauses[1].emit_kind.text == "column_sum");
    CHECK(p.file->decls[4]->clauses[0].normalize.text == "none");
}

TEST_CASE("doc comments") {
    const auto doc = [](const std::string& before) {
        const Parsed p(before + "const N: i32 = 1;");
        return p.file->decls.back()->doc;
    };
    CHECK(doc("## one\n") == "one");
    CHECK(doc("## one\r\n##   two\r\n") == "one\n  two");
    CHECK(doc("## far\n\n# plain\n") == "far");
    CHECK(doc("## other\n\n## mine\n") == "mine");
    CHECK(doc("# plain\n").empty());
    CHECK(doc("## first\nconst M: i32 = 1; ## behind M\n").empty());
    CHECK(doc("## first\nconst M: i32 = 1; ").empty());
    CHECK(doc("## \xC3\xA9t\xC3\xA9\n") == "\xC3\xA9t\xC3\xA9");
    CHECK(doc("    ## indented\n    ") == "indented");
}

TEST_CASE("spans cover what was written") {
    const Parsed p(
        "\xEF\xBB\xBF"
        "fn f() -> f32 = (a + b) * g(c);");
    const ast::Expr& e = *p.file->decls[0]->body;
    CHECK(p.sources.text(e.span) == "(a + b) * g(c)");
    CHECK(p.sources.text(e.args[0]->span) == "(a + b)");
    CHECK(e.args[0]->parenthesised);
    CHECK(p.sources.text(e.operator_span) == "*");
    CHECK(p.sources.text(e.args[1]->operator_span) == "g");
    CHECK(p.sources.text(p.file->decls[0]->span) == "fn f() -> f32 = (a + b) * g(c);");
}

TEST_CASE("several errors, each once, and what is whole is kept") {
    const Parsed p(
        "fn f() -> f32 = 1 +;\nfn g() -> f32 = 1;\nattention a() {\n  let x = ;\n  score = (1;\n  mask = true;\n}\nfn h( -> f32 = 1;\nfn "
        "i() -> f32 = 2;");
    CHECK(p.sink.all().size() == 4);
    REQUIRE(p.file->decls.size() == 5);
    std::string damaged;
    for (const ast::Decl* d : p.file->decls) damaged += d->name.text + (d->damaged ? "! " : " ");
    CHECK(damaged == "f! g a! h! i ");
    CHECK(p.file->decls[2]->clauses.size() == 1);
}

TEST_CASE("what is damaged keeps its name") {
    const Parsed p("import std\nimport \"x.flex\"\nfn f() -> f32 = score |> 4;\nconst N = 3;\nmask (x: i32) = true;\n");
    std::string names;
    for (const ast::Decl* d : p.file->decls) names += d->name.text + (d->damaged ? "! " : " ");
    CHECK(names == "std! x.flex! f! N! ");
    CHECK(p.file->decls[1]->import_is_path);
}

TEST_CASE("fixes mend the text") {
    const auto fixed = [](const std::string& source) {
        const Parsed p(source);
        REQUIRE(p.sink.all().size() == 1);
        REQUIRE(p.sink.all()[0].fixes.size() == 1);
        const diag::Fix& fix = p.sink.all()[0].fixes[0];
        std::string text = source;
        text.replace(fix.span.begin, fix.span.end - fix.span.begin, fix.replacement);
        CHECK_MESSAGE(Parsed(text).sink.all().empty(), text);
        return text;
    };
    CHECK(fixed("import std\n") == "import std;\n");
    CHECK(fixed("attention a() { score = score }") == "attention a() { score = score; }");
    CHECK(fixed("fn f() -> f32 = a && b;") == "fn f() -> f32 = a and b;");
    CHECK(fixed("fn f() -> f32 = a if c else b;") == "fn f() -> f32 = if c then a else b;");
    CHECK(fixed("fn f() -> f32 = 1.0f;") == "fn f() -> f32 = 1.0;");
    CHECK(fixed("fn f() -> f32 = if a: b else c;") == "fn f() -> f32 = if a then b else c;");
    CHECK(fixed("mask m = true;") == "mask m() = true;");
    CHECK(fixed("attention a() { maks = true; }") == "attention a() { mask = true; }");
    CHECK(fixed("attention a() { d = q; }") == "attention a() { let d = q; }");
    CHECK(fixed("fn f() -> f32 = { let y = 1; y; }") == "fn f() -> f32 = { let y = 1; y }");
    CHECK(fixed("fn f() -> f32 = 2 x;") == "fn f() -> f32 = 2 * x;");
    CHECK(fixed("const N = 1;") == "const N: i32 = 1;");
    CHECK(fixed("attention a(x: i32; y: i32) { }") == "attention a(x: i32, y: i32) { }");
    CHECK(fixed("fn f() -> f32 { 1 }") == "fn f() -> f32 = { 1 }");
    CHECK(fixed("fn f() -> f32 = if a then b elif c then d else e;") == "fn f() -> f32 = if a then b else if c then d else e;");
}

TEST_CASE("nesting and depth are bounded") {
    const auto repeat = [](std::string_view text, size_t n) {
        std::string out;
        for (size_t i = 0; i < n; ++i) out += text;
        return out;
    };
    CHECK(expression(repeat("(", 256) + "a" + repeat(")", 256)) == "a");
    CHECK(expression(repeat("(", 257) + "a" + repeat(")", 257)).starts_with("E1003"));
    CHECK(expression(repeat("if a then b else ", 257) + "c").starts_with("E1003"));
    CHECK(expression(repeat("f(a, ", 200) + "b" + repeat(")", 200)).starts_with("(f a (f a"));
    CHECK(expression(repeat("-", 511) + "a").starts_with("(- (-"));
    CHECK(expression(repeat("-", 512) + "a").starts_with("E1004"));
    CHECK(expression(repeat("a+", 20000) + "a").starts_with("E1004"));
    CHECK(expression(repeat("a|>f(b)", 1) + repeat("|>f(b)", 600)).starts_with("E1004"));
    CHECK(expression("a" + repeat("[0]", 600)).starts_with("E1004"));
    CHECK(expression(repeat("not ", 600) + "a").starts_with("E1004"));
    CHECK(Parsed("fn f() -> f32 = " + repeat("(", 1 << 20)).first_code() != "");
    CHECK(Parsed(repeat("fn f(", 100000)).first_code() == "E1003");
}

TEST_CASE("large and hostile files") {
    const auto seconds = [](std::string text) {
        const auto start = std::chrono::steady_clock::now();
        const Parsed p(std::move(text));
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const auto fill = [](std::string_view text, size_t size) {
        std::string out;
        while (out.size() < size) out += text;
        return out;
    };
    constexpr size_t kMega = 1 << 20;
    // Generous: the point is linear against quadratic, on slow machines and under sanitizers too.
    for (const char* piece : {"a + ",     "/*",
                              "//",       "\"",
                              "'",        "1.",
                              "1e+",      "}",
                              "{}",       ";",
                              "if ",      "x = 1;\n",
                              "fn ",      "## d\n",
                              "\xC3\xA9", "fn f(x: f32) -> f32 = x;\n",
                              "mask m(",  "attention a() {",
                              "a.b",      "0x",
                              "!",        "((",
                              "x[",       "let x = 1;"}) {
        CHECK_MESSAGE(seconds(fill(piece, kMega)) < 20.0, piece);
        CHECK_MESSAGE(seconds("attention a() {" + fill(piece, kMega / 16)) < 20.0, piece);
    }
    CHECK(Parsed(std::string(9 << 20, ' ')).first_code() == "E1001");
    CHECK(Parsed(std::string(8 << 20, ' ')).sink.all().empty());
}

TEST_CASE("text that is no UTF-8") {
    for (const char* bad : {"\xFF", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC3", "\xE6\xBC", "\x80"})
        CHECK_MESSAGE(Parsed(std::string("# ") + bad).first_code() == "E1002", bad);
    CHECK(Parsed("# \xF0\x9F\x98\x80 \xE6\xBC\xA2").sink.all().empty());
    CHECK(Parsed(std::string("a\0b", 3)).sink.has_errors());
}

TEST_CASE("nothing at all") {
    CHECK(Parsed("").file->decls.empty());
    CHECK(Parsed(" \r\n\t# only a comment").sink.all().empty());
}
