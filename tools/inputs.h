// What a launch reads, from where the user put it: --set, then --in, then defaults, then --shape and random numbers.
// Three steps, in this order: load() reads the files; consts() gives the `const` parameters to the compiler; bind() gives
// the compiled attention its extents, q, k, v and arguments. Each reports its faults to the session.
#pragma once

#include <array>
#include <deque>
#include <set>

#include "driver/compiler.h"
#include "tools/cli.h"
#include "tools/io/array.h"

namespace flexc::tools {

/// What bind() makes: all arrays that a launch views, and the views. Not copyable: the views point into `storage`.
struct Launch {
    Launch() = default;
    Launch(const Launch&) = delete;
    Launch& operator=(const Launch&) = delete;

    flex::DType dtype = flex::DType::F32;
    std::deque<io::Array> storage;
    flex::Tensor q, k, v;                  // data == nullptr where bind() was not asked for them
    flex::Tensor d_o, d_lse, d_max_score;  // likewise; d_o is there whenever gradients were asked for
    std::vector<flex::Argument> args;
    std::array<int32_t, 7> builtin{};  // B H HKV Q K D DV
    std::vector<int32_t> extents;      // builtin, then the free ones
    std::vector<std::string> made_up;  // parameters that got random numbers

    [[nodiscard]] int64_t extent(ir::ExtentVar which) const { return builtin[static_cast<size_t>(which)]; }
};

/// The parameters and free extents (by index and id) whose values some roots of an attention read.
struct Reach {
    std::set<uint32_t> params, extents;
};
[[nodiscard]] Reach reach(const ir::Attention& attention, const std::vector<ir::NodeId>& roots);

enum class Need : uint8_t {
    Attention,  // q, k, v and every parameter that is reached: for run and bench. Without any of q, k, v: random ones of --shape, and random float tensors
    Gradients,  // the same, and what the gradients are of: do, dlse, dmax_score
    Pictures,   // extents and the parameters that are reached; q and k if they are there. Extents have defaults
};

class Inputs {
public:
    Inputs(Session& session, const InputOptions& options) : session_(session), options_(options) {}

    /// Reads --in and the files that --set names. False if something cannot be read.
    bool load();
    /// Values of the `const` parameters: -D, --set, --in.
    [[nodiscard]] std::optional<frontend::ConstValues> consts(const frontend::Program::AttentionInfo& attention);
    /// Whether there is a derivative of the loss (do, dlse, dmax_score) to begin with.
    [[nodiscard]] bool asks_for_gradients() const;
    /// Whether q, k and v are made up.
    [[nodiscard]] bool all_random() const { return !has_attention_arrays(); }
    /// `reached`: what the values matter of; other parameters may be absent.
    bool bind(const flex::KernelDesc& desc, Need need, const Reach& reached, std::optional<flex::DType> dtype, Launch* out);

private:
    bool check_names(const flex::KernelDesc& desc);
    bool find_extents(const flex::KernelDesc& desc, Need need, std::vector<std::optional<int64_t>>* extents);
    bool bind_qkv(Need need, const std::vector<std::optional<int64_t>>& extents, std::optional<flex::DType> dtype, Launch* out);
    /// do, dlse and dmax_score.
    bool bind_losses(const std::vector<std::optional<int64_t>>& extents, bool typed, Launch* out);
    bool bind_param(const flex::KernelDesc& desc, uint32_t index, bool needed, bool may_be_random,
                    const std::vector<std::optional<int64_t>>& extents, Launch* out);
    /// The array or text given for a parameter: --set before --in. Null if neither.
    [[nodiscard]] const io::Array* given(const std::string& name) const;
    bool read_set(const Assignment& set);
    bool has_attention_arrays() const { return given("q") || given("k") || given("v"); }
    io::Array random(const std::string& name, std::vector<int64_t> shape) const;
    void report_open_extent(const std::string& name);
    bool report_unreadable(const std::string& name);

    Session& session_;
    const InputOptions& options_;
    io::Arrays from_file_, from_sets_;
    io::Unreadable unreadable_;
    std::map<std::string, std::string> set_texts_;  // --set values that name no file
    std::set<std::string> consts_;
};

/// A contiguous view, such as those of a launch, as an array.
[[nodiscard]] io::Array array_of(const flex::Tensor& tensor);

/// "f32[H, N + 1]", "i32"
[[nodiscard]] std::string declared_type(const flex::KernelDesc& desc, const flex::ParamDesc& param);
[[nodiscard]] std::string array_type(const io::Array& array);

/// Opens a .flex file, or the text that hold_text() gave its name. False after a report.
bool open_source(Session& session, const std::filesystem::path& file);
/// From now on `file` means this text to all commands of this process: for a session whose source is in memory.
/// `default_shape` is of extents that nothing else gives.
void hold_text(const std::filesystem::path& file, std::string text, std::vector<diag::SourcePart> parts,
               std::map<std::string, int64_t> default_shape = {});
/// The options' own, or that of the held text.
[[nodiscard]] const std::map<std::string, int64_t>& default_shape(const InputOptions& options);

/// Text of a number or bool in the type `type`, as --set and -D spell values; nothing if it is none or out of range.
[[nodiscard]] std::optional<io::Array> parse_scalar(const std::string& text, flex::DType type);

/// Whether an array of this shape could be in this machine's memory. Asked before taking it: the system may promise
/// more than there is, and end the process when it is used.
[[nodiscard]] bool fits_in_memory(const std::vector<int64_t>& shape, size_t element_size);

/// Reports a fault of the runtime: wrong arguments, lack of memory or a refusal.
void report_status(Session& session, const flex::Status& status);

}  // namespace flexc::tools
