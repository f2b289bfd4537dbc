"""The Hugging Face hub: may we have a repository, what of it is in the cache, and is that what the hub sent?

Only this module asks the hub about access. Preflight and `models.load` both act on `Access.standing`.

The cache keeps each file under its hash: `blobs/<SHA-256>` for large files, `blobs/<git's SHA-1>` for small ones, and
links to them under `snapshots/<commit>/`. We compare the two ourselves, because huggingface_hub's
`verify_repo_checksums` asks the hub for the hashes, so it fails offline, and reads every byte at each call.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmcourse._base import files
from llmcourse._base.errors import CourseError

Answer = Literal["open", "closed", "missing", "silent"]

TIMEOUT_S = 30
"""How long we wait for the hub to say whether a model may be downloaded, and what files it has."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASHES = {64: "SHA-256", 40: "SHA-1 (as git makes it)"}


@dataclass(frozen=True)
class Access:
    """How this machine stands with one repository of the hub, at one moment."""

    answer: Answer | None = None
    """The hub's answer; None if it was not asked, because all is cached or HF_HUB_OFFLINE is set."""
    cached: bool = False
    """Whether config and weights are in the cache."""
    token: bool = False
    """Whether there is a token; the token itself is not kept."""
    gated: bool = False
    """Whether the hub is known to ask for an account and a licence click."""

    @property
    def standing(self) -> Literal["cached", "open", "closed", "missing", "silent", "not asked"]:
        """What decides whether the repository can be loaded."""
        return "cached" if self.cached else self.answer or "not asked"

    @property
    def refused(self) -> bool:
        """Whether we know that the hub does not give us the repository."""
        return self.standing in ("closed", "missing") or (
            self.standing == "not asked" and self.gated and not self.token
        )


def find_access(repo: str, revision: str | None, gated: bool, timeout_s: float) -> Access:
    """Find out whether we can have a model's repository. Waits for the hub for `timeout_s` seconds at most."""
    from huggingface_hub import get_token

    token = get_token()  # from the environment, the token file or Colab's secrets
    cached = is_cached(repo, revision)
    answer = None if cached else ask(repo, token, timeout_s)
    return Access(answer, cached, bool(token), gated)


def ask(repo: str, token: str | None, timeout_s: float) -> Answer | None:
    """Ask the hub whether this token may read a model's repository. Returns None where HF_HUB_OFFLINE is set."""
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return None
    answers: list[Answer] = ["silent"]
    # a thread, because the client's timeout applies to each connection, not to the whole request
    request = threading.Thread(target=lambda: answers.append(_request(repo, token)), daemon=True)
    request.start()
    request.join(timeout_s)
    return answers[-1]


def _request(repo: str, token: str | None) -> Answer:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi(token=token or False).auth_check(repo)
    except GatedRepoError:
        return "closed"
    except RepositoryNotFoundError:
        return "missing"
    except HfHubHTTPError as error:
        return "closed" if error.response is not None and error.response.status_code in (401, 403) else "silent"
    except Exception:  # a missing network fails in many ways, and all of them mean that there is no answer
        return "silent"
    return "open"


def file_sizes(repo: str, revision: str | None) -> dict[str, int]:
    """Return the files of a model's repository, or of a local folder, with their bytes; empty if nobody can say."""
    from huggingface_hub import HfApi, is_offline_mode

    if Path(repo).is_dir():
        return {path.name: path.stat().st_size for path in Path(repo).iterdir() if path.is_file()}
    if is_cached(repo, revision) or is_offline_mode():
        return {}
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    except Exception:  # what is wrong is said when the config is read
        return {}
    return {file.rfilename: file.size or 0 for file in info.siblings or []}


# -- what is in the cache ----------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """Return the folder in which the hub's client keeps its downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_gib(repo: str) -> float:
    """Return how many GiB of a model's repository are in the cache, unfinished downloads included."""
    blobs = _model_folder(repo) / "blobs"
    return sum(path.stat().st_size for path in blobs.glob("*") if path.is_file()) / 2**30


