"""Every kind of tokenizer: one boundary between prompt and answer, in training and in prediction, one beginning and one
end of a text, and labels of any script that share tokens."""

import alone
import architectures
import pytest
import torch
import vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TRAINING_ROWS, TWO_EPOCHS, trainer_for

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.models import LoadedModel
from llmcourse.predict import Prompt, engine, few_shots
from llmcourse.training import checks, finetuning, training_prompt

KINDS = list(vocabularies.KINDS)
FIELDS = SARCASM.fields
TASKS = {
    "words": SARCASM,
    "shared tokens": Task("shared", "Rate it.", FIELDS, ("good", "good indeed", "goodness", "good grief", "bad")),
    "other scripts": Task("scripts", "分类。", FIELDS, ("讽刺", "不是讽刺", "😀", "😡", "да")),
    "signs": Task("signs", "Rate it.", FIELDS, ("-1", "0", "+1", "what ?", "N/A .")),
}
ROWS = [
    {**row, "label": number % 2, "comment": row["comment"] + " 很好 🌧"} for number, row in enumerate(TRAINING_ROWS[:6])
]


def make(kind: str, task: Task = SARCASM, name: str = "llama") -> tuple[LoadedModel, Prompt]:
    loaded = architectures.make(name, vocabularies.tokenizer(kind))
    shots = tuple({**row, "label": number % len(task.labels)} for number, row in enumerate(TRAINING_ROWS[10:13]))
    return loaded, Prompt(task, shots)


@pytest.mark.parametrize("labels", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_answers_are_those_of_one_row_at_a_time(kind, labels):
    loaded, prompt = make(kind, TASKS[labels])
    tokenizer, task = loaded.tokenizer, prompt.task
    scored, generated = predict.score(loaded, prompt, ROWS), predict.generate(loaded, prompt, ROWS)
    new_tokens = max(map(len, predict.label_tokens(loaded, prompt))) + predict.SPARE_TOKENS
    for row, logprobs, text in zip(ROWS, scored.logprobs, generated.texts, strict=True):
        start = tokenizer(prompt.text(row)).input_ids
        answered = [tokenizer(f"{prompt.text(row)} {word}").input_ids for word in task.labels]
        assert all(tokens[: len(start)] == start for tokens in answered)
        words = [tokens[len(start) :] for tokens in answered]
        assert words == predict.label_tokens(loaded, prompt)
        assert logprobs == pytest.approx(alone.label_logprobs(loaded, start, words), abs=1e-4)
        assert sum(torch.tensor(logprobs).exp()) == pytest.approx(1, abs=1e-6)
        assert engine.first_line(text) == alone.first_line(loaded, start, new_tokens)


@pytest.mark.parametrize("labels", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_labels_the_tokens_that_prediction_reads(kind, labels, tmp_path):
    task = TASKS[labels]
    loaded, _ = make(kind, task)
    rows = [{**row, "label": number % len(task.labels)} for number, row in enumerate(ROWS)]
    recipe = TWO_EPOCHS.changed(max_length=120)
    prompt = training_prompt(task, recipe)
    dataset = trainer_for(loaded, tmp_path, recipe, rows, task).train_dataset
    checks.check_rows(dataset, loaded, prompt, rows)
    begins = [loaded.tokenizer.bos_token_id] if vocabularies.KINDS[kind].get("bos") else []
    words = predict.label_tokens(loaded, prompt)
    for row, start, ids, learned in zip(
        rows, predict.encode(loaded, prompt, rows), dataset["input_ids"], dataset["labels"], strict=True
    ):
        answer = [*words[row["label"]], loaded.tokenizer.eos_token_id]
        assert ids == start + answer and len(ids) <= recipe.max_length
        assert learned == [-100] * len(start) + answer
        assert ids[: len(begins)] == begins and ids.count(loaded.tokenizer.bos_token_id) == len(begins)
        assert ids.count(loaded.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("kind", ["SentencePiece BPE, prefix space, BOS", "Unigram, BOS, left"])
def test_the_padding_side_changes_nothing(kind, tmp_path):
    outcomes = []
    for side in ("right", "left"):
        loaded, prompt = make(kind)
        loaded.tokenizer.padding_side = side
        finetuning.finetune(loaded, SARCASM, ROWS, TWO_EPOCHS, tmp_path / side)
        trained = training_prompt(SARCASM, TWO_EPOCHS)
        scores = predict.score(loaded, trained, ROWS).logprobs + predict.score(loaded, prompt, ROWS).logprobs
        outcomes.append((scores, predict.generate(loaded, prompt, ROWS).texts))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("pad", [None, vocabularies.PAD])
@pytest.mark.parametrize("end", [None, vocabularies.EOS])
def test_rows_of_different_length_need_no_token_for_padding(pad, end):
    loaded, prompt = make("byte-level, BOS, pad, left")
    whole = predict.score(loaded, prompt, ROWS).logprobs, predict.generate(loaded, prompt, ROWS).texts
    loaded.tokenizer.pad_token, loaded.tokenizer.eos_token = pad, end
    loaded.model.generation_config.pad_token_id = None
    assert (predict.score(loaded, prompt, ROWS).logprobs, predict.generate(loaded, prompt, ROWS).texts) == whole


def test_an_answer_ends_where_training_ended_it(tmp_path):
    """A model's settings may name another end of a text than its tokenizer, whose end the training rows have."""
    loaded, _ = make("byte-level")
    finetuning.finetune(loaded, SARCASM, ROWS[:2] * 4, TWO_EPOCHS.changed(epochs=30), tmp_path)
    for ends in (None, 7, [7, 8]):
        loaded.model.generation_config.eos_token_id = ends
        answers = predict.generate(loaded, training_prompt(SARCASM, TWO_EPOCHS), ROWS[:2])
        assert [text.strip() for text in answers.texts] == ["Not Sarcasm", "Sarcasm"]


def test_a_tokenizer_that_ends_every_text_is_refused():
    from tokenizers import processors

    loaded, prompt = make("Unigram, prefix space")
    end = vocabularies.EOS
    loaded.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, loaded.tokenizer.eos_token_id)]
    )
    for ask in (predict.score, predict.generate):
        with pytest.raises(CourseError, match=r"ends every text with an end-of-text token.*add_eos_token"):
            ask(loaded, prompt, ROWS)


