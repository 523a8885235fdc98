// The running machine, for the .cpp files of this folder: a launch runs clusters, which are blocks, which are warps, which are paths of lanes.
//
//   warp_paths.cpp    lanes that went different ways, calls, returns, exits
//   warp_run.cpp      the interpreter's loop
//   warp_access.cpp   loads and stores with all their checks
//   warp_races.cpp    the race detector
//   warp_spans.cpp    the same for runs of bytes that asynchronous agents touch
//   warp_order.cpp    clocks: what the lanes know to have happened
//   block.cpp         barriers
//   schedule.cpp      who runs next, and what to do when nobody can
//   copies.cpp        copies that are under way
//   bulk.cpp          the same of bulk copies
//   products.h        products of warpgroups that are under way
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/machine/block.h"
#include "emulator/machine/bulk.h"
#include "emulator/machine/clock.h"
#include "emulator/machine/memory.h"
#include "emulator/machine/program.h"
#include "emulator/machine/warp.h"

namespace flexemu {

class Launch;
class BlockState;
class WarpState;
struct ClusterState;
struct Warpgroup;
struct WarpProducts;

inline constexpr uint32_t kNever = UINT32_MAX;

// Kinds of clock components that exist for each warp of a cluster: component = kind * warps + warp. Others follow behind, in pairs: "this has happened"
// and "this has happened, behind a proxy fence".
enum ClockKind : uint32_t {
    kKnown = 0,      // what the warp did
    kAgents = 1,     // its copies
    kProxied = 2,    // what it did, behind a proxy fence: asynchronous agents may read it in shared memory
    kFencedCta = 3,  // what it did, behind a fence: a relaxed write hands it on
    kFencedGpu = 4,
    kProxiedAgents = 5,  // its copies, behind a proxy fence
    kProxiedGlobal = 6,  // the same in global memory
    kClockKinds = 7,
};

/// splitmix64: small, and the same everywhere.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    uint64_t below(uint64_t bound) { return next() % bound; }

private:
    uint64_t state_;
};

/// An asynchronous operation, as records of the shadow refer to it: complete once `component` of its cluster has reached `time`.
struct AsyncOperation {
    uint32_t component = 0, time = kNever;
    uint32_t op = 0;        // number of the instruction that began it
    uint32_t products = 0;  // of a warpgroup's product: its component
};

/// A fence.proxy.tensormap.acquire: who executed it, and the write that it saw.
struct TensorMapUse {
    uint32_t cluster = 0, component = 0, lane = 0, time = 0;
    Record write;
};

/// A copy under way (copies.h): what one instruction's lanes began.
struct Copy {
    struct Piece {
        const uint8_t* source = nullptr;
        uint8_t* to = nullptr;
        uint32_t from_source = 0;
    };
    uint32_t number = 0;   // of its AsyncOperation
    LaneMask waiting = 0;  // lanes that have not waited for it
    uint32_t group = kNever;
    uint32_t bytes = 0;
    bool may_land = false, is_landed = false;
    uint32_t first_wait = 0;  // when the first of its lanes waited for it; 0: none has
    std::vector<Piece> pieces;
};
/// Copies whose completion an object counts.
struct Attached {
    std::vector<Copy> copies;
    uint32_t component = 0, time = 0;
    uint64_t delay = 0;
    std::function<void()> done;
};

// ---- Lanes that went different ways

struct Frame {
    int32_t code = 0, pc = 0;
    uint32_t registers = 0, local = 0;  // where the frame begins
};

struct Path {
    enum class State : uint8_t {
        Running,
        Gathering,  // at a .sync instruction, for other lanes of the warp
        WarpSync,   // at bar.warp.sync
        Retrying,   // until something changes
        Suspended,  // the same, but may go on without
        Barrier,    // bar.sync: woken by the barrier
        Cluster,    // barrier.cluster.wait
    };
    LaneMask lanes = 0;
    State state = State::Running;
    Frame at;
    std::vector<Frame> callers;
    int32_t join = -1;                     // the meeting it is on its way to
    int32_t meet = -2;                     // the instruction of that meeting; -2 while the path is in a deeper call
    LaneMask active = 0;                   // Gathering: lanes whose guard holds
    LaneMask present = 0;                  // Gathering: lanes that count as having come
    std::array<LaneMask, kLanes> masks{};  // WarpSync
    uint64_t seen_progress = 0;            // Retrying, Suspended: what had happened when it stopped
    bool is_overdue = false;               // Suspended: must answer now
    // To recognise lanes that spin.
    uint64_t spin_progress = 0, spin_hash = 0, spin_since = 0, spin_interval = 64;
    int32_t spin_pc = -1;
};

