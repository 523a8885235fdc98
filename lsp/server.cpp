#include "lsp/server.h"

#include <unordered_map>

#include "lsp/connection.h"
#include "lsp/tokens.h"

namespace flexc::lsp {

namespace {

// Error codes of JSON-RPC and the protocol.
enum Error : int {
    kParse = -32700,
    kInvalidRequest = -32600,
    kNoMethod = -32601,
    kInvalidParams = -32602,
    kInternal = -32603,
    kNotInitialized = -32002,
    kRequestFailed = -32803
};

struct Fault {
    int code;
    std::string text;
};

class Server {
public:
    Server(Connection& connection, const ServerOptions& options)
        : connection_(connection), options_(options), workspace_(options.library_folder) {
        bind();
    }

    int run() {
        Json message;
        while (!exit_) {
            const Connection::Received received = connection_.read(message);
            if (received == Connection::Received::End) return shutdown_ ? 0 : 1;
            if (received == Connection::Received::Malformed)
                respond(nullptr, Fault{kParse, message.get<std::string>()});
            else
                handle(message);
            if (broken_) return 1;
            if (!connection_.pending()) publish();
        }
        return shutdown_ ? 0 : 1;
    }

private:
    using Handler = Json (Server::*)(const Json&);
    std::unordered_map<std::string, Handler> requests_, notifications_;

    void bind() {
        requests_ = {{"initialize", &Server::initialize},
                     {"shutdown", &Server::shutdown},
                     {"textDocument/hover", &Server::on_hover},
                     {"textDocument/definition", &Server::on_definition},
                     {"textDocument/references", &Server::on_references},
                     {"textDocument/documentHighlight", &Server::on_highlight},
                     {"textDocument/completion", &Server::on_completion},
                     {"textDocument/signatureHelp", &Server::on_signature},
                     {"textDocument/documentSymbol", &Server::on_symbols},
                     {"textDocument/foldingRange", &Server::on_folding},
                     {"textDocument/semanticTokens/full", &Server::on_tokens},
                     {"textDocument/semanticTokens/range", &Server::on_tokens},
                     {"textDocument/formatting", &Server::on_formatting},
                     {"textDocument/codeAction", &Server::on_code_action},
                     {"textDocument/prepareRename", &Server::on_prepare_rename},
                     {"textDocument/rename", &Server::on_rename}};
        notifications_ = {{"initialized", &Server::ignore},
                          {"exit", &Server::exit},
                          {"textDocument/didOpen", &Server::did_open},
                          {"textDocument/didChange", &Server::did_change},
                          {"textDocument/didClose", &Server::did_close},
                          {"textDocument/didSave", &Server::did_save},
                          {"workspace/didChangeWatchedFiles", &Server::did_save}};
    }

