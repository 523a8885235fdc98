// flexc build: any stage of the compilation as text, or the object file.
#include <memory>
#include <span>

#include "diag/check.h"
#include "driver/cpp_header.h"
#include "driver/gpu_images.h"
#include "driver/ptxas.h"
#include "frontend/parse.h"
#include "ir/passes.h"
#include "tools/build_header.h"
#include "tools/cli.h"
#include "tools/execute.h"
#include "tools/io/atomic_file.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

struct Options {
    InputOptions input;
    std::string emit = "obj";
    std::vector<std::string> targets = {"cpu"};
    std::optional<flex::CpuLevel> level;
    bool print_after_all = false;
    std::string print_after;
    int head_dim = 0, v_head_dim = 0;
    std::vector<std::string> dtypes;
    bool allow_tf32 = false, short_queries = false, grad = false, atomic = false;
    std::string name_space, instance;
    std::filesystem::path out, depfile, ptxas;
};

/// IR after each pass, under a heading, when it changed.
std::optional<ir::Attention> lower(Session& session, const Options& options, const std::string& name, const frontend::ConstValues& consts,
                                   std::string* dumps) {
    if (!options.print_after_all && options.print_after.empty()) {
        auto attention = session.lower(name, consts);
        return attention && options.grad && !session.differentiate(&*attention) ? std::nullopt : attention;
    }
    auto attention = frontend::lower(session.program(), name, consts, session.sink);
    if (!attention) return std::nullopt;
    const auto dump = [&](std::string_view pass, const ir::Attention& now) {
        if (options.print_after_all || options.print_after == pass) *dumps += "# after " + std::string(pass) + "\n" + ir::print(now) + "\n";
    };
    dump("lower", *attention);
    ir::optimise(*attention, dump);
    if (options.grad && !session.differentiate(&*attention, dump)) return std::nullopt;
    return attention;
}

bool check_pass(Session& session, const std::string& pass, bool grad) {
    std::vector<std::string> names = {"lower"};
    if (grad) names.emplace_back("differentiate");
    for (const ir::Pass& each : ir::passes()) names.emplace_back(each.name);
    if (pass.empty() || std::find(names.begin(), names.end(), pass) != names.end()) return true;
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "`" : ", `") + name + "`";
    const std::string near = diag::nearest(pass, names);
    session.sink.report(diag::Kind::unknown_pass, {}, pass).help(near.empty() ? "the passes are " + list : "did you mean `" + near + "`?");
    return false;
}

frontend::ConstValues const_values(const Options& options) {
    frontend::ConstValues consts;
    for (const Assignment& define : options.input.defines) consts[define.name] = define.value;
    return consts;
}

flex::DType dtype_of(const std::string& name) {
    return name == "f32" ? flex::DType::F32 : name == "f16" ? flex::DType::F16 : flex::DType::BF16;
}

int header(const Options& options) {
    Session session;
    HeaderOptions wanted;
    wanted.link = {options.name_space, options.targets, {}, options.head_dim, options.v_head_dim, options.allow_tf32, options.atomic};
    for (const std::string& dtype : options.dtypes) wanted.link.dtypes.push_back(dtype_of(dtype));
    wanted.out = options.out;
    wanted.depfile = options.depfile;
    wanted.json = options.input.json;
    if (!open_source(session, options.input.file)) return fail(session, wanted.json);
    const auto name = session.choose(options.input.name);
    if (!name) return fail(session, wanted.json);
    auto attention = session.lower(*name, const_values(options));
    if (!attention || (options.grad && !session.differentiate(&*attention))) return fail(session, wanted.json);
    return build_header(session, *attention, wanted);
}

/// What is to be written, where if nothing else is said (text: to stdout), and what --json tells of it.
struct Output {
    std::string bytes;
    std::string default_name;
    Json facts = Json::object();
};

std::optional<Output> emit_cpu(Session& session, const ir::Attention& attention, const Options& options) {
    if (const auto unsupported = cpu::unsupported_clauses(attention); !unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, attention.name, std::string("cpu"))
            .help("`flexc run --device interp` has every clause");
        return std::nullopt;
    }
    const cpu::Options target{options.level.value_or(flex::host_level())};
    if (options.emit == "llvm") return Output{cpu::emit_llvm(attention, target), {}};
    if (options.emit == "asm") return Output{cpu::emit_asm(attention, target), {}};
    const std::vector<char> object = cpu::compile_object(attention, target, nullptr);
    return Output{std::string(object.begin(), object.end()), attention.name + ".o"};
}

