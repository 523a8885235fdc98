// The layout of random programs, with comments between any two words: same tree, same comments in the same order, stable, and the same
// whatever the layout was before. And single rules of it.
#include "frontend/format.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "frontend/parse.h"

using namespace flexc;

namespace {

struct Result {
    bool parsed = false;
    frontend::Formatted formatted;
    std::string errors;
};

Result layout(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    const diag::FileId id = sources.add("x.flex", text);
    Result r;
    if (auto f = frontend::format(sources, id, sink)) {
        r.parsed = true;
        r.formatted = std::move(*f);
    }
    r.errors = diag::render_all(sources, sink, false);
    return r;
}

/// The layout of a text that has one and keeps its meaning.
std::string formatted(const std::string& text) {
    const Result r = layout(text);
    REQUIRE_MESSAGE(r.parsed, r.errors << "\n" << text);
    REQUIRE_MESSAGE(r.formatted.faithful, text << "\n---\n" << r.formatted.text);
    return r.formatted.text;
}

std::string tree(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    return ast::print(*frontend::parse(sources, sources.add("x.flex", text), sink));
}

/// Random programs of every rule of the grammar, as words and signs.
class Generator {
public:
    explicit Generator(uint32_t seed) : random_(seed) {}

    std::vector<std::string> program() {
        out_.clear();
        for (size_t n = 1 + pick(4); n-- > 0;) declaration();
        return out_;
    }
    size_t pick(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }

private:
    bool chance(size_t percent) { return pick(100) < percent; }
    void put(const char* w) { out_.emplace_back(w); }
    template <size_t N>
    void one_of(const char* const (&words)[N]) {
        put(words[pick(N)]);
    }
    void name() { one_of({"x", "q", "k", "doc", "a_long_name_of_a_captured_tensor", "softmax", "sink", "window", "B", "emit"}); }

    void declaration() {
        switch (pick(7)) {
            case 0: put("import"), chance(50) ? put("std") : put("\"a b.flex\""), put(";"); break;
            case 1: put("const"), name(), put(":"), type(), put("="), body(); break;
            case 2: put("fn"), name(), parameters(), put("->"), type(), put("="), body(); break;
            case 3: put("mask"), name(), parameters(), put("="), body(); break;
            case 4: put("score"), name(), parameters(), put("="), body(); break;
            default: attention();
        }
    }
    void type() {
        one_of({"f32", "i32", "bool", "mask"});
        if (chance(50)) return;
        put("[");
        expr(1);
        while (chance(40)) put(","), expr(1);
        put("]");
    }
    void parameters() {
        put("(");
        for (size_t n = pick(7), i = 0; i < n; ++i) {
            if (i > 0) put(",");
            if (chance(10)) put("const");
            one_of({"x", "slope", "a_long_parameter"});
            put(":");
            if (chance(10)) put("grad");
            type();
            if (chance(30)) put("="), expr(2);
            if (i + 1 == n && chance(30)) put(",");
        }
        put(")");
    }
    void body() {
        if (chance(20)) {
            block(3);
            if (chance(50)) put(";");
        } else {
            expr(3);
            put(";");
        }
    }
    void let() { put("let"), name(), put("="), body(); }
    void block(size_t depth) {
        put("{");
        for (size_t n = pick(3); n-- > 0;) let_in(depth);
        value(depth);
        put("}");
    }
    void let_in(size_t depth) {
        put("let"), name(), put("=");
        expr(depth > 0 ? depth - 1 : 0);
        put(";");
    }
    void value(size_t depth) { depth > 0 && chance(10) ? block(depth - 1) : expr(depth); }
    void attention() {
        put("attention"), name();
        if (chance(90)) parameters();
        put("{");
        for (size_t n = pick(6); n-- > 0;) {
            switch (pick(6)) {
                case 0: let(); break;
                case 1: put("normalize"), chance(50) ? put("=") : void(), one_of({"softmax", "sigmoid", "none"}), put(";"); break;
                case 2: put("emit"), name(), put("="), one_of({"mean", "column_sum"}), put("("), value(2), put(")"), put(";"); break;
                default: one_of({"scale", "score", "mask", "sink", "blocks", "query", "key", "output"}), put("="), body();
            }
        }
        put("}");
    }
    void expr(size_t depth) {
        conditional(depth);
        while (depth > 0 && chance(8)) put("|>"), name(), put("("), arguments(depth - 1), put(")");
    }
    void conditional(size_t depth) {
        if (depth == 0 || chance(88)) return binary(depth);
        put("if"), expr(depth - 1), put("then"), branch(depth - 1), put("else"), branch(depth - 1);
    }
    void branch(size_t depth) { chance(30) && depth > 0 ? block(depth - 1) : conditional(depth); }
    void binary(size_t depth) {
        // `not` stands before a comparison: after `and`, `or`, or at the start.
        bool loose = true;
        for (size_t n = depth == 0 ? 1 : 1 + pick(4), i = 0; i < n; ++i) {
            if (i > 0) {
                loose = chance(35);
                if (loose)
                    one_of({"and", "or"});
                else
                    one_of({"==", "!=", "<", "<=", ">", ">=", "|", "^", "&", "<<", ">>", "+", "-", "*", "/", "//", "%"});
            }
            while (loose && chance(10)) put("not");
            while (chance(12)) one_of({"-", "~"});
            postfix(depth);
        }
    }
    void postfix(size_t depth) {
        if (depth == 0 || chance(30)) return primary(depth);
        switch (pick(5)) {
            case 0: put("("), value(depth - 1), put(")"); break;
            case 1: put("("), put("("), value(depth - 1), put(")"), put(")"); break;
            case 2:
                name(), put("[");
                for (size_t n = 1 + pick(3), i = 0; i < n; ++i) {
                    if (i > 0) put(",");
                    chance(15) ? put(":") : expr(depth - 1);
                }
                put("]");
                break;
            case 3:
                one_of({"sum", "any", "min"});
                put("("), name(), put("in"), expr(depth - 1), put(".."), expr(depth - 1), put(":"), value(depth - 1), put(")");
                break;
            default: name(), put("("), arguments(depth - 1), put(")");
        }
    }
    void arguments(size_t depth) {
        const size_t positional = pick(3), named = pick(3);
        for (size_t i = 0; i < positional + named; ++i) {
            if (i > 0) put(",");
            if (i >= positional) chance(30) ? put("score") : name(), put("=");
            value(depth);
            if (i + 1 == positional + named && chance(20)) put(",");
        }
    }
    void primary(size_t depth) {
        (void)depth;
        chance(50) ? name() : one_of({"1", "0xff", "1_000", "2.", ".5", "1e-3", "true", "false", "score", "0.25"});
    }

