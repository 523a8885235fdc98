// lower(): the values of constant parameters, the captured parameters, then each clause.
#include <algorithm>

#include <fmt/format.h>

#include "diag/check.h"
#include "frontend/lower_eval.h"
#include "frontend/sema_const.h"
#include "frontend/sema_decl.h"
#include "ir/passes.h"

namespace flexc::frontend {

using namespace sema;
using diag::Kind;

namespace {

using Constants = std::unordered_map<const Param*, Value>;

bool read_constants(const Decl& decl, const ConstValues& given, diag::Sink& sink, Constants& out) {
    bool ok = true;
    for (const auto& [id, text] : given) {
        const auto found = decl.param_index.find(id);
        if (found != decl.param_index.end() && decl.params[found->second].is_const) continue;
        auto& d = sink.report(Kind::const_unknown, std::nullopt, decl.name, id);
        ok = false;
        if (found != decl.param_index.end()) {
            d.help(fmt::format("`{}` is bound at launch; declare it `const {}: ...` to fix it when compiling", id, id))
                .note("it is declared here", decl.params[found->second].span);
            continue;
        }
        std::vector<std::string> names;
        for (const Param& p : decl.params)
            if (p.is_const) names.push_back(p.name);
        const std::string near = diag::nearest(id, names);
        if (!near.empty()) d.help(fmt::format("did you mean `{}`?", near));
    }
    for (const Param& p : decl.params) {
        if (!p.is_const) continue;
        if (const auto text = given.find(p.name); text != given.end()) {
            const std::optional<Value> value = parse_value(text->second, p.type);
            if (!value) {
                auto& d = sink.report(Kind::const_invalid, p.span, text->second, p.name, name(p.type));
                if (p.type == Type::Bool) d.help("it is `true` or `false`");
                ok = false;
                continue;
            }
            out[&p] = *value;
        } else if (p.default_value) {
            out[&p] = *p.default_value;
        } else {
            sink.report(Kind::const_missing, p.span, p.name, decl.name)
                .help(fmt::format("give it with `-D {}=VALUE`, or write a default: `const {}: {} = ...`", p.name, p.name, name(p.type)));
            ok = false;
        }
    }
    return ok;
}

bool capture_parameters(const Decl& decl, const Constants& constants, ir::Attention& result, diag::Sink& sink) {
    result.extents = decl.free_extents;
    for (const Param& p : decl.params) {
        if (p.is_const) continue;
        ir::Param out;
        out.name = p.name;
        out.is_tensor = p.kind == Param::Kind::Tensor;
        out.type = to_ir(p.type);
        out.elem = p.elem;
        out.dims = p.dims;
        out.grad = p.grad;
        if (p.default_value) out.default_bits = p.default_value->bits;
        if (p.has_const_dims) {
            const auto value = [&](const Param& c) { return std::optional(static_cast<int32_t>(constants.at(&c).bits)); };
            std::vector<std::string> free = decl.free_extents;
            const auto dims = read_dims(decl, p.syntax->type, value, free, sink, nullptr);
            if (!dims) return false;
            out.dims = *dims;
        }
        result.params.push_back(std::move(out));
    }
    return true;
}

}  // namespace

std::optional<ir::Attention> lower(const Program& program, const std::string& attention, const ConstValues& consts, diag::Sink& sink) {
    const Program::Impl& impl = program.impl();
    const Module& main = impl.modules.front();
    const auto found = std::find_if(main.decls.begin(), main.decls.end(),
                                    [&](const Decl* d) { return d->kind == ast::DeclKind::Attention && d->name == attention; });
    if (found == main.decls.end()) {
        sink.report(Kind::unknown_attention, std::nullopt, main.display, attention);
        return std::nullopt;
    }
    const Decl& decl = **found;
    Constants constants;
    if (!read_constants(decl, consts, sink, constants)) return std::nullopt;

    std::optional<ir::Attention> attempt(std::in_place);
    ir::Attention& result = *attempt;
    result.name = decl.name;
    result.doc = decl.syntax->doc;
    if (!capture_parameters(decl, constants, result, sink)) return std::nullopt;

    Lowering lowering(decl, result, sink);
    lowering.bind(constants);
    const Environment base = lowering.base_environment();
    const AttentionBody& body = decl.attention;
    bool ok = true;
    const auto clause = [&](const Node* tree, const Environment& environment) {
        if (!tree || !ok) return ir::NodeId{};
        const ir::NodeId value = lowering.clause(tree, environment);
        ok = value.valid();
        return value;
    };
    result.scale = clause(body.scale, base);
    result.score = body.score ? clause(body.score, base) : result.graph.score();
    result.mask = body.mask ? clause(body.mask, base) : result.graph.boolean(true);
    result.normalize = body.normalize;
    result.sink = clause(body.sink, base);
    result.output = clause(body.output, base);
    result.query = clause(body.query, base);
    result.key = clause(body.key, base);
    if (ok) {
        Environment final = base;  // an emit sees the score as the score clause leaves it
        final.slots[static_cast<size_t>(Slot::Score)] = result.score;
        for (const AttentionBody::Emit& e : body.emits) result.emits.push_back({e.name, e.kind, clause(e.value, final)});
    }
    if (!ok) return std::nullopt;
    if (body.blocks) {
        uint32_t position = 0;
        for (uint32_t i = 0; i < *body.blocks; ++i) position += !decl.params[i].is_const;
        result.blocks = position;
    }

    const std::string fault = ir::verify(result);
    FLEX_CHECK(fault.empty(), fault.c_str());
    const auto warn_of_division = [&](const Node* clause, std::string_view what, ir::NodeId root) {
        if (clause && divides_by_zero(result, root))
            sink.report(Kind::division_by_zero, clause->span, what, decl.name)
                .help("a quotient of `f32` is then infinite or NaN, `//` and `%` of `i32` give 0");
    };
    warn_of_division(body.score, "score", result.score);
    warn_of_division(body.mask, "mask", result.mask);
    if (body.mask) {
        if (const auto constant = constant_mask(result)) {
            if (*constant)
                sink.report(Kind::mask_always_true, body.mask->span, decl.name);
            else
                sink.report(Kind::mask_always_false, body.mask->span, decl.name);
        }
    }
    return attempt;
}

}  // namespace flexc::frontend
