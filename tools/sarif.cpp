#include "tools/sarif.h"

#include <set>

#include "diag/explanations.h"

namespace flexc::tools {

namespace {

Json region(const diag::SourceFile& file, const diag::Span& span) {
    const diag::LineColumn begin = file.position(span.begin), end = file.position(span.end);
    return {{"startLine", begin.line}, {"startColumn", begin.column}, {"endLine", end.line}, {"endColumn", end.column}};
}

Json location(const Session& session, const diag::Span& span) {
    const diag::SourceFile& file = session.sources.file(span.file);
    return {{"physicalLocation", {{"artifactLocation", {{"uri", file.name()}}}, {"region", region(file, span)}}}};
}

}  // namespace

Json sarif_results(const Session& session, const std::string& path) {
    Json results = Json::array();
    for (const diag::Diagnostic& diagnostic : session.sink.all()) {
        const diag::KindInfo& info = diag::info(diagnostic.kind);
        std::string text = diagnostic.message;
        Json related = Json::array();
        for (const diag::Note& note : diagnostic.notes) {
            if (!note.span) {
                text += "\n" + note.text;
                continue;
            }
            Json place = location(session, *note.span);
            place["message"] = {{"text", note.text}};
            related.push_back(std::move(place));
        }
        Json result = {{"ruleId", info.code},
                       {"level", diagnostic.level == diag::Level::Error ? "error" : "warning"},
                       {"message", {{"text", text}}},
                       {"locations", Json::array({diagnostic.span ? location(session, *diagnostic.span)
                                                                  : Json{{"physicalLocation", {{"artifactLocation", {{"uri", path}}}}}}})}};
        if (!related.empty()) result["relatedLocations"] = std::move(related);
        for (const diag::Fix& fix : diagnostic.fixes) {
            const diag::SourceFile& file = session.sources.file(fix.span.file);
            const Json replacement = {{"deletedRegion", region(file, fix.span)}, {"insertedContent", {{"text", fix.replacement}}}};
            const Json change = {{"artifactLocation", {{"uri", file.name()}}}, {"replacements", Json::array({replacement})}};
            result["fixes"].push_back({{"artifactChanges", Json::array({change})}});
        }
        results.push_back(std::move(result));
    }
    return results;
}

Json sarif_log(Json results) {
    std::set<std::string> used;
    for (const Json& result : results) used.insert(result["ruleId"].get<std::string>());
    Json rules = Json::array();
    for (const diag::KindInfo& kind : diag::all_kinds()) {
        if (!used.contains(std::string(kind.code))) continue;
        std::string text;
        for (const std::string& paragraph : diag::explanation(kind).paragraphs) text += (text.empty() ? "" : "\n\n") + paragraph;
        rules.push_back({{"id", kind.code}, {"name", kind.name}, {"fullDescription", {{"text", text}}}});
    }
    const Json driver = {{"name", "flexc"}, {"rules", rules}};
    const Json run = {{"tool", {{"driver", driver}}}, {"columnKind", "unicodeCodePoints"}, {"results", std::move(results)}};
    return {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"}, {"version", "2.1.0"}, {"runs", Json::array({run})}};
}

}  // namespace flexc::tools