/// A module of PTX, and what --json says of it.
struct Module {
    std::string target, ptx;
    Json facts;
};

Module forward_module(Session& session, const ir::Attention& attention, const nvptx::Options& target) {
    ImageOptions uncached;
    uncached.use_cache = false;
    nvptx::Image image = compile_image(session, attention, target, uncached);
    Module out{image.target, std::move(image.ptx), {}};
    out.facts = {{"instance", image.instance},
                 {"target", out.target},
                 {"tile", {image.tile_q, image.tile_k}},
                 {"threads", image.threads},
                 {"shared_bytes", image.shared_bytes},
                 {"parameter_bytes", nvptx::parameter_bytes(attention, *nvptx::choose(target))},
                 {"summaries", image.summary_flags.size()},
                 {"max_pack", image.max_pack}};
    return out;
}

Module backward_module(Session& session, const ir::Attention& attention, const nvptx::Options& target) {
    ImageOptions uncached;
    uncached.use_cache = false;
    nvptx::BackwardImage image = compile_backward_image(session, attention, target, uncached);
    Module out{image.target, std::move(image.ptx), {}};
    Json kernels = Json::array();
    for (const nvptx::BackwardImage::Kernel* each :
         {&image.summarise, &image.rows, &image.queries, &image.keys, &image.scale, &image.finish})
        if (!each->symbol.empty())
            kernels.push_back({{"symbol", each->symbol}, {"threads", each->threads}, {"shared_bytes", each->shared_bytes}});
    out.facts = {
        {"instance", nvptx::choose_backward(target)->name},           {"tile", {image.tile_q, image.tile_k}},    {"kernels", kernels},
        {"parameter_bytes", nvptx::parameter_bytes(attention, true)}, {"summaries", image.summary_flags.size()}, {"atomic", image.atomic}};
    return out;
}

/// Says so where the code is made for another architecture than the one asked for.
void tell_target(Session& session, const nvptx::Options& asked, nvptx::Arch made, const char* why) {
    if (asked.arch != made)
        session.sink.report(diag::Kind::other_target, {}, std::string(nvptx::name(made)), std::string(nvptx::name(asked.arch)),
                            std::string(why));
}

std::optional<Output> emit_gpu(Session& session, const ir::Attention& attention, const nvptx::Options& asked, const Options& options) {
    nvptx::Options target = asked;
    if (options.grad) {
        if (!can_compile_backward(session, attention, asked)) return std::nullopt;
        tell_target(session, asked, nvptx::choose_backward(asked)->arch, "the backward pass has no other");
    } else {
        auto resolved = resolve(session, attention, asked);
        if (!resolved) return std::nullopt;
        target = std::move(*resolved);
        if (asked.instance.empty())
            tell_target(session, asked, target.arch,
                        asked.short_queries               ? "so are all kernels for few queries"
                        : asked.dtype == flex::DType::F32 ? "there is no other for `f32`"
                                                          : "its own take smaller head dimensions or less captured");
    }
    if (options.emit == "llvm") return Output{(options.grad ? nvptx::emit_backward_llvm : nvptx::emit_llvm)(attention, target), {}};
    Module module = (options.grad ? backward_module : forward_module)(session, attention, target);
    Output out;
    out.facts = std::move(module.facts);
    if (options.emit == "ptx") {
        out.bytes = std::move(module.ptx);
    } else {
        const std::filesystem::path ptxas = options.ptxas.empty() ? find_ptxas() : options.ptxas;
        std::string error = "it was not found";
        Progress progress("flexc build", options.input.json);
        const auto step = progress.step("ptxas");
        auto cubin = ptxas.empty() ? std::nullopt
                                   : assemble(ptxas, nvptx::name(asked.instance.empty() ? asked.arch : target.arch), module.ptx, &error);
        FLEX_CHECK(!error.starts_with(kBadPipeline), error.c_str());
        if (!cubin) {
            session.sink.report(diag::Kind::no_assembler, {}, "`" + (ptxas.empty() ? "ptxas" : ptxas.string()) + "`", error)
                .help(
                    "it is part of the CUDA toolkit, and looked for in $PATH, $CUDA_HOME/bin and /usr/local/cuda/bin; `--emit=ptx` needs "
                    "nothing, and drivers take it as well");
            return std::nullopt;
        }
        out.bytes = std::move(*cubin);
        out.default_name = attention.name + (options.grad ? "_backward.cubin" : ".cubin");
    }
    out.facts["phases"] = phases_json(session.phases);
    return out;
}

