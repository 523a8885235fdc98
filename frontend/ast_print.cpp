#include <fmt/format.h>

#include "frontend/ast.h"

namespace flexc::ast {

namespace {

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '\n')
            out += "\\n";
        else if (c == '"' || c == '\\')
            out += {'\\', c};
        else
            out += c;
    }
    return out + '"';
}

class Printer {
public:
    std::string run(const File& file) {
        for (const Decl* d : file.decls) decl(*d);
        return std::move(out_);
    }

private:
    // Every node is `open`, its children, `close`; closing brackets gather behind the last child.
    void open(std::string_view head) {
        if (!out_.empty()) out_ += '\n';
        out_.append(indent_ * 2, ' ');
        out_ += '(';
        out_ += head;
        ++indent_;
    }
    void close() {
        out_ += ')';
        if (--indent_ == 0) out_ += '\n';
    }
    void leaf(std::string_view head) {
        open(head);
        close();
    }

    static std::string type(const TypeRef& t) { return t.name.text + (t.is_tensor ? "[]" : ""); }

    void dims(const TypeRef& t) {
        for (const Expr* d : t.dims) {
            open("dim");
            expr(*d);
            close();
        }
    }

    void let(const Let& l) {
        open("let " + l.name.text);
        expr(*l.value);
        close();
    }

    void expr(const Expr& e) {
        switch (e.kind) {
            case ExprKind::IntLiteral: open("int " + e.text); break;
            case ExprKind::FloatLiteral: open("float " + e.text); break;
            case ExprKind::BoolLiteral: open(e.value ? "true" : "false"); break;
            case ExprKind::Name: open("name " + e.text); break;
            case ExprKind::Unary: open(fmt::format("unary {}", text(e.unary))); break;
            case ExprKind::Binary: open(fmt::format("binary {}", text(e.binary))); break;
            case ExprKind::Chain: {
                std::string head = "compare";
                for (const CompareOp op : e.chain) head += fmt::format(" {}", text(op));
                open(head);
                break;
            }
            case ExprKind::If: open("if"); break;
            case ExprKind::Call: open("call " + e.text); break;
            case ExprKind::Index: open("index"); break;
            case ExprKind::Slice: open("slice"); break;
            case ExprKind::Reduce: open(fmt::format("reduce {} {}", e.text, e.variable.text)); break;
            case ExprKind::Block: open("block"); break;
            case ExprKind::Pipe: open("pipe"); break;
        }
        for (const Let& l : e.lets) let(l);
        for (const Expr* a : e.args) expr(*a);
        for (const NamedArg& a : e.named) {
            open("named " + a.name.text);
            expr(*a.value);
            close();
        }
        close();
    }

    void param(const ParamDecl& p) {
        open(fmt::format("param {}:{}{} {}", p.name.text, p.is_const ? " const" : "", p.is_grad ? " grad" : "", type(p.type)));
        dims(p.type);
        if (p.default_value) {
            open("default");
            expr(*p.default_value);
            close();
        }
        close();
    }

    void clause(const Clause& c) {
        std::string head = fmt::format("clause {}", text(c.kind));
        if (c.kind == ClauseKind::Normalize) head += ' ' + c.normalize.text;
        if (c.kind == ClauseKind::Emit) head += fmt::format(" {} {}", c.emit_name.text, c.emit_kind.text);
        open(head);
        if (c.value) expr(*c.value);
        close();
    }

    void decl(const Decl& d) {
        switch (d.kind) {
            case DeclKind::Import: open("import " + (d.import_is_path ? quoted(d.name.text) : d.name.text)); break;
            case DeclKind::Const: open(fmt::format("const {}: {}", d.name.text, type(d.type))); break;
            case DeclKind::Fn: open(fmt::format("fn {} -> {}", d.name.text, type(d.type))); break;
            case DeclKind::Mask: open("mask " + d.name.text); break;
            case DeclKind::Score: open("score " + d.name.text); break;
            case DeclKind::Attention: open("attention " + d.name.text); break;
        }
        if (!d.doc.empty()) leaf("doc " + quoted(d.doc));
        for (const ParamDecl& p : d.params) param(p);
        dims(d.type);
        if (d.body) expr(*d.body);
        // Lets and clauses in the order of the text.
        size_t next = 0;
        for (const Clause& c : d.clauses) {
            while (next < d.lets.size() && d.lets[next].span.begin < c.span.begin) let(d.lets[next++]);
            clause(c);
        }
        while (next < d.lets.size()) let(d.lets[next++]);
        close();
    }

    std::string out_;
    size_t indent_ = 0;
};

}  // namespace

std::string print(const File& file) {
    return Printer().run(file);
}

}  // namespace flexc::ast
