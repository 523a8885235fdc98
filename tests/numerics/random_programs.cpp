#include "tests/numerics/random_programs.h"

#include <algorithm>
#include <array>

namespace numerics {

namespace {

using flex::DType;

/// Writes random expressions. Integers may take any value, and wrap; floats stay within a few units of the score, so that the
/// oracle's bound on rounding holds: what is compared exactly is which keys a row attends to.
class Writer {
public:
    explicit Writer(Random& random) : random_(random) {}

    std::string boolean(int depth) {
        if (depth <= 0) return leaf_condition();
        switch (random_.integer(0, 13)) {
            case 0:
            case 1: return "(" + boolean(depth - 1) + " and " + boolean(depth - 1) + ")";
            case 2:
            case 3: return "(" + boolean(depth - 1) + " or " + boolean(depth - 1) + ")";
            case 4: return "not (" + boolean(depth - 1) + ")";
            case 5: return "(if " + boolean(depth - 1) + " then " + boolean(depth - 1) + " else " + boolean(depth - 1) + ")";
            case 6: return "(" + boolean(depth - 1) + ") " + pick({"==", "!="}) + " (" + boolean(depth - 1) + ")";
            case 7: return pick({"any", "all"}) + "(" + loop(depth, [&] { return boolean(depth - 2); }) + ")";
            case 8: return "flag[" + integer(depth - 1) + "]";
            case 9: return integer(depth - 1) + " <= " + integer(depth - 1) + " < " + integer(depth - 1);
            case 10: return "select(" + boolean(depth - 1) + ", " + boolean(depth - 1) + ", " + boolean(depth - 1) + ")";
            default: return integer(depth - 1) + " " + comparison() + " " + integer(depth - 1);
        }
    }

    std::string integer(int depth) {
        if (depth <= 0) return leaf_integer();
        const auto two = [&](const std::string& op) { return "(" + integer(depth - 1) + " " + op + " " + integer(depth - 1) + ")"; };
        switch (random_.integer(0, 19)) {
            case 0:
            case 1: return two("+");
            case 2:
            case 3: return two("-");
            case 4: return two("*");
            case 5: return two("//");
            case 6: return two("%");
            case 7: return two(pick({"&", "|", "^"}));
            case 8: return two(pick({"<<", ">>"}));
            case 9: return pick({"min", "max"}) + "(" + integer(depth - 1) + ", " + integer(depth - 1) + ")";
            case 10: return pick({"abs", "sign", "-", "~"}) + "(" + integer(depth - 1) + ")";
            case 11: return "clamp(" + integer(depth - 1) + ", " + integer(depth - 1) + ", " + integer(depth - 1) + ")";
            case 12: return "(if " + boolean(depth - 1) + " then " + integer(depth - 1) + " else " + integer(depth - 1) + ")";
            case 13: return "doc[" + integer(depth - 1) + "]";
            case 14: return "grid[" + integer(depth - 1) + ", " + integer(depth - 1) + "]";
            case 15: return "i32(" + boolean(depth - 1) + ")";
            case 16: return pick({"sum", "min", "max"}) + "(" + loop(depth, [&] { return integer(depth - 2); }) + ")";
            case 17: return "small[" + integer(depth - 1) + "]";
            default: return "(" + integer(depth - 1) + pick({" + ", " - ", " * ", " // ", " % "}) + constant() + ")";
        }
    }

