// Products of warpgroups that are under way: wgmma.
//
// The four warps of a warpgroup execute the same wgmma instructions, each in its own time. A product is begun by the first warp that comes to it and formed when the
// fourth has: then an agent of the asynchronous proxy performs it, at once, some time later, or when somebody waits for it; the seed chooses. Products of a warpgroup are
// performed in order.
//
// From its issue until a wait of the warp covers it, a product owns registers of the warp: the accumulators, whose sums lie here meanwhile, and those of A. They hold
// poison, and nothing but another product of the same shape into the same accumulators may touch them (UnfinishedProduct). A register that other instructions have
// touched needs a wgmma.fence before a product may use it (MissingProductFence). What any instruction has to do with registers of products is found out at load
// (mark_product_registers): all others pay one comparison.
//
// Shared memory is read by the agent: each access is checked at issue, warp by warp, and remembered as one of an asynchronous operation, which is known to be complete
// to those who learn that the warpgroup's component has reached the product's number.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/machine/op.h"
#include "emulator/machine/shadow.h"
#include "emulator/numeric/mma.h"

namespace flexemu {

class BlockState;
class WarpState;
struct Code;
class Launch;
struct ClusterState;

inline constexpr int kWarpsOfGroup = 4, kProductRows = 64, kProductLineBytes = 32;

/// What an instruction multiplies: op.extra of wgmma.mma_async.
struct ProductKind {
    enum class Sum : uint8_t { F16, F32, S32 };
    numeric::MmaShape shape;
    numeric::Element a = numeric::Element::F16, b = numeric::Element::F16;
    Sum sum = Sum::F32;
    bool saturate = false;
    bool a_in_registers = false;
    bool a_by_rows_of_k = false, b_by_rows_of_k = false;  // M- or N-major: a line of memory runs along m or n
    bool negate_a = false, negate_b = false;
    /// Accumulator registers of a thread.
    [[nodiscard]] size_t registers() const { return static_cast<size_t>(shape.n) / (sum == Sum::F16 ? 4 : 2); }
};

/// The sums of products under way, of all four warps: taken out of the registers by the first product, put back after the last.
struct Accumulator {
    std::vector<float> sums;  // [64][n]; of f16 also
    std::vector<int32_t> integers;
};

struct Product {
    const Op* op = nullptr;
    uint64_t a_descriptor = 0, b_descriptor = 0;
    bool accumulates = false;
    std::shared_ptr<Accumulator> into;
    std::vector<uint32_t> a_lines;  // of A in registers: 64 lines of 32 bytes
    std::vector<Record> b_writes;   // of the bytes of B: what each warp must know
    uint32_t operation = 0;         // number of its AsyncOperation
    uint32_t sequence = 0;          // in the warpgroup, from 1
    uint32_t joined = 0;            // warps that have issued it, as bits
    bool is_performed = false, may_perform = false;
};

struct Warpgroup {
    explicit Warpgroup(uint32_t own) : component(own) {}
    uint32_t component;  // of clocks: the number of products known to be complete
    uint32_t issued = 0;
    std::deque<std::shared_ptr<Product>> products;  // that some warp has not issued, or that are not performed; in order
    uint32_t first = 1;                             // sequence of the first of these
    std::array<uint32_t, kWarpsOfGroup> issued_by{};
    // The instructions that all four warps have to execute alike, from the first that some have not come to.
    struct Step {
        uint64_t key = 0;  // what must be alike
        uint32_t op = 0;
        int warp = 0;
    };
    std::deque<Step> steps;
    uint64_t first_step = 0;
    std::array<uint64_t, kWarpsOfGroup> step_of{};
};

/// What a warp has under way.
struct WarpProducts {
    struct Issued {
        std::shared_ptr<Product> product;
        uint32_t group = UINT32_MAX;
    };
    struct Sums {
        std::shared_ptr<Accumulator> accumulator;
        const ProductKind* kind = nullptr;
        std::vector<uint32_t> rows;
        uint32_t last = 0;  // sequence of the last product into it
    };
    struct Held {
        Lanes values{};
        uint32_t last = 0;
    };
    std::deque<Issued> issued;
    uint32_t groups = 0;  // committed
    std::vector<Sums> sums;
    std::unordered_map<uint32_t, Held> held;  // registers of A, by row
    std::vector<const Op*> owner;             // by row: the last product that has it under way; null: none
    std::vector<uint32_t> touched;            // by row: since which fence
    uint32_t fences = 1;
    bool has_fenced = false;
};

// ---- Registers

/// Fills Op::product_registers.
void mark_product_registers(Code* code);

// ---- Instructions. Each returns false after a fault, or if the warp has to try again.

/// The warp's group, if it is whole and executes its instructions alike. `op` counts as executed when step_done is called.
/// `key`: alike is what has the same.
Warpgroup* product_step(WarpState& warp, const Op& op, LaneMask active, uint64_t key);
void product_step_done(WarpState& warp, Warpgroup& group, const Op& op, uint64_t key);
inline Warpgroup* product_step(WarpState& warp, const Op& op, LaneMask active) {
    return product_step(warp, op, active, op.number);
}
inline void product_step_done(WarpState& warp, Warpgroup& group, const Op& op) {
    product_step_done(warp, group, op, op.number);
}
void product_fence(WarpState& warp);
/// `given`: the descriptors and whether it adds to the sums.
bool product_begin(WarpState& warp, Warpgroup& group, const Op& op, const Product& given);
void product_commit(WarpState& warp);
bool product_wait(WarpState& warp, Warpgroup& group, const Op& op, uint32_t pending);

/// Performs formed products whose moment has come.
void advance_products(Launch& launch, ClusterState& cluster);
/// When nobody can go on: a product that some warp has not come to, in words. Empty if there is none.
std::string unformed_product(const Launch& launch, const ClusterState& cluster);

// ---- Shared memory (products_memory.cpp)

/// A matrix of 64 or n lines of 32 bytes in shared memory, as a descriptor says: 16-byte pieces.
struct MatrixLayout {
    uint32_t start = 0, leading = 0, stride = 0;  // bytes
    uint32_t base_offset = 0;
    uint32_t span = 0;  // bytes of the swizzle: 0 (none), 32, 64, 128
    bool by_rows_of_k = false;

    /// "" or what is wrong with the bits.
    static std::string decode(uint64_t descriptor, bool by_rows_of_k, uint32_t lines, MatrixLayout* out);
    /// Where the piece lies: K-major, half `inner` (0, 1) of line `outer`; else lines 8 * outer to 8 * outer + 7 at place `inner` (0 to 15) of k.
    [[nodiscard]] uint32_t piece(uint32_t outer, uint32_t inner) const;
};
/// Pieces of lines `from` to `to`, in the order of MatrixLayout::piece: outer, then inner.
void matrix_pieces(const MatrixLayout& layout, uint32_t from, uint32_t to, std::vector<uint32_t>* out);
/// The lines themselves, 32 bytes each.
void read_matrix(const MatrixLayout& layout, uint32_t lines, const uint8_t* shared, uint8_t* out);

}  // namespace flexemu
