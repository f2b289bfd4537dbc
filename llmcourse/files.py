"""Files that are whole or not there: written aside, flushed, then renamed into place.

Every result that the course keeps goes through here, so a kill, a full disk or a closed laptop leaves the old file or
the new one, never half of either.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir


def cache_dir() -> Path:
    """The course's own folder in the user's cache; the environment variable LLMCOURSE_CACHE moves it."""
    return Path(os.environ.get("LLMCOURSE_CACHE") or user_cache_dir("llmcourse"))


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def write_json(path: str | Path, value) -> Path:
    """Write `value` as indented JSON, whole or not at all. NaN is refused: it is not JSON, and never a result."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends without an error it becomes `path`.

    A folder that stood at `path` is replaced. Two processes may do this at once: a lock lets one go first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield aside
        with lock(path):
            _replace_folder(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace_folder(aside: Path, path: Path) -> None:
    os.chmod(aside, 0o777 & ~_umask())
    if path.exists():
        # rename() cannot replace a folder that is not empty: the old one steps aside first
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
        os.replace(path, old)
        try:
            os.replace(aside, path)
        except BaseException:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(aside, path)


def lock(path: str | Path, timeout_s: float = -1) -> FileLock:
    """A lock between processes that guards `path` (a hidden file beside it); use it as a context manager."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # one object per path and process, so that whoever holds the lock may take it again further in
    return FileLock(path.parent / f".{path.name}.lock", timeout=timeout_s, is_singleton=True)


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(value) -> str:
    """Twelve hexadecimal digits that name a JSON-able value: the same value always gets the same name."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
