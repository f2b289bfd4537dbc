"""The script that measures rank for notebook 04: its arithmetic, an interrupted run, and that what is kept is about
today's rows."""

import json

import pytest
import ranks as script
import torch

from llmcourse import data
from llmcourse.data.tasks import SUPPORT
from llmcourse.lessons import recorded
from llmcourse.training.recipes import QUICK


@pytest.fixture(scope="module")
def rows():
    return data.load(SUPPORT)


def test_spectrum_and_rank():
    luck = torch.Generator().manual_seed(0)
    delta = torch.randn(20, 3, generator=luck) @ torch.randn(3, 50, generator=luck)
    for matrix in (delta, delta.T):
        values = script.spectrum(matrix)
        assert torch.allclose(
            torch.tensor(values, dtype=torch.float64), torch.linalg.svdvals(matrix.double()), atol=1e-6
        )
    assert script.rank_for(values, 0.9999) == 3 and script.rank_for([3.0, 4.0], 0.36) == 1
    assert script.rank_for([1.0] * 10, 0.5) == 5


def test_validation_rows_are_training_rows_kept_aside(rows):
    train, validation = script.split(SUPPORT, rows.train)
    assert len(train) == 240 and len(validation) == 60
    texts = [{row["message"] for row in part} for part in (train, validation, rows.test)]
    assert not texts[0] & texts[1] and not (texts[0] | texts[1]) & texts[2]
    assert [sum(row["label"] == label for row in validation) for label in range(4)] == [15] * 4


def test_rows_are_labelled_as_the_recipe_trains_them(tiny, rows):
    few = list(rows.train)[:3]
    for (ids, labels), row in zip(script.labelled(tiny, SUPPORT, few, QUICK), few, strict=True):
        learned = [token for token in labels if token != -100]
        assert tiny.tokenizer.decode(learned[:-1]) == " " + SUPPORT.labels[row["label"]]
        assert learned[-1] == tiny.tokenizer.eos_token_id and ids[-len(learned) :] == learned
        assert labels[: -len(learned)] == [-100] * (len(ids) - len(learned))


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, make_tiny, rows):
    out, loaded, said = tmp_path / "lora.json", make_tiny(), []
    monkeypatch.setattr(script, "VALIDATION", 8)
    of_each = [
        place for label in range(4) for place in [i for i, row in enumerate(rows.train) if row["label"] == label][:6]
    ]
    few = data.Rows(SUPPORT, "few", rows.train.select(of_each), rows.test, {})
    monkeypatch.setattr(script.models, "embedded_in_nf4", lambda: make_tiny(seed=1))
    recipe = QUICK.changed(epochs=1, upper_layers=1, r=2, batch_rows=4)

    def measure(ranks):
        return script.measure(loaded, few, recipe, out, ranks=ranks, alphas=(1,), say=lambda *a, **k: said.append(a))

    train, _ = script.split(SUPPORT, few.train)
    first = measure((2,))
    assert len(said) == 4 and [run["weights"] for run in first["runs"]] == ["float32", "float32", "nf4"]
    again = measure((2, 4))
    assert len(said) == 5 and again["full"] == first["full"] and again["runs"][:3] == first["runs"]
    assert json.loads(out.read_text()) == again and again["train"] == len(train)
    assert set(again["full"]["spectra"]) == set(script.SHOWN)
    assert not loaded.has_adapter


def test_what_the_notebook_reads_is_about_these_rows_and_this_recipe():
    kept = recorded.read("lora")
    train, validation = script.split(SUPPORT, data.load(SUPPORT).train)
    assert kept["train_id"] == data.rows_id(SUPPORT, train)
    assert kept["validation_id"] == data.rows_id(SUPPORT, validation)
    assert kept["recipe"] == QUICK.as_dict()
    tried = {(run["r"], run["alpha"], run["weights"]) for run in kept["runs"]}
    assert tried >= {(r, 2 * r, "float32") for r in script.RANKS} | {(script.NF4_RANK, 2 * script.NF4_RANK, "nf4")}
