#include "tests/language/builders.h"

namespace flexc::language {

std::vector<Case> text_cases() {
    const std::string s = "text";
    std::vector<Case> c;
    Case crlf = value(s, "UTF-8, LF or CRLF", "0", 3);
    crlf.source = "# \xC3\xA9t\xC3\xA9\r\nattention t {\r\n    score = 1.0 +\r\n        2.0;\r\n}\r\n";
    c.push_back(crlf);
    Case comment = value(s, "`#` starts a comment", "0", 4);
    comment.source = "attention t { # score = 1; }\n score = 4.0; # the end\n}";
    c.push_back(comment);
    c.push_back(value(s, "`//` is floor division", "f32((k + 7) // 2)", 3));
    c.push_back(value(s, "Integers `12`, `1_000`, `0xff`", "f32(k + 12 + 1_000 + 0xff)", 1267));
    c.push_back(value(s, "floats `1.0`, `1e30`, `.5`", "1.0 + .5 + 1e30 / 1e30 + 1_0.5 + 2.", 15));
    c.push_back(truth(s, "`true`, `false`", "true and not false"));
    c.push_back(truth(s, "constants `inf`, `pi`", "inf > 3e38 and -inf < -3e38 and 3.1415925 < pi < 3.1415929"));
    c.push_back(value(s, "An integer *literal* adapts to f32 where f32 is wanted (`score * 2`)", "score * 2", 2));
    c.push_back(value(s, "An integer *literal* adapts to f32: in calls", "max(score, 3) + exp2(2) + clamp(score, 2, 5)", 9));
    c.push_back(value(s, "An integer *literal* adapts to f32: in branches", "score + (if k == 0 then 2 else 3)", 3));
    c.push_back(value(s, "(or constant expression of literals) adapts to f32", "score * (2 * 3 + 8 // 3 - -1)", 9));
    c.push_back(value(s, "a constant expression of literals is computed as integers before it adapts", "score * (7 // 2)", 3));
    c.push_back(value(s, "`/` wants f32, so two literals adapt to it", "1 / 2", 0.5));
    c.push_back(value(s, "an integer literal beyond i32 adapts too", "score * 4294967296 / 4294967296", 1));
    return c;
}

}  // namespace flexc::language
