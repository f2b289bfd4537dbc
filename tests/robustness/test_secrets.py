"""No access token is written anywhere: planted ones are searched for in messages, tracebacks, results, adapters,
reports, notebooks."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import pytest
from planted_tokens import BASIC, IN_FILE, SECRETS, TOKEN, none_in, plant, shown

from llmcourse import CourseError, data
from llmcourse._base import redact
from llmcourse.data import tasks

TASK = dataclasses.replace(tasks.SARCASM, hub=("someone/rows", "rows.csv", hub_server.COMMIT))


@pytest.fixture
def planted(monkeypatch, tmp_path) -> dict[str, str]:
    return plant(monkeypatch, tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_hub_that_repeats_the_token_finds_no_echo(planted, monkeypatch, capfd, status):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_server.serving({}) as hub:
        hub.refuse = status
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(CourseError, match="could not be downloaded from the hub") as caught:
            data.load(TASK, "hub")
        assert f"Bearer {TOKEN}" in hub.heard  # it was sent, and came back
    none_in(shown(caught.value) + "".join(capfd.readouterr()))


PROGRAM = """
import dataclasses, sys
from llmcourse.models import catalogue
from llmcourse import cli
from llmcourse.data import tasks
url, commit, *arguments = sys.argv[1:]
catalogue.BASES["qwen3-4b"] = dataclasses.replace(catalogue.base("qwen3-4b"), repo="someone/tiny", revision=commit)
tasks.TASKS["sarcasm"] = dataclasses.replace(tasks.SARCASM, hub=("someone/rows", "rows.csv", commit))
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url
if arguments == ["unforeseen"]:
    import os
    catalogue.table = lambda: {}[os.environ["HF_TOKEN"]]
    arguments = ["models"]
sys.exit(cli.main(arguments))
"""

NOTEBOOK = """
import dataclasses
from llmcourse import CourseError, data
from llmcourse.data import tasks
task = dataclasses.replace(tasks.SARCASM, hub=("someone/rows", "rows.csv", "COMMIT"))
try:
    data.load(task, "hub")
except CourseError as error:
    print(repr(error), repr(error.__cause__), vars(error.__cause__))
"""


def kept(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder, but for the one in which the token was planted."""
    planted = folder / "home" / "hf" / "token"
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path != planted}


def none_kept(folder: Path) -> None:
    for path, content in kept(folder).items():
        for secret in SECRETS:
            assert secret.encode() not in content, path


@pytest.fixture
def online(planted, monkeypatch, tmp_path):
    """A hub on this machine; `run(...)` is the command as a shell starts it, with planted tokens."""
    import llmcourse

    with hub_server.serving({}) as hub:
        env = os.environ | planted
        env |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "LLMCOURSE_GEAR": "cpu", "HF_HUB_DISABLE_TELEMETRY": "1"}
        env["PYTHONPATH"] = str(Path(llmcourse.__file__).parents[1])

        def run(*arguments, **changes):
            command = [sys.executable, "-c", PROGRAM, hub.url, hub_server.COMMIT, *arguments]
            settings = {name: value for name, value in (env | changes).items() if value}
            done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=280)
            none_in(done.stdout + done.stderr)
            return done

        yield hub, run, env


@pytest.mark.trust
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "--data", "hub"), "could not be downloaded from the hub"),
        (("evaluate", "--data", "kaggle"), "could not be downloaded from Kaggle"),
        (("evaluate", "--data", "rows.csv", "--model", "qwen3-4b"), "someone/tiny"),
        (("preflight", "--model", "qwen3-4b"), ""),
        (("unforeseen",), "KeyError"),
    ],
)
@pytest.mark.parametrize("status", [401, 500])
def test_a_command_that_fails_says_no_token(online, tmp_path, arguments, said, status):
    hub, run, _ = online
    hub.refuse = status
    (tmp_path / "rows.csv").write_text(rows())
    for changes in ({}, {"HF_TOKEN": ""}):  # that of the environment, then that of the file
        if changes and arguments == ("unforeseen",):
            continue
        hub.heard.clear()
        done = run(*arguments, **changes)
        # preflight only notes a hub that does not answer
        assert done.returncode or arguments[0] == "preflight", done.stderr
        assert said in done.stdout + done.stderr, done.stderr
        wanted = BASIC if "kaggle" in arguments else IN_FILE if changes else TOKEN
        assert arguments == ("unforeseen",) or any(wanted in one for one in hub.heard)
    none_kept(tmp_path)


@pytest.mark.trust
def test_a_run_keeps_no_token(online, make_tiny, tmp_path):
    """The whole comparison with a model from the hub: everything that it writes, and everything that it says."""
    hub, run, _ = online
    tiny = make_tiny()
    tiny.model.save_pretrained(tmp_path / "tiny")
    tiny.tokenizer.save_pretrained(tmp_path / "tiny")
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    (tmp_path / "rows.csv").write_text(rows())
    settings = [part for value in ("epochs=1", "upper_layers=1", "r=2") for part in ("--set", value)]
    done = run("demo", "--data", "rows.csv", "--model", "qwen3-4b", "--record", *settings)
    assert done.returncode == 0, done.stderr
    assert f"Bearer {TOKEN}" in hub.heard
    endings = {path.suffix for path in kept(tmp_path / "runs")}
    assert {".json", ".safetensors", ".html"} <= endings  # results, adapters, the report
    none_kept(tmp_path)


@pytest.mark.trust
def test_a_notebook_keeps_no_token(online, tmp_path):
    import nbclient
    import nbformat

    hub, _, env = online
    hub.refuse = 401
    code = NOTEBOOK.replace("COMMIT", hub_server.COMMIT)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (code, 'data.load(task, "hub")')]
    )
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True)
    client.execute(env=env, cwd=str(tmp_path))
    nbformat.write(notebook, tmp_path / "run.ipynb")
    text = (tmp_path / "run.ipynb").read_text(encoding="utf-8")
    assert f"Bearer {TOKEN}" in hub.heard
    assert "could not be downloaded from the hub" in text and "Traceback" in text and redact.HIDDEN in text
    none_kept(tmp_path)


def rows() -> str:
    lines = [f"{i % 2},reply {i},parent {i // 2}" for i in range(60)]
    return "\n".join(["label,comment,parent_comment", *lines]) + "\n"