def is_cached(repo: str, revision: str | None) -> bool:
    """Return whether config and safetensors weights of a model are in the cache, or `repo` is a local folder."""
    from huggingface_hub import try_to_load_from_cache

    def path(name: str) -> str | None:
        cached = try_to_load_from_cache(repo, name, revision=revision)
        return cached if isinstance(cached, str) else None

    if Path(repo).is_dir():
        return True
    if not path("config.json"):
        return False
    index = path("model.safetensors.index.json")
    if index is None:
        return path("model.safetensors") is not None
    try:
        parts = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return all(path(name) for name in parts)


def cached_commit(repo: str, revision: str | None) -> str | None:
    """Return the commit of a model that is in the cache; None for a local folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(repo).is_dir():
        return None
    config = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else None


def _model_folder(repo: str) -> Path:
    return cache_dir() / f"models--{repo.replace('/', '--')}"


# -- whether it is what the hub sent -----------------------------------------------------------------------------------


def verify_model(repo: str, commit: str | None) -> int:
    """`verify` what the cache holds of a model's repository: one commit, or all of them if None."""
    snapshots = _model_folder(repo) / "snapshots"
    return sum(map(verify, sorted(snapshots.glob(commit or "*"))))


def verify(snapshot: str | Path) -> int:
    """Compare the files of a folder `.../snapshots/<commit>` with their hashes. Return how many were read.

    A file is read again only when its size or time has changed since. Other folders are passed over, and so are files
    that are not links, as on a Windows without the right to make links: the cache does not keep their hashes. Raises
    CourseError for a file that differs from its hash.
    """
    snapshot = Path(snapshot)
    if snapshot.parent.name != "snapshots" or not _COMMIT.fullmatch(snapshot.name):
        return 0
    record = files.cache_dir() / "verified" / f"{snapshot.parent.parent.name}@{snapshot.name}.json"
    before, now, count = _read_record(record), {}, 0
    for path in sorted(path for path in snapshot.rglob("*") if path.is_symlink() and path.is_file()):
        blob = path.parent / os.readlink(path)  # one step only: the blob may itself link to a store with other names
        if blob.parent.name != "blobs" or len(blob.name) not in _HASHES:
            continue
        state = [blob.stat().st_size, blob.stat().st_mtime_ns]
        if before.get(blob.name) != state:
            _compare(path, blob)
            count += 1
        now[blob.name] = state
    if count:
        with contextlib.suppress(OSError):  # on a full or read-only disk, the files are read again next time
            files.write_json(record, now)
    return count


def fingerprint(folder: str | Path) -> str:
    """Return a SHA-256 that stands for the model in a local folder: its config and its safetensors weights.

    A file is read again only when its size or time has changed since.
    """
    folder = Path(folder).resolve()
    record = files.cache_dir() / "verified" / f"{files.short_hash(str(folder))}.json"
    before, now = _read_record(record), {}
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        state = [path.stat().st_size, path.stat().st_mtime_ns]
        known = before.get(path.name, [])
        now[path.name] = known if known[:2] == state else [*state, files.sha256_of_file(path)]
    if now != before:
        with contextlib.suppress(OSError):
            files.write_json(record, now)
    parts = "".join(f"{name} {state[2]}\n" for name, state in now.items())
    return hashlib.sha256(parts.encode()).hexdigest()


def _compare(path: Path, blob: Path) -> None:
    with open(blob, "rb") as file:
        if len(blob.name) == 64:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            actual = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode() + file.read()).hexdigest()
    if actual != blob.name:
        blob = Path(os.path.abspath(blob))
        raise CourseError(
            f"{path.name} is damaged, or is not the file that the hub named: its {_HASHES[len(blob.name)]} is {actual},"
            f" expected {blob.name}. Delete {blob} and load again. It will be downloaded anew."
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}
