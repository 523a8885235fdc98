// libflexc: the compiler as a library, for programs that make attention variants while they run. C++17; no header of LLVM or ANTLR.
//
//   flexc::CompileOptions options;
//   options.targets = {"cpu", "sm_80", "sm_90a"};
//   flexc::Result<flexc::Kernel> kernel = flexc::compile("attention near(w: i32 = 9) { mask = abs(q - k) <= w; }", options);
//   if (!kernel) { std::fputs(kernel.error().text.c_str(), stderr); return 1; }
//   flex::Status status = kernel->forward(flex::Stream::cpu(), {q, k, v, o}, {{"w", flex::scalar(w)}});
//
// Nothing throws. compile() may be called from any number of threads; what it made before it finds in the cache on disk that `flexc run` uses. Kernels are
// launched by the runtime that the program links (runtime/stream.h), the same as for kernels that are linked ahead of time.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/stream.h"

#define FLEXC_API __attribute__((visibility("default")))

namespace flexc {

/// One fault or warning. Codes are listed in docs/diagnostics.md and keep their meaning.
struct Diagnostic {
    bool is_error = true;
    std::string code;          // "E2003"
    std::string name;          // "type-mismatch"
    std::string text;          // "expected `f32`, found `i32`"
    std::string file;          // CompileOptions::file_name or that of an import; empty: without a place in the source
    int line = 0, column = 0;  // from 1; columns count code points. 0: without a place
    int end_line = 0, end_column = 0;
    std::vector<std::string> notes;
    std::vector<std::string> help;  // what to do about it
};

/// Why there is no kernel.
struct Error {
    std::vector<Diagnostic> diagnostics;  // at least one error; warnings too
    std::string text;                     // all of them with their source lines, as `flexc check` prints them
};

/// A value, or the error that stands in its place.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : error_(std::move(error)) {}

    [[nodiscard]] bool ok() const { return value_.has_value(); }
    explicit operator bool() const { return ok(); }
    /// Only if ok().
    [[nodiscard]] T& value() & { return *value_; }
    [[nodiscard]] const T& value() const& { return *value_; }
    [[nodiscard]] T&& value() && { return std::move(*value_); }
    T* operator->() { return &*value_; }
    const T* operator->() const { return &*value_; }
    T& operator*() & { return *value_; }
    const T& operator*() const& { return *value_; }
    /// Empty if ok().
    [[nodiscard]] const Error& error() const { return error_; }

private:
    std::optional<T> value_;
    Error error_;
};

struct CompileOptions {
    std::string attention;                       // which one; empty: the only one of the source
    std::map<std::string, std::string> consts;   // values of `const` parameters: {"step", "2"}
    std::vector<std::string> targets = {"cpu"};  // "cpu" is this machine's; "sm_80" runs on it and all later GPUs, "sm_90a" on 9.0
    // Of code for GPUs; code for the CPU serves every head dimension and type.
    int head_dim = 128;  // the largest D
    int v_head_dim = 0;  // the largest DV; 0: as head_dim
    std::vector<flex::DType> dtypes = {flex::DType::BF16};
    bool allow_tf32 = false;             // f32 products may be tf32
    bool gradients = false;              // Kernel::backward too
    bool atomic = false;                 // backward passes for GPUs sum by atomics: not the same bits in each launch
    std::string file_name = "<source>";  // for diagnostics; imports are looked for in its folder
    bool use_cache = true;
    std::string cache_dir;  // empty: $FLEXC_CACHE_DIR, else $XDG_CACHE_HOME/flexc, else ~/.cache/flexc
};

namespace detail {
/// What crosses the border of the library.
struct Compiled {
    flex::KernelDesc desc;
    std::string doc;
    const flex_linked* code = nullptr;
    std::shared_ptr<const void> owner;  // of the code
    std::vector<Diagnostic> warnings;
    bool from_cache = false;
};
FLEXC_API Result<Compiled> compile(std::string_view source, const CompileOptions& options) noexcept;
}  // namespace detail

/// A compiled attention. Immutable, thread-safe; copies share the code, which lives as long as one of them.
class Kernel {
public:
    explicit Kernel(detail::Compiled compiled)
        : compiled_(std::make_shared<const detail::Compiled>(std::move(compiled))), kernel_(compiled_->desc, *compiled_->code, compiled_) {}

    [[nodiscard]] const std::string& name() const noexcept { return compiled_->desc.name; }
    [[nodiscard]] const std::string& doc() const noexcept { return compiled_->doc; }
    [[nodiscard]] const flex::KernelDesc& desc() const noexcept { return compiled_->desc; }
    [[nodiscard]] const std::vector<Diagnostic>& warnings() const noexcept { return compiled_->warnings; }
    /// Nothing was generated: all code came from the cache on disk.
    [[nodiscard]] bool from_cache() const noexcept { return compiled_->from_cache; }

    /// See flex::Kernel::forward.
    flex::Status forward(const flex::Stream& stream, const flex::AttentionArrays& arrays,
                         const std::vector<flex::Argument>& args = {}) const noexcept {
        return kernel_.forward(stream, arrays, args);
    }
    flex::Status workspace(const flex::Stream& stream, const flex::AttentionArrays& arrays, const std::vector<flex::Argument>& args,
                           size_t* bytes) const noexcept {
        return kernel_.workspace(stream, arrays, args, bytes);
    }
    /// See flex::Kernel::backward; with CompileOptions::gradients.
    flex::Status backward(const flex::Stream& stream, const flex::AttentionArrays& arrays, const flex::GradientArrays& gradients,
                          const std::vector<flex::Argument>& args = {}) const noexcept {
        return kernel_.backward(stream, arrays, gradients, args);
    }
    flex::Status backward_workspace(const flex::Stream& stream, const flex::AttentionArrays& arrays, const flex::GradientArrays& gradients,
                                    const std::vector<flex::Argument>& args, size_t* bytes) const noexcept {
        return kernel_.backward_workspace(stream, arrays, gradients, args, bytes);
    }

private:
    std::shared_ptr<const detail::Compiled> compiled_;
    flex::Kernel kernel_;
};

[[nodiscard]] inline Result<Kernel> compile(std::string_view source, const CompileOptions& options = {}) {
    Result<detail::Compiled> compiled = detail::compile(source, options);
    if (!compiled) return compiled.error();
    return Kernel(std::move(compiled).value());
}

}  // namespace flexc
