"""What tests of the installed package share: an installation in a temporary prefix, and programs outside of the project that are built against it."""

import os
import pathlib
import re
import subprocess
import tempfile

from harness import FlexcTest

BUILD = pathlib.Path(os.environ["FLEXC_BUILD"])


class InstalledTest(FlexcTest):
    @classmethod
    def setUpClass(cls):
        cls._prefix = tempfile.TemporaryDirectory(prefix="flexc_prefix_")
        cls.prefix = pathlib.Path(cls._prefix.name)
        cls.step("cmake", "--install", BUILD, "--prefix", cls.prefix)

    @classmethod
    def tearDownClass(cls):
        cls._prefix.cleanup()

    @classmethod
    def step(cls, *command, code=0, **options):
        """Runs a command and demands its exit code; what it printed."""
        result = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500, check=False, **options)
        if result.returncode != code:
            raise AssertionError(f"{' '.join(map(str, command))}\nexit code {result.returncode}, {code} expected\n{result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def configure(self, source, name, *options):
        """A build folder for a project, configured against the installed package. Warnings are errors."""
        build = self.folder / name
        self.step("cmake", "-G", "Ninja", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={os.environ['CXX']}",
                  "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Wshadow -Werror", *options)
        return build

    def emulated(self):
        """The environment in which the CUDA driver is the emulated one."""
        return {**self.environment, "FLEX_CUDA_DRIVER": str(next(self.prefix.rglob("libflexemu_cuda.so")))}

    def without_gpu(self):
        """The environment in which there is no CUDA driver."""
        return {**self.environment, "FLEX_CUDA_DRIVER": str(self.folder / "none.so")}

    def demand_no_compiler_in(self, program):
        """No symbol of LLVM or ANTLR, and no library of theirs; prints the size."""
        symbols = self.step("nm", "-C", program)
        self.assertNotRegex(symbols, re.compile("llvm|antlr", re.IGNORECASE))
        self.assertNotRegex(self.step("readelf", "-d", program), re.compile("NEEDED.*(llvm|antlr)", re.IGNORECASE))
        print(f"{pathlib.Path(program).name}: {os.path.getsize(program)} bytes, {len(symbols.splitlines())} symbols, none of LLVM or ANTLR")
