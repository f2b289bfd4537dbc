"""Whole or not there."""

import json
import os
import random

import pytest

from llmcourse._base import files


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
    assert {p.name for p in folder.iterdir()} == {"second", files.SEAL} and not files.find_damage(folder)


def test_short_hash_ignores_the_order_of_keys():
    assert files.short_hash({"a": 1, "b": [2]}) == files.short_hash({"b": [2], "a": 1})
    assert files.short_hash({"a": 1}) != files.short_hash({"a": 2})


def test_what_killed_processes_left_is_removed(tmp_path):
    """A folder that is made under the lock: at once; a file: when it is old, as its writer may still live."""
    (tmp_path / ".model.x1.aside").mkdir()
    (tmp_path / ".model.x1.aside" / "half").write_text("x")
    with files.folder_aside(tmp_path / "model") as aside:
        (aside / "a").write_text("x")
    # some versions of filelock remove the lock's file when the lock is released
    assert {path.name for path in tmp_path.iterdir()} - {".model.lock"} == {"model"}
    old, young = tmp_path / ".a.txt.x1.aside", tmp_path / ".a.txt.x2.aside"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    files.write_text(tmp_path / "a.txt", "whole")
    assert young.exists() and not old.exists()


def test_a_seal_notices_every_change(tmp_path):
    folder = tmp_path / "kept"
    (folder / "below").mkdir(parents=True)
    for name in ("a.bin", "below/b.bin"):
        (folder / name).write_bytes(bytes(range(256)))
    files.seal(folder, seconds=1.5)
    assert files.find_damage(folder) == "" and files.read_seal(folder)["seconds"] == 1.5
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    luck = random.Random(0)
    for path, content in whole.items():
        for _ in range(60):
            place = luck.randrange(len(content))
            flipped = content[:place] + bytes([content[place] ^ 1 << luck.randrange(8)]) + content[place + 1 :]
            for changed in (flipped, content[:place]):
                path.write_bytes(changed)
                assert files.find_damage(folder), (path.name, place)
        path.unlink()
        assert files.find_damage(folder)
        path.write_bytes(content)
    assert files.find_damage(folder) == ""


def test_a_seal_does_not_reach_outside(tmp_path):
    """A stranger's seal may name any path: a device that never ends, a file that is none of his business."""
    (tmp_path / "kept").mkdir()
    for name in ("/dev/zero", "../other"):
        content = {"sha256": {name: "0"}}
        files.write_json(tmp_path / "kept" / files.SEAL, {**content, "check": files.short_hash(content)})
        assert files.find_damage(tmp_path / "kept") == "complete.json names a file outside the folder"


def test_what_is_damaged_is_set_aside_and_said(tmp_path):
    (tmp_path / "kept").mkdir()
    for content in ("first", "second"):  # a second one takes the first one's place
        (tmp_path / "kept").mkdir(exist_ok=True)
        (tmp_path / "kept" / "a").write_text(content)
        with pytest.warns(
            files.Damaged, match=r"kept is damaged: a has changed. It was renamed to damaged-kept. Asked anew"
        ):
            files.set_aside(tmp_path / "kept", "a has changed", "Asked anew.")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged-kept"]
    assert (tmp_path / "damaged-kept" / "a").read_text() == "second"
