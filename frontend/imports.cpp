#include "frontend/imports.h"

#include <algorithm>
#include <chrono>
#include <fstream>

#include "frontend/parse.h"
#include "frontend/stdlib.h"

namespace flexc::sema {

namespace {

bool is_of_python(std::string_view library) {
    static constexpr std::string_view kLibraries[] = {"torch", "numpy", "np", "math", "jax", "triton", "typing", "functools"};
    return std::find(std::begin(kLibraries), std::end(kLibraries), library) != std::end(kLibraries);
}

constexpr size_t kMaxFiles = 256;
constexpr std::uintmax_t kMaxBytes = (8u << 20) + 1;  // one more than parse() takes, so that it is the one to refuse

struct Loader {
    frontend::Program::Impl& program;
    const frontend::ImportResolver& imports;
    diag::Sink& sink;
    std::vector<Module*>& order;
    std::unordered_map<std::string, Module*> by_key;
    bool refused = false;  // the limit was reported
    double parsing = 0;    // seconds

    struct Frame {
        Module* module;
        size_t next_decl;
    };
    std::vector<Frame> stack;  // the chain of imports being read

    Module& open(diag::FileId file, std::string display, std::string key, bool embedded) {
        Module& module = program.modules.emplace_back();
        module.file = file;
        module.display = std::move(display);
        module.key = key;
        module.embedded = embedded;
        const auto start = std::chrono::steady_clock::now();
        module.syntax = frontend::parse(*program.sources, file, sink);
        parsing += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        by_key.emplace(std::move(key), &module);
        if (!embedded) program.files.push_back(module.display);
        stack.push_back({&module, 0});
        return module;
    }

    void run(diag::FileId main_file) {
        const std::string main_name = program.sources->file(main_file).name();
        open(main_file, main_name, std::filesystem::path(main_name).lexically_normal().generic_string(), false);
        while (!stack.empty()) {
            Frame& top = stack.back();
            top.module->import_failed |= top.module->syntax->unread_import;
            if (top.next_decl == top.module->syntax->decls.size()) {
                order.push_back(top.module);
                stack.pop_back();
                continue;
            }
            const ast::Decl& decl = *top.module->syntax->decls[top.next_decl++];
            if (decl.kind == ast::DeclKind::Import) import(*top.module, decl);
        }
    }

    void import(Module& importer, const ast::Decl& decl) {
        const size_t before = importer.imports.size();
        read_import(importer, decl);
        importer.import_failed |= importer.imports.size() == before;
    }

    void read_import(Module& importer, const ast::Decl& decl) {
        std::string key;
        std::string text;
        std::string display = decl.name.text;
        std::filesystem::path path;
        const bool library = !decl.import_is_path;
        if (library) {
            key = "<" + decl.name.text + ">";
        } else {
            if (decl.name.text.empty()) {
                sink.report(diag::Kind::import_missing, decl.name.span, decl.name.text, "the path is empty");
                return;
            }
            path = (std::filesystem::path(importer.display).parent_path() / decl.name.text).lexically_normal();
            key = path.generic_string();
            display = path.generic_string();
        }

        if (const auto found = by_key.find(key); found != by_key.end()) {
            for (size_t i = 0; i < stack.size(); ++i) {
                if (stack[i].module == found->second) return report_cycle(i, decl);
            }
            importer.imports.push_back({found->second, decl.span});
            return;
        }
        if (program.modules.size() >= kMaxFiles) {
            if (!refused) sink.report(diag::Kind::import_limit, decl.name.span, std::to_string(kMaxFiles));
            refused = true;
            return;
        }
        if (library) {
            const std::optional<std::string_view> found = embedded_library(decl.name.text);
            if (!found) {
                auto& d = sink.report(diag::Kind::import_missing, decl.name.span, decl.name.text, "there is no such library");
                const std::string near = diag::nearest(decl.name.text, embedded_libraries());
                if (!near.empty())
                    d.fix(decl.name.span, near, "did you mean `" + near + "`?");
                else if (is_of_python(decl.name.text))
                    d.help(
                        "leave the line out: the builtin functions need no import, and `import std;` brings the standard masks and scores");
                else
                    d.help("a file is imported by its path in quotes: `import \"" + decl.name.text + ".flex\";`");
                return;
            }
            text = *found;
        } else {
            std::optional<std::string> read = imports.read_file ? imports.read_file(path) : std::nullopt;
            if (!read) {
                auto& d = sink.report(diag::Kind::import_missing, decl.name.span, decl.name.text, "no readable file `" + display + "`");
                if (embedded_library(decl.name.text)) d.help("the library is imported without quotes: `import " + decl.name.text + ";`");
                d.note("paths are relative to the folder of the importing file");
                return;
            }
            text = std::move(*read);
        }
        const diag::FileId file = program.sources->add(library ? key : display, std::move(text));
        Module& module = open(file, std::move(display), std::move(key), library);
        importer.imports.push_back({&module, decl.span});
    }

    void report_cycle(size_t first, const ast::Decl& decl) {
        std::string chain;
        for (size_t i = first; i < stack.size(); ++i) chain += "`" + stack[i].module->display + "` -> ";
        chain += "`" + stack[first].module->display + "`";
        auto& d = sink.report(diag::Kind::import_cycle, decl.name.span, chain);
        // The imports that lead here, nearest last.
        for (size_t i = first; i + 1 < stack.size(); ++i) {
            const ast::Decl& step = *stack[i].module->syntax->decls[stack[i].next_decl - 1];
            d.note("imported here", step.name.span);
        }
    }
};

}  // namespace

std::optional<std::string_view> embedded_library(std::string_view name) {
    for (const diag::EmbeddedFile& f : embedded_files())
        if (f.name == name) return f.text;
    return std::nullopt;
}

std::vector<std::string> embedded_libraries() {
    std::vector<std::string> names;
    for (const diag::EmbeddedFile& f : embedded_files()) names.emplace_back(f.name);
    return names;
}

double load_modules(frontend::Program::Impl& program, diag::FileId main_file, const frontend::ImportResolver& imports, diag::Sink& sink,
                    std::vector<Module*>& order) {
    Loader loader{program, imports, sink, order, {}, false, 0, {}};
    loader.run(main_file);
    return loader.parsing;
}

}  // namespace flexc::sema

namespace flexc::frontend {

ImportResolver default_imports() {
    ImportResolver resolver;
    resolver.read_file = [](const std::filesystem::path& path) -> std::optional<std::string> {
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
        const std::uintmax_t size = std::filesystem::file_size(path, error);
        if (error) return std::nullopt;
        std::ifstream in(path, std::ios::binary);
        std::string text(static_cast<size_t>(std::min(size, sema::kMaxBytes)), '\0');
        in.read(text.data(), static_cast<std::streamsize>(text.size()));
        if (in.bad() || static_cast<size_t>(in.gcount()) != text.size()) return std::nullopt;
        return text;
    };
    return resolver;
}

}  // namespace flexc::frontend
