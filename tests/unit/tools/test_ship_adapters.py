"""The adapters that ship with the package."""

import pytest

from llmcourse import data, experiment, models
from llmcourse.data import tasks
from tools import ship_adapters


@pytest.mark.parametrize("name", ship_adapters.SHIPPED)
def test_the_shipped_adapter_is_what_make_adapter_would_make(name):
    task, folder = tasks.TASKS[name], models.shipped_adapter(name)
    card, rows = models.read_card(folder), data.load(task)
    base = {"name": "SmolLM2-135M-Instruct", "sha256": card["base"]["sha256"]}
    assert card["spec"] == experiment.training_spec(task, rows.train_id, base, ship_adapters.SHIPPED[name])
    assert card["results"]["test"] == rows.test_id and card["results"]["invalid"] == 0
    assert set(card["groups"]) == data.groups(task, rows.train) and not set(card["groups"]) & data.groups(
        task, rows.test
    )
    assert (folder / "adapter_model.safetensors").stat().st_size < 6e6


def test_an_adapter_ships_for_every_task():
    assert set(ship_adapters.SHIPPED) == set(tasks.TASKS)
