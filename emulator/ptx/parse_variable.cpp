// Declarations of variables and their initial values.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "emulator/ptx/parser.h"

namespace flexemu::ptx {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 40;
constexpr int64_t kMostInitialBytes = int64_t{1} << 28;

}  // namespace

std::optional<Space> space_named(std::string_view name) {
    if (name == "global") return Space::Global;
    if (name == "shared") return Space::Shared;
    if (name == "local") return Space::Local;
    if (name == "param") return Space::Param;
    if (name == "const") return Space::Const;
    return std::nullopt;
}

/// What stands between the space and the names: `.align 8 .v2 .f32`.
Parser::Declaration Parser::declaration(Space space) {
    Declaration result;
    result.space = space;
    if (space == Space::Const && accept("[")) {  // banks of old versions
        expect_integer("a bank", 0, 10);
        expect("]", "a bank");
    }
    while (peek().kind == Token::Kind::Dot) {
        const std::string_view name = peek().text;
        if (name == "align") {
            take();
            result.align = expect_integer("an alignment", 1, int64_t{1} << 30);
            if (!std::has_single_bit(static_cast<uint64_t>(result.align)))
                fail(fmt::format("an alignment of {} is no power of two", result.align));
        } else if (name == "v2" || name == "v4" || name == "v8") {
            take();
            result.vector = name[1] - '0';
        } else if (name == "attribute") {
            skip_attribute();
        } else if (name == "texref" || name == "samplerref" || name == "surfref") {
            fail(fmt::format("`.{}`: textures and surfaces are not emulated", name));
        } else if (const Type type = type_named(name); type != Type::None) {
            if (result.type != Type::None) fail(fmt::format("a second type `.{}`", name));
            take();
            result.type = type;
        } else {
            fail(fmt::format("`.{}` is not known in a declaration", name));
        }
    }
    if (result.type == Type::None) fail(fmt::format("expected a type, found {}", found()));
    return result;
}

/// A name with its dimensions. An empty first dimension leaves `elements` 0.
Variable Parser::variable(const Declaration& declaration, std::vector<int64_t>* dimensions) {
    Variable result;
    result.line = peek().line;
    result.name = expect_identifier("the name of a variable");
    result.space = declaration.space;
    result.type = declaration.type;
    if (declaration.type == Type::Pred) fail_at(result.line, "a variable in memory cannot be a `.pred`");
    const int64_t element = bits(declaration.type) / 8;
    result.align = declaration.align != 0 ? declaration.align : element * declaration.vector;
    dimensions->clear();
    while (accept("[")) {
        int64_t size = 0;
        if (!is_punctuation("]")) {
            size = integer_constant("the size of an array");
            if (size < 0 || size > kMostBytes) fail(fmt::format("an array of {} elements", size));
        } else if (!dimensions->empty()) {
            fail("only the first dimension may be left out");
        }
        dimensions->push_back(size);
        expect("]", "the size of an array");
        if (dimensions->size() > 32) fail("too many dimensions");
    }
    if (declaration.vector > 1) dimensions->push_back(declaration.vector);
    int64_t product = element;  // as if empty dimensions had one element: no product of some of them overflows
    result.elements = 1;
    for (const int64_t size : *dimensions) {
        if (size > 1 && product > kMostBytes / size) fail("the array is too large");
        product *= std::max<int64_t>(size, 1);
        result.elements *= size;
    }
    result.bytes = result.elements * element;
    return result;
}

