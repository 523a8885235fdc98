// Long work on a terminal: after half a second one line on stderr, rewritten in place, says what is done, how much of all that is, and how long the rest takes. It
// goes away with the object, with an error, and with Ctrl-C. Where stderr is no terminal nothing is ever written, and nothing is asked.
//
//   Progress progress("run", json);
//   progress.expect(repeat);
//   for (...) {
//       const auto step = progress.step("", 1, [&] { return fraction_of_this_launch(); });
//       launch();
//   }
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace flexc::tools {

class Progress {
public:
    /// `quiet`: as if stderr were no terminal.
    explicit Progress(std::string title, bool quiet = false);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    [[nodiscard]] bool is_shown() const { return shown_ != nullptr; }
    /// `counter`, or null where nobody would read it.
    template <class Counter>
    [[nodiscard]] Counter* counted(Counter& counter) const {
        return shown_ ? &counter : nullptr;
    }

    /// The weight of all steps together, in a unit of the caller's. Without it no share is shown.
    void expect(double weight);

    /// What is being done while this object lives. Its end counts `weight` as done.
    class [[nodiscard]] Step {
    public:
        Step(Progress& progress, double weight) : progress_(progress), weight_(weight) {}
        ~Step() { progress_.end_step(weight_); }
        Step(const Step&) = delete;
        Step& operator=(const Step&) = delete;

    private:
        Progress& progress_;
        double weight_;
    };
    /// `fraction`, if there is one, is asked from another thread while the step lasts: its share in [0, 1].
    Step step(std::string what, double weight = 0, std::function<double()> fraction = {});

private:
    friend class Step;
    struct Shown;
    void end_step(double weight);
    std::unique_ptr<Shown> shown_;  // null where nothing is to be shown
};

/// The line's text for a terminal of `width` columns: "run: compiling  [####......]  42 %, 12 s left". `share` < 0: not known, then the time since the begin.
[[nodiscard]] std::string progress_line(const std::string& title, const std::string& what, double share, double seconds, double left,
                                        int width);

/// For signal handlers, before the process ends: takes the line away. Only async-signal-safe calls.
void remove_progress_line();

}  // namespace flexc::tools
