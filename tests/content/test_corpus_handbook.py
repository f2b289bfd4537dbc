"""The gates of the invented handbook and of the general passages and facts beside it (notebook 03)."""

import itertools
import json
import re
from collections import Counter
from importlib import resources

import gates
import numpy as np
import pytest
from gates import similarity, words

pytestmark = gates.only_after_a_change(__file__)

CORPORA = resources.files("llmcourse.data") / "corpora"
HANDBOOK = json.loads((CORPORA / "handbook.json").read_text(encoding="utf-8"))
GENERAL = json.loads((CORPORA / "general.json").read_text(encoding="utf-8"))
PASSAGES = {passage["id"]: passage for passage in HANDBOOK["passages"]}
QUESTIONS = HANDBOOK["questions"]
FACTS = GENERAL["facts"]
SHEET = HANDBOOK["facts_sheet"]
WEEKDAYS = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
# capitalised in the middle of a sentence, and no name of the company's world
ORDINARY = set(
    re.findall(
        r"\w+",
        "IT LV QT W ZB January February March April May June July August September October November December Christmas",
    )
) | {day + ending for day in WEEKDAYS for ending in ("", "s")}


def says(text: str, span: str) -> bool:
    """`span` stands in `text` as whole words, in any case; "3.2" is not said by "13.2", nor "31" by "31.5"."""
    return (
        re.search(rf"(?<![\w£-])(?<!\d[.,:]){re.escape(span)}(?![\w%°])(?![.,:-]?\d)", text, re.IGNORECASE) is not None
    )


def says_not(text: str, spans: list[str]) -> bool:
    return not any(says(text, span) for span in spans)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?:;]) ", text)


def names_inside(text: str) -> set[str]:
    """Runs of capitalised words that do not begin a sentence ("Ilse Garrowby", "Merrow")."""
    found = set()
    for sentence in sentences(text):
        for match in re.finditer(r"[A-Z]\w*(?: [A-Z]\w*)*", sentence):
            # what begins a sentence has its capital anyway, so a run there counts from its second word
            run = match.group()
            found.add(run.partition(" ")[2] if match.start() == 0 and run not in SHEET["sites"] else run)
    return found - {""}


def test_counts():
    assert len(PASSAGES) == len(HANDBOOK["passages"]) == 60 and len(QUESTIONS) == 60
    assert len(GENERAL["passages"]) == 16 and len(FACTS) == 80
    assert HANDBOOK["company"] and HANDBOOK["about"]
    assert [p["id"] for p in HANDBOOK["passages"] if p.get("held_out")] == [f"p{n:02d}" for n in range(5, 61, 5)]


def test_each_question_has_its_own_passage():
    assert [q["id"] for q in QUESTIONS] == [f"q{n:02d}" for n in range(1, 61)]
    assert [q["passage"] for q in QUESTIONS] == list(PASSAGES)


def test_topics_are_shared():
    # a retriever that only finds the topic is not yet at the right passage
    assert min(Counter(p["topic"] for p in PASSAGES.values()).values()) >= 3


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q["id"])
def test_the_answer_stands_in_its_passage_and_in_no_other(question):
    answer, accepted = question["answer"], question["accept"]
    assert accepted[0] == answer and len(set(accepted)) == len(accepted)
    assert 1 <= len(answer.split()) <= 4
    assert says(PASSAGES[question["passage"]]["text"], answer)
    elsewhere = [p["id"] for p in PASSAGES.values() if p["id"] != question["passage"]]
    for other in elsewhere:
        assert says_not(PASSAGES[other]["title"] + "\n" + PASSAGES[other]["text"], accepted), (other, accepted)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q["id"])
def test_a_question_does_not_give_its_answer_away(question):
    own = PASSAGES[question["passage"]]["title"]
    for text in (question["question"], question["paraphrase"], own):
        assert says_not(text, question["accept"]), text


def test_answers_differ_and_cannot_be_guessed():
    assert len({q["answer"].lower() for q in QUESTIONS}) == 60
    assert sum(q["answer"] in WEEKDAYS for q in QUESTIONS) <= 4
    assert not {"yes", "no"} & {spelling.lower() for q in QUESTIONS for spelling in q["accept"]}


def test_the_paraphrase_shares_few_words_with_question_and_passage():
    common = set(words("a an the of in on at to is are be for from by with and or as it its does do has must may can"))
    common |= set(words("what which who whom when where how whose long many much far old after that somebody one"))

    def shared(first: str, second: str) -> float:
        content = set(words(first)) - common
        return len(content & set(words(second))) / len(content)

    with_question = [shared(q["paraphrase"], q["question"]) for q in QUESTIONS]
    with_passage = {
        key: [shared(q[key], PASSAGES[q["passage"]]["text"]) for q in QUESTIONS] for key in ("question", "paraphrase")
    }
    assert np.mean(with_question) < 0.05 and max(with_question) <= 0.34
    # where a question uses the passage's own words, a search by words is enough: a third of them must not
    assert sum(share <= 0.5 for share in with_passage["question"]) >= 20
    assert np.mean(with_passage["paraphrase"]) < 0.3 < 0.45 < np.mean(with_passage["question"])


def test_lengths():
    assert all(60 <= len(p["text"].split()) <= 110 for p in PASSAGES.values())
    assert all(80 <= len(p["text"].split()) <= 120 for p in GENERAL["passages"])
    assert all(4 <= len(q[key].split()) <= 20 for q in QUESTIONS for key in ("question", "paraphrase"))
    assert all(text.endswith("?") for q in QUESTIONS for text in (q["question"], q["paraphrase"]))


