// wgmma: products of warpgroups (products.h); and setmaxnreg, the registers that warps of a block hand one another.
#include <algorithm>
#include <bit>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_matrix.h"
#include "emulator/machine/products.h"

namespace flexemu {
namespace {

using numeric::Element;
using Sum = ProductKind::Sum;

WarpState& state(Warp& warp) {
    return static_cast<WarpState&>(warp);
}

/// The value of an operand that all lanes must agree in.
bool common_value(Warp& warp, const Op& op, const Source& source, const char* what, uint64_t* out) {
    Lanes scratch;
    const uint64_t* values = warp.read(source, scratch);
    *out = values[0];
    for (int lane = 1; lane < kLanes; ++lane) {
        if (values[lane] == values[0]) continue;
        warp.fault(Fault::Kind::BadInstruction, op, lane,
                   fmt::format("{} must be the same in all threads: {:#x} here, {:#x} in lane 0", what, values[lane], values[0]));
        return false;
    }
    return true;
}

void run_product(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    Warpgroup* group = product_step(warp, op, active);
    if (group == nullptr) return;
    const ProductKind& kind = *static_cast<const ProductKind*>(op.extra.get());
    const size_t b = kind.a_in_registers ? 4 : 1;
    Product product;
    uint64_t scale = 0;
    if (!kind.a_in_registers && !common_value(warp, op, op.sources[0], "the descriptor of A", &product.a_descriptor)) return;
    if (!common_value(warp, op, op.sources[b], "the descriptor of B", &product.b_descriptor)) return;
    if (!common_value(warp, op, op.sources[b + 1], "scale-d", &scale)) return;
    product.accumulates = scale != 0;
    if (product_begin(warp, *group, op, product)) product_step_done(warp, *group, op);
}

void run_fence(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    Warpgroup* group = product_step(warp, op, active);
    if (group == nullptr) return;
    product_fence(warp);
    product_step_done(warp, *group, op);
}

void run_commit(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    Warpgroup* group = product_step(warp, op, active);
    if (group == nullptr) return;
    product_commit(warp);
    product_step_done(warp, *group, op);
}

void run_wait(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    Warpgroup* group = product_step(warp, op, active);
    if (group != nullptr && product_wait(warp, *group, op, op.flags2)) product_step_done(warp, *group, op);
}

bool is_float8(Element element) {
    return element == Element::E4M3 || element == Element::E5M2;
}
bool is_integer(Element element) {
    return element == Element::S8 || element == Element::U8;
}
bool is_half(Element element) {
    return element == Element::F16 || element == Element::BF16;
}

bool types_fit(Element a, Element b, Sum sum) {
    if (is_integer(a)) return is_integer(b) && sum == Sum::S32;
    if (is_float8(a)) return is_float8(b) && sum != Sum::S32;
    if (a != b) return false;
    if (a == Element::B1) return sum == Sum::S32;
    if (a == Element::F16) return sum != Sum::S32;
    return (a == Element::BF16 || a == Element::TF32) && sum == Sum::F32;
}

bool has_shape(const ProductKind& kind) {
    const int n = kind.shape.n;
    if (kind.shape.m != kProductRows || n < 8 || n > 256 || n % 8 != 0) return false;
    if (kind.sum == Sum::S32 && n > 32 && n % 16 != 0) return false;
    return kind.shape.k * numeric::bits(kind.a) == kProductLineBytes * 8;
}

bool decode_product(Decoding& decoding) {
    Op& op = decoding.op;
    auto kind = std::make_shared<ProductKind>();
    if (decoding.sees("sp")) return decoding.fail("products of sparse matrices are not known");
    if (!take_shape(decoding, &kind->shape)) return false;
    kind->saturate = decoding.take("satfinite");
    const bool is_and = decoding.take("and"), is_popc = decoding.take("popc");
    const std::vector<std::string> types = take_elements(decoding);
    if (!decoding.finish()) return false;
    if (types.size() != 3) return decoding.fail("expected the types of d, a and b");
    const auto a = element_named(types[1]), b = element_named(types[2]);
    const bool has_sum = types[0] == "f16" || types[0] == "f32" || types[0] == "s32";
    kind->sum = types[0] == "f16" ? Sum::F16 : types[0] == "f32" ? Sum::F32 : Sum::S32;
    if (!a || !b || !has_sum || !types_fit(*a, *b, kind->sum)) return decoding.fail("these types do not go together");
    kind->a = *a, kind->b = *b;
    if (!has_shape(*kind)) return decoding.fail("there is no such shape for these types");
    if ((*a == Element::B1) != (is_and && is_popc)) return decoding.fail("`.and.popc` belongs to `.b1`");
    if (kind->saturate && !is_integer(*a)) return decoding.fail("`.satfinite` belongs to integers");

    // d, a, b, scale-d; of floating point also the signs of a and b; of 16 bits also which are transposed, of those in shared memory.
    if (decoding.text.operands.size() < 4) return decoding.fail("expected at least 4 operands");
    kind->a_in_registers = decoding.text.operands[1].kind == ptx::Operand::Kind::Vector;
    const size_t signs = kind->sum == Sum::S32 ? 0 : 2, transposed = !is_half(*a) ? 0 : kind->a_in_registers ? 1 : 2;
    int64_t value = 0;
    if (!decoding.operands(4 + signs + transposed)) return false;
    for (size_t i = 0; i < signs; ++i) {
        if (!decoding.constant(4 + i, -1, 1, &value)) return false;
        if (value == 0) return decoding.fail("a sign must be 1 or -1");
        (i == 0 ? kind->negate_a : kind->negate_b) = value < 0;
    }
    for (size_t i = 0; i < transposed; ++i) {
        if (!decoding.constant(4 + signs + i, 0, 1, &value)) return false;
        (i + 1 == transposed ? kind->b_by_rows_of_k : kind->a_by_rows_of_k) = value != 0;
    }
    op.run = run_product;
    op.aligned = true;
    op.extra = kind;
    if (!tuple_destination(decoding, 0, kind->registers(), ptx::Type::B32)) return false;
    if (!(kind->a_in_registers ? tuple_source(decoding, 1, 4, ptx::Type::B32) : decoding.source(1, ptx::Type::B64))) return false;
    std::vector<uint32_t> sums = op.destinations;
    std::sort(sums.begin(), sums.end());
    if (sums.back() == kNoRegister || std::adjacent_find(sums.begin(), sums.end()) != sums.end())
        return decoding.fail("the accumulators must be different registers");
    for (size_t i = 0; i < 4 && kind->a_in_registers; ++i) {
        if (op.sources[i].kind == Source::Kind::Register && std::binary_search(sums.begin(), sums.end(), op.sources[i].number))
            return decoding.fail("a register is part of A and an accumulator");
    }
    return decoding.source(2, ptx::Type::B64) && decoding.source(3, ptx::Type::Pred);
}

bool decode_wgmma(Decoding& decoding) {
    Op& op = decoding.op;
    const std::string& target = decoding.context.module().target;
    if (target != "sm_90a") return decoding.fail(fmt::format("`wgmma` needs `.target sm_90a`, the module has `{}`", target));
    const int what = decoding.take_one({"mma_async", "fence", "commit_group", "wait_group"});
    if (what < 0) return decoding.fail("expected `.mma_async`, `.fence`, `.commit_group` or `.wait_group`");
    if (what == 0 && decoding.sees("sp")) return decoding.fail("products of sparse matrices are not known");
    if (!decoding.take("sync") || !decoding.take("aligned")) return decoding.fail("`.sync.aligned` is missing");
    if (what == 0) return decode_product(decoding);
    op.aligned = true;
    op.run = what == 1 ? run_fence : what == 2 ? run_commit : run_wait;
    if (what != 3) return decoding.finish() && decoding.operands(0);
    int64_t pending = 0;
    if (!decoding.finish() || !decoding.operands(1) || !decoding.constant(0, 0, INT32_MAX, &pending)) return false;
    op.flags2 = static_cast<uint32_t>(pending);
    return true;
}

// setmaxnreg

constexpr uint32_t kMostRegisters = 256, kRegistersOfProcessor = 65536;

/// Registers that the warps of a block own, by warp, and the pool of those that nobody owns; all counted per thread of a warp.
struct RegisterPool {
    bool is_made = false;
    uint32_t free = 0;
    std::vector<uint32_t> owned;
    std::vector<std::vector<uint32_t>> changes;  // by warp: at which times of it
};

/// What a thread has when the kernel begins; 0 if the kernel does not say: setmaxnreg has no effect then.
uint32_t registers_at_entry(const ptx::Function& kernel, uint32_t threads) {
    if (kernel.max_registers > 0) return std::min((static_cast<uint32_t>(kernel.max_registers) + 7) / 8 * 8, kMostRegisters);
    uint32_t most = 1;
    for (size_t i = 0; i < 3; ++i) most *= static_cast<uint32_t>(std::max({1, kernel.max_threads[i], kernel.required_threads[i]}));
    if (kernel.max_threads[0] == 0 && kernel.required_threads[0] == 0) return 0;
    most = (std::max(most, threads) + kLanes - 1) / kLanes * kLanes * static_cast<uint32_t>(std::max(1, kernel.min_blocks));
    return std::min(kRegistersOfProcessor / most / 8 * 8, kMostRegisters);
}

/// "The same setmaxnreg" is one to the same number: compilers put it into each way that warps of a group go.
void run_registers(Warp& given, const Op& op, LaneMask active) {
    WarpState& warp = state(given);
    const uint64_t key = uint64_t{1} << 32 | op.flags << 16 | op.flags2;
    Warpgroup* group = product_step(warp, op, active, key);
    if (group == nullptr) return;
    Launch& launch = warp.launch();
    auto& pool = warp.owner().attached<RegisterPool>();
    if (!pool.is_made) {
        const Code& kernel = launch.program.codes[static_cast<size_t>(launch.kernel)];
        pool.is_made = true;
        pool.owned.assign(warp.owner().warps.size(), registers_at_entry(*kernel.text, launch.threads));
        pool.changes.resize(pool.owned.size());
    }
    auto& changes = pool.changes[static_cast<size_t>(warp.index())];
    const size_t first = static_cast<size_t>(warp.index()) / kWarpsOfGroup * kWarpsOfGroup;
    // One that changes nothing needs no barrier before it.
    const bool is_idle = pool.owned[static_cast<size_t>(warp.index())] == op.flags2;
    for (size_t i = first; i < first + kWarpsOfGroup && !changes.empty() && !is_idle; ++i) {
        const WarpState& other = *warp.owner().warps[i];
        const auto& others = pool.changes[i];
        const bool is_ordered = others.size() >= changes.size() &&
                                warp.knows(0, warp.owner().cluster.serial, other.component(), ~LaneMask{0}, others[changes.size() - 1]);
        if (&other == &warp || is_ordered) continue;
        return warp.fault(Fault::Kind::BadInstruction, op, 0,
                          fmt::format("no barrier orders it behind the last setmaxnreg of warp {} of the warpgroup", i));
    }
    uint32_t& mine = pool.owned[static_cast<size_t>(warp.index())];
    const uint32_t wanted = op.flags2;
    const bool increases = op.flags != 0;
    if (mine != 0) {
        if (increases ? wanted < mine : wanted > mine)
            return warp.fault(
                Fault::Kind::BadInstruction, op, 0,
                fmt::format("the warp has {} registers a thread: `.{}` cannot take them to {}", mine, increases ? "inc" : "dec", wanted));
        if (increases && wanted - mine > pool.free) return warp.retry(op);
        pool.free = pool.free + mine - wanted;
        mine = wanted;
    }
    if (!is_idle) changes.push_back(warp.time());
    ++launch.progress;
    product_step_done(warp, *group, op, key);
}

bool decode_registers(Decoding& decoding) {
    Op& op = decoding.op;
    const std::string& target = decoding.context.module().target;
    if (!decoding.needs_target(90, "setmaxnreg")) return false;
    if (!target.ends_with('a') && !target.ends_with('f'))
        return decoding.fail(fmt::format("`setmaxnreg` needs a target of one architecture, as `sm_90a`; the module has `{}`", target));
    const int what = decoding.take_one({"inc", "dec"});
    if (what < 0) return decoding.fail("expected `.inc` or `.dec`");
    for (const char* needed : {"sync", "aligned", "u32"})
        if (!decoding.take(needed)) return decoding.fail(std::string("`.") + needed + "` is missing");
    int64_t count = 0;
    if (!decoding.finish() || !decoding.operands(1) || !decoding.constant(0, 24, kMostRegisters, &count)) return false;
    if (count % 8 != 0) return decoding.fail("the number of registers must be a multiple of 8");
    op.run = run_registers;
    op.aligned = true;
    op.flags = what == 0 ? 1 : 0;
    op.flags2 = static_cast<uint32_t>(count);
    return true;
}

constexpr DecoderEntry kDecoders[] = {
    {"wgmma", decoder<decode_wgmma>},
    {"setmaxnreg", decoder<decode_registers>},
};

}  // namespace

std::span<const DecoderEntry> wgmma_decoders() {
    return kDecoders;
}

}  // namespace flexemu