    std::mt19937 random_;
    std::vector<std::string> out_;
};

/// The words with random blanks and, where asked, comments between them. No blank lines, unless with comments.
std::string scatter(const std::vector<std::string>& words, std::mt19937& random, size_t comments_percent, const char* newline,
                    std::vector<std::string>* comments) {
    const auto pick = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
    std::string out;
    const auto gap = [&](bool comment_allowed) {
        if (comment_allowed && pick(100) < comments_percent) {
            for (size_t n = 1 + pick(2); n-- > 0;) {
                const std::string text = (pick(3) == 0 ? "## c" : "# c") + std::to_string(comments->size()) + (pick(5) == 0 ? " ä" : "");
                comments->push_back(text);
                if (pick(2) == 0) out += newline;
                if (pick(4) == 0) out += newline;
                out += std::string(pick(3), ' ') + text + std::string(pick(2), ' ') + newline;
                if (pick(4) == 0) out += newline;
            }
            return;
        }
        out += pick(6) == 0 ? newline : pick(6) == 0 ? "\t" : std::string(1 + pick(3), ' ');
    };
    for (size_t i = 0; i < words.size(); ++i) {
        if (i > 0 || comments_percent > 0) gap(true);
        out += words[i];
    }
    gap(true);
    return out;
}

std::vector<std::string> comments_of(const std::string& text) {
    std::vector<std::string> found;
    bool quoted = false;
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '"') quoted = !quoted;
        if (text[i] != '#' || quoted) continue;
        const size_t end = std::min(text.find_first_of("\r\n", i), text.size());
        found.push_back(text.substr(i, end - i));
        i = end;
    }
    return found;
}

bool parses(const std::string& text) {
    diag::SourceManager sources;
    diag::Sink sink;
    (void)frontend::parse(sources, sources.add("x.flex", text), sink);
    return !sink.has_errors();
}

}  // namespace

TEST_CASE("random programs with comments anywhere keep tree and comments, and are stable") {
    size_t tried = 0;
    for (uint32_t seed = 0; seed < 300; ++seed) {
        CAPTURE(seed);
        Generator generator(seed);
        std::mt19937 random(seed);
        const std::vector<std::string> words = generator.program();
        if (!parses(scatter(words, random, 0, "\n", nullptr))) continue;  // `if` after a binary operator and the like
        ++tried;
        std::vector<std::string> comments;
        const std::string text = scatter(words, random, seed % 4 == 0 ? 2 : seed % 4 * 12, seed % 5 == 0 ? "\r\n" : "\n", &comments);
        const std::string once = formatted(text);
        CHECK_MESSAGE(comments_of(once) == comments, text << "\n---\n" << once);
        CHECK(tree(text) == tree(once));
        CHECK_MESSAGE(formatted(once) == once, text << "\n---\n" << once << "\n---\n" << formatted(once));
        CHECK((once.find("\r\n") != std::string::npos) == (text.find("\r\n") != std::string::npos && text[text.find('\n') - 1] == '\r'));
        for (size_t at = once.find('\n'); at != std::string::npos; at = once.find('\n', at + 1))
            CHECK_FALSE((at > 0 && (once[at - 1] == ' ' || once[at - 1] == '\t')));
        CHECK(once.find("\n\n\n") == std::string::npos);
    }
    CHECK(tried > 200);
}