/// False after a report: the target cannot be, or cannot give what is wanted.
bool check_target(Session& session, const Options& options) {
    const std::string& target = options.targets.front();
    const bool one = options.targets.size() == 1, gpu = gpu_target(target).has_value();
    const auto is = [&](std::initializer_list<const char*> emits) {
        return std::any_of(emits.begin(), emits.end(), [&](const char* each) { return options.emit == each; });
    };
    if (one && (is({"ast", "ir", "llvm"}) || is({"ptx", "cubin"}) == gpu) && (gpu || target == "cpu")) return true;
    std::string names;
    for (const std::string& each : options.targets) names += (names.empty() ? "" : ",") + each;
    auto& report = session.sink.report(diag::Kind::no_emit, {}, options.emit, names);
    if (!one)
        report.help("several targets go into a header: `--emit=header`");
    else if (gpu)
        report.help("it can emit `ast`, `ir`, `llvm`, `ptx`, `cubin` and `header`");
    else if (target == "cpu")
        report.help("it can emit `ast`, `ir`, `llvm`, `asm`, `obj` and `header`; `ptx` and `cubin` are for `--target sm_80` and `sm_90a`");
    else
        report.help(known_targets());
    return false;
}

/// Nothing after a report.
std::optional<Output> emit(Session& session, const Options& options) {
    if (!check_target(session, options)) return std::nullopt;
    if (!check_pass(session, options.print_after, options.grad) || !open_source(session, options.input.file)) return std::nullopt;
    if (options.emit == "ast") {
        diag::Sink again;  // the same file parsed a second time reports nothing new
        return Output{ast::print(*frontend::parse(session.sources, 0, again)), {}};
    }
    const auto name = session.choose(options.input.name);
    if (!name) return std::nullopt;
    std::string dumps;
    const auto attention = lower(session, options, *name, const_values(options), &dumps);
    if (!attention) return std::nullopt;
    if (!dumps.empty()) {
        if (!print_out(dumps)) return std::nullopt;
    }
    if (options.emit == "ir") return Output{dumps.empty() ? ir::print(*attention) : std::string(), {}};
    const auto arch = gpu_target(options.targets.front());
    if (!arch) return emit_cpu(session, *attention, options);
    nvptx::Options target;
    target.arch = *arch;
    if (!options.dtypes.empty()) target.dtype = dtype_of(options.dtypes.front());
    if (options.head_dim) target.head_dim = target.v_head_dim = options.head_dim;
    if (options.v_head_dim) target.v_head_dim = options.v_head_dim;
    target.allow_tf32 = options.allow_tf32;
    target.short_queries = options.short_queries;
    target.atomic = options.atomic;
    target.instance = options.instance;
    return emit_gpu(session, *attention, target, options);
}

int build(const Options& options) {
    if (options.emit == "header") return header(options);
    Session session;
    const auto output = emit(session, options);
    if (!output) return session.sink.has_errors() ? fail(session, options.input.json) : kInputWrong;
    const std::filesystem::path out = options.out.empty() ? std::filesystem::path(output->default_name) : options.out;
    if (out.empty() || out == "-") {
        const int code = succeed(session, false);
        return print_out(output->bytes) ? code : kInputWrong;
    }
    if (const flex::Status status = io::write_file(out, std::as_bytes(std::span(output->bytes))); !status.ok()) {
        session.sink.report(diag::Kind::cannot_write, {}, out.string(), status.text());
        return fail(session, options.input.json);
    }
    Json facts = {{"emit", options.emit}, {"out", out.string()}, {"bytes", output->bytes.size()}};
    facts.update(output->facts);
    return succeed(session, options.input.json, std::move(facts));
}

}  // namespace

