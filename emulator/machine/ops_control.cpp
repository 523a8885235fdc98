// Control flow and barriers: bra, brx.idx, call, ret, exit, trap, brkpt, nanosleep, bar, barrier, barrier.cluster, bar.warp.sync.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>

#include "emulator/machine/calls.h"
#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

WarpState& state(Warp& warp) {
    return static_cast<WarpState&>(warp);
}

bool refuse(std::string* error, std::string_view modifier) {
    *error = fmt::format("`.{}` is not known here", modifier);
    return false;
}

// ---- Branches

/// .uni promises that all lanes that come together agree.
bool breaks_promise(Warp& warp, const Op& op, LaneMask active) {
    if (!op.uniform_control || active == warp.converged()) return false;
    const int lane = std::countr_zero(active);
    warp.fault(Fault::Kind::Divergence, op, lane,
               fmt::format("`.uni`, but the guard holds for lanes {:#010x} of {:#010x} only", active, warp.converged()));
    return true;
}

void run_branch(Warp& warp, const Op& op, LaneMask active) {
    if (breaks_promise(warp, op, active)) return;
    state(warp).branch(op, active, op.target);
}

bool decode_branch(const Instruction& instruction, DecodeContext&, Op* out, std::string* error) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier != "uni") return refuse(error, modifier);
        out->uniform_control = true;
    }
    if (instruction.operands.size() != 1 || instruction.operands[0].kind != Operand::Kind::Label) {
        *error = "expected a label";
        return false;
    }
    out->target = instruction.operands[0].number;
    out->run = run_branch;
    return true;
}

struct Targets {
    std::vector<int32_t> of;
};

void run_indexed(Warp& warp, const Op& op, LaneMask active) {
    const auto& targets = static_cast<const Targets*>(op.extra.get())->of;
    Lanes scratch, to{};
    const uint64_t* index = warp.read(op.sources[0], scratch);
    for (size_t i = 0; i < kLanes; ++i) {
        if ((active >> i & 1) == 0) continue;
        if ((index[i] & 0xffffffff) >= targets.size()) {
            return warp.fault(Fault::Kind::BadInstruction, op, static_cast<int>(i),
                              fmt::format("index {} of {} targets", index[i], targets.size()));
        }
        to[i] = static_cast<uint64_t>(targets[index[i] & 0xffffffff]);
    }
    if (op.uniform_control) {
        const uint64_t first = to[static_cast<size_t>(std::countr_zero(active))];
        bool agree = active == warp.converged();
        for (size_t i = 0; i < kLanes; ++i) agree &= (active >> i & 1) == 0 || to[i] == first;
        if (!agree) return warp.fault(Fault::Kind::Divergence, op, std::countr_zero(active), "`.uni`, but lanes go different ways");
    }
    state(warp).branch_many(op, active, to);
}

bool decode_indexed(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier != "idx" && modifier != "uni") return refuse(error, modifier);
        out->uniform_control |= modifier == "uni";
    }
    if (instruction.operands.size() != 2 || instruction.operands[1].kind != Operand::Kind::Table) {
        *error = "expected an index and a list of targets";
        return false;
    }
    auto targets = std::make_shared<Targets>();
    for (const Operand& label : context.function().tables[static_cast<size_t>(instruction.operands[1].number)]) {
        if (label.kind != Operand::Kind::Label) {
            *error = "the targets are not all labels";
            return false;
        }
        targets->of.push_back(label.number);
    }
    out->extra = std::move(targets);
    out->sources.resize(1);
    out->run = run_indexed;
    return context.source(instruction.operands[0], Type::U32, &out->sources[0], error);
}

// ---- Calls

std::string device_string(Launch& launch, uint64_t address) {
    std::string text;
    for (; text.size() < 400; ++address) {
        const Segment* segment = launch.device.memory.find(address);
        if (segment == nullptr) break;
        const char c = static_cast<char>(segment->data[address - segment->base]);
        if (c == 0) break;
        text += c;
    }
    return text;
}

