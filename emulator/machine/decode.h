// One instruction being decoded: modifiers are taken one by one, operands are checked and resolved, and what is left over at the end is an error that
// names it. All functions that can fail return false with the error set, so that decoders are chains of &&.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "emulator/machine/op.h"

namespace flexemu {

class Decoding {
public:
    Decoding(const ptx::Instruction& instruction, DecodeContext& context, Op* op, std::string* error)
        : op(*op), text(instruction), context(context), error_(error) {}

    Op& op;
    const ptx::Instruction& text;
    DecodeContext& context;

    bool fail(std::string message) {
        *error_ = std::move(message);
        return false;
    }

    /// True if the modifier is there; it counts as understood from then on.
    bool take(std::string_view modifier);
    /// The first of several alternatives that is there (its index), or -1.
    int take_one(std::initializer_list<std::string_view> modifiers);
    /// The first modifier that is a type and was not taken yet; None if there is none.
    ptx::Type take_type();
    /// Like take_type, but one must be there.
    bool type(ptx::Type* out);
    /// Whether the modifier is there, without taking it.
    [[nodiscard]] bool sees(std::string_view modifier) const { return text.has(modifier); }
    /// All modifiers must have been taken.
    bool finish();

    bool operands(size_t least, size_t most);
    bool operands(size_t count) { return operands(count, count); }
    /// Append operand `index` to the op's destinations or sources. Registers must be as wide as the type.
    bool destination(size_t index, ptx::Type type) { return destination(text.operands[index], type); }
    bool source(size_t index, ptx::Type type) { return source(text.operands[index], type); }
    bool destination(const ptx::Operand& operand, ptx::Type type) { return add_destination(operand, type, false); }
    bool source(const ptx::Operand& operand, ptx::Type type) { return add_source(operand, type, false); }
    /// Destination 0 and sources 1 and so on, all of one type.
    bool operation(ptx::Type type, size_t sources);
    /// As cvt allows: the register may be wider than the type.
    bool wide_destination(size_t index, ptx::Type type) { return add_destination(text.operands[index], type, true); }
    bool wide_source(size_t index, ptx::Type type) { return add_source(text.operands[index], type, true); }
    /// The p of `d|p`: appended to the destinations, kNoRegister if it is absent.
    bool second_destination(size_t index);
    /// An integer that must be known at load.
    bool constant(size_t index, int64_t least, int64_t most, int64_t* out);
    /// The condition code, CC.CF.
    bool carry_in();
    bool carry_out();
    /// The width of the register of an operand, or 0 if it is none.
    [[nodiscard]] int register_bits(const ptx::Operand& operand) const;
    bool type_is(ptx::Type type, std::initializer_list<ptx::Type> types);
    /// Refuses what the module's `.target` does not have: 90 for sm_90 and later.
    bool needs_target(int compute_capability, std::string_view what);

private:
    bool width(const ptx::Operand& operand, ptx::Type type, bool wider);
    bool add_destination(const ptx::Operand& operand, ptx::Type type, bool wider);
    bool add_source(const ptx::Operand& operand, ptx::Type type, bool wider);

    std::string* error_;
    uint64_t taken_ = 0;  // bit i: modifier i
};

/// A Decoder for the tables, from a function that works on a Decoding.
template <bool (*decode)(Decoding&)>
bool decoder(const ptx::Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    Decoding decoding(instruction, context, out, error);
    return decode(decoding);
}

}  // namespace flexemu
