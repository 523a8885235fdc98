// Addresses of .shared variables. Those of different kernels may overlap, those that one kernel can reach, itself or through calls, may not; a function
// that several kernels call finds its variables at the same place in each.
#include <algorithm>

#include "emulator/machine/program.h"

namespace flexemu {
namespace {

using ptx::Operand;

/// What a function may use, itself or through what it calls.
struct Uses {
    std::vector<bool> functions, variables;
};

void visit(const Operand& operand, Uses* use) {
    if (operand.kind == Operand::Kind::Function) use->functions[static_cast<size_t>(operand.number)] = true;
    if (operand.kind == Operand::Kind::Symbol && operand.number < ptx::kFirstLocal)
        use->variables[static_cast<size_t>(operand.number)] = true;
    for (const Operand& element : operand.elements) visit(element, use);
}

std::vector<Uses> all_uses(const ptx::Module& module) {
    const size_t functions = module.functions.size();
    std::vector<Uses> uses(functions);
    // An indirect call may go wherever an initial value points.
    std::vector<bool> pointed_at(functions, false);
    for (const ptx::Variable& variable : module.variables) {
        for (const auto& fixup : variable.fixups) {
            if (fixup.is_function) pointed_at[static_cast<size_t>(fixup.number)] = true;
        }
    }
    for (size_t f = 0; f < functions; ++f) {
        uses[f].functions.resize(functions);
        uses[f].variables.resize(module.variables.size());
        bool is_indirect = false;
        for (const ptx::Instruction& instruction : module.functions[f].instructions) {
            for (const Operand& operand : instruction.operands) visit(operand, &uses[f]);
            is_indirect |=
                instruction.opcode == "call" && instruction.operands.size() > 1 && instruction.operands[1].kind != Operand::Kind::Function;
        }
        for (const auto& table : module.functions[f].tables) {
            for (const Operand& operand : table) visit(operand, &uses[f]);
        }
        for (size_t g = 0; g < functions && is_indirect; ++g) {
            if (pointed_at[g]) uses[f].functions[g] = true;
        }
    }
    const auto add = [](std::vector<bool>* to, const std::vector<bool>& from) {
        bool changed = false;
        for (size_t i = 0; i < from.size(); ++i) {
            if (!from[i] || (*to)[i]) continue;
            (*to)[i] = changed = true;
        }
        return changed;
    };
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t f = 0; f < functions; ++f) {
            for (size_t g = 0; g < functions; ++g) {
                if (!uses[f].functions[g] || f == g) continue;
                changed |= add(&uses[f].functions, uses[g].functions);
                changed |= add(&uses[f].variables, uses[g].variables);
            }
        }
    }
    return uses;
}

struct Placed {
    const ptx::Variable* variable;
    std::vector<size_t> kernels;
    uint64_t* address;
    size_t order;
    int64_t at = 0;
};

/// The lowest place that overlaps none of those placed before in a common kernel.
int64_t lowest_place(const std::vector<Placed>& all, size_t index) {
    const Placed& wanted = all[index];
    const int64_t align = std::max<int64_t>(wanted.variable->align, 1);
    int64_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        at = (at + align - 1) / align * align;
        for (size_t j = 0; j < index; ++j) {
            const Placed& other = all[j];
            if (at >= other.at + other.variable->bytes || other.at >= at + wanted.variable->bytes) continue;
            const bool meet = std::any_of(wanted.kernels.begin(), wanted.kernels.end(), [&](size_t k) {
                return std::find(other.kernels.begin(), other.kernels.end(), k) != other.kernels.end();
            });
            if (!meet) continue;
            at = other.at + other.variable->bytes;
            moved = true;
        }
    }
    return at;
}

}  // namespace

void lay_out_shared(Program* program) {
    const ptx::Module& module = program->module;
    const size_t functions = module.functions.size();
    const std::vector<Uses> uses = all_uses(module);
    std::vector<Placed> all;
    const auto declare = [&](const ptx::Variable& variable, uint64_t* address, auto&& is_used_by) {
        std::vector<size_t> kernels;
        for (size_t k = 0; k < functions; ++k) {
            if (module.functions[k].is_kernel && is_used_by(k)) kernels.push_back(k);
        }
        if (variable.is_extern && variable.bytes == 0) {
            for (const size_t k : kernels) program->codes[k].dynamic_align = std::max(program->codes[k].dynamic_align, variable.align);
        } else {
            all.push_back({&variable, std::move(kernels), address, all.size()});
        }
    };
    for (size_t v = 0; v < module.variables.size(); ++v) {
        if (module.variables[v].space != ptx::Space::Shared) continue;
        declare(module.variables[v], &program->address[v], [&](size_t k) { return uses[k].variables[v]; });
    }
    program->local_shared_address.resize(functions);
    for (size_t f = 0; f < functions; ++f) {
        const ptx::Function& function = module.functions[f];
        program->local_shared_address[f].resize(function.locals.size(), 0);
        for (size_t v = 0; v < function.locals.size(); ++v) {
            if (function.locals[v].space != ptx::Space::Shared) continue;
            declare(function.locals[v], &program->local_shared_address[f][v], [&](size_t k) { return k == f || uses[k].functions[f]; });
        }
    }
    std::sort(all.begin(), all.end(), [](const Placed& a, const Placed& b) {
        return a.variable->align != b.variable->align ? a.variable->align > b.variable->align : a.order < b.order;
    });
    for (size_t i = 0; i < all.size(); ++i) {
        all[i].at = lowest_place(all, i);
        *all[i].address = static_cast<uint64_t>(all[i].at);
        for (const size_t k : all[i].kernels) {
            program->codes[k].static_shared = std::max(program->codes[k].static_shared, all[i].at + all[i].variable->bytes);
        }
    }
}

}  // namespace flexemu
