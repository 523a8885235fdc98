#include "emulator/machine/products.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/calls.h"
#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

using Sum = ProductKind::Sum;

/// What registers hold while a product has them: a NaN as f32, f16 and bf16.
constexpr uint64_t kPoison = 0x7fbd7fbd;

constexpr uint32_t kAllWarps = (1U << kWarpsOfGroup) - 1;

const ProductKind& kind_of(const Op& op) {
    return *static_cast<const ProductKind*>(op.extra.get());
}

std::string line_text(const WarpState& warp, const Op& op) {
    return const_cast<WarpState&>(warp).launch().op_text(op.number);
}

/// Row of the product and column of an accumulator register of a lane, of a warp's 16 rows.
struct SumPlace {
    size_t row, column;
};
SumPlace place_of(const ProductKind& kind, size_t reg, size_t lane) {
    if (kind.sum == Sum::F16) return {lane / 4 + 8 * (reg % 2), 8 * (reg / 2) + lane % 4 * 2};
    return {lane / 4 + 8 * (reg / 2 % 2), 8 * (reg / 4) + lane % 4 * 2 + reg % 2};
}

void take_sums(const ProductKind& kind, const Lanes& from, size_t reg, size_t first_row, Accumulator& to) {
    const auto n = static_cast<size_t>(kind.shape.n);
    for (size_t lane = 0; lane < kLanes; ++lane) {
        const SumPlace at = place_of(kind, reg, lane);
        const size_t index = (first_row + at.row) * n + at.column;
        switch (kind.sum) {
            case Sum::F32: to.sums[index] = std::bit_cast<float>(static_cast<uint32_t>(from[lane])); break;
            case Sum::S32: to.integers[index] = static_cast<int32_t>(from[lane]); break;
            case Sum::F16:
                to.sums[index] = numeric::to_f32(numeric::F16{static_cast<uint16_t>(from[lane])});
                to.sums[index + 1] = numeric::to_f32(numeric::F16{static_cast<uint16_t>(from[lane] >> 16)});
        }
    }
}

void put_sums(const ProductKind& kind, const Accumulator& from, size_t reg, size_t first_row, Lanes& to) {
    const auto n = static_cast<size_t>(kind.shape.n);
    for (size_t lane = 0; lane < kLanes; ++lane) {
        const SumPlace at = place_of(kind, reg, lane);
        const size_t index = (first_row + at.row) * n + at.column;
        const auto half = [&](size_t i) { return uint64_t{numeric::to_f16(static_cast<double>(from.sums[i])).bits}; };
        switch (kind.sum) {
            case Sum::F32: to[lane] = std::bit_cast<uint32_t>(from.sums[index]); break;
            case Sum::S32: to[lane] = static_cast<uint32_t>(from.integers[index]); break;
            case Sum::F16: to[lane] = half(index) | half(index + 1) << 16;
        }
    }
}

void perform(BlockState& block, Product& product) {
    const ProductKind& kind = kind_of(*product.op);
    const auto n = static_cast<uint32_t>(kind.shape.n);
    const uint8_t* const shared = block.shared().data;
    std::vector<uint8_t> a(size_t{kProductRows} * kProductLineBytes), b(size_t{n} * kProductLineBytes);
    MatrixLayout layout;
    if (kind.a_in_registers) {
        std::memcpy(a.data(), product.a_lines.data(), a.size());
    } else {
        MatrixLayout::decode(product.a_descriptor, kind.a_by_rows_of_k, kProductRows, &layout);
        read_matrix(layout, kProductRows, shared, a.data());
    }
    MatrixLayout::decode(product.b_descriptor, kind.b_by_rows_of_k, n, &layout);
    read_matrix(layout, n, shared, b.data());
    Accumulator& into = *product.into;
    if (!product.accumulates) {
        std::fill(into.sums.begin(), into.sums.end(), 0.0f);
        std::fill(into.integers.begin(), into.integers.end(), 0);
    }
    const bool negate = kind.negate_a != kind.negate_b;
    if (kind.sum == Sum::S32)
        numeric::add_product_s32(kind.shape, kind.a, a.data(), kind.b, b.data(), kind.saturate, numeric::BitOperation::And,
                                 into.integers.data());
    else
        numeric::add_product(kind.shape, kind.a, a.data(), kind.b, b.data(), negate, kind.sum == Sum::F16, into.sums.data());
    product.is_performed = true;
    product.a_lines = {};
    --block.launch.products_formed;
}

