"""Where rows come from: a bundled corpus, a download from Kaggle or the hub, or a file of your own."""

from collections.abc import Callable
from pathlib import Path

from llmcourse._base import hub, redact
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task


def corpus_path(name: str) -> Path:
    """Return the path of a file that comes with the package, such as "llm_sizes.csv" (all: `corpora/README.md`)."""
    return Path(__file__).with_name("corpora") / name


def bundled_path(task: Task) -> Path:
    """Return the path of a task's bundled rows."""
    return corpus_path(f"{task.name}.csv")


def locate(task: Task, source: str | Path) -> Path:
    """Return the path of the rows that a source names, downloaded if need be. Any other source is a path already.

    Raises CourseError when the rows cannot be downloaded, or were damaged on the way.
    """
    if source == "bundled" and "bundled" in task.sources:
        return bundled_path(task)
    if source == "kaggle" and task.kaggle:
        return _from_kaggle(*task.kaggle)
    if source == "hub" and task.hub:
        return _from_hub(*task.hub)
    return Path(source)


def _from_kaggle(dataset: str, name: str) -> Path:
    try:
        import kagglehub
    except ImportError:
        raise CourseError("Reading from Kaggle needs one more package: pip install kagglehub") from None
    return _download(lambda: kagglehub.dataset_download(dataset, path=name), "Kaggle", "hub")


def _from_hub(dataset: str, name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    path = _download(
        lambda: hf_hub_download(dataset, name, repo_type="dataset", revision=revision), "the hub", "kaggle"
    )
    hub.verify(path.parent)
    return path


def _download(fetch: Callable[[], str], place: str, alternative: str) -> Path:
    try:
        return Path(fetch())
    except Exception as error:  # network, quota, a moved file: the remedy is the same for all of them
        redact.clean(error)  # a hub may repeat a token in its answer, and a traceback shows this error
        reason = next(iter(str(error).splitlines()), "")
        raise CourseError(
            f"The rows could not be downloaded from {place} ({type(error).__name__}: {reason}). Try the other source"
            f" ({alternative!r}), or the bundled corpus, which needs no network ('bundled')."
        ) from error
