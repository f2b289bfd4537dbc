"""Features: a row's vector is the mean over its text's own tokens in the middle layers, whatever stands beside it."""

from functools import partial

import numpy as np
import pytest
import torch

from llmcourse import predict
from llmcourse.data.tasks import SARCASM, SENTIMENT
from llmcourse.experiment import baselines
from llmcourse.predict import features
from llmcourse.predict.prompts import Prompt

ROWS = [
    {
        "parent_comment": "The bus came late" + " again" * i,
        "comment": "Great: " + "so " * i + "punctual!",
        "label": i % 2,
    }
    for i in range(7)
]


def test_a_rows_vector_is_the_mean_over_layers_and_over_the_replys_tokens(make_tiny):
    loaded = make_tiny(num_hidden_layers=4)
    rows = [*ROWS, {**ROWS[0], "comment": "my reply: no, reply:"}]  # the text may contain its own name
    found = features.hidden_states(loaded, SARCASM, rows)
    assert found.shape == (8, 32) and found.dtype == np.float32
    for row, vector in zip(rows, found, strict=True):
        text = Prompt(SARCASM, instruction=False).text(row)
        before = text[: text.index("reply:") + len("reply:")]
        start = len(loaded.tokenizer(before).input_ids)
        end = len(loaded.tokenizer(before + " " + row["comment"]).input_ids)
        with torch.no_grad():
            states = loaded.model(
                torch.tensor([loaded.tokenizer(text).input_ids]), output_hidden_states=True
            ).hidden_states
        # of 4 layers, those from 0.45 x 4 to 0.75 x 4; entry 0 is the embedding, and the last one is normalised
        middle = [states[layer + 1] for layer in (2,)]
        wanted = [*middle, _before_norm(loaded, text)]
        expected = torch.stack([state[0, start:end].mean(0) for state in wanted]).mean(0)
        assert vector == pytest.approx(expected.numpy(), abs=1e-4)


def _before_norm(loaded, text):
    kept = []
    hook = loaded.model.model.layers[3].register_forward_hook(
        lambda module, inputs, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        loaded.model(torch.tensor([loaded.tokenizer(text).input_ids]))
    hook.remove()
    return kept[0]


def test_an_adapter_changes_no_feature(make_tiny, tmp_path):
    from small import ONE_EPOCH

    from llmcourse.training import finetuning

    loaded = make_tiny()
    before = features.hidden_states(loaded, SARCASM, ROWS)
    finetuning.finetune(loaded, SARCASM, ROWS, ONE_EPOCH, tmp_path)
    assert np.allclose(features.hidden_states(loaded, SARCASM, ROWS), before, atol=1e-6)


def test_the_embedded_model_knows_feelings_that_its_prompt_does_not_reach(embedded_model):
    """Logistic regression on its vectors separates texts that it never saw; so the features are the right ones."""
    words = {0: "It opens at", 1: "I hate waiting until", 2: "I love that it opens at"}
    rows = [{"text": f"{words[label]} {hour}.", "label": label} for hour in range(1, 25) for label in words]
    answer = partial(baselines.frozen_features, embedded_model)(SENTIMENT, rows[:48])
    assert answer(rows[48:]).labels == [row["label"] for row in rows[48:]]


def test_a_text_that_is_cut_away_has_a_vector_all_the_same(tiny):
    rows = [{"parent_comment": "x " * 400, "comment": "", "label": 0}, {**ROWS[0], "comment": "reply: reply:"}]
    assert np.isfinite(features.hidden_states(tiny, SARCASM, rows, max_length=64)).all()


def test_scores_are_not_touched(tiny):
    prompt = Prompt(SARCASM)
    before = predict.score(tiny, prompt, ROWS).logprobs
    features.hidden_states(tiny, SARCASM, ROWS)
    assert predict.score(tiny, prompt, ROWS).logprobs == before


def test_sentence_embeddings_stand_side_by_side():
    found = features.embeddings(SARCASM, ROWS)
    assert found.shape == (7, 2 * 384)
    for column, part in zip(SARCASM.columns, np.split(found, 2, axis=1), strict=True):
        alone = predict.retrieval.Embeddings([row[column] for row in ROWS]).vectors.numpy()
        assert part == pytest.approx(alone, abs=1e-5)
        assert np.linalg.norm(part, axis=1) == pytest.approx(1, abs=1e-5)
