"""Writes the lock: for every version in constraints.txt the SHA-256 of every file that PyPI holds of it.

    make lock       after a change of constraints.txt or pyproject.toml; reads PyPI's index, downloads no package

`make` installs from these files with pip's --require-hashes, in this order:

    torch.txt       torch alone, since it may come from another index: hashes of PyPI's builds and of the CPU builds
    cuda.txt        what PyPI's torch for Linux needs besides (the CPU builds need none of it)
    course.txt      what the course needs, and the wheels of its two models
    dev.txt         what its tests need

uv resolves for all systems and Pythons at once; a package that only some of them need carries a marker.
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
"""SHA-256 of the files torch-2.13.0+cpu for Linux on PyTorch's own index, which PyPI does not hold (on macOS and Windows PyPI's
builds are CPU builds). The first was hashed here; the others are as nixpkgs and other public lock files give them, two
independent ones at least for each."""


def compiled(*arguments: str, given: str = "") -> dict[str, str]:
    """What uv resolves: package -> its lines, `name==version ; marker` and the hashes."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, "--generate-hashes", "--universal"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    blocks = re.split(r"^(?=\w)", done.stdout, flags=re.MULTILINE)
    return {re.match(r"[\w.-]+", block)[0]: block for block in blocks if block.strip()}


def wheels() -> list[str]:
    """The models' wheels, as the Makefile names them."""
    return re.search(r"^WHEELS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1
    ].split()


def with_cpu_builds(torch: str) -> str:
    if not torch.startswith(f"torch=={CPU_TORCH} "):
        raise SystemExit(f"CPU_BUILDS in {__file__} are of torch {CPU_TORCH}. Give those of {torch.split()[0]}.")
    return torch.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS.values()) + "\n"


def main() -> None:
    pins = ("pyproject.toml", "--constraint", "constraints.txt")
    needed = compiled(*pins)
    everything = compiled(*pins, "--extra", "dev")
    models = compiled("-", "--no-deps", given="\n".join(wheels()))
    torch = {"torch": with_cpu_builds(needed.pop("torch"))}
    cuda = {name: needed.pop(name) for name in list(needed) if re.match(r"nvidia-|cuda-|triton$", name)}
    dev = {name: everything[name] for name in everything if name not in needed.keys() | torch.keys() | cuda.keys()}
    for name, part in (("torch", torch), ("cuda", cuda), ("course", needed | models), ("dev", dev)):
        text = HEAD + "".join(part[package] for package in sorted(part))
        (LOCK / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"lock/{name}.txt: {len(part)} packages")


if __name__ == "__main__":
    main()
