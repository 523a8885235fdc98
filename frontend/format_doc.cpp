#include "frontend/format_doc.h"

#include <algorithm>

namespace flexc::frontend {

namespace {

/// In code points.
uint32_t width_of(std::string_view text) {
    return static_cast<uint32_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

class Printer {
public:
    explicit Printer(uint32_t max_width) : max_width_(max_width) {}

    /// `trailing`: the width of what follows the document up to the next line.
    void print(const Doc& d, uint32_t indent, bool broken, uint32_t trailing) {
        switch (d.kind) {
            case Doc::Kind::Text: put(d.text); break;
            case Doc::Kind::IfBroken:
                if (broken) put(d.text);
                break;
            case Doc::Kind::Comment: comment_ = d.text; break;
            case Doc::Kind::Line:
                if (broken || d.hard)
                    newline(indent, d.blank);
                else if (d.spaced)
                    put(" ");
                break;
            case Doc::Kind::Group: {
                const bool breaks = broken && (d.hard || column_ + d.width + trailing > max_width_);
                parts(d, indent, breaks, trailing);
                break;
            }
            case Doc::Kind::Indent: parts(d, indent + kIndentWidth, broken, trailing); break;
            case Doc::Kind::Concat: parts(d, indent, broken, trailing); break;
        }
    }

    std::string finish() {
        if (!out_.empty() || !comment_.empty()) newline(0, false);
        return std::move(out_);
    }

private:
    void parts(const Doc& d, uint32_t indent, bool broken, uint32_t trailing) {
        if (!broken) {  // nothing is decided below
            for (const Doc* part : d.parts) print(*part, indent, false, 0);
            return;
        }
        std::vector<uint32_t> after(d.parts.size());
        uint32_t rest = trailing;
        for (size_t i = d.parts.size(); i-- > 0;) {
            after[i] = rest;
            const Doc& part = *d.parts[i];
            if (part.kind == Doc::Kind::IfBroken)
                rest += width_of(part.text);
            else
                rest = part.has_line ? part.lead : part.width + rest;
        }
        for (size_t i = 0; i < d.parts.size(); ++i) print(*d.parts[i], indent, true, after[i]);
    }

    void put(std::string_view text) {
        if (text.empty()) return;
        if (at_line_start_ && text != " ") {
            out_.append(indent_, ' ');
            column_ = indent_;
            at_line_start_ = false;
        }
        if (at_line_start_) return;
        out_ += text;
        column_ += width_of(text);
    }

    void newline(uint32_t indent, bool blank) {
        while (out_.ends_with(' ')) out_.pop_back();
        if (!comment_.empty()) {
            if (!at_line_start_)
                out_ += "  ";
            else
                out_.append(indent_, ' ');
            out_ += comment_;
            comment_ = {};
            at_line_start_ = false;
        }
        if (!at_line_start_) out_ += '\n';
        if (blank && !out_.empty() && !out_.ends_with("\n\n")) out_ += '\n';
        at_line_start_ = true;
        indent_ = indent;
        column_ = indent;
    }

    uint32_t max_width_;
    std::string out_;
    std::string_view comment_;
    uint32_t column_ = 0;
    uint32_t indent_ = 0;
    bool at_line_start_ = true;
};

}  // namespace

Doc* DocArena::text(std::string_view text) {
    Doc* d = make(Doc::Kind::Text);
    d->text = text;
    d->width = d->lead = width_of(text);
    return d;
}

Doc* DocArena::line(bool spaced) {
    Doc* d = make(Doc::Kind::Line);
    d->spaced = spaced;
    d->width = spaced;
    d->has_line = true;
    return d;
}

Doc* DocArena::finish(Doc* d) {
    for (const Doc* part : d->parts) {
        if (!d->has_line) d->lead += part->has_line ? part->lead : part->width;
        d->has_line |= part->has_line;
        d->hard |= part->hard;
        d->width += part->width;
    }
    return d;
}

std::string print_doc(const Doc& root, uint32_t max_width) {
    Printer printer(max_width);
    printer.print(root, 0, true, 0);
    return printer.finish();
}

}  // namespace flexc::frontend
