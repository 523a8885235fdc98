#include "tools/progress.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>

namespace flexc::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kFirst{500}, kBetween{200};
constexpr char kRemove[] = "\r\x1b[K";

// What a signal handler needs to know.
std::atomic<bool> g_on_screen{false}, g_writing{false}, g_closed{false};

void put(std::string_view text) {
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

/// Of the terminal as it is now: windows change their size.
int terminal_width() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool is_terminal() {
    const char* term = std::getenv("TERM");
    return isatty(STDERR_FILENO) == 1 && term && *term && std::string_view(term) != "dumb";
}

std::string duration(double seconds) {
    const auto s = static_cast<int64_t>(std::ceil(std::clamp(seconds, 0.0, 3.6e8)));
    if (s < 60) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
    return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
}

}  // namespace

std::string progress_line(const std::string& title, const std::string& what, double share, double seconds, double left, int width) {
    const size_t room = static_cast<size_t>(std::max(width - 1, 0));
    const std::string head = what.empty() ? title : title + ": " + what;
    const double sound = std::clamp(share, 0.0, 1.0);
    std::string tail = duration(seconds);
    if (share >= 0) tail = fmt::format("{} %{}", static_cast<int>(100 * sound), left >= 0 ? ", " + duration(left) + " left" : "");
    constexpr size_t kBar = 20;
    if (share >= 0 && head.size() + kBar + 6 + tail.size() <= room) {
        const auto full = static_cast<size_t>(sound * kBar);
        return head + "  [" + std::string(full, '#') + std::string(kBar - full, '.') + "]  " + tail;
    }
    // What is left matters more than what it is.
    if (tail.size() > room) return tail.substr(0, room);
    if (tail.size() + 6 > room) return tail;
    const size_t for_head = room - tail.size() - 2;
    return (head.size() <= for_head ? head : head.substr(0, for_head)) + "  " + tail;
}

struct Progress::Shown {
    explicit Shown(std::string of) : title(std::move(of)) {
        // Signals are for the other threads: their handler waits until this one has written its line.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        thread = std::thread([this] { serve(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    ~Shown() {
        {
            const std::lock_guard lock(mutex);
            ended = true;
        }
        changed.notify_one();
        thread.join();
    }

    void serve() {
        std::unique_lock lock(mutex);
        changed.wait_for(lock, kFirst, [&] { return ended; });
        while (!ended) {
            draw();
            changed.wait_for(lock, kBetween, [&] { return ended; });
        }
        g_writing = true;
        if (g_on_screen && !g_closed) put(kRemove);
        g_on_screen = false;
        g_writing = false;
    }

    void draw() {
        const auto now = Clock::now();
        const auto seconds = [&](Clock::time_point since) { return std::chrono::duration<double>(now - since).count(); };
        double share = -1, left = -1;
        if (expected > 0 && counting) {
            share = std::clamp((done + weight * (fraction ? std::clamp(fraction(), 0.0, 1.0) : 0.0)) / expected, 0.0, 1.0);
            // A little done says little about the rest.
            if (share > 0.01) left = seconds(counted_from) * (1 - share) / share;
            if (share == 0) share = -1;
        }
        g_writing = true;
        // The cursor rests at the left, so that whatever else is written begins a line.
        if (!g_closed) {
            g_on_screen = true;
            put("\r" + progress_line(title, what, share, seconds(begun), left, terminal_width()) + "\x1b[K\r");
        }
        g_writing = false;
    }

    const std::string title;
    const Clock::time_point begun = Clock::now();
    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;
    std::string what;
    std::function<double()> fraction;
    double expected = 0, done = 0, weight = 0;
    bool counting = false;  // a step with a weight has begun
    Clock::time_point counted_from;
    std::thread thread;
};

Progress::Progress(std::string title, bool quiet) {
    if (!quiet && is_terminal()) shown_ = std::make_unique<Shown>(std::move(title));
}

Progress::~Progress() = default;

void Progress::expect(double weight) {
    if (!shown_) return;
    const std::lock_guard lock(shown_->mutex);
    shown_->expected = weight;
}

Progress::Step Progress::step(std::string what, double weight, std::function<double()> fraction) {
    if (shown_) {
        const std::lock_guard lock(shown_->mutex);
        shown_->what = std::move(what);
        shown_->weight = weight;
        shown_->fraction = std::move(fraction);
        if (weight > 0 && !shown_->counting) {
            shown_->counting = true;
            shown_->counted_from = Clock::now();
        }
    }
    return {*this, weight};
}

void Progress::end_step(double weight) {
    if (!shown_) return;
    const std::lock_guard lock(shown_->mutex);
    shown_->done += weight;
    shown_->weight = 0;
    shown_->fraction = {};
}

void remove_progress_line() {
    g_closed = true;
    for (int patience = 0; g_writing && patience < 10'000'000; ++patience) {
    }
    if (g_on_screen) [[maybe_unused]]
        const auto written = write(STDERR_FILENO, kRemove, sizeof kRemove - 1);
}

}  // namespace flexc::tools
