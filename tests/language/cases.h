// What LANGUAGE says a program means, as data: a program, its inputs, and what must come out. Each case quotes the sentence that it
// would catch being false. An engine that runs them needs `o`, `lse`, `max_score` and the emits of a whole attention, nothing inside it.
//
// Most cases ask for the value of an expression. They use it as the score of an attention with one query and one key, where
// lse is that value. Defaults: B = H = HKV = Q = K = D = DV = 1, q and k all 1 (so the raw score is sqrt(D)), v[b, hkv, k, d] = 100 b + 10
// hkv + k.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace flexc::language {

struct Shape {
    int32_t B = 1, H = 1, HKV = 1, Q = 1, K = 1, D = 1, DV = 1;
};

/// Row-major; a scalar has no shape. Integers and booleans are exact.
struct Array {
    std::string name;
    std::vector<int32_t> shape;
    std::vector<double> values;
};

/// One element of one output: "o" [B,H,Q,DV], "lse" and "max_score" [B,H,Q], or an emit ([B,H,Q], [B,H,K]).
struct Expected {
    std::string output;
    std::vector<int32_t> at;
    double value;
};

struct Case {
    std::string section;  // of LANGUAGE: "text", "declarations", "expressions", "meaning", "std", "clauses"
    std::string sentence;
    std::string source;  // one attention
    Shape shape;
    std::vector<Array> arrays;  // parameters, and `q`, `k`, `v` where they are not the default
    std::vector<Expected> expected;
    std::map<std::string, std::string> consts;
    std::map<std::string, std::string> files;  // importable, by path
    double tolerance = 1e-6;                   // relative and absolute; 0: exact
};

/// A program that must not be accepted, and the code of the diagnostic that says why.
struct Rejection {
    std::string section;
    std::string sentence;
    std::string source;
    std::string code;
    std::map<std::string, std::string> files;
};

[[nodiscard]] std::vector<Case> text_cases();
[[nodiscard]] std::vector<Case> declaration_cases();
[[nodiscard]] std::vector<Case> expression_cases();
[[nodiscard]] std::vector<Case> meaning_cases();
[[nodiscard]] std::vector<Case> clause_cases();
[[nodiscard]] std::vector<Case> std_cases();
[[nodiscard]] std::vector<Rejection> rejections();

/// All of the above cases.
[[nodiscard]] std::vector<Case> all_cases();

}  // namespace flexc::language