/// Lanes of one path that parted wait for each other at `pc` of the same frame.
struct Join {
    bool in_use = false;
    int32_t parent = -1, pc = 0;
    size_t depth = 0;
    LaneMask expected = 0, arrived = 0;
    Frame at;
    std::vector<Frame> callers;
};

class WarpState final : public Warp {
public:
    WarpState(BlockState& block, int index, LaneMask lanes, int32_t kernel);
    ~WarpState() override;

    // Warp
    const uint64_t* read(const Source& source, Lanes& scratch) override {
        if (source.kind == Source::Kind::Register && !source.negated) return registers_[current_->at.registers + source.number].data();
        if (source.kind == Source::Kind::Constant && !source.negated) return source.constant->data();
        return read_slowly(source, scratch);
    }
    uint64_t* slots(uint32_t reg) override { return registers_[current_->at.registers + reg].data(); }
    [[nodiscard]] LaneMask alive() const override { return alive_; }
    [[nodiscard]] LaneMask converged() const override { return converged_; }
    [[nodiscard]] Block& block() override;
    [[nodiscard]] int index() const override { return index_; }
    bool load(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* to, const AccessKind& kind) override;
    bool store(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, const void* from,
               const AccessKind& kind) override;
    bool modify(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* old, const AccessKind& kind,
                void (*change)(const void* old, void* now, const void* context), const void* context) override;
    bool load_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, void* values, size_t stride,
                    const AccessKind& kind) override;
    bool store_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, const void* values,
                     size_t stride, const AccessKind& kind) override;
    Block* shared_location(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, uint32_t* offset) override;
    void release(LaneMask lanes, Clock& to) override;
    void acquire(LaneMask lanes, const Clock& from) override;
    void order_lanes(LaneMask lanes) override;
    bool gather(const Op& op, LaneMask active, LaneMask members) override;
    bool suspend(const Op& op) override;
    void yield() override { yielded_ = true; }
    uint64_t random() override;
    void fault(Fault::Kind kind, const Op& op, int lane, const std::string& text) override;
    void retry(const Op& op) override;

    // warp_run.cpp
    /// Executes up to `budget` instructions; returns the number executed. Ends early if no path of the warp can go on.
    uint64_t run(uint64_t budget);
    [[nodiscard]] bool can_run() const;
    [[nodiscard]] bool is_done() const { return alive_ == 0; }

    // warp_paths.cpp, called by control flow
    void branch(const Op& op, LaneMask taken, int32_t target);
    void branch_many(const Op& op, LaneMask active, const Lanes& targets);
    void call(const Op& op, LaneMask active, int32_t function);
    void call_many(const Op& op, LaneMask active, const Lanes& functions);
    void exit_lanes(LaneMask lanes);
    void jump(int32_t pc);  // of the running path
    /// The running path waits in a state; its program counter stays (`after` false) or is already behind the instruction.
    void wait_in(Path::State state, bool after);
    void wake(Path& path);
    void warp_sync(const Op& op, LaneMask active, const uint64_t* masks);
    /// Lets lanes that wait at meetings go on without the others. True if there were any.
    bool release_joins();
    /// Suspended paths must answer now. True if there were any.
    bool time_out();

    [[nodiscard]] Path& current() { return *current_; }
    [[nodiscard]] const std::vector<std::unique_ptr<Path>>& paths() const { return paths_; }
    [[nodiscard]] const Op& op_of(const Path& path) const;
    [[nodiscard]] BlockState& owner() { return block_; }
    [[nodiscard]] std::string thread_text(int lane) const;  // "thread (3,0,0) of block (0,0,0)"
    [[nodiscard]] uint32_t serial() const { return serial_; }
    [[nodiscard]] uint32_t component() const { return component_; }
    [[nodiscard]] uint32_t agent() const;
    [[nodiscard]] LaneMask all_lanes() const { return all_lanes_; }
    void set_slot(const Path& path, uint32_t reg, uint64_t value);

    // warp_order.cpp
    void fence(LaneMask lanes, AccessKind::Scope scope);
    /// fence.mbarrier_init, as part of fence.proxy.async: agents of other blocks may use the barriers that the lanes know to be initialised.
    void fence_barriers(LaneMask lanes);
    /// What a relaxed operation of the scope hands on: what lies behind a fence.
    void tell_fenced(LaneMask lanes, AccessKind::Scope scope, Clock& to) const;
    /// Around an atomic or strong access of a location.
    void strong_write(LaneMask lanes, Segment& segment, uint64_t offset, const AccessKind& kind, bool replaces);
    void strong_read(LaneMask lanes, Segment& segment, uint64_t offset, const AccessKind& kind);
    /// What relaxed loads have brought waits for a fence; barriers pass it on, so that the fence may stand behind them.
    void tell_heard(LaneMask lanes, Clock& to) const;
    void hear(LaneMask lanes, const Clock& from);
    /// fence.proxy.async: what is known to be written may be read by asynchronous agents.
    void fence_proxy(LaneMask lanes, bool shared, bool global);
    /// The lanes have waited for their copies, up to `time` of the warp's agent. Each may see its own now; of others' copies, also those of its
    /// warp, it hears when they release what they know.
    uint32_t next_agent_time() { return ++agent_time_; }
    void waited(LaneMask lanes, uint32_t time);
    void tell_waited(LaneMask lanes, Clock& to) const;
    void tick() { ++time_; }
    [[nodiscard]] uint32_t time() const { return time_; }
    [[nodiscard]] bool knows(int lane, uint32_t cluster, uint32_t component, LaneMask lanes, uint32_t time) const;
    /// The component that says the same of what lies behind a proxy fence.
    [[nodiscard]] uint32_t proxied(uint32_t component, bool is_shared) const;

    // warp_access.cpp
    uint8_t* local_bytes(int lane, uint64_t offset, size_t bytes);
    void write_local(int lane, uint64_t offset, size_t bytes, const void* from);
    [[nodiscard]] Launch& launch() { return launch_; }
    struct Place {
        Segment* segment = nullptr;  // null: local or parameters
        uint8_t* data = nullptr;
        uint8_t* written = nullptr;  // of local memory: a byte each
        uint64_t offset = 0;
        bool is_shared = false;
        BlockState* block = nullptr;  // of shared memory
    };
    bool place(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, bool writes, Place* out) {
        return place(op, lane, space, address, bytes, writes, bytes, out);
    }
    /// Aligned to `align` bytes, `bytes` long.
    bool place(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned align, bool writes, unsigned bytes, Place* out);
    /// Has every byte been written? A fault if not.
    bool is_written(const Op& op, int lane, const Place& at, size_t bytes);
    /// An asynchronous operation begins to read: checks the bytes and remembers that they are being read.
    bool check_source(const Op& op, int lane, const Place& place, uint64_t address, unsigned bytes, uint32_t number);
    /// A bulk copy reads a tensor map in global memory: if it was written in this launch, somebody has acquired it since.
    bool check_tensor_map(const Op& op, int lane, const Place& place, uint64_t address, unsigned bytes);
    void acquire_tensor_map(int lane, const Place& place);
    [[nodiscard]] std::vector<Copy>& copies() { return copies_; }
    [[nodiscard]] std::array<uint32_t, kLanes>& groups_committed() { return groups_committed_; }
    [[nodiscard]] std::array<uint32_t, kLanes>& bulk_groups_committed() { return bulk_groups_committed_; }
    /// The race detector's part of an access. `same`: a write that changes nothing.
    bool check(const Op& op, int lane, const Place& place, uint64_t address, unsigned bytes, bool writes, bool same, const AccessKind& kind,
               const AsyncOperation* async = nullptr, uint32_t async_number = 0);

    // warp_spans.cpp
    /// An agent of the asynchronous proxy (bulk copies, products of warpgroups) will touch a run of bytes of any length on behalf of a lane: is what threads
    /// wrote there ordered before, and behind a proxy fence? Remembers the access as one of the operation (Launch::begin_operation). `atomic`: reductions.
    bool check_span(const Op& op, int lane, const Place& place, uint64_t address, size_t bytes, bool writes, uint32_t operation,
                    bool atomic = false);
    /// The same of a source, whose bytes must have been written.
    bool check_span_source(const Op& op, int lane, const Place& place, uint64_t address, size_t bytes, uint32_t operation) {
        return check_span(op, lane, place, address, bytes, false, operation) && is_written(op, lane, place, bytes);
    }

    // products.cpp, products_memory.cpp
    [[nodiscard]] WarpProducts& products();
    [[nodiscard]] uint32_t row_of(uint32_t reg) const { return current_->at.registers + reg; }
    [[nodiscard]] Lanes& row(uint32_t number) { return registers_[number]; }
    /// The lanes have learnt that an object of the cluster has come to `time`.
    void learn(uint32_t component, uint32_t time) { known_.learn(component, time); }
    /// An operation of the warp will read pieces of 16 bytes of the block's shared memory. `relied`: gets the writes that it has to know of.
    bool check_product_pieces(const Op& op, std::span<const uint32_t> pieces, uint32_t operation, std::vector<Record>* relied);
    /// Whether all lanes know of these writes, and that agents may see them.
    [[nodiscard]] bool may_rely_on(std::span<const Record> writes) const;

