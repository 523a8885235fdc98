// The open documents, and what the frontend makes of them. A document is analysed when it is asked about after a change, not before.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "frontend/query.h"
#include "lsp/text.h"

namespace flexc::lsp {

/// A file with its imports, parsed and checked; its own texts, so that it stays true while documents change.
struct Analysis {
    diag::SourceManager sources;
    diag::Sink sink;
    diag::Sink lowering;  // what lowering finds in a program without errors
    diag::FileId main = 0;
    std::unique_ptr<frontend::Program> program;
    std::unique_ptr<frontend::NameIndex> names;

    [[nodiscard]] std::string_view text(diag::FileId file) const { return sources.file(file).text(); }
    [[nodiscard]] const LineIndex& lines(diag::FileId file) const;

private:
    mutable std::map<diag::FileId, LineIndex> lines_;
};

struct Document {
    std::string uri;
    std::string name;  // its path, or the URI if it has none
    Json version;
    std::string text;
    LineIndex lines;
    std::shared_ptr<const Analysis> analysis;  // null: changed since
    bool unpublished = true;
};

class Workspace {
public:
    /// `library_folder`: where files of the standard library are written to, to be looked at; may be empty.
    explicit Workspace(std::filesystem::path library_folder) : library_folder_(std::move(library_folder)) {}

    Encoding encoding = Encoding::Utf16;
    bool links_codes = false;  // the client follows a link from the code of a diagnostic

    Document& open(const std::string& uri, std::string text, Json version);
    void close(const std::string& uri);
    [[nodiscard]] Document* find(const std::string& uri);
    [[nodiscard]] std::map<std::string, Document>& all() { return documents_; }
    /// A document's new text; what imports it is analysed anew as well.
    void change(Document& document, std::string text, Json version);
    /// Files changed on disk.
    void forget_analyses();

    const Analysis& analysis(Document& document);
    /// The same for a text that is not (yet) the document's.
    [[nodiscard]] std::shared_ptr<const Analysis> analyse(const std::string& name, const std::string& text) const;

    /// The URI of a file of an analysis. Files of the standard library are written out; empty if that fails.
    [[nodiscard]] std::string uri(const Analysis& analysis, diag::FileId file) const;
    /// The URI of a page on a kind of diagnostic, written out at the first call; empty if that fails.
    [[nodiscard]] std::string explanation_uri(const diag::KindInfo& kind);
    [[nodiscard]] Json range(const Analysis& analysis, diag::Span span) const;
    /// Null if the file has no URI.
    [[nodiscard]] Json location(const Analysis& analysis, diag::Span span) const;

private:
    std::filesystem::path library_folder_;
    std::map<std::string, Document> documents_;        // by URI
    std::map<std::string, std::string> explanations_;  // URI by code
};

}  // namespace flexc::lsp
