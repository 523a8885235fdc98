// Names by place on programs with and without errors, and what may stand at a place of a half-typed text.
#include "frontend/query.h"

#include <doctest/doctest.h>

#include "frontend/query_context.h"
#include "frontend/sema_names.h"

using namespace flexc;
using frontend::CursorContext;
using Place = CursorContext::Place;

namespace {

struct Read {
    diag::SourceManager sources;
    diag::Sink sink;
    diag::FileId file = 0;
    std::unique_ptr<frontend::Program> program;
    std::unique_ptr<frontend::NameIndex> names;
    std::string text;

    explicit Read(std::string source) : text(std::move(source)) {
        file = sources.add("x.flex", text);
        program = frontend::analyse(sources, file, {}, sink);
        names = std::make_unique<frontend::NameIndex>(*program);
    }
    /// The symbol at the n-th place of a word.
    const frontend::Symbol* at(const std::string& word, int occurrence = 0) {
        size_t where = text.find(word);
        for (; occurrence > 0; --occurrence) where = text.find(word, where + 1);
        const frontend::Use* use = names->at(file, static_cast<uint32_t>(where));
        return use ? use->symbol : nullptr;
    }
};

CursorContext context(std::string text) {
    static std::string kept;  // the word is a view
    const size_t at = text.find('|');
    text.erase(at, 1);
    kept = text;
    return frontend::context_at(kept, static_cast<uint32_t>(at));
}

}  // namespace

TEST_CASE("every name of the language is described, and only those") {
    for (const std::string& name : sema::language_names()) CHECK_MESSAGE(frontend::language_word(name), name);
    for (const frontend::LanguageWord& w : frontend::language_words()) {
        CHECK_MESSAGE(frontend::language_word(w.name) == &w, w.name << " stands twice");
        if (w.kind == frontend::LanguageWord::Kind::Function) CHECK_MESSAGE(sema::builtin_named(w.name), w.name);
        if (w.kind == frontend::LanguageWord::Kind::Index) CHECK_MESSAGE(sema::slot_named(w.name), w.name);
        if (w.kind == frontend::LanguageWord::Kind::Extent) CHECK_MESSAGE(sema::extent_named(w.name), w.name);
    }
}

TEST_CASE("names mean what sema says") {
    Read r(
        "fn f(x: f32) -> f32 = { let y = x; y * y };\n"
        "attention a(t: f32[N], x: i32) {\n    let z = f(t[0]);\n    score = score + z + sum(j in 0..N: t[j]) + f(x = f32(x));\n}\n");
    REQUIRE_FALSE(r.sink.has_errors());
    CHECK(r.at("f(t")->kind == frontend::SymbolKind::Fn);
    CHECK(r.at("y * y")->signature == "let y: f32 = x");
    CHECK(r.at("N: t")->kind == frontend::SymbolKind::FreeExtent);
    CHECK(r.at("t[j]")->signature == "t: f32[N]");
    CHECK(r.at("j]")->kind == frontend::SymbolKind::Loop);
    CHECK(r.at("x = f32")->decl->name.text == "f");  // the callee's
    CHECK(r.at("x))")->decl->name.text == "a");      // the caller's
    CHECK(r.names->all(*r.at("N]")).size() == 2);
    CHECK(r.names->type_at(r.file, static_cast<uint32_t>(r.text.find("+ z")))->type == "f32");
    CHECK(r.names->at(r.file, static_cast<uint32_t>(r.text.find("= { "))) == nullptr);
}

TEST_CASE("a program with errors is read as far as it goes") {
    Read r(
        "mask good(w: i32) = q - k <= w;\nmask bad(x: = ;\nattention a() {\n    score = ;\n    mask = good(nothing) and k < "
        "q;\n}\nattention a() { mask = good(1.0); }\n");
    REQUIRE(r.sink.has_errors());
    CHECK(r.at("good(nothing")->signature == "mask good(w: i32)");
    CHECK(r.at("k < q")->name == "k");
    CHECK(r.at("nothing") == nullptr);
    CHECK(r.at("good(1.0")->kind == frontend::SymbolKind::Mask);
    CHECK(r.names->visible(r.file, "good") == r.at("good(1.0"));
}

TEST_CASE("contexts") {
    CHECK(context("|").place == Place::Declaration);
    CHECK(context("mask m() = q < k;\nat|").word == "at");
    CHECK(context("mask m() = q < k;\nat|").place == Place::Declaration);
    CHECK(context("import |").place == Place::Import);
    CHECK(context("attention a(x: |").place == Place::Type);
    CHECK(context("attention a(x: f32[|").place == Place::Extent);
    CHECK(context("attention a(x: i32, |").place == Place::Parameter);
    CHECK(context("attention |").place == Place::Nothing);
    CHECK(context("attention a() {\n    |").place == Place::Clause);
    CHECK(context("attention a() {\n    mask = q < k;\n    |").clauses_given == std::vector<std::string>{"mask"});
    CHECK(context("fn f(x: f32) -> f32 = x |").place == Place::Operator);
    CHECK(context("fn f(x: f32) -> f32 = x + |").place == Place::Expression);
    CHECK(context("attention a() { sink = |").clause == ast::ClauseKind::Sink);
    CHECK(context("attention a() { mask = q # |").place == Place::Nothing);
    const CursorContext call = context("mask m(inner: mask, w: i32) = clamp(q, min(1, 2), k = |");
    REQUIRE(call.call);
    CHECK(call.call->name == "clamp");
    CHECK(call.call->argument == 2);
    CHECK(call.call->named == "k");
    CHECK(call.locals.size() == 2);
    CHECK(context("mask m(n: i32) = any(j in 0..n: |").locals.size() == 2);
    CHECK(context("mask m(n: i32) = any(j in 0..n: j < k) or |").locals.size() == 1);
    CHECK(context("attention a() {\n    let a = { 1 }\n    let c = 2;\n    mask = |").locals.size() == 2);
    CHECK(context("fn f() -> i32 = {\n    let a = 1;\n    let c = { let e = a; e };\n    |").locals.size() == 2);
}