private:
    friend class Launch;
    friend class BlockState;
    const uint64_t* read_slowly(const Source& source, Lanes& scratch);
    uint64_t special(ptx::Special which, int component, int lane);
    /// Takes lanes off a path, under a common meeting at `meet`.
    Path* part(Path& path, LaneMask lanes, int32_t meet);
    void enter(Path& path, const Op& op, int32_t function);
    void pass(LaneMask lanes, const struct CallValue& outer, const Frame& caller, const CodeParameter& inner, const Frame& callee,
              bool inwards);
    void finish_function();
    void wake_synced();
    void arrive(size_t path);
    void settle(int32_t join);
    void follow(Path& path);  // a program counter changed: has the path reached its meeting?
    size_t index_of(const Path& path) const;
    void remove_path(size_t index);
    void set_meet(Path& path);
    bool pick();
    void run_gathered(Path& path);
    [[nodiscard]] LaneMask guard_of(const Op& op) const;
    bool may_run_aligned(const Op& op, LaneMask active);
    void check_spin(Path& path);
    [[nodiscard]] uint64_t state_hash(const Path& path) const;
    bool conflict(const Op& op, int lane, const Place& place, Record old, uint64_t address, unsigned bytes, bool writes, bool same,
                  const AccessKind& kind);
    bool passes_quickly(Shadow& shadow, Cell& cell, const Record& mine, bool is_shared);
    Segment* common_segment(LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, bool writes, uint64_t* base,
                            bool* is_shared);
    static bool merge(Record& into, const Record& from);
    static void add(Shadow& shadow, Cell& cell, const Record& record, bool few = false);
    BlockState* shared_owner(const Op& op, int lane, uint64_t address, unsigned bytes, uint32_t* offset);
    [[nodiscard]] bool is_before(const Record& old, int lane, bool* unfinished) const;
    /// May asynchronous agents that the lane sends see what the record wrote?
    [[nodiscard]] bool is_proxied(const Record& old, int lane, bool is_shared) const;
    [[nodiscard]] std::string record_text(const Record& record) const;
    [[nodiscard]] bool is_known_to_agents(const Record& old) const;
    [[nodiscard]] bool is_superseded(const Record& old, uint32_t operation) const;
    /// An instruction that has registers of products among its operands: are these free? They count as touched from now on.
    bool may_touch(const Op& op);
    /// Registers from `row` on go out of use. False (a fault) if products have them.
    bool may_leave(uint32_t row);
    bool may_exit(LaneMask lanes);
    void grow_registers(size_t rows);
    Clock& own_clock(int lane);
    void clear_local(LaneMask lanes, uint32_t from, uint32_t bytes);

    BlockState& block_;
    Launch& launch_;
    int index_;
    LaneMask all_lanes_, alive_, converged_ = 0;
    uint32_t serial_, component_;

    std::vector<Lanes> registers_;
    std::vector<std::unique_ptr<Path>> paths_;
    std::vector<Join> joins_;
    Path* current_ = nullptr;
    enum class Outcome : uint8_t { Next, Moved, Again };
    Outcome outcome_ = Outcome::Next;
    bool yielded_ = false, released_joins_ = false;

    // Local memory: capacity bytes a lane, and a flag a byte.
    std::vector<uint8_t> local_, local_written_;
    size_t local_capacity_ = 0;

    std::vector<Copy> copies_;
    std::array<uint32_t, kLanes> groups_committed_{}, bulk_groups_committed_{};
    std::unique_ptr<WarpProducts> products_;

    // Knowledge: what all lanes know, and what single lanes know, where it is more.
    uint32_t time_ = 1, agent_time_ = 0;
    uint32_t waited_together_ = 0;  // the last wait of all lanes, and of those that have waited apart since
    LaneMask lanes_waited_ = 0;
    std::array<uint32_t, kLanes> lane_waited_{};
    Clock known_;
    std::array<std::unique_ptr<Clock>, kLanes> lane_known_;
    Clock heard_;  // read by relaxed loads; known from the next fence on
    std::array<std::unique_ptr<Clock>, kLanes> lane_heard_;
    LaneMask lanes_apart_ = 0;    // that have knowledge of their own
    LaneMask lanes_hearing_ = 0;  // that have heard something of their own
};

