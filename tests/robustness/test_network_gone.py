"""The network goes away in the middle of a download: an error that says what to do, nothing half taken for whole, and
then the rows."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import architectures
import hub_server
import pytest

from llmcourse import CourseError, data, models
from llmcourse.data import tasks

TASK = dataclasses.replace(tasks.SARCASM, hub=("someone/rows", "rows.csv", hub_server.COMMIT))
ROWS = "label,comment,parent_comment\n" + "".join(
    f'{i % 2},"reply number {i}, as people write it","parent {i} of it"\n' for i in range(2000)
)


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """The hub's client as it is online, with an empty cache, and waiting no second between its tries."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "course"))
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch, cache):
    from huggingface_hub import constants

    with hub_server.serving({"rows.csv": ROWS.encode()}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


def files_of(cache: Path) -> list[Path]:
    """What the client takes for whole; some of its versions go on with an `.incomplete` file later."""
    found = (path for path in cache.rglob("*") if path.is_file() and "blobs" in path.parts)
    return [path for path in found if path.suffix != ".incomplete"]


def test_a_cut_download_of_rows_is_no_file_and_the_next_try_gives_the_rows(hub, cache, tmp_path):
    hub.cut_at = len(ROWS) // 2
    with pytest.raises(CourseError, match=r"could not be downloaded from the hub.*'kaggle'.*'bundled'"):
        data.load(TASK, "hub")
    assert hub.gone
    assert files_of(cache) == []  # no half file that could be taken for a whole one
    with pytest.raises(CourseError, match="could not be downloaded"):  # still no network: still no rows
        data.load(TASK, "hub")

    hub.cut_at, hub.gone = None, False
    (tmp_path / "rows.csv").write_text(ROWS)
    found, wanted = data.load(TASK, "hub", n_test=100), data.load(TASK, tmp_path / "rows.csv", n_test=100)
    assert (found.train_id, found.test_id) == (wanted.train_id, wanted.test_id)
    assert found.report["sha256"] == hub_server.etag(ROWS.encode())

    hub.gone = True  # and from now on the cache does
    assert data.load(TASK, "hub", n_test=100).test_id == wanted.test_id


def test_a_connection_that_breaks_once_is_taken_up_where_it_broke(hub, cache, monkeypatch):
    from huggingface_hub import file_download

    hub.cut_at = len(ROWS) // 2

    def network_comes_back(seconds):
        hub.cut_at, hub.gone = None, False

    monkeypatch.setattr(file_download.time, "sleep", network_comes_back)
    assert data.load(TASK, "hub").report["sha256"] == hub_server.etag(ROWS.encode())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that Windows seldom gives")
def test_rows_that_are_not_what_the_hub_named_are_refused(hub, cache, monkeypatch):
    """The size is right, a byte is not: the client does not notice."""
    damaged = ROWS.replace("reply number 7,", "reply number 9,", 1)
    assert len(damaged) == len(ROWS)
    hub.files["rows.csv"] = damaged.encode()
    monkeypatch.setattr(hub_server, "etag", lambda content: hashlib.sha256(ROWS.encode()).hexdigest())
    for _ in range(2):  # it is not taken for good the second time
        with pytest.raises(CourseError, match=r"rows.csv is damaged.*expected.*Delete .*blobs") as error:
            data.load(TASK, "hub")

    hub.files["rows.csv"] = ROWS.encode()
    Path(str(error.value).split("Delete ")[1].split(" and ")[0]).unlink()  # as it says
    assert data.load(TASK, "hub").report["sha256"] == hub_server.etag(b"")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that Windows seldom gives")
def test_a_cut_download_of_a_model_is_no_model_and_the_next_try_loads_it(hub, cache, make_tiny, tmp_path):
    import torch

    tiny = make_tiny()
    tiny.model.save_pretrained(tmp_path / "tiny")
    tiny.tokenizer.save_pretrained(tmp_path / "tiny")
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    base = dataclasses.replace(
        models.catalogue.base("qwen3-4b"), name="tiny", repo="someone/tiny", revision=hub_server.COMMIT
    )
    hub.cut_at = len(hub.files["model.safetensors"]) - 1000  # the other files are shorter, and pass
    longest_other = max(len(content) for name, content in hub.files.items() if name != "model.safetensors")
    assert hub.cut_at > longest_other
    with pytest.raises(CourseError, match=r"someone/tiny cannot be loaded.*preflight"):
        models.from_hub(base)
    sizes = {path.stat().st_size for path in files_of(cache)}
    assert sizes and max(sizes) < hub.cut_at  # what was whole is kept, the weights are not there

    hub.cut_at, hub.gone = None, False
    model, _ = models.from_hub(base)
    for one, other in zip(model.parameters(), tiny.model.parameters(), strict=True):
        assert torch.equal(one, other)

    (weights,) = (path for path in files_of(cache) if path.stat().st_size > longest_other)
    whole = weights.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1000]):  # a bit turned over; an end lost
        weights.write_bytes(damaged)
        with pytest.raises(CourseError, match=f"^model.safetensors is damaged.* Delete {weights} and load again"):
            models.from_hub(base)


def test_any_repository_is_loaded_by_its_name(hub, cache, tokenizer, tmp_path, monkeypatch):
    """A model that the course does not know, of another architecture, with the commit that the hub names."""
    monkeypatch.setattr(models.loading, "_loaded", None)  # or it would free the model that other tests share
    theirs = architectures.make("olmo2", tokenizer)
    theirs.model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    try:
        loaded = models.load("someone/olmo")
        assert loaded.base["name"] == "someone/olmo" and loaded.base["commit"] == hub_server.COMMIT
        assert models.load("someone/olmo") is loaded
        assert models.catalogue.base("someone/olmo").shape.architecture == "olmo2"
    finally:
        models.free()


def test_a_repository_that_cannot_be_used_is_refused_before_its_weights_are_fetched(hub, cache):
    hub.files = {
        "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}',
        "model.safetensors": b"x" * 9,
    }
    with pytest.raises(CourseError, match="someone/bert is a BertModel, which does not predict the next token"):
        models.load("someone/bert")
    hub.files = {"config.json": b'{"model_type": "llama"}', "pytorch_model.bin": b"x" * 9}
    with pytest.raises(CourseError, match=r"has its weights only as pytorch_model.bin"):
        models.load("someone/old")
    assert not [path for path in files_of(cache) if path.read_bytes() == b"x" * 9]
