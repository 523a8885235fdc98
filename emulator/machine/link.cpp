// Loading: instructions become Ops, variables get addresses, functions are linked.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/products.h"
#include "emulator/machine/program.h"
#include "emulator/numeric/float.h"

namespace flexemu {
namespace {

using ptx::Operand;
using ptx::Space;
using ptx::Type;

const std::unordered_map<std::string_view, Decoder>& decoders() {
    static const auto* const all = [] {
        auto* map = new std::unordered_map<std::string_view, Decoder>;
        for (const auto table : {integer_decoders(), float_decoders(), shared_decoders(), control_decoders(), memory_decoders(),
                                 atomic_decoders(), warp_decoders(), async_decoders(), matrix_decoders(), wgmma_decoders()}) {
            for (const DecoderEntry& entry : table) map->emplace(entry.opcode, entry.decode);
        }
        return map;
    }();
    return *all;
}

/// The bits of an immediate as a value of the type.
uint64_t immediate(const Operand& operand, Type type) {
    const int width = ptx::bits(type);
    uint64_t bits = operand.bits;
    if (operand.is_float || operand.is_f32) {
        const double value =
            operand.is_f32 ? static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits))) : std::bit_cast<double>(bits);
        if (type == Type::F16) {
            bits = numeric::round_to(numeric::kF16, value, numeric::Rounding::NearestEven);
        } else if (type == Type::BF16) {
            bits = numeric::round_to(numeric::kBF16, value, numeric::Rounding::NearestEven);
        } else if (width == 32 && !operand.is_f32) {
            bits = std::bit_cast<uint32_t>(static_cast<float>(value));
        } else if (width == 64 && operand.is_f32) {
            bits = std::bit_cast<uint64_t>(value);
        }
    } else if (type == Type::F32) {
        bits = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int64_t>(bits)));
    } else if (type == Type::F64) {
        bits = std::bit_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(bits)));
    }
    if (type == Type::Pred) return bits != 0 ? 1 : 0;
    return width < 64 && width > 0 ? bits & ((uint64_t{1} << width) - 1) : bits;
}

class Linker : public DecodeContext {
public:
    Linker(Program* program, int32_t function)
        : program_(program), function_(function), code_(&program->codes[static_cast<size_t>(function)]) {}

    [[nodiscard]] const ptx::Module& module() const override { return program_->module; }
    [[nodiscard]] const ptx::Function& function() const override { return *code_->text; }

    bool source(const Operand& operand, Type type, Source* out, std::string* error) override {
        out->negated = operand.negated;
        switch (operand.kind) {
            case Operand::Kind::Register:
                out->kind = Source::Kind::Register;
                out->number = code_->slot_of[static_cast<size_t>(operand.number)];
                out->component = operand.component;
                return true;
            case Operand::Kind::Immediate:
                out->kind = Source::Kind::Constant;
                out->constant = program_->constant(immediate(operand, type));
                return true;
            case Operand::Kind::Special:
                out->kind = Source::Kind::Special;
                out->number = static_cast<uint32_t>(operand.number);
                out->component = operand.component;
                return true;
            case Operand::Kind::Symbol: return symbol(operand.number, operand.offset, out, error);
            case Operand::Kind::Function:
                if (!program_->codes[static_cast<size_t>(operand.number)].is_defined) {
                    *error = fmt::format("the function `{}` is not defined",
                                         program_->module.functions[static_cast<size_t>(operand.number)].name);
                    return false;
                }
                out->kind = Source::Kind::Constant;
                out->constant = program_->constant(kFunctionWindow + 16 * static_cast<uint64_t>(operand.number));
                return true;
            default: *error = "an operand is no value"; return false;
        }
    }

    bool destination(const Operand& operand, uint32_t* out, std::string* error) override {
        *out = kNoRegister;
        if (operand.kind == Operand::Kind::Sink || operand.kind == Operand::Kind::None) return true;
        if (operand.kind != Operand::Kind::Register) {
            *error = "a destination is no register";
            return false;
        }
        *out = code_->slot_of[static_cast<size_t>(operand.number)];
        return true;
    }

