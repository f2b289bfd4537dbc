"""The adapters that ship with the package."""

import shutil

import pytest

from llmcourse import CourseError, Prompt, data, experiment, models, predict
from llmcourse.data import tasks
from tools import ship_adapters


@pytest.mark.parametrize("name", ship_adapters.SHIPPED)
def test_the_shipped_adapter_is_what_make_adapter_would_make(name):
    task, folder = tasks.TASKS[name], models.shipped_adapter(name)
    card, rows = models.read_card(folder), data.load(task)
    base = {"name": "SmolLM2-135M-Instruct", "sha256": card["base"]["sha256"]}
    assert card["spec"] == experiment.training_spec(task, rows.train_id, base, ship_adapters.SHIPPED[name])
    assert card["results"]["test"] == rows.test_id
    assert card["results"]["invalid"] <= 1  # one of 300 support messages gets an answer that is no label
    assert set(card["groups"]) == data.groups(task, rows.train) and not set(card["groups"]) & data.groups(
        task, rows.test
    )
    assert (folder / "adapter_model.safetensors").stat().st_size < 6e6


@pytest.mark.parametrize("name", ship_adapters.SHIPPED)
def test_the_card_is_what_the_rows_give(name, tmp_path, monkeypatch, embedded_model):
    """Written again without training, card and README are the same, byte by byte; so are the weights."""
    folder = models.shipped_adapter(name)
    kept = models.read_card(folder)["results"]
    monkeypatch.setattr(ship_adapters, "measured", lambda experiment, recipe: kept)
    monkeypatch.setattr(ship_adapters, "FOLDER", tmp_path)
    shutil.copytree(folder, tmp_path / name)
    ship_adapters.main(["--cards", name])
    for path in sorted(folder.iterdir()):
        assert (tmp_path / name / path.name).read_bytes() == path.read_bytes(), path
    training = models.read_card(folder)["training"]
    assert (training["cut_rows"], training["max_length"]) == (0, 512)
    # none of the test rows is cut either, so what was measured on them before the card said so is still true
    task = tasks.TASKS[name]
    prompt = Prompt.from_card(models.read_card(folder))
    assert predict.fit(embedded_model.tokenizer, prompt, list(data.load(task).test))[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ship_adapters.SHIPPED)
def test_the_card_says_how_good_the_adapter_is(name):
    folder, rows, loaded = models.shipped_adapter(name), data.load(tasks.TASKS[name]), models.load()
    kept = models.put_adapter(loaded, folder)["results"]
    found = ship_adapters.measured(experiment.Experiment(rows, loaded), ship_adapters.SHIPPED[name])
    # another processor may decide a tie in another way
    assert found["test"] == kept["test"] and found["accuracy"] == pytest.approx(kept["accuracy"], abs=0.011)
    assert found["accuracy_ci95"] == pytest.approx(kept["accuracy_ci95"], abs=0.011)


def test_a_card_is_not_written_for_other_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(ship_adapters, "FOLDER", tmp_path)
    shutil.copytree(models.shipped_adapter("support"), tmp_path / "support")
    monkeypatch.setitem(ship_adapters.SHIPPED, "support", ship_adapters.SHIPPED["support"].changed(r=8))
    with pytest.raises(CourseError, match=r"trained in another way\. Train it: python -m tools\.ship_adapters support"):
        ship_adapters.main(["--cards", "support"])


def test_an_adapter_ships_for_every_task():
    assert set(ship_adapters.SHIPPED) == set(tasks.TASKS)