Command add_build(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("build", "Compiles an attention to a file, or prints a stage of its compilation");
    add_file_options(*app, options->input);
    app->add_option("--emit", options->emit, "ast, ir, llvm, asm or ptx as text, an object, a cubin, or a C++ header with an object")
        ->check(CLI::IsMember({"ast", "ir", "llvm", "asm", "obj", "ptx", "cubin", "header"}))
        ->capture_default_str();
    CLI::Option* target =
        app->add_option("--target", options->targets, "cpu, sm_80, which ptx and cubin have by default, or sm_90a; a header takes several");
    target->delimiter(',')->type_name("NAME[,NAME...]")->capture_default_str();
    add_level_option(*app, options->level);
    app->add_option("--head-dim", options->head_dim, "the largest D of q and k on a GPU, 128 if absent; code for the CPU serves every one")
        ->check(CLI::Range(1, 512))
        ->type_name("N");
    app->add_option("--v-head-dim", options->v_head_dim, "of v, if it is another")->check(CLI::Range(1, 512))->type_name("N");
    app->add_option("--dtype", options->dtypes, "element type of q, k, v and o on a GPU, bf16 if absent; a header takes several")
        ->delimiter(',')
        ->check(CLI::IsMember({"f32", "f16", "bf16"}));
    app->add_flag("--allow-tf32", options->allow_tf32, "f32 products on a GPU may be tf32");
    app->add_flag("--short-queries", options->short_queries, "the kernel for few queries: tiles of 16 rows");
    app->add_option("--instance", options->instance,
                    "of a GPU's forward pass: the kernel of this name, such as sm80_bf16_128_128x64; chosen if absent")
        ->type_name("NAME");
    CLI::Option* grad =
        app->add_flag("--grad", options->grad,
                      "with derivatives: in the IR; in an object, the header and CPU code beside the forward pass; as ptx, cubin "
                      "and llvm of a GPU the module of the backward pass, in place of the forward pass's");
    app->add_flag("--atomic", options->atomic, "with --grad, on a GPU: sums by atomic additions, which differ from run to run")
        ->needs(grad);
    app->add_option("--ptxas", options->ptxas, "with --emit=cubin: the assembler; looked for in $PATH and the CUDA toolkit if absent")
        ->type_name("FILE");
    app->add_option("--namespace", options->name_space, "of the header, and the name of its symbols; the attention's name if absent")
        ->check(
            [](const std::string& text) { return is_cpp_namespace(text) ? std::string() : "`" + text + "` cannot name a C++ namespace"; })
        ->type_name("NAME");
    app->add_option(
           "-o", options->out,
           "where it goes; text goes to stdout, an object to NAME.o, a cubin to NAME.cubin, a header to NAME.h and NAME.o, if absent")
        ->type_name("FILE");
    app->add_option("--depfile", options->depfile, "with --emit=header: a Makefile rule that names every file read")->type_name("FILE");
    CLI::Option* all = app->add_flag("--print-after-all", options->print_after_all, "print the IR after lowering and after each pass");
    app->add_option("--print-after", options->print_after, "print the IR after one pass")->type_name("PASS")->excludes(all);
    app->add_flag("--json", options->input.json, "one JSON object on stdout, unless text goes there");
    app->footer(
        "Examples:\n"
        "  flexc build alibi.flex --emit=ir --grad\n"
        "  flexc build alibi.flex --emit=asm --level avx2 -o alibi.s\n"
        "  flexc build alibi.flex --emit=ptx --head-dim 64 --dtype f16 -o alibi.ptx\n"
        "  flexc build alibi.flex --emit=header --target cpu,sm_80,sm_90a -o include/");
    app->parse_complete_callback([options] {
        if (options->dtypes.size() > 1 && options->emit != "header") throw CLI::ValidationError("--dtype", "only a header takes several");
        if (!options->instance.empty() && (options->grad || options->emit == "header"))
            throw CLI::ValidationError("--instance", "it names a kernel of a forward pass, for `ptx`, `cubin` and `llvm`");
        if (options->grad && options->emit == "ast")
            throw CLI::ValidationError("--grad", "derivatives come after the syntax tree: `--emit=ir`");
    });
    return {app, [options, target] {
                std::vector<std::string> once;  // a target given twice is one target
                for (const std::string& each : options->targets)
                    if (std::find(once.begin(), once.end(), each) == once.end()) once.push_back(each);
                options->targets = std::move(once);
                if (target->count() == 0 && (options->emit == "ptx" || options->emit == "cubin")) options->targets = {"sm_80"};
                return build(*options);
            }};
}

}  // namespace flexc::tools
