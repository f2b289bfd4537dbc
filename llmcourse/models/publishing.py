"""Publish the folder of an adapter or a merged model on the Hugging Face hub."""

import re
from pathlib import Path

from llmcourse._base import redact
from llmcourse._base.errors import CourseError

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def check(repo: str) -> None:
    """Raise CourseError, before any work, if nothing could be published under this name from this machine."""
    from huggingface_hub import get_token, is_offline_mode

    if not _NAME.fullmatch(repo):
        raise CourseError(f"--push {repo} is not a repository name. Write it as owner/name.")
    if is_offline_mode():
        raise CourseError("HF_HUB_OFFLINE is set, so nothing can be published. Unset it.")
    if not get_token():
        raise CourseError(
            "Publishing needs a token of your account. Make one with the right to write on"
            " https://huggingface.co/settings/tokens, and set HF_TOKEN or run: hf auth login"
        )


def contents(folder: str | Path) -> dict[str, int]:
    """Return the files of a folder that `push` would publish, and their bytes. Hidden files and subfolders stay."""
    paths = (path for path in sorted(Path(folder).iterdir()) if path.is_file() and not path.name.startswith("."))
    return {path.name: path.stat().st_size for path in paths}


def push(folder: str | Path, repo: str, names: list[str]) -> str:
    """Upload these files of a folder to a repository, which is made if it does not exist. Return its address.

    Raises CourseError if the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        url = api.create_repo(repo, exist_ok=True)
        operations = [CommitOperationAdd(name, str(Path(folder) / name)) for name in names]
        api.create_commit(repo, operations, commit_message="Upload with llmcourse export")
    except Exception as error:  # a refusal and a missing network come in many types
        reason = redact.reason(error)  # a hub may repeat a token in its answer
        raise CourseError(
            f"{repo} was not published: {reason} The folder {folder} is complete. To upload it again:"
            f" hf upload {repo} {folder}"
        ) from error
    return str(url)
