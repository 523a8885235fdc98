// A running block of threads, as the families of instructions see it. Blocks of a cluster know one another by rank.
#pragma once

#include <cstdint>
#include <memory>

#include "emulator/machine/clock.h"
#include "emulator/machine/warp.h"

namespace flexemu {

class Block {
public:
    virtual ~Block() = default;
    [[nodiscard]] virtual uint32_t rank() const = 0;  // in the cluster
    [[nodiscard]] virtual uint32_t cluster_size() const = 0;
    [[nodiscard]] virtual Block& peer(uint32_t rank) = 0;
    [[nodiscard]] virtual uint32_t shared_bytes() const = 0;

    /// Something that others may wait for has happened: suspended and retrying instructions are tried again.
    virtual void progressed() = 0;
    /// A component of clocks for an object of this block that completes things (an mbarrier): "phase p of it has been seen" is component >= p.
    virtual uint32_t new_component() = 0;

    /// State that a family of instructions keeps for each block; made on first use, gone with the block.
    template <typename T>
    T& attached() {
        std::shared_ptr<void>& slot = attachment(tag<T>());
        if (!slot) slot = std::make_shared<T>();
        return *static_cast<T*>(slot.get());
    }

protected:
    virtual std::shared_ptr<void>& attachment(const void* tag) = 0;

private:
    template <typename T>
    static const void* tag() {
        static const char here = 0;
        return &here;
    }
};

}  // namespace flexemu
