#include "emulator/ptx/parse.h"

#include <fmt/format.h>

#include <utility>

#include "emulator/ptx/parser.h"

namespace flexemu::ptx {

bool Parser::is_punctuation(std::string_view text, size_t ahead) const {
    return peek(ahead).kind == Token::Kind::Punctuation && peek(ahead).text == text;
}

bool Parser::is_dot(std::string_view text, size_t ahead) const {
    return peek(ahead).kind == Token::Kind::Dot && peek(ahead).text == text;
}

bool Parser::accept(std::string_view punctuation) {
    if (!is_punctuation(punctuation)) return false;
    take();
    return true;
}

bool Parser::accept_dot(std::string_view name) {
    if (!is_dot(name)) return false;
    take();
    return true;
}

void Parser::expect(std::string_view punctuation, std::string_view after) {
    if (!accept(punctuation)) fail(fmt::format("expected `{}` after {}, found {}", punctuation, after, found()));
}

std::string_view Parser::expect_identifier(std::string_view what) {
    if (!is_identifier()) fail(fmt::format("expected {}, found {}", what, found()));
    return take().text;
}

int64_t Parser::expect_integer(std::string_view what, int64_t least, int64_t most) {
    if (peek().kind != Token::Kind::Integer) fail(fmt::format("expected {}, found {}", what, found()));
    const auto value = static_cast<int64_t>(peek().bits);
    if (value < least || value > most) fail(fmt::format("{} of {}: it must be from {} to {}", what, peek().text, least, most));
    take();
    return value;
}

void Parser::fail(std::string text) const {
    throw ParseError{peek().line, std::move(text)};
}

void Parser::fail_at(int32_t line, std::string text) {
    throw ParseError{line, std::move(text)};
}

std::string Parser::found() const {
    switch (peek().kind) {
        case Token::Kind::End: return "the end of the text";
        case Token::Kind::Dot: return fmt::format("`.{}`", peek().text);
        case Token::Kind::String: return fmt::format("the string \"{}\"", peek().text);
        default: return fmt::format("`{}`", peek().text);
    }
}

Module Parser::run() {
    header();
    while (peek().kind != Token::Kind::End) module_item();
    for (const auto& [name, aliasee] : aliases_) {
        const auto at = function_numbers_.find(std::string(aliasee.name));
        if (at == function_numbers_.end()) fail_at(aliasee.line, fmt::format("`{}` is no function of this module", aliasee.name));
        function_numbers_[name] = at->second;
    }
    for (size_t i = 0; i < module_.functions.size(); ++i) {
        body_ = &bodies_[i];
        function_ = &module_.functions[i];
        resolve(function_);
    }
    for (const PendingFixup& pending : pending_fixups_) {
        Variable& variable = module_.variables[static_cast<size_t>(variable_numbers_.at(pending.variable))];
        if (pending.fixup >= variable.fixups.size()) continue;
        Variable::Fixup& fixup = variable.fixups[pending.fixup];
        const std::string name(pending.name);
        if (const auto target = variable_numbers_.find(name); target != variable_numbers_.end()) {
            fixup.number = target->second;
        } else if (const auto function = function_numbers_.find(name); function != function_numbers_.end()) {
            fixup.is_function = true;
            fixup.number = function->second;
        } else {
            fail_at(pending.line, fmt::format("`{}` is not declared", pending.name));
        }
    }
    return std::move(module_);
}

void Parser::header() {
    while (debug_directive()) {
    }
    if (!accept_dot("version")) fail(fmt::format("PTX begins with `.version`, found {}", found()));
    if (peek().kind != Token::Kind::Float && peek().kind != Token::Kind::Integer)
        fail(fmt::format("expected a version, found {}", found()));
    module_.version = take().text;
    while (debug_directive()) {
    }
    if (!accept_dot("target")) fail(fmt::format("expected `.target` after `.version`, found {}", found()));
    do {
        const std::string_view target = expect_identifier("a target");
        if (target.starts_with("sm_")) module_.target = target;
    } while (accept(","));
    if (module_.target.empty()) fail("no target like `sm_80` is named");
}

void Parser::module_item() {
    if (accept(";") || debug_directive()) return;
    if (peek().kind != Token::Kind::Dot) fail(fmt::format("expected a directive, found {}", found()));
    if (accept_dot("address_size")) {
        const int64_t bits = expect_integer("the size of addresses", 32, 64);
        if (bits != 64) fail("only addresses of 64 bits are emulated");
        return;
    }
    if (is_dot("alias")) return alias();
    const Linkage linkage = this->linkage();
    if (is_dot("func") || is_dot("entry")) return function(linkage);
    if (peek().kind == Token::Kind::Dot) {
        if (const auto space = space_named(peek().text)) {
            take();
            return variables(linkage, *space, nullptr);
        }
    }
    fail(fmt::format("expected a declaration, found {}", found()));
}

Linkage Parser::linkage() {
    Linkage result;
    while (true) {
        if (accept_dot("extern")) {
            result.is_extern = true;
        } else if (accept_dot("visible")) {
            result.is_visible = true;
        } else if (accept_dot("weak")) {
            result.is_weak = true;
        } else if (accept_dot("common")) {
            result.is_common = true;
        } else {
            return result;
        }
    }
}

/// What serves debuggers and optimisers alone; read and forgotten.
bool Parser::debug_directive() {
    if (accept_dot("loc")) {
        const auto numbers = [&] {
            while (peek().kind == Token::Kind::Integer) take();
        };
        numbers();
        while (accept(",")) {
            expect_identifier("an attribute of `.loc`");
            if (is_identifier()) take();
            if (accept("+")) expect_integer("an offset", 0, INT64_MAX);
            numbers();
        }
        return true;
    }
    if (accept_dot("file")) {
        expect_integer("the number of a file", 0, INT64_MAX);
        if (peek().kind != Token::Kind::String) fail(fmt::format("expected the name of a file, found {}", found()));
        take();
        while (accept(",")) expect_integer("an attribute of `.file`", 0, INT64_MAX);
        return true;
    }
    if (accept_dot("pragma")) {
        do {
            if (peek().kind != Token::Kind::String) fail(fmt::format("expected a string after `.pragma`, found {}", found()));
            take();
        } while (accept(","));
        expect(";", "`.pragma`");
        return true;
    }
    if (accept_dot("section")) {
        skip_section();
        return true;
    }
    return false;
}

void Parser::skip_section() {
    const int32_t line = peek().line;
    while (!is_punctuation("{") && peek().kind != Token::Kind::End) take();
    int open = 0;
    do {
        if (peek().kind == Token::Kind::End) fail_at(line, "the section is not closed");
        if (is_punctuation("{")) ++open;
        if (is_punctuation("}")) --open;
        take();
    } while (open > 0);
}

/// `.attribute(.managed)`, `.attribute(.unified(19, 95))`: how addresses are shared with the host, which is nothing to the emulator.
void Parser::skip_attribute() {
    take();
    expect("(", "`.attribute`");
    for (int open = 1; open > 0;) {
        if (peek().kind == Token::Kind::End) fail("`.attribute(` is not closed");
        if (is_punctuation("(")) ++open;
        if (is_punctuation(")")) --open;
        take();
    }
}

std::string Parser::unique_name(std::string_view wanted) const {
    std::string name(wanted);
    for (int i = 1; variable_numbers_.count(name) != 0 || function_numbers_.count(name) != 0; ++i) name = fmt::format("{}.{}", wanted, i);
    return name;
}

/// `.alias name, function;`
void Parser::alias() {
    take();
    const std::string name(expect_identifier("a name"));
    expect(",", "the name of an alias");
    const int32_t line = peek().line;
    const std::string_view aliasee = expect_identifier("a function");
    expect(";", "`.alias`");
    aliases_.push_back({name, {aliasee, 0, line}});
}

void Parser::function(const Linkage& linkage) {
    Function result;
    Body body;
    body.scopes.emplace_back();
    body_ = &body;
    function_ = &result;
    result.is_kernel = take().text == "entry";
    while (is_dot("attribute")) skip_attribute();
    if (!result.is_kernel && is_punctuation("(")) result.results = parameters(&result, "the results");
    result.line = peek().line;
    result.name = expect_identifier("the name of a function");
    if (is_punctuation("(")) result.parameters = parameters(&result, "the parameters");
    layout(&result);
    while (performance_directive(&result)) {
    }
    const auto number = static_cast<int32_t>(module_.functions.size());
    const auto [at, is_new] = function_numbers_.emplace(result.name, number);
    if (variable_numbers_.count(result.name) != 0) fail_at(result.line, fmt::format("`{}` is a variable already", result.name));
    result.is_declaration = !is_punctuation("{");
    if (result.is_declaration) {
        expect(";", "the declaration of a function");
    } else {
        if (linkage.is_extern) fail("an `.extern` function has no body");
        this->body(&result);
    }
    body_ = nullptr;
    function_ = nullptr;
    if (is_new) {
        module_.functions.push_back(std::move(result));
        bodies_.push_back(std::move(body));
        return;
    }
    Function& old = module_.functions[static_cast<size_t>(at->second)];
    if (old.is_kernel != result.is_kernel)
        fail_at(result.line, fmt::format("`{}` was declared otherwise at line {}", result.name, old.line));
    if (result.is_declaration) return;
    if (!old.is_declaration) fail_at(result.line, fmt::format("`{}` is defined twice, first at line {}", result.name, old.line));
    result.no_return = result.no_return || old.no_return;
    old = std::move(result);
    bodies_[static_cast<size_t>(at->second)] = std::move(body);
}

std::vector<Parameter> Parser::parameters(Function* function, std::string_view what) {
    std::vector<Parameter> result;
    expect("(", what);
    if (!is_punctuation(")")) {
        do result.push_back(parameter(function));
        while (accept(","));
    }
    expect(")", what);
    return result;
}

Parameter Parser::parameter(Function* function) {
    const int32_t line = peek().line;
    const bool in_register = accept_dot("reg");
    if (!in_register && !accept_dot("param")) fail(fmt::format("expected `.param` or `.reg`, found {}", found()));
    Declaration declaration;
    declaration.space = Space::Param;
    while (peek().kind == Token::Kind::Dot) {
        const std::string_view text = peek().text;
        if (text == "align") {
            take();
            declaration.align = expect_integer("an alignment", 1, 1 << 30);
            if ((declaration.align & (declaration.align - 1)) != 0)
                fail(fmt::format("an alignment of {} is no power of two", declaration.align));
        } else if (text == "ptr") {
            // `.ptr .global .align 16`: a promise about what it points to.
            take();
            if (peek().kind == Token::Kind::Dot && space_named(peek().text)) take();
            if (accept_dot("align")) expect_integer("an alignment", 1, int64_t{1} << 30);
        } else if (text == "attribute") {
            skip_attribute();
        } else if (text == "v2" || text == "v4" || text == "v8") {
            take();
            declaration.vector = text[1] - '0';
        } else if (const Type type = type_named(text); type != Type::None && declaration.type == Type::None) {
            take();
            declaration.type = type;
        } else {
            fail(fmt::format("`.{}` is not known in a parameter", text));
        }
    }
    if (declaration.type == Type::None) fail(fmt::format("expected the type of a parameter, found {}", found()));
    Parameter result;
    result.type = declaration.type;
    const std::string_view name = peek().text;
    if (in_register) {
        if (declaration.vector != 1) fail("a parameter in a register cannot be a vector");
        result.name = expect_identifier("the name of a parameter");
        result.bytes = result.align = std::max(1, bits(declaration.type) / 8);
        result.reg = add_register(function, result.name, declaration.type);
        if (name != "_") bind(name, {Meaning::Kind::Register, result.reg, 1}, line);
        return result;
    }
    std::vector<int64_t> dimensions;
    Variable variable = this->variable(declaration, &dimensions);
    result.name = variable.name;
    result.bytes = variable.bytes;
    result.align = variable.align;
    result.variable = kFirstLocal + static_cast<int32_t>(function->locals.size());
    function->locals.push_back(std::move(variable));
    if (name != "_") bind(name, {Meaning::Kind::Variable, result.variable, 1}, line);
    return result;
}

/// Where parameters lie in the block that a launch gives.
void Parser::layout(Function* function) {
    int64_t at = 0;
    for (Parameter& parameter : function->parameters) {
        at = (at + parameter.align - 1) / parameter.align * parameter.align;
        parameter.offset = at;
        if (parameter.bytes > (int64_t{1} << 40) - at) fail("the parameters are too large");
        at += parameter.bytes;
    }
    function->parameter_bytes = at;
}

void Parser::dimensions(int32_t (&to)[3], std::string_view what) {
    to[0] = to[1] = to[2] = 1;
    size_t i = 0;
    do {
        if (i == 3) fail(fmt::format("more than three numbers after `.{}`", what));
        to[i++] = static_cast<int32_t>(expect_integer("a size", 1, INT32_MAX));
    } while (accept(","));
}

bool Parser::performance_directive(Function* function) {
    if (debug_directive()) return true;
    if (peek().kind != Token::Kind::Dot) return false;
    const std::string_view text = peek().text;
    const auto count = [&] {
        take();
        return static_cast<int32_t>(expect_integer("a number", 0, INT32_MAX));
    };
    if (text == "maxntid") {
        take();
        dimensions(function->max_threads, text);
    } else if (text == "reqntid") {
        take();
        dimensions(function->required_threads, text);
    } else if (text == "reqnctapercluster") {
        take();
        dimensions(function->cluster, text);
    } else if (text == "minnctapersm") {
        function->min_blocks = count();
    } else if (text == "maxnreg") {
        function->max_registers = count();
    } else if (text == "maxnctapersm" || text == "maxclusterrank" || text == "abi_preserve" || text == "abi_preserve_control") {
        count();  // hints, and a bound that a launch here never reaches
    } else if (text == "noreturn") {
        take();
        function->no_return = true;
    } else if (text == "explicitcluster") {
        take();
    } else if (text == "attribute") {
        skip_attribute();
    } else {
        fail(fmt::format("`.{}` is not known at the head of a function", text));
    }
    return true;
}

ParseResult parse(std::string_view text) {
    ParseResult result;
    try {
        result.module = Parser(text).run();
    } catch (const ParseError& error) {
        result.error = fmt::format("line {}: {}", error.line, error.text);
    }
    return result;
}

}  // namespace flexemu::ptx