TEST_CASE("the layout before does not matter") {
    size_t tried = 0;
    for (uint32_t seed = 10'000; seed < 10'150; ++seed) {
        CAPTURE(seed);
        Generator generator(seed);
        std::mt19937 random(seed);
        const std::vector<std::string> words = generator.program();
        const std::string first = scatter(words, random, 0, "\n", nullptr);
        if (!parses(first)) continue;
        ++tried;
        std::string flat;
        for (const std::string& w : words) flat += w + " ";
        CHECK(formatted(first) == formatted(flat));
    }
    CHECK(tried > 90);
}

TEST_CASE("parentheses stay, doubled ones do not") {
    CHECK(formatted("mask m()=((((q<k))) and (q)<(k+(1)));") == "mask m() = ((q < k) and (q) < (k + (1)));\n");
    std::string deep = "score";
    std::mt19937 random(7);
    for (int i = 0; i < 150; ++i) {
        static constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "<<", "&"};
        const std::string sign(kSigns[random() % 6]);
        deep = random() % 2 ? "(" + deep + ")" + sign + "2" : "1" + sign + "(" + deep + ")";
    }
    const std::string text = "score s() = " + deep + ";";
    const std::string once = formatted(text);
    CHECK(tree(text) == tree(once));
    CHECK(formatted(once) == once);
    const auto count = [](const std::string& s, char c) { return std::count(s.begin(), s.end(), c); };
    CHECK(count(once, '(') == count(text, '('));
}

TEST_CASE("what is long is broken") {
    const std::string word = "a_rather_long_name_of_something";
    std::string params, sum = word;
    for (int i = 0; i < 5; ++i) params += word + std::to_string(i) + ": i32 = 1,", sum += " + " + word;
    CHECK(formatted("fn f(" + params + ")->i32=1;") ==
          "fn f(\n    a_rather_long_name_of_something0: i32 = 1,\n    a_rather_long_name_of_something1: i32 = 1,\n"
          "    a_rather_long_name_of_something2: i32 = 1,\n    a_rather_long_name_of_something3: i32 = 1,\n"
          "    a_rather_long_name_of_something4: i32 = 1,\n) -> i32 = 1;\n");
    CHECK(formatted("attention a(){score=" + sum + ";}") ==
          "attention a() {\n    score = a_rather_long_name_of_something\n        + a_rather_long_name_of_something\n"
          "        + a_rather_long_name_of_something\n        + a_rather_long_name_of_something\n"
          "        + a_rather_long_name_of_something\n        + a_rather_long_name_of_something;\n}\n");
    // 120 columns fit, 121 do not.
    const auto clause = [](size_t columns) {
        return "attention a() {\n    mask = " + std::string(columns - 11 - 8, 'x') + "() or y;\n}\n";
    };
    CHECK(formatted(clause(120)) == clause(120));
    CHECK(formatted(clause(121)).find("\n        or y;") != std::string::npos);
}

TEST_CASE("clauses in a run share a column, lets and comments end it") {
    CHECK(formatted("attention a(){scale=1.0;key=query[d];let x=1;mask=true;\n\nscore=score;\n# c\nsink=0.0;}") ==
          "attention a() {\n    scale = 1.0;\n    key   = query[d];\n    let x = 1;\n    mask = true;\n\n    score = score;\n    # c\n    "
          "sink = 0.0;\n}\n");
}

TEST_CASE("empty, only comments, and no end of line") {
    CHECK(formatted("").empty());
    CHECK(formatted("\n\n  \n").empty());
    CHECK(formatted("\n\n# a\n\n\n#b  \n\n") == "# a\n\n#b\n");
    CHECK(formatted("import std;") == "import std;\n");
    CHECK(formatted("\xEF\xBB\xBF"
                    "import std;") == "import std;\n");
}

TEST_CASE("a file with a syntax error has no layout") {
    const Result r = layout("attention a() { mask = causal() }\nfn");
    CHECK_FALSE(r.parsed);
    CHECK(r.errors.find("E1010") != std::string::npos);
}

TEST_CASE("time grows with the size alone") {
    const auto seconds = [](size_t n) {
        std::string text;
        for (size_t i = 0; i < n; ++i)
            text += "mask m" + std::to_string(i) + "(a:i32,b:i32)=a*(q-k)<b and(q==k or k//a%b==(q-a)//b); # c\n";
        const auto start = std::chrono::steady_clock::now();
        CHECK(layout(text).formatted.faithful);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    (void)seconds(50);
    const double small = seconds(500), large = seconds(4000);
    MESSAGE("500 declarations: ", small, " s; 4000: ", large, " s");
    CHECK(large < small * 8 * 3);
}
