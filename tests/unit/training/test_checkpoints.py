"""Checkpoints: only a whole one is gone on from."""

import pytest

from llmcourse._base import files
from llmcourse.training.checkpoints import last_checkpoint


def test_a_checkpoint_that_is_not_whole_is_not_used(tmp_path):
    for step, content in ((2, b"whole"), (4, b"whole"), (6, b"cut short")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(content)
        if step < 6:
            files.seal(folder)
    assert last_checkpoint(tmp_path).name == "checkpoint-4"
    (tmp_path / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"whale")
    with pytest.warns(files.Damaged, match=r"checkpoint-4 is damaged: adapter_model.safetensors has changed.*resumes"):
        assert last_checkpoint(tmp_path).name == "checkpoint-2"
    assert (tmp_path / "damaged-checkpoint-4").is_dir()
    assert last_checkpoint(tmp_path / "nowhere") is None
