"""The explorer shows a figure first, then controls; what a notebook saves of it is the figure and a sentence."""

import pytest

from llmcourse.lessons.widgets import controls


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    return shown


def test_a_figure_comes_first_and_the_widget_has_a_text(displayed, tiny):
    assert controls.next_token(tiny, "The cat sat on the") is None
    figure, made = displayed
    assert "The cat sat on the" in figure.alt and "%" in figure.alt
    assert set(made) == {controls.WIDGET, "text/plain"} and made[controls.WIDGET]["model_id"]
    assert "VBox" not in made["text/plain"] and "running notebook" in made["text/plain"]


def test_sliders_draw_and_ask_the_model_only_for_a_new_text(monkeypatch, tiny):
    asked = []
    real = controls.sampling.next_logits
    monkeypatch.setattr(controls.sampling, "next_logits", lambda loaded, text: asked.append(text) or real(loaded, text))
    made = controls.Explorer(tiny, "The cat")
    assert made.figure.layout.display == "none" and not asked
    made.temperature.value = 0.5
    first = bytes(made.figure.value)
    made.p.value = 0.5
    assert first.startswith(b"\x89PNG") and bytes(made.figure.value) != first and made.figure.layout.display == ""
    assert asked == ["The cat"]
    made.text.value = "The dog"
    assert asked == ["The cat", "The dog"]
    made.text.value = ""  # nothing to ask about
    made.button.click()
    assert asked == ["The cat", "The dog"] and made.text.value == ""


def test_the_button_writes_on(tiny):
    made = controls.Explorer(tiny, "The cat")
    made.p.value = 0.05
    made.button.click()
    made.button.click()
    assert made.text.value.startswith("The cat") and len(made.text.value) > len("The cat")


def test_bars_tell_what_was_cut_off(embedded_model):
    figure = controls.bars(embedded_model, "The capital of France is", temperature=0.5, p=0.5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["as the model says", "temperature 0.5, top-p 0.5\n1 tokens left"]
    assert "' Paris'" in figure.alt and "0.0%" in figure.alt
    plain = controls.bars(embedded_model, "The capital of France is")
    assert len(plain.axes) == 1