/// The value of an argument of a builtin, of up to 8 bytes.
uint64_t argument(WarpState& warp, const CallInfo& info, size_t index, int lane) {
    if (index >= info.arguments.size()) return 0;
    const CallValue& value = info.arguments[index];
    if (!value.in_memory) {
        Lanes scratch;
        return warp.read(value.source, scratch)[lane];
    }
    uint64_t result = 0;
    const size_t bytes = static_cast<size_t>(std::clamp<int64_t>(value.bytes, 0, 8));
    const uint8_t* at = warp.local_bytes(lane, static_cast<uint64_t>(warp.current().at.local + value.offset), bytes);
    if (at != nullptr) std::copy_n(at, bytes, reinterpret_cast<uint8_t*>(&result));
    return result;
}

void give_result(WarpState& warp, const CallInfo& info, int lane, uint64_t value) {
    if (info.results.empty()) return;
    const CallValue& result = info.results[0];
    if (result.in_memory) {
        const size_t bytes = static_cast<size_t>(std::clamp<int64_t>(result.bytes, 0, 8));
        warp.write_local(lane, static_cast<uint64_t>(warp.current().at.local + result.offset), bytes, &value);
    } else if (result.reg != kNoRegister) {
        warp.slots(result.reg)[lane] = value;
    }
}

/// printf as on the device: the format, and the arguments one after the other, promoted, at the second pointer.
void print(WarpState& warp, const CallInfo& info, int lane) {
    const std::string format = device_string(warp.launch(), argument(warp, info, 0, lane));
    uint64_t at = argument(warp, info, 1, lane);
    const bool is_local = at >> 56 == kLocalWindow >> 56;
    at &= 0x00ff'ffff'ffff'ffff;
    size_t offset = 0;
    const auto next = [&](size_t bytes) {
        offset = (offset + bytes - 1) / bytes * bytes;
        uint64_t value = 0;
        const uint8_t* from = nullptr;
        if (is_local) {
            from = warp.local_bytes(lane, at + offset, bytes);
        } else if (const Segment* segment = warp.launch().device.memory.find(at + offset); segment != nullptr) {
            from = segment->data + (at + offset - segment->base);
        }
        if (from != nullptr) std::copy_n(from, bytes, reinterpret_cast<uint8_t*>(&value));
        offset += bytes;
        return value;
    };
    std::string text;
    for (size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%') {
            text += format[i];
            continue;
        }
        std::string spec = "%";
        bool is_long = false;
        for (++i; i < format.size(); ++i) {
            const char c = format[i];
            if (c == 'l' || c == 'z' || c == 'j' || c == 't') {
                is_long = true;
                continue;
            }
            if (c == 'h') continue;
            if (c == '*') {
                spec += std::to_string(static_cast<int32_t>(next(4)));
                continue;
            }
            spec += c;
            if (std::string_view("0123456789.+-# ").find(c) == std::string_view::npos) break;
        }
        const char kind = spec.back();
        char buffer[512] = "";
        if (kind == '%') {
            text += '%';
            continue;
        }
        if (kind == 's') {
            text += device_string(warp.launch(), next(8));
            continue;
        }
        spec.pop_back();
        if (std::string_view("eEfFgGaA").find(kind) != std::string_view::npos) {
            std::snprintf(buffer, sizeof(buffer), (spec + kind).c_str(), std::bit_cast<double>(next(8)));
        } else if (kind == 'p') {
            std::snprintf(buffer, sizeof(buffer), "%#llx", static_cast<unsigned long long>(next(8)));
        } else {
            const uint64_t raw = next(is_long ? 8 : 4);
            const bool is_signed = kind == 'd' || kind == 'i';
            const long long value = is_signed && !is_long ? static_cast<int32_t>(raw) : static_cast<long long>(raw);
            if (kind == 'c') {
                std::snprintf(buffer, sizeof(buffer), (spec + 'c').c_str(), static_cast<int>(value));
            } else {
                std::snprintf(buffer, sizeof(buffer), (spec + "ll" + kind).c_str(), value);
            }
        }
        text += buffer;
    }
    std::fputs(text.c_str(), stderr);
}

