"""Write files and folders whole or not at all, and notice later damage.

A file is written under another name, flushed, then renamed. A folder is also sealed with the hashes of its files. Every
result of the course is written here. A kill, a full disk or a closed laptop leaves the old file or the new one, never
half of either, and a file that the disk lost or changed later is noticed before it is used.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_dir

from llmcourse._base.errors import CourseWarning

SEAL = "complete.json"
"""The file that is written last into a folder, with the SHA-256 of each of its files."""

ASIDE = ".aside"
"""The ending of half-written files and folders."""

LEFTOVER_S = 3600
"""Age in seconds above which a half-written file was left by a killed process."""


class Damaged(CourseWarning):
    """A file on the disk is not what was written there. The message names it and says what happens instead."""


def cache_dir() -> Path:
    """Return the course's own folder in the user's cache. The environment variable LLMCOURSE_CACHE moves it."""
    return Path(os.environ.get("LLMCOURSE_CACHE") or user_cache_dir("llmcourse"))


@contextlib.contextmanager
def report_full_disk(path: str | Path) -> Iterator[None]:
    """Raise OSError with this path when the disk is full, whatever a library raises. safetensors has its own error."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        if full and getattr(error, "filename", None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` (UTF-8) to `path`, whole or not at all. Return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{ASIDE}"):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                leftover.unlink()
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=ASIDE)
    try:
        with report_full_disk(path), open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all. Raises ValueError for NaN, which is not JSON."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`. When the block ends without an error, it is sealed and becomes `path`.

    An existing folder at `path` is replaced. If two processes do this at once, one waits. Half-written folders of
    killed processes are removed.
    """
    path = Path(path)
    with lock(path):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{ASIDE}"):
            shutil.rmtree(leftover, ignore_errors=True)  # its process held the lock, so it no longer runs
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=ASIDE))
        try:
            with report_full_disk(path):
                yield aside
                seal(aside)
            _replace_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def nearest_existing(path: str | Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = Path(path)
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def free_bytes(path: str | Path) -> int:
    """Return how many bytes are free on the disk where a file or folder is, or would be made."""
    return shutil.disk_usage(nearest_existing(path)).free


def seal(folder: str | Path, **more: Any) -> None:
    """Record the hashes of a folder's files, and `more` facts, so that `find_damage` notices any change."""
    folder = Path(folder)
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL)
    content = {**more, "sha256": {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in paths}}
    write_json(folder / SEAL, {**content, "check": short_hash(content)})


def read_seal(folder: str | Path) -> dict[str, Any]:
    """Return what was recorded when a folder was sealed. Raises ValueError if the seal is missing or has changed."""
    try:
        content = json.loads((Path(folder) / SEAL).read_text(encoding="utf-8"))
        check = content.pop("check")
    except FileNotFoundError:
        raise ValueError(f"it has no {SEAL}") from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(f"{SEAL} cannot be read") from None
    if check != short_hash(content):
        raise ValueError(f"{SEAL} has changed")
    return content


def find_damage(folder: str | Path) -> str:
    """Return what is wrong with a sealed folder, in a few words; empty if nothing is. Reads every byte."""
    folder = Path(folder)
    try:
        for name, digest in read_seal(folder)["sha256"].items():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                return f"{SEAL} names a file outside the folder"  # the folder may come from a stranger
            if not (folder / name).is_file():
                return f"{name} is missing"
            if sha256_of_file(folder / name) != digest:
                return f"{name} has changed"
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def set_aside(path: Path, why: str, instead: str) -> None:
    """Rename a damaged file or folder to `damaged-NAME` and warn, with the reason and what happens `instead`."""
    target = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(path, target)
    warnings.warn(f"{path} is damaged: {why}. It was renamed to {target.name}. {instead}", Damaged, stacklevel=3)


def _replace_folder(aside: Path, path: Path) -> None:
    os.chmod(aside, 0o777 & ~_umask())
    if path.exists():
        # rename() cannot replace a folder with content, so the old one is moved away first
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=ASIDE))
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
    """Return a lock between processes for `path`, a hidden file beside it, to be used as a context manager."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # one object for each path and process, so that a function which holds the lock can call one that takes it again
    return FileLock(path.parent / f".{path.name}.lock", timeout=timeout_s, is_singleton=True)


def sha256_of_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(value: Any) -> str:
    """Return twelve hexadecimal digits that depend only on a JSON-able value, not on the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
