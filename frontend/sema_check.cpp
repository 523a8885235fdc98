// check(): files, names, signatures, bodies, in that order.
#include "frontend/imports.h"
#include "frontend/query.h"
#include "frontend/sema_body.h"
#include "frontend/sema_const.h"
#include "frontend/sema_decl.h"

namespace flexc::frontend {

using namespace sema;

namespace {

void check_declaration(const Context& context, Decl& decl) {
    if (decl.broken) return;
    resolve_signature(context, decl);
    if (decl.broken) return;
    const Surroundings surroundings = decl.kind == ast::DeclKind::Const ? Surroundings::Constant
                                      : decl.kind == ast::DeclKind::Fn  ? Surroundings::Function
                                                                        : Surroundings::Indices;
    BodyChecker checker(context, decl, surroundings);
    if (decl.kind == ast::DeclKind::Attention) {
        checker.attention();
    } else if (decl.syntax->body && !(decl.kind == ast::DeclKind::Fn && decl.syntax->type.is_tensor)) {
        decl.body = checker.body(*decl.syntax->body, decl.result);
        if (decl.kind == ast::DeclKind::Const && decl.result != Type::Error && decl.body->type == decl.result)
            decl.constant = evaluate_constant(decl.body, context.sink);
        if (decl.kind == ast::DeclKind::Mask && !checker.mask_reads_no_score(decl.body)) decl.broken = true;
    }
}

}  // namespace

namespace {

/// The checked program, whatever errors were reported.
std::unique_ptr<Program> run(diag::SourceManager& sources, diag::FileId main_file, const ImportResolver& imports, diag::Sink& sink,
                             double* parse_seconds) {
    auto impl = std::make_unique<Program::Impl>();
    impl->sources = &sources;
    const Context context{*impl, sink};

    std::vector<Module*> modules;
    const double parsing = load_modules(*impl, main_file, imports, sink, modules);
    if (parse_seconds) *parse_seconds = parsing;
    Clashes clashes;
    for (Module* m : modules) collect_declarations(context, *m, clashes);
    for (Decl* d : dependency_order(context)) check_declaration(context, *d);
    if (!sink.has_errors())
        for (const Decl& d : impl->decls) report_unused(d, sink);

    for (const Decl* d : impl->modules.front().decls) {
        if (d->kind != ast::DeclKind::Attention) continue;
        Program::AttentionInfo info;
        info.name = d->name;
        info.doc = d->syntax->doc;
        info.span = d->syntax->name.span;
        for (const Param& p : d->params)
            if (p.is_const) info.const_params.push_back(p.name);
        impl->attentions.push_back(std::move(info));
    }
    return std::make_unique<Program>(std::move(impl));
}

}  // namespace

std::unique_ptr<Program> check(diag::SourceManager& sources, diag::FileId main_file, const ImportResolver& imports, diag::Sink& sink,
                               double* parse_seconds) {
    std::unique_ptr<Program> program = run(sources, main_file, imports, sink, parse_seconds);
    return sink.has_errors() ? nullptr : std::move(program);
}

std::unique_ptr<Program> analyse(diag::SourceManager& sources, diag::FileId main_file, const ImportResolver& imports, diag::Sink& sink) {
    return run(sources, main_file, imports, sink, nullptr);
}

Program::Program(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Program::~Program() = default;
const std::vector<Program::AttentionInfo>& Program::attentions() const {
    return impl_->attentions;
}
const std::vector<std::string>& Program::files() const {
    return impl_->files;
}

}  // namespace flexc::frontend
