"""Empty CUDA libraries for a torch that is linked against them, so that it can be imported without the 3 GB of the real ones.

python stand_in_libraries.py      for the torch 2.9.0 of this interpreter; needs gcc and nm

torch_xla has no build of torch without CUDA. Each library has the symbols that torch's own libraries name, and calling one aborts.
The one that is used when torch is imported, the runtime, is the real one: nvidia-cuda-runtime-cu12.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path

#: What torch is linked against, with how the names of its functions begin.
LIBRARIES = {
    "libcublas.so.12": r"cublas(?!Lt)",
    "libcublasLt.so.12": r"cublasLt",
    "libcudnn.so.9": r"cudnn",
    "libcufft.so.11": r"cufft",
    "libcufile.so.0": r"cuFile",
    "libcupti.so.12": r"cupti",
    "libcurand.so.10": r"curand",
    "libcusolver.so.11": r"cusolver",
    "libcusparse.so.12": r"cusparse(?!Lt)",
    "libcusparseLt.so.0": r"cusparseLt",
    "libnccl.so.2": r"p?nccl",
    "libnvshmem_host.so.3": r"nvshmem",
}


def wanted(folder: Path) -> dict[str, dict[str, set[str]]]:
    """By library and version of its symbols: the names that libraries of a folder leave to others."""
    found: dict[str, dict[str, set[str]]] = {library: defaultdict(set) for library in LIBRARIES}
    for path in folder.glob("*.so"):
        listed = subprocess.run(["nm", "-D", "--undefined-only", path], check=True, capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            name, _, version = line.split()[-1].partition("@")
            for library, start in LIBRARIES.items():
                if re.match(start, name):
                    found[library][version.lstrip("@")].add(name)
    return found


def make(library: str, versions: dict[str, set[str]], folder: Path) -> None:
    """A library with these symbols."""
    names = sorted(name for listed in versions.values() for name in listed)
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch, "stand_in.c"), Path(scratch, "stand_in.map")
        source.write_text("#include <stdlib.h>\n" + "".join(f"int {name}(void) {{ abort(); }}\n" for name in names))
        parts = [(version, "; ".join(sorted(listed))) for version, listed in sorted(versions.items()) if version]
        script.write_text("".join(f"{version} {{ {listed}; }};\n" for version, listed in parts))
        command = ["gcc", "-shared", "-fPIC", "-O0", "-w", source, f"-Wl,-soname,{library}", "-o", folder / library]
        subprocess.run([*command, *([f"-Wl,--version-script={script}"] if parts else [])], check=True)


if __name__ == "__main__":
    packages = Path(sysconfig.get_paths()["purelib"])
    libraries = packages / "torch" / "lib"  # where those of torch look first
    for library, versions in wanted(libraries).items():
        make(library, versions, libraries)
    shutil.copy(packages / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12", libraries)
