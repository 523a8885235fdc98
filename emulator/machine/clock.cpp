#include "emulator/machine/clock.h"

#include <algorithm>

namespace flexemu {

bool Clock::knows_slowly(uint32_t cluster, uint32_t component, uint32_t lanes, uint32_t time) const {
    if (cluster != cluster_) {
        for (const auto& [id, clock] : others_) {
            if (id == cluster) return clock.knows(cluster, component, lanes, time);
        }
        return false;
    }
    for (const Some& each : some_) {
        if (each.component == component && each.time >= time) lanes &= ~each.lanes;
    }
    return lanes == 0;
}

void Clock::learn(uint32_t component, uint32_t time) {
    if (component >= all_.size()) all_.resize(component + 1, 0);
    all_[component] = std::max(all_[component], time);
    if (!some_.empty()) std::erase_if(some_, [&](const Some& each) { return each.component == component && each.time <= time; });
}

void Clock::learn(uint32_t component, uint32_t lanes, uint32_t time) {
    if (all(component) >= time) return;
    for (Some& each : some_) {
        if (each.component != component || each.time > time) continue;
        if (each.time == time) {
            each.lanes |= lanes;
            return;
        }
        each.lanes &= ~lanes;
    }
    std::erase_if(some_, [](const Some& each) { return each.lanes == 0; });
    some_.push_back({component, lanes, time});
}

Clock& Clock::of_cluster(uint32_t cluster) {
    for (auto& [id, clock] : others_) {
        if (id == cluster) return clock;
    }
    others_.emplace_back(cluster, Clock(cluster));
    return others_.back().second;
}

void Clock::join(const Clock& other) {
    if (this == &other || other.empty()) return;
    if (!is_set_) {
        cluster_ = other.cluster_;
        is_set_ = true;
    }
    if (other.cluster_ == cluster_) {
        if (other.all_.size() > all_.size()) all_.resize(other.all_.size(), 0);
        for (size_t i = 0; i < other.all_.size(); ++i) all_[i] = std::max(all_[i], other.all_[i]);
        if (!some_.empty()) std::erase_if(some_, [&](const Some& each) { return each.time <= all(each.component); });
        for (const Some& each : other.some_) learn(each.component, each.lanes, each.time);
    } else {
        Clock& mine = of_cluster(other.cluster_);
        Clock own_part(other.cluster_);
        own_part.all_ = other.all_;
        own_part.some_ = other.some_;
        mine.join(own_part);
    }
    for (const auto& [id, clock] : other.others_) {
        if (id == cluster_) {
            Clock back(cluster_);
            back.all_ = clock.all_;
            back.some_ = clock.some_;
            join(back);
        } else {
            of_cluster(id).join(clock);
        }
    }
}

void Clock::raise(uint32_t count, uint32_t from, uint32_t to) {
    for (uint32_t i = 0; i < count; ++i) {
        if (const uint32_t time = all(from + i); time != 0) learn(to + i, time);
    }
    for (size_t i = 0, size = some_.size(); i < size && i < some_.size(); ++i) {
        const Some each = some_[i];
        if (each.component >= from && each.component < from + count) learn(each.component - from + to, each.lanes, each.time);
    }
    for (auto& [id, clock] : others_) clock.raise(count, from, to);
}

void Clock::raise_twins(uint32_t from) {
    for (uint32_t i = from; i < all_.size(); i += 2) {
        if (const uint32_t time = all_[i]; time != 0) learn(i + 1, time);
    }
    for (auto& [id, clock] : others_) clock.raise_twins(from);
}

Clock Clock::part(uint32_t count, uint32_t from, const std::array<uint32_t, 2>& also) const {
    Clock result(cluster_);
    result.is_set_ = is_set_;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t time = all(from + i);
        if (time == 0) continue;
        result.learn(i, time);
        result.learn(from + i, time);
        for (const uint32_t other : also) {
            if (const uint32_t both = std::min(time, all(other + i)); both != 0) result.learn(other + i, both);
        }
    }
    for (const Some& each : some_) {
        if (each.component < from || each.component >= from + count) continue;
        const uint32_t i = each.component - from;
        result.learn(i, each.lanes, each.time);
        result.learn(each.component, each.lanes, each.time);
        for (const uint32_t other : also) {
            const bool whole = knows(cluster_, other + i, each.lanes, each.time);
            if (const uint32_t both = whole ? each.time : std::min(each.time, all(other + i)); both != 0)
                result.learn(other + i, each.lanes, both);
        }
    }
    for (const auto& [id, clock] : others_) {
        Clock other = clock.part(count, from, also);
        if (!other.empty()) result.others_.emplace_back(id, std::move(other));
    }
    return result;
}

}  // namespace flexemu
