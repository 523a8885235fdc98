#include "tools/explain_risks.h"

#include <fmt/format.h>

#include "ir/numeric_risks.h"
#include "ir/source_text.h"

namespace flexc::tools {

namespace {

struct Words {
    std::string risk, help;
};

Words words_for(const ir::NumericRisk& risk, const std::string& operand) {
    using Why = ir::NumericRisk::Why;
    switch (risk.why) {
        case Why::LogOfNegative:
            return {fmt::format("is NaN where {} is negative, and one NaN spoils its whole row", operand),
                    fmt::format("`if x > 0.0 then log(x) else -inf`, or `log(max(x, 1e-20))`, with x = {}", operand)};
        case Why::LogOfZero:
            return {fmt::format("is -inf where {} is 0, which hides the key", operand), "if that is not meant: `log(max(x, 1e-20))`"};
        case Why::SqrtOfNegative: return {fmt::format("is NaN where {} is negative", operand), "`sqrt(max(x, 0.0))`"};
        case Why::RsqrtOfZero:
            return {fmt::format("is infinite where {} is 0, and NaN below", operand),
                    "`rsqrt(max(x, 1e-20))`, or `rsqrt(x + 1e-6)` for squares"};
        case Why::PowOfNegative:
            return {fmt::format("is NaN where {} is negative and the exponent is no whole number", operand),
                    "`pow(abs(x), y)` or `pow(max(x, 0.0), y)`"};
        case Why::DivisionByZero:
            return {fmt::format("divides by {}, which may be 0: infinite, or NaN for 0 / 0", operand),
                    "add a small number to a divisor that is not negative, or choose by `if`"};
        case Why::ExpOverflow:
            return {fmt::format("is infinite where {} is large (exp beyond 88.7, exp2 beyond 128)", operand),
                    "`exp(min(x, 80.0))`; the softmax itself takes any finite score"};
        case Why::InfinityDifference:
            return {"may be the difference of two infinities, which is NaN", "hide keys in `mask`, not by -inf within a score"};
        case Why::ZeroTimesInfinity:
            return {fmt::format("may be 0 times the infinity that {} can be, which is NaN", operand),
                    "hide keys in `mask`, not by -inf within a score"};
    }
    return {};
}

}  // namespace

std::string risks_text(const ir::Attention& attention) {
    std::string text;
    for (const ir::NumericRisk& risk : ir::numeric_risks(attention)) {
        const auto [what, help] = words_for(risk, ir::source_text(attention, risk.operand));
        text += fmt::format("  {}\n    {}\n    instead: {}\n", ir::source_text(attention, risk.value), what, help);
    }
    return text.empty() ? text : "\nNumbers (for scores and captured values up to 10000)\n" + text;
}

Json risks_json(const ir::Attention& attention) {
    Json out = Json::array();
    for (const ir::NumericRisk& risk : ir::numeric_risks(attention)) {
        const auto [what, help] = words_for(risk, ir::source_text(attention, risk.operand));
        out.push_back({{"text", ir::source_text(attention, risk.value)}, {"risk", what}, {"help", help}});
    }
    return out;
}

}  // namespace flexc::tools