    void send(const Json& message) { broken_ |= !connection_.write(message); }
    void respond(const Json& id, const Fault& fault) {
        send({{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", fault.code}, {"message", fault.text}}}});
    }
    void notify(const char* method, Json params) { send({{"jsonrpc", "2.0"}, {"method", method}, {"params", std::move(params)}}); }

    void handle(const Json& message) {
        if (!message.is_object()) return respond(nullptr, Fault{kInvalidRequest, "a message is one object"});
        const auto id = message.find("id");
        const bool is_request = id != message.end();
        const auto method = message.find("method");
        if (method == message.end()) {
            // An answer; the server asks nothing.
            if (!message.contains("result") && !message.contains("error"))
                respond(is_request ? *id : Json(), Fault{kInvalidRequest, "the message has no method"});
            return;
        }
        if (!method->is_string() || (is_request && !id->is_string() && !id->is_number_integer()))
            return respond(nullptr, Fault{kInvalidRequest, "the message has no valid method or id"});
        const auto& table = is_request ? requests_ : notifications_;
        const auto name = method->get<std::string>();
        const auto found = table.find(name);
        Json result;
        std::optional<Fault> fault;
        if (is_request && shutdown_)
            fault = Fault{kInvalidRequest, "the server has shut down"};
        else if (is_request && !initialized_ && name != "initialize")
            fault = Fault{kNotInitialized, "the first request is `initialize`"};
        else if (found == table.end())
            fault = Fault{kNoMethod, "there is no method `" + name + "`"};
        else if (!initialized_ && !is_request && name != "exit")
            return;  // as the protocol says
        else
            try {
                const auto params = message.find("params");
                result = (this->*found->second)(params == message.end() ? Json::object() : *params);
            } catch (const Refused& refused) {
                fault = Fault{kRequestFailed, refused.what()};
            } catch (const Json::exception& error) {
                fault = Fault{kInvalidParams, "the parameters of `" + name + "` are not as expected: " + error.what()};
            } catch (const Fault& thrown) {
                fault = thrown;
            } catch (const std::exception& error) {
                fault = Fault{kInternal, error.what()};
            }
        if (is_request) {
            if (fault)
                respond(*id, *fault);
            else
                send({{"jsonrpc", "2.0"}, {"id", *id}, {"result", std::move(result)}});
        } else if (fault && fault->code != kNoMethod) {
            notify("window/logMessage", {{"type", 1}, {"message", fault->text}});
        }
    }

    // ---- life ----

    Json initialize(const Json& params) {
        if (initialized_) throw Fault{kInvalidRequest, "`initialize` comes once"};
        initialized_ = true;
        const Json capabilities = params.value("capabilities", Json::object());
        const auto at = [&](const char* pointer) { return capabilities.value(Json::json_pointer(pointer), Json()); };
        std::string encoding = "utf-16";
        const Json offered = at("/general/positionEncodings");
        if (offered.is_array())
            for (const char* wanted : {"utf-16", "utf-32", "utf-8"})  // the last that is offered is taken
                for (const Json& each : offered)
                    if (each == wanted) encoding = wanted;
        workspace_.encoding = encoding == "utf-8" ? Encoding::Utf8 : encoding == "utf-32" ? Encoding::Utf32 : Encoding::Utf16;
        workspace_.links_codes = at("/textDocument/publishDiagnostics/codeDescriptionSupport") == true;
        snippets_ = at("/textDocument/completion/completionItem/snippetSupport") == true;
        Json provided = {{"positionEncoding", encoding},
                         {"textDocumentSync", {{"openClose", true}, {"change", 2}, {"save", true}}},
                         {"hoverProvider", true},
                         {"definitionProvider", true},
                         {"referencesProvider", true},
                         {"documentHighlightProvider", true},
                         {"foldingRangeProvider", true},
                         {"semanticTokensProvider", {{"legend", token_legend()}, {"full", true}, {"range", true}}},
                         {"completionProvider", {{"triggerCharacters", {"[", ">", ":", "="}}}},
                         {"signatureHelpProvider", {{"triggerCharacters", {"(", ","}}}},
                         {"documentSymbolProvider", true},
                         {"documentFormattingProvider", true},
                         {"codeActionProvider", {{"codeActionKinds", {"quickfix"}}}},
                         {"renameProvider", {{"prepareProvider", true}}}};
        return {{"capabilities", provided}, {"serverInfo", {{"name", "flexc"}, {"version", options_.version}}}};
    }
    Json shutdown(const Json&) {
        shutdown_ = true;
        return nullptr;
    }
    Json exit(const Json&) {
        exit_ = true;
        return nullptr;
    }
    Json ignore(const Json&) { return nullptr; }

    // ---- documents ----

    Json did_open(const Json& params) {
        const Json& d = params.at("textDocument");
        workspace_.open(d.at("uri").get<std::string>(), d.at("text").get<std::string>(), d.value("version", Json()));
        return nullptr;
    }
    Json did_change(const Json& params) {
        Document& d = document(params);
        std::string text = d.text;
        LineIndex lines = d.lines;
        for (const Json& change : params.at("contentChanges")) {
            const auto& replacement = change.at("text").get_ref<const std::string&>();
            if (const auto range = change.find("range"); range != change.end() && !range->is_null()) {
                const uint32_t begin = offset_in(text, lines, range->at("start")), end = offset_in(text, lines, range->at("end"));
                text.replace(std::min(begin, end), std::max(begin, end) - std::min(begin, end), replacement);
            } else {
                text = replacement;
            }
            lines = LineIndex(text);
        }
        workspace_.change(d, std::move(text), params.at("textDocument").value("version", Json()));
        return nullptr;
    }
    Json did_close(const Json& params) {
        const std::string uri = document(params).uri;
        workspace_.close(uri);
        notify("textDocument/publishDiagnostics", {{"uri", uri}, {"diagnostics", Json::array()}});
        return nullptr;
    }
    Json did_save(const Json&) {
        workspace_.forget_analyses();
        return nullptr;
    }

    void publish() {
        for (auto& [uri, d] : workspace_.all()) {
            if (!d.unpublished) continue;
            d.unpublished = false;
            Json params = {{"uri", uri}, {"diagnostics", diagnostics(workspace_, d)}};
            if (d.version.is_number_integer()) params["version"] = d.version;
            notify("textDocument/publishDiagnostics", std::move(params));
        }
    }

    Document& document(const Json& params) {
        const auto uri = params.at("textDocument").at("uri").get<std::string>();
        Document* d = workspace_.find(uri);
        if (!d) throw Fault{kInvalidParams, "the document `" + uri + "` is not open"};
        return *d;
    }
    [[nodiscard]] uint32_t offset_in(const std::string& text, const LineIndex& lines, const Json& position) const {
        const auto number = [&](const char* key) -> uint64_t {
            const auto value = position.at(key).get<int64_t>();
            if (value < 0) throw Fault{kInvalidParams, "a position is not negative"};
            return static_cast<uint64_t>(value);
        };
        return lines.offset(text, number("line"), number("character"), workspace_.encoding);
    }
    uint32_t offset(const Document& d, const Json& position) const { return offset_in(d.text, d.lines, position); }

    // ---- questions ----

    Json on_hover(const Json& p) {
        Document& d = document(p);
        return hover(workspace_, d, offset(d, p.at("position")), options_.attention_facts);
    }
    Json on_definition(const Json& p) {
        Document& d = document(p);
        return definition(workspace_, d, offset(d, p.at("position")));
    }
    Json on_references(const Json& p) {
        Document& d = document(p);
        return references(workspace_, d, offset(d, p.at("position")), p.value(Json::json_pointer("/context/includeDeclaration"), true));
    }
    Json on_highlight(const Json& p) {
        Document& d = document(p);
        return highlights(workspace_, d, offset(d, p.at("position")));
    }
    Json on_completion(const Json& p) {
        Document& d = document(p);
        return completion(workspace_, d, offset(d, p.at("position")), snippets_);
    }
    Json on_signature(const Json& p) {
        Document& d = document(p);
        return signature_help(workspace_, d, offset(d, p.at("position")));
    }
    Json on_folding(const Json& p) { return folding_ranges(workspace_, document(p)); }
    Json on_tokens(const Json& p) {
        Document& d = document(p);
        const auto range = p.find("range");
        if (range == p.end()) return semantic_tokens(workspace_, d, 0, static_cast<uint32_t>(d.text.size()));
        return semantic_tokens(workspace_, d, offset(d, range->at("start")), offset(d, range->at("end")));
    }
    Json on_symbols(const Json& p) { return symbols(workspace_, document(p)); }
    Json on_formatting(const Json& p) { return formatting(workspace_, document(p)); }
    Json on_code_action(const Json& p) {
        Document& d = document(p);
        return code_actions(workspace_, d, offset(d, p.at("range").at("start")), offset(d, p.at("range").at("end")));
    }
    Json on_prepare_rename(const Json& p) {
        Document& d = document(p);
        return prepare_rename(workspace_, d, offset(d, p.at("position")));
    }
    Json on_rename(const Json& p) {
        Document& d = document(p);
        return rename(workspace_, d, offset(d, p.at("position")), p.at("newName").get<std::string>());
    }

    Connection& connection_;
    const ServerOptions& options_;
    Workspace workspace_;
    bool initialized_ = false;
    bool shutdown_ = false;
    bool exit_ = false;
    bool broken_ = false;  // the client has gone
    bool snippets_ = false;
};

}  // namespace

int serve(int in, int out, const ServerOptions& options) {
    Connection connection(in, out);
    return Server(connection, options).run();
}

}  // namespace flexc::lsp
