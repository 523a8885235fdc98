// The parser of PTX, for the .cpp files of this folder. One object reads one text; the first error ends it as a ParseError, which parse() catches.
//
//   parse.cpp            the module: directives, functions and their parameters
//   parse_variable.cpp   declarations of variables and their initialisers
//   parse_body.cpp       the bodies of functions: scopes, registers, labels, instructions
//   parse_operand.cpp    operands of instructions
//   parse_constant.cpp   constant expressions
//
// Names that are not known where they stand (labels ahead, functions further down) become operands of kind Label whose number is an index of
// Body::pending; they are resolved when the function, or the module, has ended.
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "emulator/ptx/lexer.h"
#include "emulator/ptx/module.h"

namespace flexemu::ptx {

/// A constant expression's value: a 64-bit integer, or a float.
struct Constant {
    enum class Kind : uint8_t { Integer, Float, Float32 } kind = Kind::Integer;
    bool is_unsigned = false;
    uint64_t bits = 0;

    [[nodiscard]] bool is_integer() const { return kind == Kind::Integer; }
    [[nodiscard]] double as_double() const;
    [[nodiscard]] int64_t as_signed() const { return static_cast<int64_t>(bits); }
};

/// What a name of a function's body means: a register, a vector of them, a variable, a table or a label.
struct Meaning {
    enum class Kind : uint8_t { Register, RegisterVector, Variable, Table, Label } kind = Kind::Register;
    int32_t number = 0;
    int32_t count = 1;  // of a vector
};

struct Scope {
    int32_t parent = -1;
    std::unordered_map<std::string_view, Meaning> names;
};

struct Pending {
    std::string_view name;
    int32_t scope = 0, line = 0;
};

/// What is kept of a function's body until its names are resolved.
struct Body {
    std::vector<Scope> scopes;
    std::vector<Pending> pending;
    int32_t scope = 0;  // the open one
};

struct Linkage {
    bool is_extern = false, is_visible = false, is_weak = false, is_common = false;
};

class Parser {
public:
    explicit Parser(std::string_view text) : tokens_(tokens_of(text)) {}
    Module run();

private:
    // Tokens.
    [[nodiscard]] const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
    const Token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
    [[nodiscard]] bool is_punctuation(std::string_view text, size_t ahead = 0) const;
    [[nodiscard]] bool is_dot(std::string_view text, size_t ahead = 0) const;
    [[nodiscard]] bool is_identifier(size_t ahead = 0) const { return peek(ahead).kind == Token::Kind::Identifier; }
    bool accept(std::string_view punctuation);
    bool accept_dot(std::string_view name);
    void expect(std::string_view punctuation, std::string_view after);
    std::string_view expect_identifier(std::string_view what);
    int64_t expect_integer(std::string_view what, int64_t least, int64_t most);
    [[noreturn]] void fail(std::string text) const;  // at the current token
    [[noreturn]] static void fail_at(int32_t line, std::string text);
    [[nodiscard]] std::string found() const;  // "`;`"

    // parse.cpp
    void header();
    void module_item();
    Linkage linkage();
    void function(const Linkage& linkage);
    std::vector<Parameter> parameters(Function* function, std::string_view what);
    Parameter parameter(Function* function);
    void layout(Function* function);
    bool performance_directive(Function* function);
    void dimensions(int32_t (&to)[3], std::string_view what);
    void alias();
    void skip_attribute();
    void skip_section();
    bool debug_directive();
    std::string unique_name(std::string_view wanted) const;

    // parse_variable.cpp
    struct Declaration {
        Space space = Space::Global;
        Type type = Type::None;
        int64_t vector = 1, align = 0;
    };
    Declaration declaration(Space space);
    Variable variable(const Declaration& declaration, std::vector<int64_t>* dimensions);
    void variables(const Linkage& linkage, Space space, Function* function);
    void initialiser(Variable* variable, Type type, std::vector<int64_t> dimensions);
    void initial_list(Variable* variable, Type type, const std::vector<int64_t>& dimensions, size_t depth, int64_t at, int64_t room);
    void initial_element(Variable* variable, Type type, int64_t at);
    bool initial_address(Variable* variable, Type type, int64_t at);
    void initial_string(Variable* variable, int64_t* at);
    void put(Variable* variable, int64_t at, uint64_t value, int64_t bytes);
    int32_t declare_variable(Variable variable);

    // parse_body.cpp
    void body(Function* function);
    void statement(Function* function);
    void registers(Function* function);
    int32_t add_register(Function* function, std::string name, Type type);
    void table(Function* function, std::string_view label);
    void instruction(Function* function);
    void call_operands(Instruction* instruction);
    Operand call_tuple();
    void bind(std::string_view name, Meaning meaning, int32_t line);
    void resolve(Function* function);
    void resolve(Operand* operand);

    // parse_operand.cpp
    Operand operand(std::string_view after, bool is_address);
    Operand memory();
    Operand vector();
    Operand named(bool in_memory);
    Operand constant_operand();
    [[nodiscard]] static Operand of_meaning(const Meaning& meaning);
    int64_t offset_terms();
    [[nodiscard]] const Meaning* lookup(std::string_view name, int32_t scope) const;
    [[nodiscard]] std::optional<Operand> special(std::string_view name) const;

    // parse_constant.cpp
    Constant constant();
    Constant binary(int least_precedence);
    Constant unary();
    Constant primary();
    Constant combine(std::string_view op, Constant a, Constant b, int32_t line);
    int64_t integer_constant(std::string_view what);
    [[nodiscard]] bool starts_constant() const;

    /// Garbage nested without end must not end the stack.
    struct Nesting {
        explicit Nesting(Parser* parser) : parser(parser) {
            if (++parser->depth_ > 600) parser->fail("nested too deeply");
        }
        ~Nesting() { --parser->depth_; }
        Nesting(const Nesting&) = delete;
        Nesting& operator=(const Nesting&) = delete;
        Parser* parser;
    };

    std::vector<Token> tokens_;
    size_t at_ = 0;
    int depth_ = 0;
    Module module_;
    std::vector<Body> bodies_;  // of module_.functions
    Body* body_ = nullptr;      // of the function that is open
    Function* function_ = nullptr;
    std::deque<std::string> names_;  // of parametrised registers
    struct PendingFixup {
        std::string_view name;
        int32_t line = 0;
        size_t fixup = 0;
        std::string variable;
    };
    std::vector<PendingFixup> pending_fixups_;
    size_t registers_ = 0;       // of all functions
    int64_t initial_bytes_ = 0;  // of all variables
    std::vector<std::pair<std::string, Pending>> aliases_;
    std::unordered_map<std::string, int32_t> function_numbers_, variable_numbers_;
};

[[nodiscard]] std::optional<Space> space_named(std::string_view name);

}  // namespace flexemu::ptx