/// Performs what is formed, in order, up to a product.
void perform_until(BlockState& block, Warpgroup& group, uint32_t sequence) {
    for (const auto& product : group.products) {
        if (product->sequence > sequence || product->joined != kAllWarps) break;
        if (!product->is_performed) perform(block, *product);
    }
    while (!group.products.empty() && group.products.front()->is_performed) {
        group.products.pop_front();
        ++group.first;
    }
}

}  // namespace

WarpProducts& WarpState::products() {
    if (!products_) products_ = std::make_unique<WarpProducts>();
    if (products_->owner.size() < registers_.size()) {
        products_->owner.resize(registers_.size(), nullptr);
        products_->touched.resize(registers_.size(), 0);
    }
    return *products_;
}

void mark_product_registers(Code* code) {
    std::vector<bool> is_marked;
    const auto is_product = [](const Op& op) { return op.extra != nullptr && op.text->opcode == "wgmma"; };
    const auto mark = [&](uint32_t reg) {
        if (is_marked.empty()) is_marked.resize(code->registers, false);
        if (reg != kNoRegister) is_marked[reg] = true;
    };
    for (const Op& op : code->ops) {
        if (!is_product(op)) continue;
        for (const uint32_t reg : op.destinations) mark(reg);
        for (size_t i = 0; i < 4 && kind_of(op).a_in_registers; ++i) {
            if (op.sources[i].kind == Source::Kind::Register) mark(op.sources[i].number);
        }
    }
    if (is_marked.empty()) return;
    for (Op& op : code->ops) {
        if (is_product(op)) continue;
        const auto add = [&](uint32_t reg, uint32_t writes) {
            if (reg != kNoRegister && is_marked[reg]) op.product_registers.push_back(2 * reg + writes);
        };
        const auto add_source = [&](const Source& source) {
            if (source.kind == Source::Kind::Register) add(source.number, 0);
        };
        for (const Source& source : op.sources) add_source(source);
        for (const uint32_t reg : op.destinations) add(reg, 1);
        if (op.text->opcode != "call" || op.extra == nullptr) continue;
        const auto& info = *static_cast<const CallInfo*>(op.extra.get());
        for (const CallValue& value : info.arguments) add_source(value.source);
        for (const CallValue& value : info.results) add(value.reg, 1);
    }
}

bool WarpState::may_touch(const Op& op) {
    WarpProducts& mine = products();
    for (const uint32_t each : op.product_registers) {
        const uint32_t row = row_of(each / 2);
        mine.touched[row] = mine.fences;
        const Op* const owner = mine.owner[row];
        if (owner == nullptr) continue;
        const auto& names = launch_.program.codes[static_cast<size_t>(current_->at.code)];
        const auto at = std::find(names.slot_of.begin(), names.slot_of.end(), each / 2) - names.slot_of.begin();
        fault(Fault::Kind::UnfinishedProduct, op, std::countr_zero(current_->lanes),
              fmt::format("{} `{}`, which {} has under way: no wgmma.wait_group has waited for it", each % 2 != 0 ? "writes" : "reads",
                          names.text->registers[static_cast<size_t>(at)].name, launch_.op_text(owner->number)));
        return false;
    }
    return true;
}

bool WarpState::may_leave(uint32_t row) {
    for (size_t i = row; products_ && i < products_->owner.size(); ++i) {
        if (products_->owner[i] == nullptr) continue;
        fault(
            Fault::Kind::UnfinishedProduct, op_of(*current_), std::countr_zero(current_->lanes),
            fmt::format("ends while {} is under way: no wgmma.wait_group has waited for it", launch_.op_text(products_->owner[i]->number)));
        return false;
    }
    return true;
}

bool WarpState::may_exit(LaneMask lanes) {
    if (!may_leave(0)) return false;
    const auto number = static_cast<size_t>(index_ / kWarpsOfGroup);
    if ((alive_ & ~lanes) != 0 || number >= block_.warpgroups.size() || !block_.warpgroups[number]) return true;
    const Warpgroup& group = *block_.warpgroups[number];
    const uint64_t step = group.step_of[static_cast<size_t>(index_ % kWarpsOfGroup)] - group.first_step;
    if (step >= group.steps.size()) return true;
    fault(Fault::Kind::Divergence, op_of(*current_), std::countr_zero(lanes),
          fmt::format("exits, but warp {} has executed {}: all four warps of a warpgroup must", group.steps[step].warp,
                      launch_.op_text(group.steps[step].op)));
    return false;
}

