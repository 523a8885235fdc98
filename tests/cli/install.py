"""cmake --install, and programs outside of the project that find the package: kernels linked ahead of time, kernels compiled from strings."""

import os
import pathlib
import re
import unittest

from harness import ROOT
from installed import InstalledTest

HEADERS = ["abi.h", "cuda.h", "gpu_abi.h", "gpu_layout.h", "kernel.h", "launch.h", "linked.h", "status.h", "stream.h", "tensor.h"]

# A project with everything at once: a library and a program that each have attentions, one of them twice with other constants, an import.
PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(several LANGUAGES CXX)
find_package(flexc REQUIRED)
add_library(kernels STATIC kernels.cpp)
flex_add_attention(kernels far.flex NAME far TARGETS cpu)
add_executable(several main.cpp)
target_link_libraries(several kernels)
flex_add_attention(several far.flex NAME far NAMESPACE acme::near DEFINES least=0 least_f=1.5)
flex_add_attention(several far.flex NAME other NAMESPACE trained GRAD ATOMIC TARGETS cpu sm_80)
flex_add_attention(several "with space/plain one.flex" HEADER plain TARGETS cpu sm_80 HEAD_DIM 16 V_HEAD_DIM 8 DTYPE f32 f16)
"""
SOURCES = {
    "reach.flex": "fn reach() -> i32 = 2;\n",
    "far.flex": 'import "reach.flex";\n## Keys far back. Ends in a backslash \\\nattention far(const least: i32 = 1, const least_f: f32 = 0.5, add: f32 = 0.0) {\n'
                "    score = score + add * least_f;\n    mask = q - k >= least * reach();\n}\nattention other() {}\n",
    "with space/plain one.flex": "attention plain() {}\n",
    "kernels.cpp": '#include "kernels.h"\n#include "far.h"\nflex::Status run_far(const flex::AttentionArrays& arrays) { return far::forward(flex::Stream::cpu(), arrays); }\n',
    "kernels.h": '#pragma once\n#include "runtime/stream.h"\nflex::Status run_far(const flex::AttentionArrays& arrays);\n',
    "main.cpp": r"""
#include <cstdio>
#include <vector>

#include "acme_near.h"
#include "kernels.h"
#include "plain.h"
#include "trained.h"