// ---- Blocks

struct Barrier {
    struct Party {
        WarpState* warp;
        Path* path;  // null: arrived without waiting
        LaneMask lanes;
        const Op* op;
        uint32_t destination = kNoRegister;  // of red
    };
    uint32_t expected = 0;  // threads; 0: nobody has come yet
    bool is_default = false;
    uint32_t arrived = 0;
    int reduction = 0;  // 0: none; popc, and, or
    uint32_t ones = 0, lanes = 0;
    std::vector<Party> parties;
    Clock known, heard;
};

class BlockState final : public Block {
public:
    BlockState(Launch& launch, ClusterState& cluster, uint32_t rank, std::array<uint32_t, 3> id);
    ~BlockState() override;
    [[nodiscard]] uint32_t rank() const override { return rank_; }
    [[nodiscard]] uint32_t cluster_size() const override;
    [[nodiscard]] Block& peer(uint32_t rank) override;
    [[nodiscard]] uint32_t shared_bytes() const override { return static_cast<uint32_t>(shared_->bytes); }
    void progressed() override;
    uint32_t new_component() override;

    /// False if the barrier is not complete (or after a fault): the path waits, or has arrived.
    void arrive(WarpState& warp, const Op& op, LaneMask lanes, uint32_t id, uint32_t count, bool waits, int reduction, LaneMask predicate,
                uint32_t destination);
    void lanes_exited();
    [[nodiscard]] bool is_done() const { return alive_ == 0; }
    /// What every thread waits for, when none can go on.
    [[nodiscard]] bool barrier_cannot_complete() const;
    [[nodiscard]] std::string waiting_text();

