"""cmake --install, and an application outside of the project that finds the package and links a compiled variant."""

import os
import subprocess
import unittest

from harness import ROOT, FlexcTest


class Install(FlexcTest):
    def step(self, *command):
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_an_outside_application_links_the_installed_runtime(self):
        prefix, build = self.path("prefix"), self.path("build")
        self.step("cmake", "--install", os.environ["FLEXC_BUILD"], "--prefix", prefix)
        self.step("cmake", "-G", "Ninja", "-S", ROOT / "examples" / "link", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
                  f"-DCMAKE_CXX_COMPILER={os.environ['CXX']}", "-DCMAKE_BUILD_TYPE=Release")
        self.step("cmake", "--build", build)
        result = subprocess.run([os.path.join(build, "link")], capture_output=True, text=True, timeout=60)
        if result.returncode == 3:
            self.assertIn("no AVX2", result.stdout)
        else:
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        # What is installed stands without the source: no header of another layer, no flag of this build.
        headers = sorted(os.listdir(os.path.join(prefix, "include", "flexc", "runtime")))
        self.assertEqual(headers, ["abi.h", "kernel.h", "launch.h", "status.h", "tensor.h"])
        self.assertEqual(self.step(os.path.join(prefix, "bin", "flexc"), "--version").split()[0], "flexc")


if __name__ == "__main__":
    unittest.main()
