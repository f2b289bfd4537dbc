"""Short answers: how they are asked for, cut, and judged."""

import pytest

from llmcourse.data.handbook import Question
from llmcourse.predict import answers


@pytest.mark.parametrize(
    ("text", "accept", "verdict"),
    [
        ("You get 27 days a year.", ["27 days", "27"], "right"),
        ("127 days", ["27"], "wrong"),
        ("27.5 days", ["27"], "wrong"),
        ("27.", ["27"], "right"),
        ("It is called the MAGPIE", ["Magpie"], "right"),
        ("Magpies", ["Magpie"], "wrong"),
        ("12:06:40", ["06:40"], "wrong"),
        ("at -34 degrees", ["-34 degrees"], "right"),
        ("The passage does not say.", ["27"], "open"),
        ("I don't know", ["27"], "open"),
        ("I don’t know", ["27"], "open"),
        ("It isn't mentioned.", ["27"], "open"),
        ("It isn't specified in the passage", ["27"], "open"),
        ("I am not sure, but it may be 27.", ["27"], "right"),
        ("", ["27"], "open"),
        ("Nobody knows him", ["27"], "wrong"),
    ],
)
def test_verdicts(text, accept, verdict):
    assert answers.verdict(text, accept) == verdict


def test_a_prompt_holds_what_is_asked_and_ends_where_the_answer_begins(tokenizer):
    plain = answers.prompt_of(tokenizer, "How high?")
    named = answers.prompt_of(tokenizer, "How high?", about="Veldershaw")
    given = answers.prompt_of(tokenizer, "How high?", "The mast is 9 metres high.", about="Veldershaw")
    assert all(prompt.endswith("<|im_start|>assistant\n") and "How high?" in prompt for prompt in (plain, named, given))
    assert "Veldershaw" not in plain and "Veldershaw" in named
    assert given.index("9 metres") < given.index("How high?")


def test_rows_together_answer_as_rows_alone(tiny):
    prompts = [f"Number {'and ' * n}{n}" for n in range(13)]  # different lengths, more than one batch
    together = answers.generate_lines(tiny, prompts, tokens=5)
    assert together == [answers.generate_lines(tiny, [prompt], tokens=5)[0] for prompt in prompts]


def test_counts_add_up(tiny):
    questions = [Question(f"What is {n}?", str(n), (str(n),)) for n in range(4)]
    for passages in (None, ["A passage."] * 4):
        found = answers.ask(tiny, questions, passages, about="Veldershaw")
        assert sum(found.counts.values()) == len(found.texts) == 4 and set(found.counts) == set(answers.VERDICTS)


def test_the_embedded_model_answers_about_the_world_and_invents_about_a_company(embedded_model):
    capital = Question("What is the capital of France?", "Paris", ("Paris",))
    assert answers.ask(embedded_model, [capital]).verdicts == ["right"]
    days = Question("How much holiday does somebody with a full-time post get in a year?", "27 days", ("27",))
    assert answers.ask(embedded_model, [days], about="Veldershaw Instruments").verdicts == ["wrong"]