    bool address(const Operand& operand, Source* base, int64_t* offset, std::string* error) override {
        if (operand.kind != Operand::Kind::Memory || operand.elements.empty()) {
            *error = "expected an address in brackets";
            return false;
        }
        *offset = operand.offset;
        const Operand& at = operand.elements[0];
        if (at.kind == Operand::Kind::None) {
            base->kind = Source::Kind::Constant;
            base->constant = program_->constant(0);
            return true;
        }
        return source(at, Type::U64, base, error);
    }

private:
    bool symbol(int32_t number, int64_t offset, Source* out, std::string* error) {
        const bool is_local = number >= ptx::kFirstLocal;
        const size_t index = static_cast<size_t>(is_local ? number - ptx::kFirstLocal : number);
        const ptx::Variable& variable = is_local ? code_->text->locals[index] : program_->module.variables[index];
        const auto constant = [&](uint64_t value) {
            out->kind = Source::Kind::Constant;
            out->constant = program_->constant(value);
            return true;
        };
        const auto in_frame = [&](uint64_t from) {
            out->kind = Source::Kind::Frame;
            out->number = static_cast<uint32_t>(from + static_cast<uint64_t>(code_->local_offset[index] + offset));
            return true;
        };
        switch (variable.space) {
            case Space::Shared:
                if (variable.is_extern && variable.bytes == 0) {
                    out->kind = Source::Kind::DynamicShared;
                    out->number = static_cast<uint32_t>(offset);
                    return true;
                }
                return constant(
                    (is_local ? program_->local_shared_address[static_cast<size_t>(function_)][index] : program_->address[index]) +
                    static_cast<uint64_t>(offset));
            case Space::Local:
                if (!is_local) break;
                return in_frame(0);
            case Space::Param:
                if (code_->text->is_kernel) {
                    for (const ptx::Parameter& parameter : code_->text->parameters) {
                        if (parameter.variable == number) return constant(static_cast<uint64_t>(parameter.offset + offset));
                    }
                }
                return in_frame(kParamFrame);
            default:
                if (program_->address[index] == 0) {
                    *error = fmt::format("the variable `{}` is not defined", variable.name);
                    return false;
                }
                return constant(program_->address[index] + static_cast<uint64_t>(offset));
        }
        *error = fmt::format("`{}` has no address", variable.name);
        return false;
    }

    Program* program_;
    int32_t function_;
    Code* code_;
};

int64_t round_up(int64_t value, int64_t to) {
    return (value + to - 1) / to * to;
}

/// Registers, frame and parameters: all that callers need to know.
void lay_out_frame(Code* code, const ptx::Function& function) {
    code->text = &function;
    code->is_defined = !function.is_declaration;
    for (const ptx::Register& reg : function.registers) {
        code->slot_of.push_back(code->registers);
        code->registers += reg.type == Type::B128 ? 2 : 1;
    }
    for (const ptx::Variable& variable : function.locals) {
        const bool in_frame = variable.space == Space::Local || variable.space == Space::Param;
        if (in_frame) code->frame_bytes = round_up(code->frame_bytes, std::max<int64_t>(variable.align, 1));
        code->local_offset.push_back(code->frame_bytes);
        if (in_frame) code->frame_bytes += variable.bytes;
    }
    code->frame_bytes = round_up(code->frame_bytes, 128);
    const auto convert = [&](const ptx::Parameter& parameter) {
        CodeParameter result;
        result.in_register = parameter.variable < 0;
        result.type = parameter.type;
        result.bytes = parameter.bytes;
        if (result.in_register) {
            result.reg = code->slot_of[static_cast<size_t>(parameter.reg)];
        } else {
            result.offset =
                function.is_kernel ? parameter.offset : code->local_offset[static_cast<size_t>(parameter.variable - ptx::kFirstLocal)];
        }
        return result;
    };
    for (const ptx::Parameter& parameter : function.parameters) code->parameters.push_back(convert(parameter));
    for (const ptx::Parameter& parameter : function.results) code->results.push_back(convert(parameter));
}