/// Variables of the module, or of a body (`function`). The space has been read.
void Parser::variables(const Linkage& linkage, Space space, Function* function) {
    const Declaration declaration = this->declaration(space);
    do {
        std::vector<int64_t> dimensions;
        const std::string_view name = peek().text;
        Variable variable = this->variable(declaration, &dimensions);
        variable.is_extern = linkage.is_extern;
        variable.is_visible = linkage.is_visible || linkage.is_common;
        variable.is_weak = linkage.is_weak || linkage.is_common;
        if (accept("=")) {
            if (space != Space::Global && space != Space::Const) fail("only `.global` and `.const` variables have initial values");
            if (linkage.is_extern) fail("an `.extern` variable has no initial value here");
            initialiser(&variable, declaration.type, std::move(dimensions));
        } else if (!dimensions.empty() && dimensions[0] == 0 && !linkage.is_extern && space != Space::Shared && space != Space::Param) {
            fail_at(variable.line, fmt::format("`{}` has no size", variable.name));
        }
        const int32_t line = variable.line;
        if (function == nullptr) {
            declare_variable(std::move(variable));
        } else if (space == Space::Global || space == Space::Const) {
            // Lives as long as the module; another function may have one of the same name.
            variable.name = unique_name(name);
            bind(name, {Meaning::Kind::Variable, declare_variable(std::move(variable)), 1}, line);
        } else {
            const int32_t number = kFirstLocal + static_cast<int32_t>(function->locals.size());
            function->locals.push_back(std::move(variable));
            bind(name, {Meaning::Kind::Variable, number, 1}, line);
        }
    } while (accept(","));
    expect(";", "a declaration");
}

int32_t Parser::declare_variable(Variable variable) {
    if (function_numbers_.count(variable.name) != 0) fail_at(variable.line, fmt::format("`{}` is a function already", variable.name));
    const auto [at, is_new] = variable_numbers_.emplace(variable.name, static_cast<int32_t>(module_.variables.size()));
    const int32_t number = at->second;
    if (is_new) {
        module_.variables.push_back(std::move(variable));
        return number;
    }
    Variable& old = module_.variables[static_cast<size_t>(number)];
    if (old.space != variable.space)
        fail_at(variable.line, fmt::format("`{}` was declared in another space at line {}", variable.name, old.line));
    if (old.is_extern) {
        old = std::move(variable);
    } else if (!variable.is_extern) {
        fail_at(variable.line, fmt::format("`{}` is declared twice, first at line {}", variable.name, old.line));
    }
    return number;
}

void Parser::initialiser(Variable* variable, Type type, std::vector<int64_t> dimensions) {
    const int64_t element = bits(type) / 8;
    if (dimensions.empty()) {
        const bool braces = accept("{");
        initial_element(variable, type, 0);
        if (braces) {
            accept(",");
            expect("}", "an initial value");
        }
    } else if (peek().kind == Token::Kind::String) {
        if (element != 1) fail("only an array of bytes begins as a string");
        int64_t at = 0;
        initial_string(variable, &at);
        if (dimensions[0] != 0 && at > variable->bytes) fail(fmt::format("{} bytes for an array of {}", at, variable->bytes));
    } else {
        int64_t inner = element;
        for (size_t i = 1; i < dimensions.size(); ++i) inner *= dimensions[i];
        if (!is_punctuation("{")) fail(fmt::format("expected `{{` after `=`, found {}", found()));
        initial_list(variable, type, dimensions, 0, 0, dimensions[0] == 0 ? kMostInitialBytes : variable->bytes);
        if (inner == 0) fail("an array of empty arrays has no initial value");
    }
    if (!dimensions.empty() && dimensions[0] == 0) {
        int64_t inner = element;
        for (size_t i = 1; i < dimensions.size(); ++i) inner *= dimensions[i];
        const int64_t given = static_cast<int64_t>(variable->initial.size());
        variable->bytes = (given + inner - 1) / inner * inner;
        variable->elements = variable->bytes / element;
    }
    initial_bytes_ += variable->bytes;
    if (initial_bytes_ > kMostInitialBytes) fail("too large for an initial value");
    variable->initial.resize(static_cast<size_t>(variable->bytes));
}

void Parser::initial_string(Variable* variable, int64_t* at) {
    const std::string_view text = take().text;
    for (size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '\\' && i + 1 < text.size()) {
            c = text[++i];
            if (c == 'n') c = '\n';
            if (c == 't') c = '\t';
            if (c == '0') c = '\0';
        }
        put(variable, (*at)++, static_cast<unsigned char>(c), 1);
    }
}

