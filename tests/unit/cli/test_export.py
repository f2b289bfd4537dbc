"""`llmcourse export` on the command line: what it says, asks, publishes and refuses."""

import pytest
from commands import run
from hub_server import serving
from huggingface_hub import constants

from llmcourse import models
from llmcourse.experiment import exporting

TOKEN = "hf_" + "Q7xLk2Vd" * 4
ADAPTER = models.shipped_adapter("sarcasm")


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine, and a token for it."""
    with serving({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", hub.url, raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def asked(monkeypatch):
    """What the command is asked to export, in place of the work."""
    calls = []

    def export(adapter, out, rows, *options):
        calls.append((adapter, out, len(rows), *options))
        out.mkdir()
        (out / "README.md").write_text("# the card", encoding="utf-8")
        return exporting.Exported(out, "float16", len(rows), 0, 0)

    monkeypatch.setattr(exporting, "export", export)
    return calls


def test_a_merged_model_and_its_comparison(asked, tmp_path, capsys):
    assert run("export", "--out", tmp_path / "out", "--rows", 3, "--gguf") == 0
    assert asked == [(ADAPTER, tmp_path / "out", 3, None, None, True)]
    out = capsys.readouterr().out
    assert "is the merged model, in float16" in out and "All 3 answers are the same before and after merging." in out


def test_rows_of_a_file(asked, tmp_path):
    (tmp_path / "rows.csv").write_text("post,comment\na,b\nc,d\n", encoding="utf-8")
    options = ("--file", tmp_path / "rows.csv", "--column", "parent_comment=post")
    assert run("export", "--out", tmp_path / "out", *options) == 0
    assert asked[0][2] == 2


def test_what_will_be_public_is_shown_and_published_after_a_yes(hub, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    assert run("export", "--push", "me/sarcasm") == 0
    said = capsys.readouterr()
    files = {path.name: path.read_bytes() for path in ADAPTER.iterdir()}
    assert hub.published == files
    for name, content in files.items():
        assert f"{len(content):>15,} bytes  {name}" in said.out
    assert (ADAPTER / "README.md").read_text(encoding="utf-8").rstrip() in said.out
    assert f"Published: {hub.url}/me/sarcasm" in said.out
    assert hub.heard and set(hub.heard) == {f"Bearer {TOKEN}"} and TOKEN not in said.out + said.err


def test_a_merged_model_is_published_with_yes(asked, hub, tmp_path, capsys):
    assert run("export", "--out", tmp_path / "out", "--rows", 0, "--push", "me/merged", "--yes") == 0
    assert hub.published == {"README.md": b"# the card"} and "# the card" in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["", "no", "y"])
def test_nothing_is_published_without_a_yes(answer, hub, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert run("export", "--push", "me/sarcasm") == 2
    assert not hub.published and not hub.heard and "Nothing was published" in capsys.readouterr().err


def test_a_refusal_shows_no_token(hub, capsys):
    hub.refuse = 403
    assert run("export", "--push", "me/sarcasm", "--yes") == 2
    said = capsys.readouterr()
    assert "me/sarcasm was not published" in said.err and TOKEN not in said.out + said.err
    assert set(hub.heard) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name a new folder: --out FOLDER"),
        (["--push", "sarcasm"], "Write it as owner/name"),
        (["--push", "me/sarcasm", "--gguf"], "--gguf has no effect without --out"),
        (["--out", "new", "--column", "comment=body"], "--column describes a file"),
    ],
)
def test_what_has_no_effect_is_refused(options, message, hub, asked, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run("export", *options) == 2
    assert message in capsys.readouterr().err and not asked and not hub.heard


def test_without_a_token_nothing_begins(hub, asked, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert run("export", "--out", tmp_path / "out", "--push", "me/sarcasm") == 2
    assert "Publishing needs a token" in capsys.readouterr().err and not asked
