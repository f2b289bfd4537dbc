"""Your own text: a figure first, then boxes; what cannot be judged is said, not raised."""

import pytest

from llmcourse import CourseError
from llmcourse._base import files
from llmcourse.data import Rows
from llmcourse.data.tasks import SARCASM, SUPPORT
from llmcourse.experiment import Experiment
from llmcourse.lessons.widgets import own_text
from llmcourse.training.recipes import Recipe

ROW = {"parent_comment": "The bus is late.", "comment": "<script>alert(1)</script> Great."}


@pytest.fixture
def trained(tiny, tmp_path):
    def rows(start, count):
        return [
            {"parent_comment": f"P {i}", "comment": f"R {i}", "label": i % 2, "row": i}
            for i in range(start, start + count)
        ]

    experiment = Experiment(Rows(SARCASM, "made", rows(0, 12), rows(50, 4), {}), tiny, tmp_path, quiet=True)
    folder, _ = experiment.train(Recipe("play", r=2, alpha=4, epochs=1, batch_rows=4, learning_rate=1e-2))
    return experiment, folder


def test_a_figure_comes_first(trained, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    own_text.playground(*trained, ROW)
    figure, controls = shown
    assert "prompted, zero-shot: Not Sarcasm" in figure.alt and "finetuned: Not Sarcasm" in figure.alt
    assert "running notebook" in controls["text/plain"] and not trained[0].loaded.has_adapter


def test_the_button_judges_and_says_what_it_cannot(trained):
    controls = own_text.Playground(*trained, ROW)
    assert [box.value for box in controls.texts.values()] == [ROW["parent_comment"], ROW["comment"]]
    controls.shots.value = 2
    controls.button.click()
    assert bytes(controls.figure.value).startswith(b"\x89PNG") and "prompted, 2-shot" in controls.message.value
    before = controls.figure.value
    controls.texts["comment"].value = "x" * 5000
    controls.button.click()
    assert "too long for a prompt" in controls.message.value and controls.figure.value == before


def test_a_task_with_four_labels_and_one_text(tiny, tmp_path):
    def rows(start, count):
        return [{"message": f"M {i}", "label": i % 4, "row": i} for i in range(start, start + count)]

    experiment = Experiment(Rows(SUPPORT, "made", rows(0, 12), rows(52, 4), {}), tiny, tmp_path, quiet=True)
    folder, _ = experiment.train(Recipe("play", r=2, alpha=4, epochs=1, batch_rows=4, learning_rate=1e-2))
    controls = own_text.Playground(experiment, folder, {"message": "Where is it?"})
    controls.shots.value = 4
    controls.button.click()
    assert list(controls.texts) == ["message"] and "prompted, 4-shot: Question" in controls.message.value
    assert all(word in controls.message.value for word in SUPPORT.labels)


def test_an_adapter_that_changes_nothing_is_said(trained):
    """Zero, its answer would be the base model's under another name."""
    from safetensors.torch import load_file, save_file

    experiment, folder = trained
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * 0 for name, value in weights.items()}, folder / "adapter_model.safetensors")
    files.seal(folder)
    with pytest.raises(CourseError, match="The adapter changes nothing"):
        own_text.judge(experiment, folder, ROW)
    assert not experiment.loaded.has_adapter
