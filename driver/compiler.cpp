#include "driver/compiler.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "diag/check.h"
#include "driver/cache.h"
#include "ir/gradient.h"
#include "ir/interpret_gradient.h"
#include "ir/passes.h"

namespace flexc {

namespace {

/// Adds the time of a scope, in milliseconds, to a phase.
class PhaseTimer {
public:
    explicit PhaseTimer(double& phase) : phase_(phase) {}
    ~PhaseTimer() { phase_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin_).count(); }
    PhaseTimer(const PhaseTimer&) = delete;
    PhaseTimer& operator=(const PhaseTimer&) = delete;

private:
    double& phase_;
    std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

constexpr size_t kMaxBytes = (8u << 20) + 1;  // one more than the parser takes, so that it is the one to refuse
constexpr int kPatienceMs = 5000;

/// Reads a file, pipe or device up to kMaxBytes. Gives the reason if it cannot. A device without an end is cut, and a pipe into which
/// nobody writes is given up, so that no path makes the compiler hang.
std::optional<std::string> read_text(const std::filesystem::path& path, std::string* text) {
    const int file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return std::strerror(errno);
    std::optional<std::string> failure;
    size_t size = 0;
    while (size < kMaxBytes) {
        pollfd ready{file, POLLIN, 0};
        if (::poll(&ready, 1, kPatienceMs) == 0) {
            failure = "nothing came from it for five seconds";
            break;
        }
        constexpr size_t kChunk = 1 << 16;
        text->resize(size + std::min(kChunk, kMaxBytes - size));
        const ssize_t got = ::read(file, text->data() + size, text->size() - size);
        if (got == 0) break;
        if (got > 0) {
            size += static_cast<size_t>(got);
        } else if (errno != EAGAIN && errno != EINTR) {
            failure = std::strerror(errno);
            break;
        }
    }
    ::close(file);
    text->resize(size);
    return failure;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "`" : ", `") + name + "`";
    return text;
}

/// The .flex file of the same folder whose name is like that of one that is not there; empty if there is none.
std::string file_like(const std::filesystem::path& path) {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    constexpr int kMost = 1000;
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator each(folder, error), end; !error && each != end && names.size() < kMost; each.increment(error))
        if (each->path().extension() == ".flex") names.push_back(each->path().filename().string());
    std::string name = path.filename().string();
    const auto there = [&] { return std::find(names.begin(), names.end(), name) != names.end(); };
    if (path.extension() != ".flex") name += ".flex";
    if (!there()) name = diag::nearest(name, names);
    return name.empty() ? name : (path.parent_path() / name).string();
}

}  // namespace

Session::Session() = default;
Session::~Session() = default;

bool Session::open(const std::filesystem::path& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
        sink.report(diag::Kind::cannot_read, {}, path.string(), "it is a folder");
        return false;
    }
    std::string text;
    if (const auto failure = read_text(path, &text)) {
        auto& report = sink.report(diag::Kind::cannot_read, {}, path.string(), *failure);
        if (const std::string near = std::filesystem::exists(path, error) ? "" : file_like(path); !near.empty())
            report.help("did you mean `" + near + "`?");
        return false;
    }
    return open_text(path.string(), std::move(text));
}

bool Session::open_text(std::string name, std::string text, std::vector<diag::SourcePart> parts) {
    main_ = sources.add(std::move(name), std::move(text), std::move(parts));
    double parse_seconds = 0;
    {
        PhaseTimer timer(phases.check);
        program_ = frontend::check(sources, main_, frontend::default_imports(), sink, &parse_seconds);
    }
    phases.parse += parse_seconds * 1e3;
    phases.check -= parse_seconds * 1e3;
    return program_ != nullptr;
}

const frontend::Program& Session::program() const {
    FLEX_CHECK(program_, "a session's program is asked for only after open() succeeded");
    return *program_;
}

std::optional<std::string> Session::choose(const std::string& name) {
    const auto& attentions = program().attentions();
    std::vector<std::string> names;
    for (const auto& attention : attentions) {
        if (attention.name == name) return name;
        names.push_back(attention.name);
    }
    const std::string& file = sources.file(main_).name();
    if (names.empty()) {
        sink.report(diag::Kind::no_attention, {}, file).help("declare one: `attention name() { mask = q >= k; }`");
    } else if (!name.empty()) {
        auto& diagnostic = sink.report(diag::Kind::unknown_attention, {}, file, name);
        const auto near = diag::nearest(name, names);
        diagnostic.help(near.empty() ? "it declares " + joined(names) : "did you mean `" + near + "`?");
    } else if (names.size() > 1) {
        sink.report(diag::Kind::ambiguous_attention, {}, file, joined(names)).help("choose one with `--name " + names.front() + "`");
    } else {
        return names.front();
    }
    return {};
}

std::optional<ir::Attention> Session::lower(const std::string& attention, const frontend::ConstValues& consts) {
    PhaseTimer timer(phases.lower);
    auto lowered = frontend::lower(program(), attention, consts, sink);
    if (lowered) ir::optimise(*lowered);
    return lowered;
}

bool Session::differentiate(ir::Attention* attention, const std::function<void(std::string_view pass, const ir::Attention&)>& after_each) {
    if (const auto clauses = ir::no_gradient(*attention); !clauses.empty()) {
        sink.report(diag::Kind::no_gradients, {}, joined(clauses), attention->name).help("its forward pass can be computed");
        return false;
    }
    PhaseTimer timer(phases.lower);
    ir::differentiate(*attention);
    if (after_each) after_each("differentiate", *attention);
    ir::optimise(*attention, after_each);
    return true;
}

std::unique_ptr<CpuKernel> Session::compile_cpu(const ir::Attention& attention, const KernelOptions& options) {
    const auto unsupported = cpu::unsupported_clauses(attention);
    if (!unsupported.empty()) {
        sink.report(diag::Kind::unsupported_clause, {}, joined(unsupported), attention.name, "cpu")
            .help("the interpreter has every clause: `--device interp`");
        return nullptr;
    }

    auto kernel = std::make_unique<CpuKernel>();
    kernel->desc = cpu::describe(attention);
    const cpu::Options cpu_options{options.level};
    const auto dir = options.cache_dir.empty() ? default_cache_dir() : options.cache_dir;
    const auto load = [&](std::vector<char> object, std::string* error) {
        PhaseTimer timer(phases.load);
        kernel->code = cpu::load_object(attention.name, std::move(object), error);
        return kernel->code != nullptr;
    };

    std::string error;
    std::string key;
    if (options.use_cache) {
        PhaseTimer timer(phases.load);
        key = cache_key(cpu::target_identity(cpu_options) + '\n' + ir::print(attention));
        if (auto object = cache_read(dir, key); object && load(std::move(*object), &error)) {
            phases.cached = true;
            return kernel;
        }
    }

    cpu::Timings timings;
    auto object = cpu::compile_object(attention, cpu_options, &timings);
    phases.lower += timings.lower * 1e3;
    phases.optimise += timings.optimise * 1e3;
    phases.codegen += timings.codegen * 1e3;
    if (options.use_cache) cache_write(dir, key, object);
    const bool loaded = load(std::move(object), &error);
    FLEX_CHECK(loaded, error.c_str());
    return kernel;
}

}  // namespace flexc
