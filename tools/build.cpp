// flexc build: any stage of the compilation as text, or the object file.
#include <memory>
#include <span>

#include "driver/cpp_header.h"
#include "frontend/parse.h"
#include "ir/passes.h"
#include "tools/build_header.h"
#include "tools/cli.h"
#include "tools/execute.h"
#include "tools/io/atomic_file.h"

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
    bool allow_tf32 = false;
    std::string name_space;
    std::filesystem::path out, depfile;
};

/// IR after each pass, under a heading, when it changed.
std::optional<ir::Attention> lower(Session& session, const Options& options, const std::string& name, const frontend::ConstValues& consts,
                                   std::string* dumps) {
    if (!options.print_after_all && options.print_after.empty()) return session.lower(name, consts);
    auto attention = frontend::lower(session.program(), name, consts, session.sink);
    if (!attention) return std::nullopt;
    const auto dump = [&](std::string_view pass, const ir::Attention& now) {
        if (options.print_after_all || options.print_after == pass) *dumps += "# after " + std::string(pass) + "\n" + ir::print(now) + "\n";
    };
    dump("lower", *attention);
    ir::optimise(*attention, dump);
    return attention;
}

bool check_pass(Session& session, const std::string& pass) {
    std::vector<std::string> names = {"lower"};
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

int header(const Options& options) {
    Session session;
    HeaderOptions wanted;
    wanted.link = {options.name_space, options.targets, {}, options.head_dim, options.v_head_dim, options.allow_tf32};
    for (const std::string& dtype : options.dtypes)
        wanted.link.dtypes.push_back(dtype == "f32" ? flex::DType::F32 : dtype == "f16" ? flex::DType::F16 : flex::DType::BF16);
    wanted.out = options.out;
    wanted.depfile = options.depfile;
    wanted.json = options.input.json;
    if (!session.open(options.input.file)) return fail(session, wanted.json);
    const auto name = session.choose(options.input.name);
    if (!name) return fail(session, wanted.json);
    const auto attention = session.lower(*name, const_values(options));
    return attention ? build_header(session, *attention, wanted) : fail(session, wanted.json);
}

/// The bytes to write; nothing after a report.
std::optional<std::string> emit(Session& session, const Options& options, std::string* default_name) {
    const std::string& target_name = options.targets.front();
    if (options.targets.size() > 1 || target_name != "cpu") {
        session.sink.report(diag::Kind::no_emit, {}, options.emit, options.targets.size() > 1 ? options.targets[1] : target_name)
            .help("it has the target `cpu`");
        return std::nullopt;
    }
    if (options.emit == "ptx" || options.emit == "cubin") {
        session.sink.report(diag::Kind::no_emit, {}, options.emit, target_name).help("it can emit `ast`, `ir`, `llvm`, `asm` and `obj`");
        return std::nullopt;
    }
    if (!check_pass(session, options.print_after) || !session.open(options.input.file)) return std::nullopt;
    if (options.emit == "ast") {
        diag::Sink again;  // the same file parsed a second time reports nothing new
        return ast::print(*frontend::parse(session.sources, 0, again));
    }
    const auto name = session.choose(options.input.name);
    if (!name) return std::nullopt;
    std::string dumps;
    const auto attention = lower(session, options, *name, const_values(options), &dumps);
    if (!attention) return std::nullopt;
    if (!dumps.empty()) {
        if (!print_out(dumps)) return std::nullopt;
    }
    if (options.emit == "ir") return dumps.empty() ? ir::print(*attention) : std::string();

    if (const auto unsupported = cpu::unsupported_clauses(*attention); !unsupported.empty()) {
        std::string list;
        for (const std::string& clause : unsupported) list += (list.empty() ? "`" : ", `") + clause + "`";
        session.sink.report(diag::Kind::unsupported_clause, {}, list, *name, std::string("cpu"))
            .help("`flexc run --device interp` has every clause");
        return std::nullopt;
    }
    const cpu::Options target{options.level.value_or(flex::host_level())};
    if (options.emit == "llvm") return cpu::emit_llvm(*attention, target);
    if (options.emit == "asm") return cpu::emit_asm(*attention, target);
    *default_name = *name + ".o";
    const std::vector<char> object = cpu::compile_object(*attention, target, nullptr);
    return std::string(object.begin(), object.end());
}

int build(const Options& options) {
    if (options.emit == "header") return header(options);
    Session session;
    std::string default_name;
    const auto bytes = emit(session, options, &default_name);
    if (!bytes) return session.sink.has_errors() ? fail(session, options.input.json) : kInputWrong;
    const std::filesystem::path out = options.out.empty() ? std::filesystem::path(default_name) : options.out;
    if (out.empty() || out == "-") {
        const int code = succeed(session, false);
        return print_out(*bytes) ? code : kInputWrong;
    }
    if (const flex::Status status = io::write_file(out, std::as_bytes(std::span(*bytes))); !status.ok()) {
        session.sink.report(diag::Kind::cannot_write, {}, out.string(), status.text());
        return fail(session, options.input.json);
    }
    return succeed(session, options.input.json, {{"emit", options.emit}, {"out", out.string()}, {"bytes", bytes->size()}});
}

}  // namespace

Command add_build(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("build", "Compiles an attention to a file, or prints a stage of its compilation");
    add_file_options(*app, options->input);
    app->add_option("--emit", options->emit, "ast, ir, llvm or asm as text, an object, or a C++ header with an object")
        ->check(CLI::IsMember({"ast", "ir", "llvm", "asm", "obj", "ptx", "cubin", "header"}))
        ->capture_default_str();
    app->add_option("--target", options->targets, "what to compile for; a header takes several")
        ->delimiter(',')
        ->type_name("NAME[,NAME...]")
        ->capture_default_str();
    add_level_option(*app, options->level);
    app->add_option("--head-dim", options->head_dim, "D of q and k; code for the CPU serves every one")
        ->check(CLI::Range(1, 512))
        ->type_name("N");
    app->add_option("--v-head-dim", options->v_head_dim, "D of v, likewise")->check(CLI::Range(1, 512))->type_name("N");
    app->add_option("--dtype", options->dtypes, "element type of q, k, v and o, likewise; a header takes several")
        ->delimiter(',')
        ->check(CLI::IsMember({"f32", "f16", "bf16"}));
    app->add_flag("--allow-tf32", options->allow_tf32, "f32 products on a GPU may be tf32");
    app->add_option("--namespace", options->name_space, "of the header, and the name of its symbols; the attention's name if absent")
        ->check(
            [](const std::string& text) { return is_cpp_namespace(text) ? std::string() : "`" + text + "` cannot name a C++ namespace"; })
        ->type_name("NAME");
    app->add_option("-o", options->out, "where it goes; text goes to stdout, an object to NAME.o, a header to NAME.h and NAME.o, if absent")
        ->type_name("FILE");
    app->add_option("--depfile", options->depfile, "with --emit=header: a Makefile rule that names every file read")->type_name("FILE");
    CLI::Option* all = app->add_flag("--print-after-all", options->print_after_all, "print the IR after lowering and after each pass");
    app->add_option("--print-after", options->print_after, "print the IR after one pass")->type_name("PASS")->excludes(all);
    app->add_flag("--json", options->input.json, "one JSON object on stdout, unless text goes there");
    app->footer(
        "Examples:\n"
        "  flexc build alibi.flex --emit=ir\n"
        "  flexc build alibi.flex --emit=asm --level avx2 -o alibi.s\n"
        "  flexc build alibi.flex --emit=header --target cpu -o include/");
    return {app, [options] { return build(*options); }};
}

}  // namespace flexc::tools
