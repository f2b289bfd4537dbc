"""No access token is written anywhere: planted ones are searched for in messages, tracebacks, results, adapters, reports, notebooks."""

import base64
import dataclasses
import os
import subprocess
import sys
import traceback
from pathlib import Path

import hub_server
import pytest

from llmcourse import CourseError, data
from llmcourse._base import redact
from llmcourse.data import tasks

TOKEN = "hf_" + "PlantedInTheEnvironment0123456789X"
IN_FILE = "hf_" + "PlantedInTheFileOfTheHub0123456789"
KAGGLE = "feedc0de" * 4
BASIC = base64.b64encode(f"someone:{KAGGLE}".encode()).decode()
SECRETS = (TOKEN, IN_FILE, KAGGLE, BASIC)
assert len(TOKEN) == len(IN_FILE) == 37

TASK = dataclasses.replace(tasks.SARCASM, hub=("someone/rows", "rows.csv", hub_server.COMMIT))


@pytest.fixture
def planted(monkeypatch, tmp_path) -> dict[str, str]:
    """A home with tokens in every place where one can lie; returns the environment."""
    home = tmp_path / "home"
    (home / "hf").mkdir(parents=True)
    (home / "hf" / "token").write_text(IN_FILE + "\n")
    places = {
        "HOME": home,
        "HF_HOME": home / "hf",
        "LLMCOURSE_CACHE": tmp_path / "course",
        "KAGGLEHUB_CACHE": tmp_path / "kaggle",
        "XDG_CACHE_HOME": home / ".cache",
    }
    values = {name: str(value) for name, value in places.items()}
    values |= {"HF_TOKEN": TOKEN, "KAGGLE_USERNAME": "someone", "KAGGLE_KEY": KAGGLE}
    for name in ("HF_TOKEN_PATH", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


def none_in(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text


@pytest.mark.parametrize("secret", SECRETS)
def test_a_token_is_taken_out_of_every_part_of_an_error(planted, secret):
    def fail():
        try:
            try:
                raise KeyError(f"Authorization: Basic {secret}" if secret == BASIC else secret)
            except KeyError:
                error = OSError(5, f"sent Basic {secret}", f"/x?token={secret}" if secret != BASIC else None)
                error.server_message = f"Basic {secret}"
                error.add_note(f"Basic {secret}")
                raise error  # noqa: B904  what was being handled is shown as well
        except OSError as error:
            raise CourseError(f"It failed: {error.server_message}. Try again.") from error

    with pytest.raises(CourseError, match=r"^It failed: .*hidden.*\. Try again\.$") as caught:
        fail()
    text = shown(caught.value)
    none_in(text + repr(vars(caught.value.__cause__)))
    assert text.count(redact.HIDDEN) >= 4


def test_what_is_no_token_stays(planted):
    text = "hf_hub_download of a basic understanding, Basic instructions; hf_token, HF_TOKEN; 0123456789abcdef" * 2
    assert redact.redacted(text) == text
    assert redact.redacted("hf_" + "b" * 34) == redact.HIDDEN  # somebody else's
    for kind in ("oauth", "oauth_", "jwt"):  # of a login by device, and of CI
        assert redact.redacted(f"hf_{kind}_" + "eyJh.bGci-Oi_JI.x" * 2) == redact.HIDDEN


def test_tokens_in_files_are_known_whatever_they_look_like(planted, tmp_path):
    (tmp_path / "home" / "hf" / "token").write_text("a-token-of-another-kind\n")
    assert redact.redacted("sent a-token-of-another-kind.") == f"sent {redact.HIDDEN}."
    (tmp_path / "home" / ".kaggle").mkdir()
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text('{"username": "someone", "key": "c0ffee0123456789"}')
    (tmp_path / "home" / ".kaggle" / "access_token").write_text("KGAT_short-one\n")
    assert redact.redacted("c0ffee0123456789, KGAT_short-one") == f"{redact.HIDDEN}, {redact.HIDDEN}"


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


def test_a_traceback_that_nobody_foresaw_shows_none(planted, capsys):
    try:
        raise RuntimeError(f"sent {TOKEN}") from ValueError(KAGGLE)
    except RuntimeError as error:
        redact.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "RuntimeError: sent" in said and "ValueError" in said
    none_in(said)


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
        assert done.returncode != 0 and said in done.stdout + done.stderr, done.stderr
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