def test_no_duplicates_and_no_near_duplicates():
    passages = [p["text"] for p in PASSAGES.values()] + [p["text"] for p in GENERAL["passages"]]
    assert similarity(passages).max() < 0.6
    assert similarity([q["question"] for q in QUESTIONS]).max() < 0.6
    assert similarity([q["paraphrase"] for q in QUESTIONS]).max() < 0.6
    assert len({f["question"] for f in FACTS}) == 80
    for group in (PASSAGES.values(), GENERAL["passages"]):
        titles = [p["title"].lower() for p in group]
        assert len(set(titles)) == len(titles)
    openings = Counter(" ".join(words(text)[:2]) for text in passages)
    assert openings.most_common(1)[0][1] <= 2, openings.most_common(3)


def test_nothing_of_one_file_is_in_the_other():
    def windows(texts) -> set[tuple[str, ...]]:
        runs = (words(text) for text in texts)
        return {tuple(run[start : start + 6]) for run in runs for start in range(len(run) - 5)}

    handbook = windows(p["text"] for p in PASSAGES.values())
    general = windows(p["text"] for p in GENERAL["passages"])
    assert len(handbook) > 5000 and len(general) > 1500
    assert not handbook & general
    invented = [name for kind in SHEET.values() for name in kind]
    assert all(says_not(json.dumps(p), invented) for p in GENERAL["passages"] + FACTS)


def test_general_facts_are_short_and_not_given_away():
    for fact in FACTS:
        assert fact["accept"][0] == fact["answer"] and len(fact["answer"].split()) <= 3
        assert says_not(fact["question"], fact["accept"]), fact
        assert fact["question"].endswith("?")


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        yield from itertools.chain(node, *(strings(value) for value in node.values()))
    elif isinstance(node, list):
        yield from itertools.chain(*(strings(value) for value in node))


def test_plain_text():
    for text in itertools.chain(strings(HANDBOOK), strings(GENERAL)):
        assert text == " ".join(text.split()) and text.isprintable()
        assert all(ord(letter) < 0x250 or letter in "₂" for letter in text), text
        assert not re.search(r"https?:|@\w", text)
    # what the models read has nothing that a keyboard has not
    assert all(p["text"].isascii() for p in [*PASSAGES.values(), *GENERAL["passages"]])


@pytest.mark.parametrize("passage", PASSAGES.values(), ids=lambda p: p["id"])
def test_every_name_is_on_the_fact_sheet(passage):
    known = {name for kind in SHEET.values() for name in kind} | {HANDBOOK["company"]} | ORDINARY
    assert names_inside(passage["text"]) <= known


@pytest.mark.parametrize("passage", PASSAGES.values(), ids=lambda p: p["id"])
def test_a_person_has_one_role_said_in_one_way(passage):
    for person, role in SHEET["people"].items():
        first, last = person.split()
        text = passage["text"]
        if first in text or last in text.replace(HANDBOOK["company"], "").replace("at Veldershaw ", ""):
            assert text.count(person) == text.count(f"he {role}, {person}") > 0, person


def test_people_products_and_sites_all_occur():
    everything = "\n".join(p["text"] for p in PASSAGES.values())
    for kind in ("people", "products", "sites", "machines", "names"):
        assert [name for name in SHEET[kind] if name not in everything] == []
    # a role has one holder
    roles = list(SHEET["people"].values())
    assert len(set(roles)) == len(roles)


def test_products_and_sites_are_called_what_the_sheet_calls_them():
    for kind in ("products", "sites"):
        for name, description in SHEET[kind].items():
            home = [p["text"] for p in PASSAGES.values() if re.search(rf"\b{name}\b", p["title"])]
            assert len(home) >= 1, name
            assert all(part in " ".join(home) for part in description.split(" and ")), (name, description)
    # "the Merrow barometer" would be a contradiction
    for passage in PASSAGES.values():
        for name, kind in re.findall(
            r"\b(\w+) (tide gauge|anemometer|rain gauge|barometer|soil probe|depth logger)s?\b", passage["text"]
        ):
            assert SHEET["products"].get(name, kind) == kind


@pytest.mark.parametrize("machine", SHEET["machines"])
def test_a_machine_stands_at_one_site(machine):
    # a sentence that names the machine and a site names the site where it stands
    for passage in PASSAGES.values():
        for sentence in sentences(passage["text"]):
            sites = {site for site in SHEET["sites"] if site in sentence}
            # the coil winder's spare belts lie elsewhere; that sentence does not name it
            if machine in sentence and sites:
                assert SHEET["machines"][machine] in sites
    [home] = [p["text"] for p in PASSAGES.values() if p["title"].lower() == f"the {machine}"]
    assert SHEET["machines"][machine] in home


def test_the_gates_can_fail():
    """What each gate looks for is found when it is planted."""
    assert says("It goes to 3.2 metres.", "3.2") and not says("It goes to 13.2 metres.", "3.2")
    assert says("paid by the 22nd", "22ND") and not says("dock 123", "dock 12") and not says("31.5 days", "31")
    assert says("minus 34.", "34") and says("on 31, at most", "31")
    assert names_inside("Ask the clerk, Jane Doe, or the Zephyr. Ask Ann Other.") == {"Jane Doe", "Zephyr", "Ann Other"}
    assert similarity(["the lathe is oiled on Friday", "the lathe is oiled on Sunday", "coffee is free"]).max() >= 0.6
