// The bodies of functions: scopes, registers, labels, instructions.
#include <fmt/format.h>

#include <utility>

#include "emulator/ptx/parser.h"

namespace flexemu::ptx {
namespace {

// What a few bytes of text may ask for is limited: of a function, and of a module.
constexpr size_t kMostRegisters = size_t{1} << 18, kMostRegistersOfModule = size_t{1} << 21;

}  // namespace

void Parser::bind(std::string_view name, Meaning meaning, int32_t line) {
    auto& names = body_->scopes[static_cast<size_t>(body_->scope)].names;
    if (name == "_") fail_at(line, "`_` cannot be declared");
    if (!names.emplace(name, meaning).second) fail_at(line, fmt::format("`{}` is declared twice in its scope", name));
}

int32_t Parser::add_register(Function* function, std::string name, Type type) {
    if (function->registers.size() >= kMostRegisters || ++registers_ > kMostRegistersOfModule) fail("too many registers");
    const auto number = static_cast<int32_t>(function->registers.size());
    function->registers.push_back({std::move(name), type});
    return number;
}

/// Reads from `{` to the `}` that closes it.
void Parser::body(Function* function) {
    const int32_t opened = peek().line;
    expect("{", "the head of a function");
    while (true) {
        if (peek().kind == Token::Kind::End) fail(fmt::format("the body that begins at line {} is not closed", opened));
        if (accept("{")) {
            body_->scopes.push_back({body_->scope, {}});
            body_->scope = static_cast<int32_t>(body_->scopes.size()) - 1;
        } else if (accept("}")) {
            if (body_->scope == 0) return;
            body_->scope = body_->scopes[static_cast<size_t>(body_->scope)].parent;
        } else {
            statement(function);
        }
    }
}

void Parser::statement(Function* function) {
    if (accept(";") || debug_directive()) return;
    if (is_identifier() && is_punctuation(":", 1)) {
        const Token& name = take();
        take();
        if (is_dot("branchtargets") || is_dot("calltargets") || is_dot("callprototype")) return table(function, name.text);
        bind(name.text, {Meaning::Kind::Label, static_cast<int32_t>(function->instructions.size()), 1}, name.line);
        return;
    }
    if (peek().kind != Token::Kind::Dot) return instruction(function);
    if (accept_dot("reg")) return registers(function);
    const Linkage linkage = this->linkage();
    if (const auto space = space_named(peek().text); space && peek().kind == Token::Kind::Dot) {
        take();
        return variables(linkage, *space, function);
    }
    fail(fmt::format("expected a statement, found {}", found()));
}

void Parser::registers(Function* function) {
    Type type = Type::None;
    int32_t vector = 1;
    while (peek().kind == Token::Kind::Dot) {
        const std::string_view text = peek().text;
        if (text == "v2" || text == "v4" || text == "v8") {
            vector = text[1] - '0';
        } else if (text == "align") {
            take();
            expect_integer("an alignment", 1, 1 << 30);
            continue;
        } else {
            if (type_named(text) == Type::None || type != Type::None)
                fail(fmt::format("expected the type of registers, found {}", found()));
            type = type_named(text);
        }
        take();
    }
    if (type == Type::None) fail(fmt::format("expected the type of registers, found {}", found()));
    const auto declare = [&](std::string_view name, int32_t line) {
        const auto first = static_cast<int32_t>(function->registers.size());
        if (vector == 1) {
            add_register(function, std::string(name), type);
            return bind(name, {Meaning::Kind::Register, first, 1}, line);
        }
        constexpr std::string_view kComponents = "xyzw4567";
        for (int32_t i = 0; i < vector; ++i) add_register(function, fmt::format("{}.{}", name, kComponents[static_cast<size_t>(i)]), type);
        bind(name, {Meaning::Kind::RegisterVector, first, vector}, line);
    };
    do {
        const int32_t line = peek().line;
        const std::string_view name = expect_identifier("the name of a register");
        if (accept("<")) {
            const int64_t count = expect_integer("a number of registers", 0, static_cast<int64_t>(kMostRegisters));
            expect(">", "a number of registers");
            for (int64_t i = 0; i < count; ++i) declare(names_.emplace_back(fmt::format("{}{}", name, i)), line);
        } else {
            declare(name, line);
        }
    } while (accept(","));
    expect(";", "registers");
}

/// `.branchtargets`, `.calltargets` and `.callprototype`, behind their label.
void Parser::table(Function* function, std::string_view label) {
    const Token& directive = take();
    std::vector<Operand> elements;
    if (directive.text == "callprototype") {
        // Names of its parameters mean nothing: they are read into a function that is thrown away.
        Function prototype;
        Body scratch;
        scratch.scopes.emplace_back();
        Body* const outer = std::exchange(body_, &scratch);
        const auto sizes = [](const std::vector<Parameter>& parameters) {
            Operand tuple;
            tuple.kind = Operand::Kind::Vector;
            for (const Parameter& parameter : parameters) {
                Operand& bytes = tuple.elements.emplace_back();
                bytes.kind = Operand::Kind::Immediate;
                bytes.bits = static_cast<uint64_t>(parameter.bytes);
            }
            return tuple;
        };
        Operand results = sizes({});
        results.kind = Operand::Kind::Vector;
        if (is_punctuation("(")) results = sizes(parameters(&prototype, "the results"));
        expect_identifier("`_` of a prototype");
        elements.push_back(std::move(results));
        elements.push_back(is_punctuation("(") ? sizes(parameters(&prototype, "the parameters")) : sizes({}));
        while (performance_directive(&prototype)) {
        }
        body_ = outer;
    } else {
        do {
            if (!is_identifier()) fail(fmt::format("expected a name after `.{}`, found {}", directive.text, found()));
            elements.push_back(named(false));
        } while (accept(","));
    }
    expect(";", fmt::format("`.{}`", directive.text));
    bind(label, {Meaning::Kind::Table, static_cast<int32_t>(function->tables.size()), 1}, directive.line);
    function->tables.push_back(std::move(elements));
}

void Parser::instruction(Function* function) {
    Instruction result;
    if (accept("@")) {
        result.guard_negated = accept("!");
        const Token& name = peek();
        expect_identifier("a predicate");
        const Meaning* meaning = lookup(name.text, body_->scope);
        if (meaning == nullptr || meaning->kind != Meaning::Kind::Register ||
            function->registers[static_cast<size_t>(meaning->number)].type != Type::Pred) {
            fail_at(name.line, fmt::format("the guard `{}` is no predicate register", name.text));
        }
        result.guard = meaning->number;
    }
    result.line = peek().line;
    result.opcode = expect_identifier("an instruction");
    while (peek().kind == Token::Kind::Dot) result.modifiers.emplace_back(take().text);
    if (result.opcode == "call") {
        call_operands(&result);
    } else if (!is_punctuation(";")) {
        const std::string after = "`" + result.spelling() + "`";
        do result.operands.push_back(operand(after, result.opcode == "mov"));
        while (accept(","));
    }
    if (!accept(";")) fail(fmt::format("expected `;` after the operands of `{}`, found {}", result.spelling(), found()));
    const bool uses_carry = result.has("cc") || result.opcode == "addc" || result.opcode == "subc" || result.opcode == "madc";
    if (uses_carry && function->carry < 0) function->carry = add_register(function, "%cc", Type::Pred);
    function->instructions.push_back(std::move(result));
}

/// Results, callee, arguments and perhaps a table, whatever is left out in the text.
void Parser::call_operands(Instruction* instruction) {
    instruction->operands.resize(3);
    instruction->operands[0].kind = instruction->operands[2].kind = Operand::Kind::Vector;
    if (is_punctuation("(")) {
        instruction->operands[0] = call_tuple();
        expect(",", "the results of a call");
    }
    if (!is_identifier()) fail(fmt::format("expected a function after `call`, found {}", found()));
    instruction->operands[1] = named(false);
    if (!accept(",")) return;
    if (is_punctuation("(")) {
        instruction->operands[2] = call_tuple();
        if (!accept(",")) return;
    }
    if (!is_identifier()) fail(fmt::format("expected a prototype or a list of targets, found {}", found()));
    instruction->operands.push_back(named(false));
}

Operand Parser::call_tuple() {
    expect("(", "a call");
    Operand tuple;
    tuple.kind = Operand::Kind::Vector;
    if (!is_punctuation(")")) {
        do tuple.elements.push_back(operand("`(`", true));
        while (accept(","));
    }
    expect(")", "the parameters of a call");
    return tuple;
}

void Parser::resolve(Function* function) {
    for (Instruction& instruction : function->instructions)
        for (Operand& operand : instruction.operands) resolve(&operand);
    for (std::vector<Operand>& table : function->tables)
        for (Operand& operand : table) resolve(&operand);
}

void Parser::resolve(Operand* operand) {
    if (operand->kind == Operand::Kind::Memory) {
        const Operand& base = operand->elements[0];
        const int32_t line = base.kind == Operand::Kind::Label ? body_->pending[static_cast<size_t>(base.number)].line : 0;
        for (Operand& element : operand->elements) resolve(&element);
        if (base.kind == Operand::Kind::Label || base.kind == Operand::Kind::Function || base.kind == Operand::Kind::Table) {
            fail_at(line, "an address begins with a register, a variable or a number, not with a label or a function");
        }
        return;
    }
    for (Operand& element : operand->elements) resolve(&element);
    for (Operand& element : operand->second) resolve(&element);
    if (operand->kind != Operand::Kind::Label) return;
    const Pending pending = body_->pending[static_cast<size_t>(operand->number)];
    const int64_t offset = operand->offset;
    if (const Meaning* meaning = lookup(pending.name, pending.scope)) {
        *operand = of_meaning(*meaning);
    } else if (const auto variable = variable_numbers_.find(std::string(pending.name)); variable != variable_numbers_.end()) {
        operand->kind = Operand::Kind::Symbol;
        operand->number = variable->second;
    } else if (const auto function = function_numbers_.find(std::string(pending.name)); function != function_numbers_.end()) {
        operand->kind = Operand::Kind::Function;
        operand->number = function->second;
    } else {
        fail_at(pending.line, fmt::format("`{}` is not declared", pending.name));
    }
    operand->offset = offset;
    if (offset != 0 && operand->kind != Operand::Kind::Symbol)
        fail_at(pending.line, fmt::format("only a variable takes an offset, `{}` is none", pending.name));
}

}  // namespace flexemu::ptx
