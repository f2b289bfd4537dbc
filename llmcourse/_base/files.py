"""Files that are whole or not there: written aside, flushed, then renamed into place; folders sealed by the hashes of their files.

Every result that the course keeps goes through here, so a kill, a full disk or a closed laptop leaves the old file or
the new one, never half of either; and what a disk lost or changed afterwards is noticed before it is used.
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

from filelock import FileLock
from platformdirs import user_cache_dir

SEAL = "complete.json"
"""Written last into a folder: the SHA-256 of each of its files."""

ASIDE = ".aside"
"""How the names of half-written files and folders end."""

LEFTOVER_S = 3600
"""A half-written file that is older than this was left by a process that was killed."""


class Damaged(UserWarning):
    """Something on the disk is not what was written there. The message says what, and what is done instead."""


def cache_dir() -> Path:
    """The course's own folder in the user's cache; the environment variable LLMCOURSE_CACHE moves it."""
    return Path(os.environ.get("LLMCOURSE_CACHE") or user_cache_dir("llmcourse"))


@contextlib.contextmanager
def full_disk_told(path: str | Path) -> Iterator[None]:
    """A full disk is an OSError with the path in it, also where a library says it otherwise (safetensors: an Exception in words)."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        if full and getattr(error, "filename", None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{ASIDE}"):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                leftover.unlink()
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=ASIDE)
    try:
        with full_disk_told(path), open(handle, "w", encoding="utf-8", newline="") as file:
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


@contextlib.contextmanager
def folder_aside(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends without an error it is sealed and becomes `path`.

    A folder that stood at `path` is replaced. Two processes may do this at once: a lock lets one go first. What a killed
    process left half written is removed.
    """
    path = Path(path)
    with lock(path):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{ASIDE}"):
            shutil.rmtree(leftover, ignore_errors=True)  # whoever made it had the lock, and is gone
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=ASIDE))
        try:
            with full_disk_told(path):
                yield aside
                seal(aside)
            _replace_folder(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def seal(folder: str | Path, **more) -> None:
    """Write down the hashes of a folder's files, with `more` to say of it: from now on `damage` notices any change."""
    folder = Path(folder)
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != SEAL)
    content = {**more, "sha256": {file.relative_to(folder).as_posix(): sha256_of_file(file) for file in found}}
    write_json(folder / SEAL, {**content, "check": short_hash(content)})


def sealed(folder: str | Path) -> dict:
    """What the seal of a folder says. Raises ValueError, in a few words, if it is not there or not as it was written."""
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


def damage(folder: str | Path) -> str:
    """What is wrong with a sealed folder, in a few words; empty if every file is as it was written. Reads every byte."""
    folder = Path(folder)
    try:
        for name, digest in sealed(folder)["sha256"].items():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                return f"{SEAL} names a file outside of the folder"  # whoever made it may be a stranger
            if not (folder / name).is_file():
                return f"{name} is missing"
            if sha256_of_file(folder / name) != digest:
                return f"{name} has changed"
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def set_aside(path: Path, why: str, instead: str) -> None:
    """Rename what is damaged to `damaged-NAME`, for whoever wants to look into it, and say so and what is done `instead`."""
    target = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(path, target)
    warnings.warn(f"{path} is damaged: {why}. It was renamed to {target.name}. {instead}", Damaged, stacklevel=3)


def _replace_folder(aside: Path, path: Path) -> None:
    os.chmod(aside, 0o777 & ~_umask())
    if path.exists():
        # rename() cannot replace a folder that is not empty: the old one steps aside first
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
