"""Check what a workshop needs besides a machine that runs the course: `llmcourse preflight --workshop`, the evening
before.

As in preflight, `look()` gathers the facts and `findings()` judges them. A "stop" would halt the workshop. A "note"
would cost minutes, or is needed only for a room without network.
"""

from dataclasses import dataclass
from pathlib import Path

from llmcourse import CourseError
from llmcourse._base import files
from llmcourse.models import embedded
from llmcourse.predict import retrieval
from llmcourse.setup import installed
from llmcourse.setup.preflight import Finding

KIT = Path("dist") / "workshop-kit.zip"
WORKBENCH = "jupyterlab==4.6.6"
"""What opens the notebooks on a laptop."""
SLIDES = tuple(Path("slides") / "build" / f"finetune-llms.{kind}" for kind in ("html", "pdf"))
SOURCES = (
    "llmcourse/**/*.py",
    "llmcourse/**/*.json",
    "llmcourse/**/*.csv",
    "llmcourse/**/*.j2",
    "constraints*.txt",
    "pyproject.toml",
    "README.md",
    "notebooks/*.ipynb",
    "benchmarks/results/*.json",
    *(f"slides/*.{kind}" for kind in ("md", "py", "json", "css")),
)
"""The files that the wheel, the slides and the kit are built from.

Each is out of date when any of them changes, because building again takes seconds.
"""


@dataclass(frozen=True)
class Ready:
    """What is ready in a clone of the course and in its environment. Times are in seconds since 1970."""

    clone: bool
    """Whether the folder has the course's notebooks. Without them nothing else can be built here."""
    converted: bool
    """Whether the embedded model is in the cache, so that the first load takes seconds."""
    embeddings: str | None
    """What is wrong with the embedding model of notebook 03; None if nothing is."""
    kernel: bool
    """Whether this environment can run notebooks."""
    lab: bool
    """Whether JupyterLab is installed in this environment."""
    wheel: float | None
    """When the course's wheel beside the notebooks was built, for Colab and laptops without a clone; None if it is
    missing."""
    newest_source: float
    """When the course's files last changed. What was built earlier may be out of date."""
    slides: float | None
    """When the slides were built, the older of HTML and PDF; None if one of them is missing."""
    kit: float | None
    """When the kit for a room without network was built; None if it is missing."""


def look(root: Path = Path()) -> Ready:
    """Return what is ready in a clone (default: here), without importing torch or transformers."""
    wheels = sorted((root / "notebooks").glob("llmcourse-*.whl"))
    sources = [path for pattern in SOURCES for path in root.glob(pattern)]
    slides = [time for path in SLIDES if (time := _modified(root / path)) is not None]
    try:
        retrieval.folder()
        embeddings = None
    except CourseError as error:
        embeddings = str(error)
    return Ready(
        clone=any((root / "notebooks").glob("0*.ipynb")),
        converted=(embedded.folder() / files.SEAL).is_file(),
        embeddings=embeddings,
        kernel=installed.version("ipykernel") is not None,
        lab=installed.version("jupyterlab") is not None,
        wheel=_modified(wheels[-1]) if wheels else None,
        newest_source=max((path.stat().st_mtime for path in sources), default=0.0),
        slides=min(slides) if len(slides) == len(SLIDES) else None,
        kit=_modified(root / KIT),
    )


def findings(ready: Ready) -> list[Finding]:
    """Return one finding for each check, in the order in which to fix them."""
    if not ready.clone:
        what = "this folder has no notebooks, and the other checks need a clone of the course"
        return [Finding("clone", "stop", what, "cd to the course's folder, then: llmcourse preflight --workshop")]
    model = Finding("model", "ok", "the embedded model is converted")
    if not ready.converted:
        what = "the embedded model is not converted yet, so each first load takes some seconds more"
        model = Finding("model", "note", what, 'llmcourse predict "Well, that went brilliantly."')
    embeddings = Finding("embeddings", "ok", "the embedding model of notebook 03 is complete")
    if ready.embeddings is not None:
        embeddings = Finding(
            "embeddings", "stop", ready.embeddings.partition("\n")[0], f"python -m {retrieval.INSTALL}"
        )
    kernel = Finding("kernel", "ok", "notebooks can run here")
    if not ready.kernel:
        remedy = "python -m pip install --constraint constraints.txt ipykernel"
        kernel = Finding("kernel", "stop", "this environment has no Jupyter kernel", remedy)
    lab = Finding("jupyterlab", "ok", "JupyterLab is installed")
    if not ready.lab:
        remedy = f"python -m pip install --constraint constraints.txt {WORKBENCH}"
        lab = Finding("jupyterlab", "note", "not installed; you need it unless your editor opens notebooks", remedy)
    return [
        model,
        embeddings,
        kernel,
        lab,
        _up_to_date("wheel", ready.wheel, ready, "beside the notebooks, for Colab", "make wheel"),
        _up_to_date("slides", ready.slides, ready, "HTML and PDF", "make slides"),
        _up_to_date("kit", ready.kit, ready, f"{KIT}, for a room without network", "make workshop-kit"),
    ]


def _up_to_date(name: str, built: float | None, ready: Ready, description: str, remedy: str) -> Finding:
    """Return whether something was built, and after the last change of the course's files."""
    if built is None:
        return Finding(name, "note", f"missing: {description}", remedy)
    if built < ready.newest_source:
        return Finding(name, "note", "older than the course's files", remedy)
    return Finding(name, "ok", description)


def _modified(path: Path) -> float | None:
    return path.stat().st_mtime if path.is_file() else None
