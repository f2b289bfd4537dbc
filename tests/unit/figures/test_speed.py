"""Figures of the benchmarks."""

from llmcourse import figures


def test_times_slower_draws_every_side():
    figure = figures.times_slower(
        {
            "Scoring": {"a": {"min": 2.0, "median": 3.0, "max": 4.5}, "b": {"min": 9, "median": 10, "max": 11}},
            "Training": {"c": {"min": 1.4, "median": 1.5, "max": 1.7}},
        }
    )
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in second.texts] == ["1.5x"] and second.get_title("left") == "Training"
    assert "Scoring: a 3.0, b 10.0; Training: c 1.5" in figure.alt
    assert first.get_xlim()[1] > 11


def test_cost_of_shots_has_a_line_for_each_way():
    figure = figures.cost_of_shots([0, 4], {"alone": [300, 900], "together": [30.0, 50.0]})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["alone", "together"]
    assert list(axes.lines[0].get_ydata()) == [300, 900] and "alone from 300 to 900 ms" in figure.alt
