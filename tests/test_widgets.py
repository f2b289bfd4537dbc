"""The explorer shows a figure first, then controls; what a notebook saves of it is the figure and a sentence."""

import pytest

from llmcourse import widgets


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *objects, **how: shown.extend(objects))
    return shown


def test_a_figure_comes_first_and_the_widget_has_a_text(displayed, tiny):
    assert widgets.next_token(tiny, "The cat sat on the") is None
    figure, controls = displayed
    assert "The cat sat on the" in figure.alt and "%" in figure.alt
    assert set(controls) == {widgets.WIDGET, "text/plain"} and controls[widgets.WIDGET]["model_id"]
    assert "VBox" not in controls["text/plain"] and "running notebook" in controls["text/plain"]


def test_sliders_draw_and_ask_the_model_only_for_a_new_text(monkeypatch, tiny):
    asked = []
    real = widgets.sampling.next_logits
    monkeypatch.setattr(widgets.sampling, "next_logits", lambda loaded, text: asked.append(text) or real(loaded, text))
    controls = widgets.Explorer(tiny, "The cat")
    assert controls.figure.layout.display == "none" and not asked
    controls.temperature.value = 0.5
    first = bytes(controls.figure.value)
    controls.p.value = 0.5
    assert (
        first.startswith(b"\x89PNG") and bytes(controls.figure.value) != first and controls.figure.layout.display == ""
    )
    assert asked == ["The cat"]
    controls.text.value = "The dog"
    assert asked == ["The cat", "The dog"]
    controls.text.value = ""  # nothing to ask about
    controls.button.click()
    assert asked == ["The cat", "The dog"] and controls.text.value == ""


def test_the_button_writes_on(tiny):
    controls = widgets.Explorer(tiny, "The cat")
    controls.p.value = 0.05
    controls.button.click()
    controls.button.click()
    assert controls.text.value.startswith("The cat") and len(controls.text.value) > len("The cat")


def test_bars_tell_what_was_cut_off(embedded_model):
    figure = widgets.bars(embedded_model, "The capital of France is", temperature=0.5, p=0.5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["as the model says", "temperature 0.5, top-p 0.5\n1 tokens left"]
    assert "' Paris'" in figure.alt and "0.0%" in figure.alt
    plain = widgets.bars(embedded_model, "The capital of France is")
    assert len(plain.axes) == 1