    /// Changes the score by bounded terms.
    std::string score(int depth) {
        switch (depth <= 0 ? 0 : random_.integer(0, 6)) {
            case 0: return "score";
            case 1: return score(depth - 1) + " + tanh(0.015625 * f32(" + integer(depth) + "))";
            case 2: return "0.5 * (" + score(depth - 1) + ") - bias[" + integer(depth - 1) + "]";
            case 3: return "(if " + boolean(depth - 1) + " then " + score(depth - 1) + " else 0.25 * (" + score(depth - 1) + "))";
            case 4: return "min(" + score(depth - 1) + ", sigmoid(f32(" + integer(depth - 1) + ")) + 1)";
            case 5: return "2.0 * tanh(" + score(depth - 1) + ")";
            default: return "max(" + score(depth - 1) + ", -sqrt(abs(f32(" + leaf_integer() + "))))";
        }
    }

private:
    std::string pick(std::vector<std::string> from) {
        return from[static_cast<size_t>(random_.integer(0, static_cast<int>(from.size()) - 1))];
    }
    std::string comparison() { return pick({"<", "<=", ">", ">=", "==", "!="}); }
    std::string constant() {
        static const std::vector<int> interesting = {0, 1, 2, 3, 5, 7, 8, 16, 31, 32, 33, 64, 100, -1, -2, -7, -33};
        const int value = interesting[static_cast<size_t>(random_.integer(0, static_cast<int>(interesting.size()) - 1))];
        return random_.chance(0.03) ? pick({"(0x7fffffff - n)", "(n - 0x7fffffff)", "(n << 16)"})
               : value < 0          ? "(" + std::to_string(value) + ")"
                                    : std::to_string(value);
    }
    std::string leaf_integer() {
        if (!variables_.empty() && random_.chance(0.3)) return variables_.back();
        switch (random_.integer(0, 11)) {
            case 0:
            case 1:
            case 2: return "q";
            case 3:
            case 4:
            case 5: return "k";
            case 6: return pick({"h", "b", "hkv"});
            case 7: return pick({"Q", "K", "H", "HKV", "N"});
            case 8: return "n";
            case 9: return pick({"doc[q]", "doc[k]"});
            default: return constant();
        }
    }
    /// Conditions as real masks have them: these are what the analysis of tiles must get right.
    std::string leaf_condition() {
        switch (random_.integer(0, 9)) {
            case 0: return "q >= k";
            case 1: return "q - k " + comparison() + " " + leaf_integer();
            case 2: return "k < " + leaf_integer();
            case 3: return "q % " + constant() + " " + comparison() + " k % " + constant();
            case 4: return "doc[q] " + comparison() + " doc[k]";
            case 5: return "flag[" + leaf_integer() + "]";
            case 6: return "q // n " + comparison() + " k // n";
            case 7: return "abs(q - k) <= " + constant();
            case 8: return pick({"on", "true", "false", "flag[k]", "flag[q]"});
            default: return leaf_integer() + " " + comparison() + " " + leaf_integer();
        }
    }
    /// "j in lo..hi: body" with few trips, whatever the bounds are made of.
    template <class Body>
    std::string loop(int depth, Body body) {
        const std::string variable = "j" + std::to_string(variables_.size());
        const std::string low = pick({"0", "0", "-2", "h"});
        const std::string high = random_.chance(0.5) ? pick({"4", "n % 5", "b + 3", "0"}) : "clamp(" + integer(depth - 2) + ", -1, 5)";
        variables_.push_back(variable);
        const std::string text = variable + " in " + low + ".." + high + ": " + body();
        variables_.pop_back();
        return text;
    }

    Random& random_;
    std::vector<std::string> variables_;
};

}  // namespace

RandomProgram random_program(Random& random) {
    RandomProgram p;
    Shape& s = p.inputs.shape;
    s.hkv = random.integer(1, 2);
    s.h = s.hkv * random.integer(1, 2);
    s.b = random.integer(1, 2);
    s.kvb = random.chance(0.5) ? 1 : s.b;
    s.q = random.chance(0.2) ? random.integer(1, 5) : random.integer(6, 150);
    s.k = random.chance(0.2) ? random.integer(1, 5) : random.integer(6, 300);
    s.d = s.dv = 8;

    const int n = std::max(s.q, s.k);
    std::vector<int> doc, flag, grid, tiny;
    std::vector<double> bias;
    for (int i = 0; i < n; ++i) doc.push_back(i == 0 ? 0 : doc.back() + (random.chance(0.05) ? 1 : 0));
    if (random.chance(0.3))
        for (int& d : doc) d = random.integer(-3, 8);
    for (int i = 0; i < n; ++i) flag.push_back(random.chance(0.5));
    for (int i = 0; i < 7 * 11; ++i) grid.push_back(random.integer(-20, 300));
    for (int i = 0; i < 40; ++i) tiny.push_back(random.integer(-128, 127));
    for (int i = 0; i < 50; ++i) bias.push_back(static_cast<double>(static_cast<float>(random.normal())));
    p.inputs.captured = {tensor("doc", DType::I32, {n}, doc),       tensor("flag", DType::Bool, {n}, flag),
                         tensor("grid", DType::I16, {7, 11}, grid), tensor("small", DType::I8, {40}, tiny),
                         tensor("bias", DType::F32, {50}, bias),    scalar("n", random.integer(-2, 60)),
                         scalar_bool("on", random.chance(0.7))};
    p.inputs.inexact_constants = true;  // the compiler may fold sqrt of a constant
    p.inputs.variant.score_ops = 400;   // sums of several of the terms that Writer::score makes, with their functions

    Writer writer(random);
    std::string mask = writer.boolean(random.integer(1, 4));
    std::string body = "    mask = " + mask + ";\n";
    if (random.chance(0.5)) body += "    score = " + writer.score(random.integer(1, 3)) + ";\n";
    p.source =
        "attention random(doc: i32[N], flag: bool[N], grid: i16[X, Y], small: i8[Z], bias: f32[W], n: i32, on: bool) {\n" + body + "}\n";
    return p;
}

}  // namespace numerics
