// Operands of instructions.
#include <fmt/format.h>

#include <array>
#include <charconv>

#include "emulator/ptx/parser.h"

namespace flexemu::ptx {
namespace {

struct SpecialName {
    std::string_view name;
    Special special;
};
constexpr SpecialName kSpecials[] = {
    {"%tid", Special::Tid},
    {"%ntid", Special::NTid},
    {"%ctaid", Special::CtaId},
    {"%nctaid", Special::NCtaId},
    {"%laneid", Special::LaneId},
    {"%warpid", Special::WarpId},
    {"%nwarpid", Special::NWarpId},
    {"%smid", Special::SmId},
    {"%nsmid", Special::NSmId},
    {"%gridid", Special::GridId},
    {"%lanemask_eq", Special::LaneMaskEq},
    {"%lanemask_le", Special::LaneMaskLe},
    {"%lanemask_lt", Special::LaneMaskLt},
    {"%lanemask_ge", Special::LaneMaskGe},
    {"%lanemask_gt", Special::LaneMaskGt},
    {"%clock", Special::Clock},
    {"%clock_hi", Special::ClockHi},
    {"%clock64", Special::Clock64},
    {"%globaltimer", Special::GlobalTimer},
    {"%globaltimer_lo", Special::GlobalTimerLo},
    {"%globaltimer_hi", Special::GlobalTimerHi},
    {"%dynamic_smem_size", Special::DynamicSmemSize},
    {"%total_smem_size", Special::TotalSmemSize},
    {"%aggr_smem_size", Special::AggrSmemSize},
    {"%clusterid", Special::ClusterId},
    {"%nclusterid", Special::NClusterId},
    {"%cluster_ctaid", Special::ClusterCtaId},
    {"%cluster_nctaid", Special::ClusterNCtaId},
    {"%cluster_ctarank", Special::ClusterCtaRank},
    {"%cluster_nctarank", Special::ClusterNCtaRank},
    {"%is_explicit_cluster", Special::IsExplicitCluster},
};

bool is_three_dimensional(Special special) {
    switch (special) {
        case Special::Tid:
        case Special::NTid:
        case Special::CtaId:
        case Special::NCtaId:
        case Special::ClusterId:
        case Special::NClusterId:
        case Special::ClusterCtaId:
        case Special::ClusterNCtaId: return true;
        default: return false;
    }
}

/// "%pm3" with the prefix "%pm" gives 3; nothing if the name is another.
std::optional<int> numbered(std::string_view name, std::string_view prefix, int count) {
    if (!name.starts_with(prefix)) return std::nullopt;
    name.remove_prefix(prefix.size());
    int number = 0;
    const auto result = std::from_chars(name.data(), name.data() + name.size(), number);
    if (result.ec != std::errc{} || result.ptr != name.data() + name.size() || number < 0 || number >= count) return std::nullopt;
    return number;
}

/// x y z w (or r g b a) -> 0 to 3; -1 if it is none of them.
int vector_component(std::string_view name) {
    if (name.size() != 1) return -1;
    if (const size_t at = std::string_view("xyzw").find(name[0]); at != std::string_view::npos) return static_cast<int>(at);
    if (const size_t at = std::string_view("rgba").find(name[0]); at != std::string_view::npos) return static_cast<int>(at);
    return -1;
}

}  // namespace

const Meaning* Parser::lookup(std::string_view name, int32_t scope) const {
    for (; scope >= 0; scope = body_->scopes[static_cast<size_t>(scope)].parent) {
        const auto& names = body_->scopes[static_cast<size_t>(scope)].names;
        if (const auto at = names.find(name); at != names.end()) return &at->second;
    }
    return nullptr;
}

std::optional<Operand> Parser::special(std::string_view name) const {
    Operand operand;
    operand.kind = Operand::Kind::Special;
    for (const SpecialName& each : kSpecials) {
        if (each.name != name) continue;
        operand.number = static_cast<int32_t>(each.special);
        return operand;
    }
    if (const auto number = numbered(name, "%envreg", 32)) {
        operand.number = static_cast<int32_t>(Special::EnvReg);
        operand.component = static_cast<int8_t>(*number);
        return operand;
    }
    if (const auto number = numbered(name, "%pm", 8)) {
        operand.number = static_cast<int32_t>(Special::Pm);
        operand.component = static_cast<int8_t>(*number);
        return operand;
    }
    return std::nullopt;
}

Operand Parser::of_meaning(const Meaning& meaning) {
    Operand operand;
    operand.number = meaning.number;
    switch (meaning.kind) {
        case Meaning::Kind::Register: operand.kind = Operand::Kind::Register; break;
        case Meaning::Kind::Variable: operand.kind = Operand::Kind::Symbol; break;
        case Meaning::Kind::Table: operand.kind = Operand::Kind::Table; break;
        case Meaning::Kind::Label: operand.kind = Operand::Kind::Label; break;
        case Meaning::Kind::RegisterVector:
            operand.kind = Operand::Kind::Vector;
            operand.number = -1;
            operand.elements.resize(static_cast<size_t>(meaning.count));
            for (int32_t i = 0; i < meaning.count; ++i) {
                operand.elements[static_cast<size_t>(i)].kind = Operand::Kind::Register;
                operand.elements[static_cast<size_t>(i)].number = meaning.number + i;
            }
            break;
    }
    return operand;
}

/// A name with its `.x`: what it means here, or a pending operand.
Operand Parser::named(bool in_memory) {
    const Token& token = take();
    const std::string_view name = token.text;
    Operand operand;
    if (name == "_" && !in_memory) {
        operand.kind = Operand::Kind::Sink;
        return operand;
    }
    const Meaning* meaning = lookup(name, body_->scope);
    const bool known = meaning != nullptr && meaning->kind != Meaning::Kind::Label && meaning->kind != Meaning::Kind::Table;
    if (known) {
        operand = of_meaning(*meaning);
    } else if (const auto found_special = special(name)) {
        operand = *found_special;
    } else {
        operand.kind = Operand::Kind::Label;
        operand.number = static_cast<int32_t>(body_->pending.size());
        body_->pending.push_back({name, body_->scope, token.line});
    }

    if (peek().kind == Token::Kind::Dot) {
        const std::string_view selector = peek().text;
        const int component = vector_component(selector);
        if (operand.kind == Operand::Kind::Vector && component >= 0 && component < static_cast<int>(operand.elements.size())) {
            operand = Operand(operand.elements[static_cast<size_t>(component)]);
        } else if (operand.kind == Operand::Kind::Special && is_three_dimensional(static_cast<Special>(operand.number)) && component >= 0) {
            operand.component = static_cast<int8_t>(component);
        } else if (operand.kind == Operand::Kind::Register && selector.size() == 2 && (selector[0] == 'b' || selector[0] == 'h') &&
                   selector[1] >= '0' && selector[1] <= '3') {
            operand.component = static_cast<int8_t>(selector[1] - '0');
        } else {
            fail(fmt::format("`{}` has no `.{}`", name, selector));
        }
        take();
    } else if (operand.kind == Operand::Kind::Special && is_three_dimensional(static_cast<Special>(operand.number))) {
        // `mov.v4.u32 r, %tid`: the whole vector.
        Operand all;
        all.kind = Operand::Kind::Vector;
        for (int8_t i = 0; i < 4; ++i) {
            operand.component = i;
            all.elements.push_back(operand);
        }
        return all;
    }
    return operand;
}

Operand Parser::constant_operand() {
    const Constant value = constant();
    Operand operand;
    operand.kind = Operand::Kind::Immediate;
    operand.bits = value.bits;
    operand.is_float = value.kind == Constant::Kind::Float;
    operand.is_f32 = value.kind == Constant::Kind::Float32;
    return operand;
}

/// `+ 8 - 4*2`, of an address.
int64_t Parser::offset_terms() {
    uint64_t offset = 0;
    while (is_punctuation("+") || is_punctuation("-")) {
        const bool negative = take().text == "-";
        const Constant term = binary(10);  // binds as tightly as `*`
        if (!term.is_integer()) fail("the offset of an address must be an integer");
        offset = negative ? offset - term.bits : offset + term.bits;
    }
    return static_cast<int64_t>(offset);
}

Operand Parser::memory() {
    expect("[", "an address");
    Operand operand;
    operand.kind = Operand::Kind::Memory;
    operand.elements.emplace_back();
    if (is_identifier() && !starts_constant()) {
        const Token& token = peek();
        Operand base = named(true);
        if (base.kind != Operand::Kind::Register && base.kind != Operand::Kind::Symbol && base.kind != Operand::Kind::Label) {
            fail_at(token.line, fmt::format("an address begins with a register, a variable or a number, not with `{}`", token.text));
        }
        operand.elements[0] = std::move(base);
        operand.offset = offset_terms();
    } else {
        operand.offset = integer_constant("an address");
    }
    while (accept(",")) operand.elements.push_back(this->operand("an address", false));
    expect("]", "an address");
    return operand;
}

Operand Parser::vector() {
    expect("{", "a vector");
    Operand operand;
    operand.kind = Operand::Kind::Vector;
    if (!is_punctuation("}")) {
        do operand.elements.push_back(this->operand("`{`", false));
        while (accept(","));
    }
    expect("}", "the elements of a vector");
    return operand;
}

/// `after`: for messages. `is_address`: of mov, where `a[2]` is an address rather than what lies there.
Operand Parser::operand(std::string_view after, bool is_address) {
    const Nesting nesting(this);
    if (is_punctuation("{")) return vector();
    if (is_punctuation("[")) return memory();
    if (is_punctuation("!") && is_identifier(1) && peek(1).text != "WARP_SZ") {
        take();
        Operand negated = named(false);
        if (negated.kind != Operand::Kind::Register) fail("`!` stands before predicates");
        negated.negated = true;
        return negated;
    }
    if (starts_constant()) return constant_operand();
    if (!is_identifier()) fail(fmt::format("expected an operand after {}, found {}", after, found()));
    const Token& token = peek();
    Operand operand = named(false);
    const bool is_name = operand.kind == Operand::Kind::Symbol || operand.kind == Operand::Kind::Label;
    if (is_name && is_punctuation("[")) {
        // a[2]: the third element of a variable.
        const Meaning* meaning = lookup(token.text, body_->scope);
        const auto global = variable_numbers_.find(std::string(token.text));
        const Variable* variable = nullptr;
        if (meaning != nullptr && meaning->kind == Meaning::Kind::Variable && meaning->number >= kFirstLocal) {
            variable = &function_->locals[static_cast<size_t>(meaning->number - kFirstLocal)];
        } else if (global != variable_numbers_.end()) {
            variable = &module_.variables[static_cast<size_t>(global->second)];
        }
        if (variable == nullptr) fail_at(token.line, fmt::format("`{}` is no variable that could be indexed", token.text));
        take();
        const int64_t index = integer_constant("an index");
        expect("]", "an index");
        operand.offset = static_cast<int64_t>(static_cast<uint64_t>(index) * static_cast<uint64_t>(bits(variable->type) / 8));
        if (is_address) return operand;
        Operand memory;
        memory.kind = Operand::Kind::Memory;
        std::swap(memory.offset, operand.offset);
        memory.elements.push_back(std::move(operand));
        return memory;
    }
    if (is_name) operand.offset = offset_terms();
    if ((operand.kind == Operand::Kind::Register || operand.kind == Operand::Kind::Sink) && accept("|")) {
        if (!is_identifier()) fail(fmt::format("expected a predicate after `{}|`, found {}", token.text, found()));
        operand.second.push_back(named(false));
    }
    return operand;
}

}  // namespace flexemu::ptx
