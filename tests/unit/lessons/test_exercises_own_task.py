"""Usual mistakes in the exercises of notebook 06 get the hint that is meant for them."""

import re

import pytest

from llmcourse.data.tasks import Task
from llmcourse.lessons.exercises import load_all


def complaints(columns, fields=None, labels=("low", "high")):
    return Task(name="c", instruction="Urgent?", fields=fields or {"complaint": "text"}, labels=labels), columns


COMPLAINTS = [
    (lambda: complaints({})[0], "return two things"),
    (lambda: complaints({"priority": "label"}), "the wrong way round"),
    (lambda: complaints({}), "has no column 'label'"),
    (lambda: complaints({"label": "priority"}, labels="low, high"), "words in quotation marks"),
    (lambda: complaints({"label": "priority"}, labels=("urgent", "not urgent")), "unknown label 'high'"),
    (lambda: complaints({"label": "priority"}, fields={"text": "text"}), "complaints.csv has no column 'text'"),
    (
        lambda: complaints({"label": "priority"}, fields={"complaint": "text", "kind": "kind"}),
        "has no column 'kind'",
    ),
    (
        lambda: complaints({"label": "priority", "again": "complaint"}, fields={"complaint": "text", "again": "again"}),
        "Name only that one",
    ),
]


@pytest.mark.parametrize(("attempt", "hint"), COMPLAINTS, ids=[hint for _, hint in COMPLAINTS])
def test_mistakes_in_complaints_task(attempt, hint):
    verdict = load_all()["complaints_task"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def normal(text):
    return " ".join(text.lower().split())


SHARED = [
    (lambda train, test: {normal(t) for t in train} & {normal(t) for t in test}, "return a number"),
    (lambda train, test: sum(t in train for t in test), "same to the letter"),
    (lambda train, test: sum(t.lower() in {x.lower() for x in train} for t in test), "white space is not"),
    (
        lambda train, test: sum(" ".join(t.split()) in {" ".join(x.split()) for x in train} for t in test),
        "letter case is not",
    ),
    (
        lambda train, test: sum(t.lower().strip() in {x.lower().strip() for x in train} for t in test),
        "fold white space",
    ),
    (
        lambda train, test: len({normal(t) for t in train} & {normal(t) for t in test}),
        "Count rows, not different texts",
    ),
    (
        lambda train, test: sum(
            re.sub(r"\s", "", t.lower()) in {re.sub(r"\s", "", x.lower()) for x in train} for t in test
        ),
        "fold white space to one space",
    ),
    (
        lambda train, test: sum(
            re.findall(r"\w+", t.lower()) in [re.findall(r"\w+", x.lower()) for x in train] for t in test
        ),
        "keep punctuation marks",
    ),
    (lambda train, test: sum(normal(a) == normal(b) for a in train for b in test), "each test row once"),
    (lambda train, test: len(test), "it gives 5"),
]


@pytest.mark.parametrize(("attempt", "hint"), SHARED, ids=[hint for _, hint in SHARED])
def test_mistakes_in_shared_rows(attempt, hint):
    verdict = load_all()["shared_rows"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def smallest(table, share):
    return min(range(len(table)), key=lambda gold: share(table, gold))


WEAKEST = [
    (lambda table: [row[i] / sum(row) for i, row in enumerate(table)], "return the label's number"),
    (lambda table: max(range(len(table)), key=lambda i: sum(table[i]) - table[i][i]), "most errors"),
    (lambda table: smallest(table, lambda t, i: t[i][i] / sum(t[i][:-1])), "invalid answers"),
    (lambda table: smallest(table, lambda t, i: -t[i][i] / sum(t[i])), "the smallest share"),
    (lambda table: smallest(table, lambda t, i: t[i][i]), "Compare shares, not counts"),
    (lambda table: smallest(table, lambda t, i: t[i][i] / sum(row[i] for row in t)), "not how many of its answers"),
    (lambda table: 1, "every table"),
    (lambda table: smallest(table, lambda t, i: t[i][i] / max(1, sum(t[i]))), "cannot be judged"),
    (lambda table: 7, "it gives 7"),
]


@pytest.mark.parametrize(("attempt", "hint"), WEAKEST, ids=[hint for _, hint in WEAKEST])
def test_mistakes_in_weakest_label(attempt, hint):
    verdict = load_all()["weakest_label"].verdict(attempt)
    assert verdict.startswith("not yet") and hint in verdict


def test_another_right_way_is_right():
    import numpy as np

    def weakest(table):
        table = np.array(table, dtype=float)
        shares = np.diag(table) / np.where(table.sum(axis=1), table.sum(axis=1), np.nan)
        return np.nanargmin(shares)

    def shared(train, test):
        known = [re.sub(r"\s+", " ", text).strip().casefold() for text in train]
        return np.sum([re.sub(r"\s+", " ", text).strip().casefold() in known for text in test])

    def named():
        fields, labels = {"text": "Complaint"}, ["low", "high"]
        task = Task(name="c", instruction="Urgent?", fields=fields, labels=labels, label_column="priority")
        return task, {"text": "complaint"}

    assert load_all()["complaints_task"].verdict(named) == "right"
    assert load_all()["weakest_label"].verdict(weakest) == "right"
    assert load_all()["shared_rows"].verdict(shared) == "right"