Warpgroup* product_step(WarpState& warp, const Op& op, LaneMask active, uint64_t key) {
    const int lane = std::countr_zero(active);
    BlockState& block = warp.owner();
    const auto bad = [&](const std::string& text) {
        warp.fault(Fault::Kind::Divergence, op, lane, text);
        return nullptr;
    };
    if (active != ~LaneMask{0})
        return bad(fmt::format("all 128 threads of a warpgroup must execute it, but of this warp only lanes {:#010x} do", active));
    const auto number = static_cast<size_t>(warp.index() / kWarpsOfGroup);
    const auto mine = static_cast<size_t>(warp.index() % kWarpsOfGroup);
    if ((number + 1) * kWarpsOfGroup > block.warps.size()) {
        return bad(fmt::format("all four warps of a warpgroup must execute it, but the block's last warpgroup has only {}",
                               block.warps.size() - number * kWarpsOfGroup));
    }
    if (block.warpgroups.size() <= number) block.warpgroups.resize(number + 1);
    auto& group = block.warpgroups[number];
    if (!group) group = std::make_unique<Warpgroup>(block.new_component());
    const uint64_t step = group->step_of[mine] - group->first_step;
    if (step < group->steps.size()) {
        const Warpgroup::Step& other = group->steps[step];
        if (other.key == key) return group.get();
        return bad(
            fmt::format("all four warps of a warpgroup must execute the same instructions of this kind, but warp {} has executed {} here",
                        other.warp, warp.launch().op_text(other.op)));
    }
    for (size_t i = number * kWarpsOfGroup; i < (number + 1) * kWarpsOfGroup; ++i) {
        if (block.warps[i]->is_done()) return bad(fmt::format("all four warps of a warpgroup must execute it, but warp {} has exited", i));
    }
    return group.get();
}

void product_step_done(WarpState& warp, Warpgroup& group, const Op& op, uint64_t key) {
    const auto mine = static_cast<size_t>(warp.index() % kWarpsOfGroup);
    if (group.step_of[mine]++ - group.first_step == group.steps.size()) group.steps.push_back({key, op.number, warp.index()});
    const uint64_t least = *std::min_element(group.step_of.begin(), group.step_of.end());
    for (; group.first_step < least; ++group.first_step) group.steps.pop_front();
}

void product_fence(WarpState& warp) {
    WarpProducts& mine = warp.products();
    ++mine.fences;
    mine.has_fenced = true;
}

