#include <doctest/doctest.h>

#include "diag/source.h"

using namespace flexc::diag;

TEST_CASE("lines and columns") {
    const SourceFile file("a.flex", "one\n\ntwo\r\nthree");
    CHECK(file.line_count() == 4);
    CHECK(file.line(1) == "one");
    CHECK(file.line(2).empty());
    CHECK(file.line(3) == "two");
    CHECK(file.line(4) == "three");
    CHECK(file.line_begin(4) == 10);
    const auto at = [&](uint32_t offset) {
        const LineColumn p = file.position(offset);
        return p.line * 100 + p.column;
    };
    CHECK(at(0) == 101);
    CHECK(at(3) == 104);  // the line end belongs to its line
    CHECK(at(4) == 201);
    CHECK(at(5) == 301);
    CHECK(at(15) == 406);
    CHECK(at(4000) == 406);
}

TEST_CASE("columns count code points, a tab is one") {
    const SourceFile file("a.flex", "\t\xE6\xBC\xA2\xC3\xA9x");
    CHECK(file.position(1).column == 2);
    CHECK(file.position(4).column == 3);
    CHECK(file.position(6).column == 4);
}

TEST_CASE("a byte-order mark is dropped, once") {
    CHECK(SourceFile("a", "\xEF\xBB\xBFx").text() == "x");
    CHECK(SourceFile("a", "\xEF\xBB\xBF\xEF\xBB\xBFx").text().size() == 4);
    CHECK(SourceFile("a", "\xEF\xBB").text().size() == 2);
}

TEST_CASE("an empty file has one empty line") {
    const SourceFile file("a", "");
    CHECK(file.line_count() == 1);
    CHECK(file.line(1).empty());
    CHECK(file.position(0).line == 1);
}

TEST_CASE("spans") {
    SourceManager sources;
    sources.add("a", "hello");
    const FileId id = sources.add("b", "hello world");
    CHECK(id == 1);
    CHECK(sources.text({id, 6, 11}) == "world");
    CHECK(sources.text({id, 6, 400}) == "world");
    CHECK(sources.text({id, 400, 400}).empty());
    const Span both = Span{id, 6, 8}.to({id, 2, 4});
    CHECK(both.begin == 2);
    CHECK(both.end == 8);
}