@pytest.mark.parametrize(
    ("labels", "refused"),
    [(("😀", "😡"), "😀"), (("yes", "нет"), "нет"), (("①", "1"), "①"), (("no", "ＯＫ"), "ＯＫ")],
    ids=str,
)
def test_labels_that_a_tokenizer_cannot_write_are_refused(labels, refused):
    """Both of a pair of emoji became the unknown token: the second had no probability, and the first all of it. An
    adapter for a label that the tokenizer rewrites would answer with another word, which counts as invalid."""
    loaded = architectures.make("llama", vocabularies.tokenizer(vocabularies.NO_BYTES))
    prompt = Prompt(Task("own", "Sort it.", FIELDS, labels))
    with pytest.raises(CourseError, match=f"cannot write the label '{refused}' of task 'own'"):
        predict.score(loaded, prompt, ROWS)


def test_a_long_label_has_room_in_the_context_window():
    """It had 16 tokens, whatever the label: learned positions have no number for the token after the last."""
    task = Task("long", "分类。", FIELDS, ("这句话是讽刺的意思", "这句话不是讽刺的意思"))
    loaded, _ = make("byte-level", name="gpt2")
    prompt = Prompt(task)
    longest = len(predict.encode(loaded, prompt, ROWS[:1])[0])
    for spare, fits in ((40, True), (20, False)):
        loaded.model.config.n_positions = loaded.model.config.max_position_embeddings = longest + spare
        if fits:
            predict.score(loaded, prompt, ROWS[:1])
        else:
            with pytest.raises(CourseError, match="and its answer up to 35; the model takes"):
                predict.score(loaded, prompt, ROWS[:1])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*KINDS, vocabularies.NO_BYTES]),
    st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=4),
    st.text(max_size=30),
    st.sampled_from([False, True, "turns"]),
)
def test_any_labels_follow_any_prompt_or_are_refused(kind, labels, text, chat):
    loaded = _loaded(kind)
    try:
        task = Task("own", "Sort it.", {"text": "text"}, tuple(labels))
        prompt = Prompt(task, few_shots(task, [{"text": "a", "label": n} for n in range(len(labels))], 2), chat=chat)
        words = predict.label_tokens(loaded, prompt)
    except CourseError:
        return
    start = predict.encode(loaded, prompt, [{"text": text}])[0]
    rendered = predict.render(loaded.tokenizer, prompt, {"text": text})
    for label, word in zip(predict.encoding.answer_texts(loaded.tokenizer, prompt), words, strict=True):
        assert predict.encode_text(loaded.tokenizer, prompt, [rendered + label])[0] == start + word


def _loaded(kind: str, made: dict[str, LoadedModel] = {}) -> LoadedModel:  # noqa: B006 - made once for all examples
    if kind not in made:
        made[kind] = architectures.make("llama", vocabularies.tokenizer(kind, *vocabularies.TEMPLATES["ChatML"]))
    return made[kind]
