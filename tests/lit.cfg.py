# What every lit suite of the tree shares. A suite is a folder of tests/ (mili_add_lit_suite in cmake/MiliLit.cmake).
#
# In RUN lines:
#   mili-opt     the built one, verifying after every pass (upstream's default, spelled out)
#   FileCheck, not, split-file   LLVM's
#   %data        tests/data of the source tree
#   %golden      the golden models, unpacked
#   %shapes      config.json of well-known models, for --synthetic-weights
#   %mili_lib    the built libraries
#   %sdk         the installed build (%sdk/prefix) and the projects built against it (tests/sdk)
# Features for REQUIRES: nvrtc.
import ctypes
import os

import lit.formats

config.name = "mili-" + config.mili_area
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs"]
config.test_source_root = os.path.join(config.mili_source_dir, "tests", config.mili_area)
config.test_exec_root = os.path.join(config.mili_binary_dir, "tests", config.mili_area, "lit")

config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.mili_binary_dir, "bin"), config.llvm_tools_dir, config.environment["PATH"]]
)
# A sanitized build reports leaks and errors through the exit status; keep the user's options if there are any.
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

config.substitutions.append((r"(?<![\w./-])mili-opt(?![\w.-])", "mili-opt --verify-each=true"))
config.substitutions.append(("%data", os.path.join(config.mili_source_dir, "tests", "data")))
config.substitutions.append(("%shapes", os.path.join(config.mili_source_dir, "tests", "device", "shapes")))
config.substitutions.append(("%golden", os.path.join(config.mili_binary_dir, "golden")))
config.substitutions.append(("%mili_lib", os.path.join(config.mili_binary_dir, "lib")))
config.substitutions.append(("%sdk", os.path.join(config.mili_binary_dir, "sdk")))


def has_nvrtc():
    if os.environ.get("MILI_REQUIRE_NVRTC"):
        return True
    for name in (os.environ.get("MILI_NVRTC"), "libnvrtc.so.13", "libnvrtc.so.12"):
        try:
            if name and ctypes.CDLL(name):
                return True
        except OSError:
            pass
    return False


if has_nvrtc():
    config.available_features.add("nvrtc")
