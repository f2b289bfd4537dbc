"""Downloads from the Hugging Face hub, compared with the hashes that the hub gave them.

The hub's cache keeps each file under its hash: `blobs/<SHA-256>` for large files, `blobs/<git's SHA-1>` for small ones, and links
to them under `snapshots/<commit>/`. The client compares no more than sizes, and not at all what has been lying on the disk. Here
each file is read once after its download; a note of its size and time spares reading 14 GB at every start.
"""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from llmcourse._base import files
from llmcourse._base.errors import CourseError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASHES = {64: "SHA-256", 40: "SHA-1 (as git makes it)"}


def check_model(repo: str, commit: str | None) -> int:
    """`check` for what the cache holds of a model's repository: one commit, or all of them if None."""
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    return sum(map(check, sorted(snapshots.glob(commit or "*"))))


def check(snapshot: str | Path) -> int:
    """Compare the files of a folder `.../snapshots/<commit>` with their names; return how many were read.

    Anything else than such a folder is passed over, and so are files that are no links, as on a Windows that allows none: the hash
    that the hub gave is not kept there. Raises CourseError for a file that is not what its name says: damaged, or changed.
    """
    snapshot = Path(snapshot)
    if snapshot.parent.name != "snapshots" or not _COMMIT.fullmatch(snapshot.name):
        return 0
    mark = files.cache_dir() / "verified" / f"{snapshot.parent.parent.name}@{snapshot.name}.json"
    known, found, read = _marked(mark), {}, 0
    for path in sorted(path for path in snapshot.rglob("*") if path.is_symlink() and path.is_file()):
        blob = path.parent / os.readlink(path)  # one step: the blob may be a link itself, to a store under other names
        if blob.parent.name != "blobs" or len(blob.name) not in _HASHES:
            continue
        state = [blob.stat().st_size, blob.stat().st_mtime_ns]
        if known.get(blob.name) != state:
            _compare(path, blob)
            read += 1
        found[blob.name] = state
    if read:
        with contextlib.suppress(OSError):  # a full or locked disk: they are read again next time
            files.write_json(mark, found)
    return read


def _compare(path: Path, blob: Path) -> None:
    with open(blob, "rb") as file:
        if len(blob.name) == 64:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            found = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode() + file.read()).hexdigest()
    if found != blob.name:
        blob = Path(os.path.abspath(blob))
        raise CourseError(
            f"{path.name} is damaged, or is not what the hub named: its {_HASHES[len(blob.name)]} is {found}, expected"
            f" {blob.name}. Delete {blob} and load again; it is downloaded anew."
        )


def _marked(mark: Path) -> dict:
    try:
        known = json.loads(mark.read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}