void run_builtin(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    const auto& info = *static_cast<const CallInfo*>(op.extra.get());
    DeviceMemory& memory = warp.launch().device.memory;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        switch (static_cast<Builtin>(op.flags)) {
            case Builtin::AssertFail:
                return warp.fault(
                    Fault::Kind::Trap, op, lane,
                    fmt::format("assertion `{}` failed, {}:{}, in {}", device_string(warp.launch(), argument(warp, info, 0, lane)),
                                device_string(warp.launch(), argument(warp, info, 1, lane)), argument(warp, info, 2, lane),
                                device_string(warp.launch(), argument(warp, info, 3, lane))));
            case Builtin::Print:
                print(warp, info, lane);
                give_result(warp, info, lane, 1);
                break;
            case Builtin::Malloc: {
                const Segment* segment = memory.allocate(argument(warp, info, 0, lane), 512);
                give_result(warp, info, lane, segment == nullptr ? 0 : segment->base);
                break;
            }
            case Builtin::Free: {
                const uint64_t address = argument(warp, info, 0, lane);
                if (address != 0 && !memory.free(address)) {
                    return warp.fault(Fault::Kind::OutOfBounds, op, lane,
                                      fmt::format("free of {:#x}, where no allocation begins", address));
                }
                break;
            }
            case Builtin::None: break;
        }
    }
}

void run_call(Warp& warp, const Op& op, LaneMask active) {
    if (breaks_promise(warp, op, active)) return;
    state(warp).call(op, active, static_cast<const CallInfo*>(op.extra.get())->function);
}

void run_indirect_call(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    const auto& info = *static_cast<const CallInfo*>(op.extra.get());
    Lanes scratch, functions{};
    const uint64_t* callee = warp.read(info.callee, scratch);
    const auto& codes = warp.launch().program.codes;
    for (size_t i = 0; i < kLanes; ++i) {
        if ((active >> i & 1) == 0) continue;
        const uint64_t number = (callee[i] - kFunctionWindow) / 16;
        if (callee[i] < kFunctionWindow || callee[i] % 16 != 0 || number >= codes.size() || !codes[number].is_defined) {
            return warp.fault(Fault::Kind::BadInstruction, op, static_cast<int>(i),
                              fmt::format("{:#x} is no address of a function", callee[i]));
        }
        if (!info.targets.empty() &&
            std::find(info.targets.begin(), info.targets.end(), static_cast<int32_t>(number)) == info.targets.end()) {
            return warp.fault(Fault::Kind::BadInstruction, op, static_cast<int>(i),
                              fmt::format("`{}` is not among the call's targets", codes[number].text->name));
        }
        functions[i] = number;
    }
    warp.call_many(op, active, functions);
}

bool decode_call(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier != "uni") return refuse(error, modifier);
        out->uniform_control = true;
    }
    auto info = std::make_shared<CallInfo>();
    const ptx::Function& caller = context.function();
    const auto convert = [&](const Operand& operand, bool is_result, CallValue* value) {
        if (operand.kind == Operand::Kind::Symbol && operand.number >= ptx::kFirstLocal) {
            const ptx::Variable& variable = caller.locals[static_cast<size_t>(operand.number - ptx::kFirstLocal)];
            if (variable.space == ptx::Space::Param) {
                Source frame;
                if (!context.source(operand, Type::U64, &frame, error)) return false;
                if (frame.kind != Source::Kind::Frame) {
                    *error = fmt::format("the kernel's parameter `{}` cannot be handed on", variable.name);
                    return false;
                }
                value->in_memory = true;
                value->offset = static_cast<int64_t>(frame.number - kParamFrame);
                value->bytes = variable.bytes;
                return true;
            }
        }
        if (is_result) return context.destination(operand, &value->reg, error);
        const Type type = operand.kind == Operand::Kind::Immediate && operand.is_f32 ? Type::F32 : operand.is_float ? Type::F64 : Type::B64;
        return context.source(operand, type, &value->source, error);
    };
    for (const Operand& operand : instruction.operands[0].elements) {
        if (!convert(operand, true, &info->results.emplace_back())) return false;
    }
    for (const Operand& operand : instruction.operands[2].elements) {
        if (!convert(operand, false, &info->arguments.emplace_back())) return false;
    }
    const Operand& callee = instruction.operands[1];
    if (callee.kind == Operand::Kind::Function) {
        const ptx::Function& function = context.module().functions[static_cast<size_t>(callee.number)];
        info->function = callee.number;
        out->target = callee.number;
        if (function.is_declaration) {
            const Builtin builtin = builtin_named(function.name);
            if (builtin == Builtin::None) {
                *error = fmt::format("the function `{}` is not defined", function.name);
                return false;
            }
            out->flags = static_cast<uint32_t>(builtin);
            out->run = run_builtin;
        } else if (function.parameters.size() != info->arguments.size() || function.results.size() != info->results.size()) {
            *error = fmt::format("`{}` takes {} parameters and gives {} results", function.name, function.parameters.size(),
                                 function.results.size());
            return false;
        } else {
            out->run = run_call;
        }
    } else {
        if (!context.source(callee, Type::U64, &info->callee, error)) return false;
        if (instruction.operands.size() > 3 && instruction.operands[3].kind == Operand::Kind::Table) {
            for (const Operand& target : caller.tables[static_cast<size_t>(instruction.operands[3].number)]) {
                if (target.kind == Operand::Kind::Function) info->targets.push_back(target.number);
            }
        }
        out->run = run_indirect_call;
    }
    out->extra = std::move(info);
    return true;
}

