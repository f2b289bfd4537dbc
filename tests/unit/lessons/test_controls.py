"""Controls draw their figure again, and show a CourseError as a message."""

from llmcourse import figures
from llmcourse.lessons.widgets import controls, explorers


def test_choices_draw_again_and_show_an_error_as_a_message():
    made = controls.Choices(
        explorers.rank_picture,
        {"model": ("mistral-7b", "phi-3-mini"), "matrix": ("q_proj", "o_proj"), "r": explorers.RANKS},
        {"model": "mistral-7b", "matrix": "q_proj", "r": 8},
    )
    assert made.figure.layout.display == "none"
    made.controls["r"].value = 16
    first = bytes(made.figure.value)
    assert first.startswith(b"\x89PNG") and made.figure.layout.display == "" and "131,072" in made.message.value
    made.controls["model"].value = "phi-3-mini"
    assert "phi-3-mini has no matrix 'q_proj'" in made.message.value and bytes(made.figure.value) == first
    made.controls["matrix"].value = "o_proj"
    assert "3072 times 3072" in made.message.value and bytes(made.figure.value) != first


def test_a_picture_is_an_svg_where_matplotlib_lacks_characters():
    picture = controls.hidden_image()
    for name, kind, start in (("零样本", "svg+xml", b"<svg"), ("zero-shot", "png", b"\x89PNG")):
        controls.draw_into(picture, figures.verdicts({name: [0.5, 0.5]}, ("a", "b")))
        assert picture.format == kind and bytes(picture.value).startswith(start)
