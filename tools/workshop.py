"""What a workshop needs besides a machine that runs the course: `llmcourse preflight --workshop`, the evening before.

`look()` gathers, `findings()` judges and does nothing else, as in preflight. A stop is what would halt a room; a note what would cost
minutes, or the plan for a room without network.
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
"""What wheel, slides and kit are made from; all of it counts for each, since making one again takes seconds."""


@dataclass(frozen=True)
class Ready:
    """What lies ready in a clone of the course and in its environment."""

    clone: bool
    """Whether the folder holds the course's notebooks; without them nothing else here can be made."""
    converted: bool
    """Whether the embedded model is in the cache, so that a first load takes seconds."""
    embeddings: str | None
    """What is wrong with the embedding model of notebook 03; None if nothing."""
    kernel: bool
    """Whether this environment can run notebooks."""
    wheel: float | None
    """When the course's wheel beside the notebooks was made, for Colab and for laptops without a clone; None if it is not there."""
    newest_source: float
    """When the course's files last changed, in seconds since 1970; what was made before it may be another course."""
    slides: float | None
    """When the slides were made, the older of HTML and PDF; None if one of them is not there."""
    kit: float | None
    """When the kit for a room without network was made."""


def look(root: Path = Path()) -> Ready:
    """Look at a clone (default: here), without importing torch or transformers."""
    wheels = sorted((root / "notebooks").glob("llmcourse-*.whl"))
    sources = [path for pattern in SOURCES for path in root.glob(pattern)]
    slides = [_made(root / path) for path in SLIDES]
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
        wheel=_made(wheels[-1]) if wheels else None,
        newest_source=max((path.stat().st_mtime for path in sources), default=0.0),
        slides=None if None in slides else min(slides),
        kit=_made(root / KIT),
    )


def findings(ready: Ready) -> list[Finding]:
    """Judge: what would halt a room, in the order in which to put it right."""
    if not ready.clone:
        what = "no notebooks in this folder; the other checks look into a clone of the course"
        return [Finding("clone", "stop", what, "cd to the course's folder, then: llmcourse preflight --workshop")]
    return [
        _say("model", ready.converted, "the embedded model is converted", "not converted yet: each first load takes some seconds more",
             'llmcourse predict "Well, that went brilliantly."'),
        _say("embeddings", ready.embeddings is None, "the embedding model of notebook 03 is whole",
             (ready.embeddings or "").partition("\n")[0], f"python -m {retrieval.INSTALL}", "stop"),
        _say("kernel", ready.kernel, "notebooks can run here", "no Jupyter kernel in this environment",
             "python -m pip install --constraint constraints.txt ipykernel", "stop"),
        _made_after("wheel", ready.wheel, ready, "beside the notebooks, for Colab", "make wheel"),
        _made_after("slides", ready.slides, ready, "HTML and PDF", "make slides"),
        _made_after("kit", ready.kit, ready, f"{KIT}, for a room without network", "make workshop-kit"),
    ]  # fmt: skip


def _say(name: str, fine: bool, well: str, ill: str, remedy: str, level: str = "note") -> Finding:
    return Finding(name, "ok", well) if fine else Finding(name, level, ill, remedy)


def _made_after(name: str, when: float | None, ready: Ready, well: str, remedy: str) -> Finding:
    if when is None:
        return Finding(name, "note", f"not there: {well}", remedy)
    return _say(name, when >= ready.newest_source, well, "older than the course's files", remedy)


def _made(path: Path) -> float | None:
    return path.stat().st_mtime if path.is_file() else None