// ---- Ends

void run_return(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    const Code& code = warp.launch().program.codes[static_cast<size_t>(warp.current().at.code)];
    warp.branch(op, active, static_cast<int32_t>(code.ops.size()));
}

void run_exit(Warp& warp, const Op&, LaneMask active) {
    state(warp).exit_lanes(active);
}

void run_trap(Warp& warp, const Op& op, LaneMask active) {
    warp.fault(Fault::Kind::Trap, op, std::countr_zero(active), "the kernel gave up");
}

void run_nothing(Warp&, const Op&, LaneMask) {}

/// Sleeps until something happens, or until nobody else can do anything.
void run_sleep(Warp& warp, const Op&, LaneMask) {
    state(warp).wait_in(Path::State::Suspended, true);
}

template <Handler handler>
bool decode_plain(const Instruction& instruction, DecodeContext&, Op* out, std::string* error) {
    for (const std::string& modifier : instruction.modifiers) {
        if (modifier != "uni" && modifier != "u32") return refuse(error, modifier);
    }
    out->run = handler;
    return true;
}

// ---- Barriers

/// Op::flags: what is done; flags2: the reduction.
constexpr uint32_t kWaits = 1;

void run_barrier(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    Lanes scratch;
    const uint64_t* id = warp.read(op.sources[0], scratch);
    const int lane = std::countr_zero(active);
    const auto number = static_cast<uint32_t>(id[lane]);
    for (int i = lane; i < kLanes; ++i) {
        if ((active >> i & 1) != 0 && static_cast<uint32_t>(id[i]) != number) {
            return warp.fault(Fault::Kind::BadBarrier, op, i, fmt::format("lanes name different barriers, {} and {}", id[i], number));
        }
    }
    uint32_t count = 0;
    if (op.sources[1].kind != Source::Kind::Absent) {
        const uint64_t* counts = warp.read(op.sources[1], scratch);
        count = static_cast<uint32_t>(counts[lane]);
        if (count == 0) return warp.fault(Fault::Kind::BadBarrier, op, lane, "a count of 0 threads");
        for (int i = lane; i < kLanes; ++i) {
            if ((active >> i & 1) != 0 && static_cast<uint32_t>(counts[i]) != count) {
                return warp.fault(Fault::Kind::BadBarrier, op, i, fmt::format("lanes count {} and {} threads", counts[i], count));
            }
        }
    }
    LaneMask predicate = 0;
    if (op.flags2 != 0) {
        const uint64_t* values = warp.read(op.sources[2], scratch);
        for (int i = 0; i < kLanes; ++i) predicate |= static_cast<LaneMask>(values[i] & 1) << i;
    }
    warp.owner().arrive(warp, op, active, number, count, (op.flags & kWaits) != 0, static_cast<int>(op.flags2), predicate,
                        op.destinations.empty() ? kNoRegister : op.destinations[0]);
}

