"""Whole or not there."""

import json

import pytest

from llmcourse import files


def test_text_replaces_whole(tmp_path):
    path = files.write_text(tmp_path / "new" / "a.txt", "one")
    files.write_text(path, "zwei\r\n")
    assert path.read_bytes() == b"zwei\r\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "a.json", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / "a.json", {"b": "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": "ü"}


def test_folder_appears_at_the_end_only(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(RuntimeError), files.folder_aside(folder) as aside:
        (aside / "half").write_text("x")
        raise RuntimeError("killed")
    assert not folder.exists()
    for content in ("first", "second"):
        with files.folder_aside(folder) as aside:
            (aside / content).write_text("x")
            assert not (folder / content).exists()
    assert [p.name for p in folder.iterdir()] == ["second"]


def test_short_hash_ignores_the_order_of_keys():
    assert files.short_hash({"a": 1, "b": [2]}) == files.short_hash({"b": [2], "a": 1})
    assert files.short_hash({"a": 1}) != files.short_hash({"a": 2})
