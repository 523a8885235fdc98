// Vector clocks: what has certainly happened before something else.
//
// Components are numbered within a cluster of blocks: its warps first, then an agent for each warp (the copies it has waited for), then whatever asked for one
// (an mbarrier: phases seen). A warp's time goes up whenever it hands its knowledge on, so what it does later is not taken for known. Its lanes
// are told apart only where they must be: "all lanes of the warp, up to time t", and a short list of "these lanes, up to time t".
// What other clusters did is kept as one clock each.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace flexemu {

class Clock {
public:
    Clock() = default;
    explicit Clock(uint32_t cluster) : cluster_(cluster), is_set_(true) {}

    /// Have all of `lanes` been heard of, up to `time`?
    [[nodiscard]] bool knows(uint32_t cluster, uint32_t component, uint32_t lanes, uint32_t time) const {
        if (cluster == cluster_ && component < all_.size() && all_[component] >= time) return true;
        return knows_slowly(cluster, component, lanes, time);
    }
    /// Up to which time all lanes of a component of the own cluster are known.
    [[nodiscard]] uint32_t all(uint32_t component) const { return component < all_.size() ? all_[component] : 0; }

    void learn(uint32_t component, uint32_t time);
    void learn(uint32_t component, uint32_t lanes, uint32_t time);  // some lanes only
    void join(const Clock& other);
    /// Components of one kind as of another: those from `from` on, `count` of them, are raised into those from `to` on. Of all clusters.
    void raise(uint32_t count, uint32_t from, uint32_t to);
    /// Of pairs of components from `from` on: the first of each into the second.
    void raise_twins(uint32_t from);
    /// Only what was raised into the components from `from` on, as plain knowledge (components 0 to count - 1), and what of that stands in those from `also` on.
    [[nodiscard]] Clock part(uint32_t count, uint32_t from, const std::array<uint32_t, 2>& also) const;
    void clear() {
        all_.clear();
        some_.clear();
        others_.clear();
    }
    [[nodiscard]] bool empty() const { return all_.empty() && some_.empty() && others_.empty(); }
    [[nodiscard]] uint32_t cluster() const { return cluster_; }
    [[nodiscard]] bool is_set() const { return is_set_; }

private:
    struct Some {
        uint32_t component, lanes, time;
    };
    [[nodiscard]] bool knows_slowly(uint32_t cluster, uint32_t component, uint32_t lanes, uint32_t time) const;
    Clock& of_cluster(uint32_t cluster);

    uint32_t cluster_ = 0;
    bool is_set_ = false;  // a default-made clock takes the cluster of the first that joins it
    std::vector<uint32_t> all_;
    std::vector<Some> some_;
    std::vector<std::pair<uint32_t, Clock>> others_;
};

}  // namespace flexemu