void run_warp_sync(Warp& given, const Op& op, LaneMask active) {
    Lanes scratch;
    const uint64_t* masks = given.read(op.sources[0], scratch);
    Lanes copy;
    std::copy_n(masks, kLanes, copy.begin());
    state(given).warp_sync(op, active, copy.data());
}

void run_cluster_arrive(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    warp.owner().cluster.arrive(warp, op, active, op.flags == 0);
}

void run_cluster_wait(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    warp.owner().cluster.wait(warp, op, active, true);
}

bool decode_barrier(const Instruction& instruction, DecodeContext& context, Op* out, std::string* error) {
    const auto& modifiers = instruction.modifiers;
    const auto is = [&](std::string_view name) { return instruction.has(name); };
    if (is("warp")) {
        if (!is("sync") || instruction.operands.size() != 1) {
            *error = "expected `.sync` and a membermask";
            return false;
        }
        out->sources.resize(1);
        out->run = run_warp_sync;
        return context.source(instruction.operands[0], Type::U32, &out->sources[0], error);
    }
    if (is("cluster")) {
        for (const std::string& modifier : modifiers) {
            if (modifier != "cluster" && modifier != "arrive" && modifier != "wait" && modifier != "aligned" && modifier != "release" &&
                modifier != "relaxed" && modifier != "acquire") {
                return refuse(error, modifier);
            }
        }
        out->aligned = is("aligned");
        out->flags = is("relaxed") ? 1 : 0;
        out->run = is("wait") ? run_cluster_wait : run_cluster_arrive;
        return is("wait") || is("arrive");
    }
    // bar is barrier.aligned under its older name.
    out->aligned = instruction.opcode == "bar" || is("aligned");
    bool is_arrive = false, is_sync = false;
    for (const std::string& modifier : modifiers) {
        if (modifier == "sync")
            is_sync = true;
        else if (modifier == "arrive")
            is_arrive = true;
        else if (modifier == "popc")
            out->flags2 = 1;
        else if (modifier == "and")
            out->flags2 = 2;
        else if (modifier == "or")
            out->flags2 = 3;
        else if (modifier != "red" && modifier != "cta" && modifier != "aligned" && modifier != "u32" && modifier != "pred")
            return refuse(error, modifier);
    }
    const bool is_reduction = is("red");
    if (is_reduction != (out->flags2 != 0) || is_arrive + is_sync + is_reduction != 1) {
        *error = "expected `.sync`, `.arrive` or a reduction";
        return false;
    }
    out->flags = is_arrive ? 0 : kWaits;
    out->run = run_barrier;
    out->sources.resize(3);
    size_t next = 0;
    const auto& operands = instruction.operands;
    if (is_reduction) {
        out->destinations.resize(1);
        if (operands.size() < 3 || !context.destination(operands[next++], &out->destinations[0], error)) return false;
    }
    if (next >= operands.size() || !context.source(operands[next++], Type::U32, &out->sources[0], error)) return false;
    const size_t left = operands.size() - next;
    if (left == (is_reduction ? 2U : 1U) && !context.source(operands[next++], Type::U32, &out->sources[1], error)) return false;
    if (is_arrive && left != 1) {
        *error = "`.arrive` needs a count of threads";
        return false;
    }
    return !is_reduction || (next < operands.size() && context.source(operands[next], Type::Pred, &out->sources[2], error));
}

constexpr DecoderEntry kDecoders[] = {
    {"bra", decode_branch},
    {"brx", decode_indexed},
    {"call", decode_call},
    {"ret", decode_plain<run_return>},
    {"exit", decode_plain<run_exit>},
    {"trap", decode_plain<run_trap>},
    {"brkpt", decode_plain<run_nothing>},
    {"pmevent", decode_plain<run_nothing>},
    {"nanosleep", decode_plain<run_sleep>},
    {"bar", decode_barrier},
    {"barrier", decode_barrier},
};

}  // namespace

std::span<const DecoderEntry> control_decoders() {
    return kDecoders;
}

}  // namespace flexemu
