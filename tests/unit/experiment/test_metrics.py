"""Numbers against published values and against scikit-learn."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from llmcourse.experiment import metrics

LABELS = ("Not Sarcasm", "Sarcasm")


def test_the_talks_intervals():
    # the talk's 45 and 80 correct of 100; intervals as R's binom::binom.wilson gives them
    assert metrics.wilson(45, 100) == pytest.approx((0.3561, 0.5476), abs=1e-4)
    assert metrics.wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-4)


def test_invalid_is_wrong_and_counted():
    score = metrics.evaluate([0, 0, 1, 1], [0, None, 1, None], LABELS)
    assert (score.n, score.accuracy, score.invalid) == (4, 0.5, 2)
    # precision 1, recall 1/2 for both labels
    assert score.macro_f1 == pytest.approx(2 / 3)
    text = metrics.report([0, 0, 1, 1], [0, None, 1, None], LABELS)
    assert text.splitlines()[-1].endswith("over the labels alone, as elsewhere in the course, F1 is 0.67.")
    assert "None (invalid)" in text and "None" not in metrics.report([0, 1], [0, 1], LABELS)
    assert metrics.confusion([0, 0, 1, 1], [0, None, 1, None], LABELS) == [[1, 0, 1], [0, 1, 1]]


def test_the_paired_test_is_mcnemars_for_rows_on_their_own():
    gold = [1] * 12
    a = [1] * 10 + [0, 0]
    b = [1, 1] + [0] * 8 + [0, 0]
    # 8 rows only a gets, none only b: 2 * (1/2)^8
    assert metrics.paired_test(gold, a, b) == pytest.approx(2 / 2**8)
    assert metrics.paired_test(gold, a, a) == 1.0
    assert metrics.p_text(0.0004) == "p < 0.001" and metrics.p_text(0.0312) == "p = 0.031"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_paired_test_is_scipys_binomial_test(pairs):
    a, b = zip(*pairs, strict=True)
    only_a, only_b = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert metrics.paired_test([1] * len(a), a, b) == pytest.approx(expected)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=24))
def test_groups_are_tossed_together(rows):
    """All ways to turn the signs of at most 5 groups, one by one."""
    a, b, groups = zip(*rows, strict=True)
    sums = [sum(x - y for x, y, group in rows if group == wanted) for wanted in range(5)]
    turned = [
        sum(sign * value for sign, value in zip(signs, sums, strict=True)) for signs in product((1, -1), repeat=5)
    ]
    expected = sum(abs(total) >= abs(sum(sums)) for total in turned) / len(turned)
    assert metrics.paired_test([1] * len(a), a, b, groups) == pytest.approx(expected)


def test_intervals_of_groups_are_wider_when_their_rows_agree():
    right = [True, True, False, False] * 50
    alone, pairs = metrics.accuracy_interval(right), metrics.accuracy_interval(right, [i // 2 for i in range(200)])
    assert alone == metrics.wilson(100, 200)
    # 100 pairs that are right or wrong as one are worth 100 rows
    assert pairs == pytest.approx(metrics.wilson(50, 100), abs=0.01)
    assert metrics.accuracy_interval(right[:2], [0, 0]) == (0, 1)


@pytest.mark.parametrize(("pair", "right"), [((True, True), 10), ((False, False), 0), ((True, False), 5)])
def test_groups_that_are_all_alike_are_as_uncertain_as_single_rows(pair, right):
    """A bootstrap would draw the same share each time, and claim that the accuracy is known exactly."""
    interval = metrics.accuracy_interval(pair * 10, [place // 2 for place in range(20)])
    assert interval == metrics.wilson(right, 10)


def test_a_label_that_does_not_occur_has_no_f1():
    score = metrics.evaluate([0, 1, 0, 1], [0, 1, 0, 1], ("a", "b", "c"))
    assert score.macro_f1 == 1
    assert metrics.evaluate([0, 1, 0, 1], [0, 1, 0, 2], ("a", "b", "c")).macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_the_same_answer_for_all_rows_has_no_interval():
    score = metrics.evaluate([0, 1, 1, 1], [1, 1, 1, 1], LABELS)
    assert score.accuracy_ci95 == (0.75, 0.75) and score.interval == "one answer for all rows"


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        metrics.evaluate([], [], LABELS)
    with pytest.raises(ValueError, match="2 gold labels, but 1"):
        metrics.evaluate([0, 1], [0], LABELS)
    with pytest.raises(ValueError, match="found 2"):
        metrics.evaluate([0, 1], [0, 2], LABELS)
    with pytest.raises(ValueError, match="different rows"):
        metrics.paired_test([0, 1], [0, 1], [0])


answers = st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 2)), min_size=1, max_size=60)


@given(answers)
def test_bounds(pairs):
    gold, predicted = zip(*pairs, strict=True)
    score = metrics.evaluate(gold, predicted, ("a", "b", "c"))
    assert 0 <= score.accuracy_ci95[0] <= score.accuracy <= score.accuracy_ci95[1] <= 1
    assert sum(map(sum, metrics.confusion(gold, predicted, ("a", "b", "c")))) == score.n
    assert metrics.paired_test(gold, predicted, gold) == metrics.paired_test(gold, gold, predicted)


def test_uneven_labels_are_noticed():
    assert not metrics.evaluate([0, 1] * 10, [0] * 20, ("a", "b")).uneven
    score = metrics.evaluate([0] * 95 + [1] * 5, [0] * 100, ("a", "b"))
    assert score.uneven and score.accuracy == 0.95 and score.macro_f1 < 0.5 and "uneven" not in score.as_dict()
