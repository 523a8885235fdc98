#include <doctest/doctest.h>

#include <set>
#include <string>

#include "diag/diagnostic.h"

using namespace flexc::diag;

namespace {

std::string shown(const std::string& text, uint32_t begin, uint32_t end) {
    SourceManager sources;
    const FileId id = sources.add("f.flex", text);
    Sink sink;
    sink.report(Kind::missing_semicolon, Span{id, begin, end});
    return render_all(sources, sink, false);
}

}  // namespace

TEST_CASE("codes are unique, sorted, and named for their level") {
    std::set<std::string_view> codes, names;
    char band = '0';
    for (const KindInfo& kind : all_kinds()) {
        CHECK_MESSAGE(codes.insert(kind.code).second, kind.code);
        CHECK_MESSAGE(names.insert(kind.name).second, kind.name);
        CHECK(kind.code.size() == 5);
        CHECK(kind.code[0] == (kind.level == Level::Error ? 'E' : 'W'));
        CHECK(kind.code[1] >= band);
        band = kind.code[1];
        CHECK_FALSE(kind.message.ends_with('.'));
    }
}

TEST_CASE("a diagnostic with all its parts") {
    SourceManager sources;
    const FileId id = sources.add("f.flex", "let x = 1\nlet y = 2;\n");
    Sink sink;
    sink.report(Kind::expected_token, Span{id, 9, 9}, "`;`", "nothing")
        .note("after this", Span{id, 4, 5})
        .fix({id, 9, 9}, ";", "write `;`");
    CHECK(render_all(sources, sink, false) ==
          "f.flex:1:10: error[E1007]: expected `;`, found nothing\n"
          "  1 | let x = 1\n"
          "    |          ^\n"
          "    = help: write `;`\n"
          "f.flex:1:5: note: after this\n"
          "  1 | let x = 1\n"
          "    |     ^\n");
    CHECK(sink.all()[0].fixes.size() == 1);
    CHECK(render(sources, sink.all()[0], true).find("\x1b[1;31merror[E1007]:") != std::string::npos);
}

TEST_CASE("carets stand under what they mean") {
    CHECK(shown("\tab\tcd", 4, 6) == "f.flex:1:5: error[E1010]: missing `;`\n  1 |     ab  cd\n    |         ^^\n");
    CHECK(shown("\xE6\xBC\xA2\xE5\xAD\x97 x", 3, 6) ==
          "f.flex:1:2: error[E1010]: missing `;`\n  1 | \xE6\xBC\xA2\xE5\xAD\x97 x\n    |   ^^\n");
    CHECK(shown("ab\r\ncd", 2, 2) == "f.flex:1:3: error[E1010]: missing `;`\n  1 | ab\n    |   ^\n");
    CHECK(shown("ab\n", 3, 3) == "f.flex:2:1: error[E1010]: missing `;`\n  2 |\n    | ^\n");
    CHECK(shown("", 0, 0) == "f.flex:1:1: error[E1010]: missing `;`\n  1 |\n    | ^\n");
    CHECK(shown("ab", 90, 99) == "f.flex:1:3: error[E1010]: missing `;`\n  1 | ab\n    |   ^\n");
}

TEST_CASE("several lines") {
    CHECK(shown("ab (\n  cd\n  ef)\n", 3, 15) ==
          "f.flex:1:4: error[E1010]: missing `;`\n  1 | ab (\n    |    ^\n  ...\n  3 |   ef)\n    |   ^^^\n");
}

TEST_CASE("a long line is cut around the place") {
    const std::string text = shown(std::string(5000, 'a') + "BCD" + std::string(100000, 'e'), 5000, 5003);
    CHECK(text.size() < 500);
    CHECK(text.find("aBCDe") != std::string::npos);
    CHECK(text.find("^^^\n") != std::string::npos);
    CHECK(text.find("…") != std::string::npos);
}

TEST_CASE("what would disturb the terminal is not printed") {
    const std::string text = shown("a\x1b[31m\xE2\x80\xAE\xFF\x01z", 0, 1);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("\xE2\x80\xAE") == std::string::npos);
    CHECK(text.find('\xFF') == std::string::npos);
}

TEST_CASE("order, repetition and limit") {
    SourceManager sources;
    const FileId id = sources.add("f", std::string(200, 'x'));
    Sink sink;
    CHECK_FALSE(sink.has_errors());
    sink.report(Kind::missing_semicolon, Span{id, 5, 6});
    sink.report(Kind::missing_semicolon, Span{id, 2, 3});
    sink.report(Kind::missing_semicolon, Span{id, 5, 6}).help("dropped");
    sink.report(Kind::cannot_read, {}, "a", "b");
    CHECK(sink.all().size() == 3);
    const std::string text = render_all(sources, sink, false);
    CHECK(text.find("cannot read") < text.find("f:1:3"));
    CHECK(text.find("f:1:3") < text.find("f:1:6"));
    CHECK(text.find("dropped") == std::string::npos);

    for (uint32_t i = 10; i < 100; ++i) sink.report(Kind::missing_semicolon, Span{id, i, i});
    CHECK(sink.full());
    CHECK(sink.all().size() == Sink::kMaxErrors + 1);
    CHECK(render_all(sources, sink, false).ends_with("error[E0003]: too many errors; the rest is not shown\n"));
    sink.clear();
    CHECK_FALSE(sink.has_errors());
    CHECK(sink.all().empty());
}

TEST_CASE("warnings are no errors") {
    Sink sink;
    sink.report(Kind::unused_parameter, Span{0, 0, 1}, "x");
    CHECK_FALSE(sink.has_errors());
    CHECK(sink.all()[0].level == Level::Warning);
}

TEST_CASE("nearest") {
    CHECK(nearest("scor", {"mask", "score", "scale"}) == "score");
    CHECK(nearest("maks", {"mask", "score"}) == "mask");
    CHECK(nearest("TANH", {"tanh"}) == "tanh");
    CHECK(nearest("widnow", {"window", "width"}) == "window");
    CHECK(nearest("x", {"y", "z"}).empty());
    CHECK(nearest("xy", {"ab"}).empty());
    CHECK(nearest("something", {"else"}).empty());
    CHECK(nearest("score", {"score"}).empty());
    CHECK(nearest(std::string(100000, 'a'), {"a"}).empty());
    CHECK(nearest("ab", {"ac", "aa"}) == "aa");
}