// Scores are 0 and v[k] = k: row 9 of o is the mean of the keys that query 9 sees, and dv of a key the sum of its weights.
int main() {
    std::vector<float> q(10 * 4), v(q), o(q);
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 4);
    const auto view = [](std::vector<float>& x) { return flex::Tensor::contiguous(x.data(), flex::DType::F32, {1, 1, 10, 4}); };
    const flex::AttentionArrays arrays = {view(q), view(q), view(v), view(o)};
    for (const flex::Status& status : {run_far(arrays), acme::near::forward(flex::Stream::cpu(1), arrays, {}), plain::forward(flex::Stream::cpu(), arrays)}) {
        if (!status.ok()) return std::puts(status.text().c_str()), 1;
    }
    (void)run_far(arrays);
    std::printf("%g ", static_cast<double>(o.back()));
    (void)acme::near::forward(flex::Stream::cpu(), arrays);
    std::printf("%g ", static_cast<double>(o.back()));
    (void)plain::forward(flex::Stream::cpu(), arrays);
    std::printf("%g ", static_cast<double>(o.back()));
    std::vector<float> lse(10), ones(q.size(), 1.0f), dq(q), dk(q), dv(q);
    flex::AttentionArrays forward = arrays;
    forward.lse = flex::Tensor::contiguous(lse.data(), flex::DType::F32, {1, 1, 10});
    flex::Status status = trained::forward(flex::Stream::cpu(), forward);
    if (status.ok()) status = trained::backward(flex::Stream::cpu(), forward, {view(ones), view(dq), view(dk), view(dv)});
    if (!status.ok()) return std::puts(status.text().c_str()), 1;
    std::printf("%g\n", static_cast<double>(dv.back()));
    return 0;
}
""",
}


class Install(InstalledTest):
    def project(self, text=PROJECT):
        """A folder with the project; its path."""
        folder = self.folder / "project"
        for name, content in {**SOURCES, "CMakeLists.txt": text}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder

    def test_what_is_installed_stands_alone(self):
        include = self.prefix / "include" / "flexc"
        self.assertEqual(sorted(os.listdir(include / "runtime")), HEADERS)
        self.assertEqual(os.listdir(include / "flexc"), ["flexc.h"])
        editors = self.prefix / "share" / "flexc" / "editors"
        shown = lambda folder: {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
        self.assertEqual(shown(editors), shown(ROOT / "editors"))
        self.assertIn("vscode/syntaxes/flex.tmLanguage.json", shown(editors))
        flexc = self.prefix / "bin" / "flexc"
        self.assertEqual(self.step(flexc, "--version").split()[0], "flexc")
        self.assertIn("on emulated", self.step(flexc, "run", self.source("attention plain() {}\n"), "--shape", "Q=8,D=16", "--dtype", "f16", "--device", "emulated",
                                               env=self.environment))
        for standard in ("c++17", "c++20"):
            for header in ["runtime/" + each for each in HEADERS] + ["flexc/flexc.h"]:
                self.step(os.environ["CXX"], f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++", f"-I{include}",
                          include / header, "-Wno-pragma-once-outside-header")
        library = next(each for each in self.prefix.rglob("libflexc.so.*") if not each.is_symlink())
        exported = self.step("nm", "-DC", "--defined-only", library).splitlines()
        self.assertTrue(exported)
        for line in exported:
            self.assertIn(" flexc::", line)
        print(f"libflexc.so: {library.stat().st_size} bytes, exports {len(exported)}")

    def test_attentions_linked_ahead_of_time(self):
        build = self.configure(ROOT / "examples" / "link", "build")
        self.step("cmake", "--build", build)
        program = build / "link"
        out = self.step(program, env=self.without_gpu())
        self.assertIn("a wrong call   `slope` must be f32[H], got i32[300]", out)
        self.assertIn("cannot be loaded", self.step(program, "--device", "cuda", code=3, env=self.without_gpu()))
        self.assertIn("emulated", self.step(program, "--device", "cuda", env=self.emulated()))
        self.demand_no_compiler_in(program)

        # The object: one exported name, nothing that runs by itself, nothing needed from elsewhere, no executable stack.
        for name in ("alibi_window", "document"):
            made = build / "flex" / "link" / f"{name}.o"
            self.assertEqual([line.split()[-1] for line in self.step("nm", "-g", made).splitlines()], [f"flex_linked_{name}"])
            names = [line.split()[-1] for line in self.step("nm", made).splitlines()]
            self.assertEqual([each for each in names if not each.startswith((f"flex_{name}.", f"flex_linked_{name}", ".L"))], [])
            self.assertIn(f"flex_{name}.avx512.flex_cpu_softmax", names)
            self.assertIn(f"flex_{name}.image0.code", names)
            sections = self.step("readelf", "-SW", made)
            self.assertNotRegex(sections, r"\.(init_array|ctors|fini_array|bss|data\s|eh_frame)")
            self.assertRegex(sections, r"\.note\.GNU-stack")
            self.assertNotIn("UND flex", self.step("readelf", "-sW", made))
        self.assertNotIn("RWE", self.step("readelf", "-lW", program))

    def test_attentions_compiled_from_strings(self):
        build = self.configure(ROOT / "examples" / "compile_string", "build")
        self.step("cmake", "--build", build)
        program = build / "compile_string"
        self.assertIn("stride 4: expected mean key 49.00, share of a key 0.1250; CPU 49.00, 0.1250;", self.step(program, env=self.without_gpu()))
        self.assertRegex(self.step(program, "--device", "cuda", env=self.emulated()), r"expected mean key 49\.50, .*; CPU .*; .*emulated.* 49\.50, 0\.2500;")
        error = self.step(program, "attention a() { mask = q >= kk; }", code=1, env=self.environment)
        self.assertIn("<source>:1:29: error[E2001]: unknown name `kk`", error)
        self.assertIn("attention a() { mask = q >= kk; }", error)
        self.demand_no_compiler_in(program)

    def test_several_attentions_and_their_dependencies(self):
        project = self.project()
        build = self.configure(project, "build")
        self.step("cmake", "--build", build)
        run = lambda: self.step(build / "several", env=self.without_gpu()).split()
        # far: keys 0..7 of 0..9; near: least = 0, so all; plain: all.
        self.assertEqual(run(), ["3.5", "4.5", "4.5", "1"])
        self.assertIn("no work to do", self.step("cmake", "--build", build))
        # A change of what is imported, and of nothing else, reaches the program.
        (project / "reach.flex").write_text("fn reach() -> i32 = 5;\n")
        self.assertIn("Compiling the attention far", self.step("cmake", "--build", build))
        self.assertEqual(run(), ["2", "4.5", "4.5", "1"])
        self.assertIn("no work to do", self.step("cmake", "--build", build))
        # A fault is flexc's message, and no half-made file passes for a good one.
        (project / "reach.flex").write_text("fn reach() -> i32 = five;\n")
        failed = self.step("cmake", "--build", build, code=1)
        self.assertIn("reach.flex:1:21: error[E2001]: unknown name `five`", failed)
        (project / "reach.flex").write_text("fn reach() -> i32 = 2;\n")
        self.step("cmake", "--build", build)
        self.assertEqual(run(), ["3.5", "4.5", "4.5", "1"])

    def test_the_functions_own_mistakes(self):
        for text, message in {
            "flex_add_attention(nobody far.flex)": "there is no target `nobody`",
            "add_executable(a main.cpp)\nflex_add_attention(a far.flex HEAD_DIMS 3)": "cannot make sense of HEAD_DIMS;3",
            "add_executable(a main.cpp)\nflex_add_attention(a far.flex NAME far ATOMIC)": "ATOMIC is of the backward pass, which GRAD asks for",
            "add_executable(a main.cpp)\nflex_add_attention(a far.flex NAME far)\nflex_add_attention(a far.flex NAME far)": "`a` has a `far.h` already",
        }.items():
            with self.subTest(message):
                project = self.project(f"cmake_minimum_required(VERSION 3.25)\nproject(p LANGUAGES CXX)\nfind_package(flexc REQUIRED)\n{text}\n")
                with self.assertRaises(AssertionError) as raised:
                    self.configure(project, "wrong")
                self.assertIn(message, " ".join(str(raised.exception).split()))


class Outputs(InstalledTest):
    """flexc build --emit=header by itself."""

    def test_both_files_or_none(self):
        source = self.source("attention plain() {}\n")
        out = self.folder / "out"
        out.mkdir()
        report = self.flexc_json("build", source, "--emit=header", "-o", out, "--depfile", out / "plain.d")
        self.assertEqual((report["out"], report["object"]), (str(out / "plain.h"), str(out / "plain.o")))
        self.assertEqual(report["bytes"], os.path.getsize(out / "plain.o"))
        self.assertEqual((out / "plain.d").read_text(), f"{out}/plain.h {out}/plain.o: \\\n  {source}\n")
        before = {each.name: each.read_bytes() for each in out.iterdir()}
        self.flexc("build", source, "--emit=header", "-o", out / "plain.h", "--depfile", out / "plain.d")
        self.assertEqual({each.name: each.read_bytes() for each in out.iterdir()}, before)  # the same bytes every time

        blocked = self.folder / "blocked"
        (blocked / "plain.h").mkdir(parents=True)
        self.assertEqual(self.fails("build", source, "--emit=header", "-o", blocked)["code"], "E0002")
        self.assertEqual(os.listdir(blocked), ["plain.h"])
        self.assertEqual(os.listdir(blocked / "plain.h"), [])
        gone = self.folder / "gone"
        gone.mkdir()
        self.assertEqual(self.fails("build", source, "--emit=header", "-o", gone, "--depfile", gone / "x" / "d")["code"], "E0002")
        self.assertEqual(os.listdir(gone), [])
        self.assertEqual(self.fails("build", self.source("attention far() { emit far = mean(f32(q - k)); }\n", "s.flex"), "--emit=header", "-o", gone)["code"], "E4001")
        self.assertEqual(os.listdir(gone), [])

    def test_headers_are_cpp_whatever_the_names_and_values(self):
        source = self.source('import std;\n## Line one \\\n##\n## ends \\\nattention register(int: grad f32[H, 2 * K + 1], std: i32[N], flex: bool[N, 3], class: f32 = inf, this: f32 = -inf,\n'
                             "    float: f32 = 1e30, new: i32 = -2147483647 - 1, delete: bool = true, Args: i32,\n    o: grad f32[N], o_: grad bf16[N]) {\n"
                             "    score = score + o[0] + o_[0] + int[h, 0] + f32(std[0]) + class + this + float + f32(new) + f32(Args);\n"
                             "    mask = flex[0, 1] or delete;\n}\n")
        self.flexc("build", source, "--emit=header", "--grad", "-o", self.path("r"))
        (self.folder / "main.cpp").write_text(
            '#include "r.h"\n#include <cmath>\nint main() {\n    const register_::Args a{{}, {}, {}};\n'
            "    const flex::Tensor t;\n    register_::Gradients g{t, t, t, t, t};\n    g.d_int = g.d_o = g.d_o__ = g.d_o_ = g.d_lse = t;\n    std::size_t bytes = 0;\n"
            "    if (register_::backward(flex::Stream::cpu(), {}, g, a).ok() || register_::backward_workspace(flex::Stream::cpu(), {}, g, a, &bytes).ok()) return 2;\n"
            "    return a.class_ > 1e38f && a.this_ < -1e38f && a.float_ == 1e30f && a.new_ == -2147483647 - 1 && a.delete_ ? 0 : 1;\n}\n")
        runtime = next(self.prefix.rglob("libflex_runtime.a"))
        compilers = [os.environ["CXX"]] + [each for each in ("/usr/bin/g++",) if pathlib.Path(each).exists()]
        for compiler in compilers:
            for standard in ("c++17", "c++20"):
                self.step(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-Wno-missing-field-initializers",
                          f"-I{self.prefix}/include/flexc", self.path("main.cpp"), self.path("r.o"), runtime, "-o", self.path("r.out"), "-pthread", "-ldl")
                self.step(self.path("r.out"))

    def test_sums_by_atomics_are_asked_for(self):
        program = ROOT / "examples" / "gallery" / "relative_bias.flex"
        count, said = {}, {}
        for options in ["--grad"], ["--grad", "--atomic"]:
            report = self.flexc_json("build", program, "--emit=header", *options, "--target", "sm_80", "--head-dim", 64, "-o", self.path("x"))
            count[options[-1]] = pathlib.Path(report["object"]).read_bytes().count(b"red.global.add.f32")
            said[options[-1]] = "backward by atomics: bf16, D up to 64" in pathlib.Path(report["out"]).read_text()
        self.assertGreater(count["--atomic"], count["--grad"])
        self.assertEqual(said, {"--grad": False, "--atomic": True})

    def test_every_program_of_the_gallery(self):
        includes, checks, objects = "", "", []
        programs = sorted((ROOT / "examples" / "gallery").glob("*.flex"))
        for program in programs:
            for out, options in (program.stem, []), ("grad_" + program.stem, ["--grad"]):
                report = self.flexc_json("build", program, "--emit=header", "-o", self.path(out), *options, *(["--namespace", "grad::" + program.stem] if options else []))
                name = re.search(r"^namespace ((?:grad::)?\w+) \{$", pathlib.Path(report["out"]).read_text(), re.MULTILINE)[1]
                includes += f'#include "{out}.h"\n'
                checks += f'    ok = ok && {name}::desc().name == "{name.split("::")[-1]}" && {name}::detail::kernel().desc() != nullptr;\n'
                checks += f"    ok = ok && {name}::detail::kernel().backward(flex::Stream::cpu(), {{}}, {{}}, {{}}).code() == flex::Code::{'InvalidArgument' if options else 'Unsupported'};\n"
                if options:
                    checks += f"    static_cast<void>(&{name}::backward);\n    static_cast<void>(&{name}::backward_workspace);\n"
                objects.append(report["object"])
        (self.folder / "all.cpp").write_text(f"{includes}int main() {{\n    bool ok = true;\n{checks}    return ok ? 0 : 1;\n}}\n")
        self.step(os.environ["CXX"], "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", f"-I{self.prefix}/include/flexc", self.path("all.cpp"),
                  *objects, next(self.prefix.rglob("libflex_runtime.a")), "-o", self.path("all"), "-pthread", "-ldl")
        self.step(self.path("all"))
        print(f"{len(programs)} programs of the gallery in one binary of {os.path.getsize(self.path('all'))} bytes, with gradients and without")


if __name__ == "__main__":
    unittest.main()
