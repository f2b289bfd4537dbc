"""Which models' rows share a batch and which are computed alone, and that the user is told so."""

import architectures
import pytest
import transformers
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llmcourse import CourseError, models, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import sharing, usable
from llmcourse.predict.prompts import Prompt

OBSTACLES = {
    "gpt_neo": "counts padding in its attention",
    "mpt": "is not told the positions of its tokens",
}
ROWS = [{"row": 1, "label": 0, "parent_comment": "a parent", "comment": "a reply"}]


@pytest.mark.parametrize("name", [*architectures.CONFIGS, *architectures.ALONE])
def test_a_model_shares_unless_something_is_in_the_way(name):
    alone = OBSTACLES.get(name, "keeps a state that rows cannot share") if name in architectures.ALONE else ""
    assert sharing.obstacle(architectures.config_of(name, 100)) == alone


LFM2 = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}
"""What every LFM2 has, and its default config has not."""


def sort_of(kind: str) -> str:
    """Return what becomes of a type with its default settings: refused, alone or shared."""
    try:
        config = CONFIG_MAPPING[kind](**(LFM2 if kind in ("lfm2", "lfm2_moe") else {}))
        usable.refuse_architecture(usable.Repository(kind, kind, {**config.to_dict(), "model_type": kind}, {}))
    except CourseError:
        return "refused"
    return "alone" if sharing.obstacle(config) else "shared"


@pytest.mark.skipif(not transformers.__version__.startswith("5.23."), reason="the list is that of transformers 5.23")
def test_the_list_of_types_is_true():
    listed = sharing.__doc__.partition("by their usual settings:\n\n")[2].partition("\n\n")[0].split()
    known = [kind for kind in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) if kind not in usable.UNTESTED]
    assert [kind for kind in known if sort_of(kind) == "alone"] == listed


WINDOWS = {
    "llama": None,
    "qwen2": None,
    "mistral, sliding window": architectures.WINDOW,
    "qwen2, window in upper layers": architectures.WINDOW,
    "gemma3_text": architectures.WINDOW,
    "phi3": architectures.WINDOW,
}


@pytest.mark.parametrize("name", WINDOWS)
def test_the_window_is_that_of_the_layers(name):
    assert sharing.window(architectures.config_of(name, 100)) == WINDOWS[name]


def test_a_window_can_be_a_chunk_or_belong_to_layers_only():
    llama4 = {**architectures.LLAMA, "attention_chunk_size": 24}
    assert sharing.window(AutoConfig.for_model("llama4_text", **llama4)) == 24
    types = {"sliding_window": 24, "layer_types": ["full_attention"] * 3}
    assert sharing.window(AutoConfig.for_model("gemma3_text", **{**architectures.LLAMA, **types})) is None


@pytest.fixture
def folder(tmp_path, tokenizer, monkeypatch):
    """A tiny Mamba in a folder, as someone would bring it."""
    monkeypatch.setattr(models.loading, "_loaded", None)  # or it would free the model that other tests share
    loaded = architectures.make("mamba", tokenizer)
    loaded.model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    yield tmp_path / "theirs"
    models.free()


def test_the_user_is_told_that_rows_are_computed_alone(folder):
    loaded = models.load(str(folder))
    assert loaded.note == (
        f"{folder} keeps a state that rows cannot share, so each row is computed alone, which takes longer."
    )
    assert models.load(str(folder)).note == loaded.note
    assert predict.score(loaded, Prompt(SARCASM), ROWS).labels