    Launch& launch;
    ClusterState& cluster;
    std::array<uint32_t, 3> id;
    uint32_t linear;  // in the grid
    std::vector<std::unique_ptr<WarpState>> warps;
    std::vector<std::unique_ptr<Warpgroup>> warpgroups;  // that have executed wgmma, by number

    [[nodiscard]] Segment& shared() { return *shared_; }
    [[nodiscard]] uint32_t dynamic_base() const { return dynamic_base_; }
    uint32_t alive_ = 0;

private:
    void complete(Barrier& barrier);
    std::shared_ptr<void>& attachment(const void* tag) override { return attachments_[tag]; }

    uint32_t rank_;
    uint32_t dynamic_base_ = 0;
    std::unique_ptr<Segment> shared_;
    std::array<Barrier, 16> barriers_;
    std::map<const void*, std::shared_ptr<void>> attachments_;
};

struct ClusterState {
    uint32_t serial = 0;
    std::vector<std::unique_ptr<BlockState>> blocks;
    uint32_t components = 0;  // handed out so far
    // barrier.cluster
    uint64_t phase = 0;
    uint32_t arrived = 0;
    Clock known, completed;
    struct Waiter {
        WarpState* warp;
        Path* path;
        LaneMask lanes;
        bool acquires;
    };
    std::vector<Waiter> waiters;
    std::vector<LaneMask> arrived_lanes;  // by warp of the cluster: arrived in this phase
    std::vector<LaneMask> may_wait;       // arrived, and has not waited
    void arrive(WarpState& warp, const Op& op, LaneMask lanes, bool releases);
    void wait(WarpState& warp, const Op& op, LaneMask lanes, bool acquires);
    void settle();
    [[nodiscard]] bool is_done() const;