/// `{...}` of the dimensions from `depth` on, at byte `at`, `room` bytes long. A list inside starts the next sub-array; single values follow each other.
void Parser::initial_list(Variable* variable, Type type, const std::vector<int64_t>& dimensions, size_t depth, int64_t at, int64_t room) {
    const Nesting nesting(this);
    expect("{", "an initial value");
    const int64_t element = bits(type) / 8;
    int64_t inner = element;
    for (size_t i = depth + 1; i < dimensions.size(); ++i) inner *= dimensions[i];
    int64_t done = 0;
    while (!is_punctuation("}")) {
        if (is_punctuation("{")) {
            if (depth + 1 >= dimensions.size()) fail("more braces than dimensions");
            if (inner == 0) fail("an array of empty arrays has no initial value");
            done = (done + inner - 1) / inner * inner;
            if (done > room - inner) fail("too many initial values");
            initial_list(variable, type, dimensions, depth + 1, at + done, inner);
            done += inner;
        } else if (peek().kind == Token::Kind::String && element == 1) {
            int64_t end = at + done;
            initial_string(variable, &end);
            done = end - at;
            if (done > room) fail("too many initial values");
        } else {
            if (done > room - element) fail("too many initial values");
            initial_element(variable, type, at + done);
            done += element;
        }
        if (!accept(",")) break;
    }
    expect("}", "initial values");
}

void Parser::initial_element(Variable* variable, Type type, int64_t at) {
    const int64_t bytes = bits(type) / 8;
    if (initial_address(variable, type, at)) return;
    const Constant value = constant();
    uint64_t result = value.bits;
    const bool is_wide = bytes == 8;
    if (type == Type::F32 || (!value.is_integer() && bytes == 4)) {
        if (value.kind != Constant::Kind::Float32) result = std::bit_cast<uint32_t>(static_cast<float>(value.as_double()));
    } else if (type == Type::F64 || (!value.is_integer() && is_wide)) {
        if (value.kind != Constant::Kind::Float) result = std::bit_cast<uint64_t>(value.as_double());
    } else if (!value.is_integer()) {
        fail(fmt::format("a float cannot be the initial value of a `.{}`", name(type)));
    }
    put(variable, at, result, std::min<int64_t>(bytes, 8));
    if (bytes > 8) put(variable, at + 8, !value.is_unsigned && value.is_integer() && value.as_signed() < 0 ? ~uint64_t{0} : 0, bytes - 8);
}

/// `f`, `x + 4`, `generic(x) + 4`, `0xFF00(x + 4)`. False, with nothing read, if it is something else.
bool Parser::initial_address(Variable* variable, Type type, int64_t at) {
    Variable::Fixup fixup;
    fixup.at = at;
    fixup.size = bits(type) / 8;
    const bool masked = peek().kind == Token::Kind::Integer && is_punctuation("(", 1);
    if (masked) {
        const uint64_t mask = take().bits;
        fixup.shift = mask == 0 ? 0 : std::countr_zero(mask);
        const uint64_t low = mask >> fixup.shift;
        if (mask == 0 || (low & (low + 1)) != 0 || fixup.shift % 8 != 0 || std::popcount(mask) != 8 * fixup.size) {
            fail(fmt::format("the mask {:#x} does not take {} bytes of an address", mask, fixup.size));
        }
        take();
    } else if (!is_identifier() || peek().text == "WARP_SZ") {
        return false;
    }
    const bool generic = is_identifier() && peek().text == "generic" && is_punctuation("(", 1);
    if (generic) {
        take();
        take();
    }
    fixup.generic = generic;
    const Token& token = peek();
    const std::string_view name = expect_identifier("a variable or function");
    auto offset = static_cast<uint64_t>(offset_terms());
    if (generic) {
        expect(")", "a generic address");
        offset += static_cast<uint64_t>(offset_terms());
    }
    fixup.offset = static_cast<int64_t>(offset);
    if (masked) expect(")", "a masked address");
    if (fixup.size < 4 && !masked) fail_at(token.line, fmt::format("an address does not fit into a `.{}`", ptx::name(type)));
    put(variable, at, 0, std::min(fixup.size, 8));
    pending_fixups_.push_back({name, token.line, variable->fixups.size(), variable->name});
    variable->fixups.push_back(fixup);
    return true;
}

void Parser::put(Variable* variable, int64_t at, uint64_t value, int64_t bytes) {
    if (at + bytes > kMostInitialBytes) fail("too large for an initial value");
    if (static_cast<int64_t>(variable->initial.size()) < at + bytes) variable->initial.resize(static_cast<size_t>(at + bytes));
    std::memcpy(variable->initial.data() + at, &value, static_cast<size_t>(bytes));
}

}  // namespace flexemu::ptx