bool decode(Program* program, int32_t number, std::string* error) {
    Code& code = program->codes[static_cast<size_t>(number)];
    Linker context(program, number);
    code.ops.resize(code.text->instructions.size());
    for (size_t i = 0; i < code.ops.size(); ++i) {
        const ptx::Instruction& instruction = code.text->instructions[i];
        Op& op = code.ops[i];
        const auto found = decoders().find(instruction.opcode);
        std::string reason;
        if (found == decoders().end() || !found->second(instruction, context, &op, &reason) || op.run == nullptr) {
            *error = fmt::format("line {}: `{}` is not supported by the emulator{}{}", instruction.line, instruction.spelling(),
                                 reason.empty() ? "" : ": ", reason);
            return false;
        }
        op.line = instruction.line;
        op.text = &instruction;
        op.number = static_cast<uint32_t>(program->ops_by_number.size());
        if (instruction.guard >= 0) {
            op.guard = code.slot_of[static_cast<size_t>(instruction.guard)];
            op.guard_negated = instruction.guard_negated;
        }
        program->ops_by_number.push_back(&op);
    }
    mark_product_registers(&code);
    find_meeting_points(&code);
    return true;
}

bool place_variables(Program* program, DeviceMemory& memory, std::string* error) {
    const ptx::Module& module = program->module;
    for (size_t i = 0; i < module.variables.size(); ++i) {
        const ptx::Variable& variable = module.variables[i];
        if ((variable.space != Space::Global && variable.space != Space::Const) || variable.is_extern) continue;
        Segment* segment = memory.allocate(static_cast<size_t>(std::max<int64_t>(variable.bytes, 1)),
                                           static_cast<size_t>(std::max<int64_t>(variable.align, 1)));
        if (segment == nullptr) {
            *error = fmt::format("line {}: no memory for the variable `{}`", variable.line, variable.name);
            return false;
        }
        program->allocations.push_back(segment->base);
        program->address[i] = segment->base;
        segment->initialised.set(0, segment->bytes);
        if (!variable.initial.empty())
            std::memcpy(segment->data, variable.initial.data(), std::min(variable.initial.size(), segment->bytes));
        segment->is_read_only = variable.space == Space::Const;
    }
    for (size_t i = 0; i < module.variables.size(); ++i) {
        const ptx::Variable& variable = module.variables[i];
        if (variable.fixups.empty() || program->address[i] == 0) continue;
        Segment* segment = memory.find(program->address[i]);
        for (const ptx::Variable::Fixup& fixup : variable.fixups) {
            uint64_t value = 0;
            if (fixup.is_function) {
                value = kFunctionWindow + 16 * static_cast<uint64_t>(fixup.number);
            } else {
                value = program->address[static_cast<size_t>(fixup.number)];
                if (fixup.generic && module.variables[static_cast<size_t>(fixup.number)].space == Space::Shared) value += kSharedWindow;
            }
            value = (value + static_cast<uint64_t>(fixup.offset)) >> fixup.shift;
            std::memcpy(segment->data + fixup.at, &value, static_cast<size_t>(std::min(fixup.size, 8)));
        }
    }
    return true;
}

}  // namespace

Builtin builtin_named(std::string_view name) {
    if (name == "__assertfail") return Builtin::AssertFail;
    if (name == "vprintf") return Builtin::Print;
    if (name == "malloc") return Builtin::Malloc;
    if (name == "free") return Builtin::Free;
    return Builtin::None;
}

const Lanes* Program::constant(uint64_t value) {
    const Lanes*& at = constant_of[value];
    if (at == nullptr) {
        constants.emplace_back().fill(value);
        at = &constants.back();
    }
    return at;
}

bool link(Program* program, DeviceMemory& memory, std::string* error) {
    program->memory = &memory;
    const ptx::Module& module = program->module;
    program->codes.resize(module.functions.size());
    program->address.assign(module.variables.size(), 0);
    for (size_t i = 0; i < module.functions.size(); ++i) lay_out_frame(&program->codes[i], module.functions[i]);
    lay_out_shared(program);
    if (!place_variables(program, memory, error)) return false;
    for (size_t i = 0; i < program->codes.size(); ++i) {
        if (program->codes[i].is_defined && !decode(program, static_cast<int32_t>(i), error)) return false;
    }
    return true;
}

}  // namespace flexemu