    std::vector<WarpState*> warps;  // of all its blocks
    std::vector<Attached> attached;
    std::vector<std::unique_ptr<BulkCopy>> bulk;
    std::vector<SharedUse> uses;  // of shared memory, by bulk copies that not all need be known to be complete

    // Whom the scheduler let run last.
    size_t turn = 0;
};

// ---- Launches

struct DeviceState {
    explicit DeviceState(const DeviceProperties& given) : properties(given), memory(given.memory_bytes) {}
    DeviceProperties properties;
    DeviceMemory memory;
    uint64_t generation = 1;  // of shadows
};

class Launch {
public:
    Launch(DeviceState& device, Program& program, int32_t kernel, std::array<uint32_t, 3> grid, std::array<uint32_t, 3> block,
           std::array<uint32_t, 3> cluster, uint32_t dynamic_shared, const std::vector<uint8_t>& parameters, const LaunchOptions& options);
    Fault run(LaunchStats* stats);

    DeviceState& device;
    Program& program;
    int32_t kernel;
    std::array<uint32_t, 3> grid, block_size, cluster_size;
    uint32_t dynamic_shared;
    const std::vector<uint8_t>& parameters;
    LaunchOptions options;
    uint32_t threads, warps_per_block, blocks_per_cluster, warps_per_cluster;
    uint32_t shared_total = 0;
    bool is_explicit_cluster = false;

    Fault fault;
    bool has_fenced = false;    // some thread has executed a fence
    uint64_t progress = 0;      // counts changes that others may wait for
    uint64_t instructions = 0;  // executed so far, of all warps
    Random random;
    std::vector<AsyncOperation> operations;
    uint32_t products_formed = 0;  // and not performed
    std::unordered_map<uint64_t, std::vector<TensorMapUse>> tensor_map_uses;  // by address
    /// The number of a new one.
    uint32_t begin_operation(const Op& op) {
        operations.push_back({0, kNever, op.number});
        return static_cast<uint32_t>(operations.size() - 1);
    }

    void set_fault(Fault::Kind kind, const std::string& text) {
        if (!fault) fault = {kind, text};
    }
    /// For %clock: goes up whenever it is asked, so that waiting for it ends.
    uint64_t clock_ticks() { return instructions + ++clock_reads_ + clock_jump_; }
    [[nodiscard]] std::string op_text(uint32_t number) const;  // "ld.shared.b32 at line 190"
    /// The warp that a record names, in words.
    [[nodiscard]] std::string thread_text(uint32_t warp_serial, int lane) const;
    /// Fresh shared memory for a block, and back.
    std::unique_ptr<Segment> take_shared();
    void give_shared(std::unique_ptr<Segment> segment) { shared_pool_.push_back(std::move(segment)); }
    /// The shadow of an allocation, empty at its first use in this launch.
    Shadow& shadow_of(Segment& segment) {
        if (segment.shadow.generation() < generation_) forget(segment);
        return segment.shadow;
    }

private:
    void start_cluster();
    uint64_t run_cluster(ClusterState& cluster, uint64_t budget);
    bool unstick();
    void set_deadlock();
    [[nodiscard]] std::array<uint32_t, 3> block_id(uint32_t cluster, uint32_t rank) const;

    void forget(Segment& segment);

    uint64_t generation_;
    std::vector<std::unique_ptr<Segment>> shared_pool_;
    uint64_t clusters_ = 0;
    std::vector<uint32_t> order_;  // of clusters; empty: as they are numbered
    size_t started_ = 0;
    std::vector<std::unique_ptr<ClusterState>> resident_;
    size_t most_resident_ = 8;
    uint64_t blocks_done_ = 0, clock_reads_ = 0, clock_jump_ = 0;
    uint64_t stall_progress_ = UINT64_MAX;
    int stall_rounds_ = 0;
    size_t idle_turns_ = 0;
};

}  // namespace flexemu