bool product_begin(WarpState& warp, Warpgroup& group, const Op& op, const Product& given) {
    const ProductKind& kind = kind_of(op);
    Launch& launch = warp.launch();
    WarpProducts& mine = warp.products();
    const auto number = static_cast<size_t>(warp.index() % kWarpsOfGroup);
    const auto fail = [&](Fault::Kind fault, const std::string& text) {
        warp.fault(fault, op, 0, text);
        return false;
    };
    const auto name = [&](uint32_t reg) {
        const Code& code = launch.program.codes[static_cast<size_t>(warp.current().at.code)];
        const auto at = std::find(code.slot_of.begin(), code.slot_of.end(), reg) - code.slot_of.begin();
        return code.text->registers[static_cast<size_t>(at)].name;
    };
    const auto is_fenced = [&](uint32_t reg) { return mine.touched[warp.row_of(reg)] != mine.fences; };
    const auto no_fence = [&](uint32_t reg) {
        return fail(
            Fault::Kind::MissingProductFence,
            fmt::format(
                "`{}` has been read or written by other instructions since the last wgmma.fence: the product is not ordered behind them",
                name(reg)));
    };
    if (!mine.has_fenced) return fail(Fault::Kind::MissingProductFence, "no wgmma.fence before the first product");

    // The accumulators: free and fenced, or those of a product of the same shape.
    WarpProducts::Sums* sums = nullptr;
    for (WarpProducts::Sums& each : mine.sums) {
        if (each.rows.size() == op.destinations.size() && each.rows[0] == warp.row_of(op.destinations[0])) sums = &each;
    }
    if (sums != nullptr && (sums->kind->sum != kind.sum || sums->kind->shape.n != kind.shape.n || sums->kind->shape.k != kind.shape.k))
        sums = nullptr;
    for (size_t i = 0; i < op.destinations.size(); ++i) {
        const uint32_t reg = op.destinations[i], row = warp.row_of(reg);
        if (sums != nullptr ? sums->rows[i] != row : mine.owner[row] != nullptr) {
            return fail(
                Fault::Kind::UnfinishedProduct,
                fmt::format("accumulates in `{}`, which {} has under way, in another shape or as another register: wait for it first",
                            name(reg), line_text(warp, *mine.owner[row])));
        }
        if (sums == nullptr && !is_fenced(reg)) return no_fence(reg);
    }
    // The registers of A may be shared by products, but not be sums under way.
    for (size_t i = 0; i < 4 && kind.a_in_registers; ++i) {
        if (op.sources[i].kind != Source::Kind::Register) continue;
        const uint32_t reg = op.sources[i].number, row = warp.row_of(reg);
        if (mine.owner[row] != nullptr && mine.held.count(row) == 0)
            return fail(Fault::Kind::UnfinishedProduct,
                        fmt::format("takes A from `{}`, into which {} is accumulating: no wgmma.wait_group has waited for it", name(reg),
                                    line_text(warp, *mine.owner[row])));
        if (!is_fenced(reg)) return no_fence(reg);
    }

    // The first warp makes the product; the others must mean the same.
    const uint32_t sequence = group.issued_by[number] + 1;
    std::shared_ptr<Product> product;
    if (sequence > group.issued) {
        product = std::make_shared<Product>(given);
        product->op = &op;
        product->sequence = sequence;
        product->operation = launch.begin_operation(op);
        launch.operations[product->operation].products = group.component;
        if (kind.a_in_registers) product->a_lines.resize(size_t{kProductRows} * kProductLineBytes / 4);
    } else {
        product = group.products[sequence - group.first];
        if (product->a_descriptor != given.a_descriptor || product->b_descriptor != given.b_descriptor ||
            product->accumulates != given.accumulates)
            return fail(
                Fault::Kind::BadInstruction,
                fmt::format(
                    "descriptors {:#x}, {:#x} and scale-d {} differ from those of another warp of the warpgroup: {:#x}, {:#x} and {}",
                    given.a_descriptor, given.b_descriptor, given.accumulates, product->a_descriptor, product->b_descriptor,
                    product->accumulates));
    }
    std::vector<uint32_t> pieces;
    MatrixLayout layout;
    const auto first_row = static_cast<uint32_t>(16 * number);
    const auto n = static_cast<uint32_t>(kind.shape.n);
    if (!kind.a_in_registers) {
        if (const std::string error = MatrixLayout::decode(given.a_descriptor, kind.a_by_rows_of_k, kProductRows, &layout); !error.empty())
            return fail(Fault::Kind::BadInstruction, "A: " + error);
        matrix_pieces(layout, first_row, first_row + 16, &pieces);
        if (!warp.check_product_pieces(op, pieces, product->operation, nullptr)) return false;
    }
    // Nobody may write B now, so the warps that come later only have to know of the same writes.
    if (sequence > group.issued || !warp.may_rely_on(product->b_writes)) {
        if (const std::string error = MatrixLayout::decode(given.b_descriptor, kind.b_by_rows_of_k, n, &layout); !error.empty())
            return fail(Fault::Kind::BadInstruction, "B: " + error);
        matrix_pieces(layout, 0, n, &pieces);
        if (!warp.check_product_pieces(op, pieces, product->operation, sequence > group.issued ? &product->b_writes : nullptr))
            return false;
    }

    // From here on nothing can go wrong.
    if (sequence > group.issued) {
        group.issued = sequence;
        group.products.push_back(product);
        if (sums != nullptr) {
            product->into = sums->accumulator;
        } else {
            product->into = std::make_shared<Accumulator>();
            const size_t count = size_t{kProductRows} * n;
            if (kind.sum == Sum::S32)
                product->into->integers.resize(count, 0);
            else
                product->into->sums.resize(count, 0);
        }
    }
    if (kind.a_in_registers) {
        Lanes scratch;
        for (size_t i = 0; i < 4; ++i) {
            const bool is_register = op.sources[i].kind == Source::Kind::Register;
            const uint32_t row = is_register ? warp.row_of(op.sources[i].number) : 0;
            const uint64_t* values = warp.read(op.sources[i], scratch);
            if (is_register) {
                WarpProducts::Held& held = mine.held[row];
                if (mine.owner[row] == nullptr) held.values = warp.row(row);
                held.last = sequence;
                mine.owner[row] = &op;
                values = held.values.data();
            }
            for (size_t lane = 0; lane < kLanes; ++lane)
                product->a_lines[(first_row + lane / 4 + 8 * (i % 2)) * kProductLineBytes / 4 + lane % 4 + 4 * (i / 2)] =
                    static_cast<uint32_t>(values[lane]);
            if (is_register) warp.row(row).fill(kPoison);
        }
    }
    if (sums == nullptr) {
        WarpProducts::Sums& fresh = mine.sums.emplace_back();
        fresh.accumulator = product->into;
        fresh.kind = &kind;
        for (size_t i = 0; i < op.destinations.size(); ++i) {
            const uint32_t row = warp.row_of(op.destinations[i]);
            fresh.rows.push_back(row);
            if (given.accumulates) take_sums(kind, warp.row(row), i, first_row, *fresh.accumulator);
            warp.row(row).fill(kPoison);
        }
        sums = &fresh;
    }
    sums->last = sequence;
    for (const uint32_t row : sums->rows) mine.owner[row] = &op;
    mine.issued.push_back({product, UINT32_MAX});
    group.issued_by[number] = sequence;
    product->joined |= 1U << number;
    if (product->joined != kAllWarps) return true;
    ++launch.products_formed;
    ++launch.progress;
    const uint64_t choice = launch.options.seed == 0 ? 2 : launch.random.below(3);
    product->may_perform = choice == 1;
    if (choice == 0) perform_until(warp.owner(), group, sequence);
    return true;
}

void product_commit(WarpState& warp) {
    WarpProducts& mine = warp.products();
    for (auto each = mine.issued.rbegin(); each != mine.issued.rend() && each->group == UINT32_MAX; ++each) each->group = mine.groups;
    ++mine.groups;
}

bool product_wait(WarpState& warp, Warpgroup& group, const Op& op, uint32_t pending) {
    WarpProducts& mine = warp.products();
    Launch& launch = warp.launch();
    const size_t first_warp = static_cast<size_t>(warp.index() / kWarpsOfGroup * kWarpsOfGroup);
    const auto is_covered = [&](const WarpProducts::Issued& each) {
        return each.group != UINT32_MAX && mine.groups - each.group > pending;
    };
    uint32_t last = 0;
    for (const WarpProducts::Issued& each : mine.issued) {
        if (!is_covered(each)) break;
        last = each.product->sequence;
        if (each.product->joined != kAllWarps) {
            warp.retry(op);
            return false;
        }
    }
    if (last == 0) return true;
    perform_until(warp.owner(), group, last);
    while (!mine.issued.empty() && is_covered(mine.issued.front())) {
        AsyncOperation& operation = launch.operations[mine.issued.front().product->operation];
        operation.component = group.component;
        operation.time = mine.issued.front().product->sequence;
        mine.issued.pop_front();
    }
    warp.learn(group.component, last);
    // What no later product has goes back to the registers.
    const size_t first_row = 16 * (static_cast<size_t>(warp.index()) - first_warp);
    for (const WarpProducts::Sums& each : mine.sums) {
        if (each.last > last) continue;
        for (size_t i = 0; i < each.rows.size(); ++i) {
            put_sums(*each.kind, *each.accumulator, i, first_row, warp.row(each.rows[i]));
            mine.owner[each.rows[i]] = nullptr;
        }
    }
    std::erase_if(mine.sums, [&](const WarpProducts::Sums& each) { return each.last <= last; });
    for (auto each = mine.held.begin(); each != mine.held.end();) {
        if (each->second.last > last) {
            ++each;
            continue;
        }
        warp.row(each->first) = each->second.values;
        mine.owner[each->first] = nullptr;
        each = mine.held.erase(each);
    }
    ++launch.progress;
    return true;
}

std::string unformed_product(const Launch& launch, const ClusterState& cluster) {
    for (const auto& block : cluster.blocks) {
        for (size_t i = 0; i < block->warpgroups.size(); ++i) {
            const Warpgroup* const group = block->warpgroups[i].get();
            if (group == nullptr || group->products.empty()) continue;
            const Product& product = *group->products.front();
            if (product.joined == kAllWarps) continue;
            const auto has = static_cast<size_t>(std::countr_zero(product.joined)),
                       has_not = static_cast<size_t>(std::countr_one(product.joined));
            return fmt::format("line {}: {} by {}: all four warps of a warpgroup must execute it, but warp {} does not come to it",
                               product.op->line, product.op->text->spelling(),
                               launch.thread_text(block->warps[kWarpsOfGroup * i + has]->serial(), 0), kWarpsOfGroup * i + has_not);
        }
    }
    return "";
}

void advance_products(Launch& launch, ClusterState& cluster) {
    for (const auto& block : cluster.blocks) {
        for (const auto& group : block->warpgroups) {
            if (!group || group->products.empty()) continue;
            const Product& next = *group->products.front();
            if (next.may_perform && next.joined == kAllWarps && launch.random.below(8) == 0) perform_until(*block, *group, next.sequence);
        }
    }
}

}  // namespace flexemu
