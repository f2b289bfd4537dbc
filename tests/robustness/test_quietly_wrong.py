"""The silent errors of finetuning and comparing: each is made here, and the library must refuse it by a check of its
own.

Leaks between test rows, training rows and shots: test_experiment.test_leaks_are_refused; a loss that is not a number
and a run that learns nothing: test_finetune.test_training_that_learns_nothing_or_breaks_down_is_refused.
"""

import sys

import pytest
import torch
from small import TRAINING_ROWS, TWO_EPOCHS, some_rows

from llmcourse import CourseError, models, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.experiment import Experiment, questions
from llmcourse.predict import encoding, engine
from llmcourse.predict.prompts import Prompt
from llmcourse.training import finetuning, trainer


@pytest.fixture
def spoilt(monkeypatch):
    """Every trainer is spoilt by `spoil(trainer)` after it was made, as a library or a setting might spoil it."""

    def apply(spoil):
        class Spoilt(trainer.LabelTrainer):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                spoil(self)

        monkeypatch.setattr(trainer, "LabelTrainer", Spoilt)

    return apply


def each_row(change):
    def spoil(made):
        made.train_dataset = made.train_dataset.map(change)

    return spoil


def collated(change):
    def spoil(made):
        collate = made.data_collator
        made.data_collator = lambda rows: change(collate(rows))

    return spoil


END = 2  # <|im_end|>, which the embedded model's tokenizer pads with too
START = 1


def end_is_not_labelled(row):
    return {"labels": [*row["labels"][:-1], -100]}


def cut_at_max_length(row):
    return {name: row[name][:-6] for name in ("input_ids", "labels")}


def another_label(row):
    learned = [token for token in row["labels"] if token != -100]
    other = {4: [8279, 1041, 10], 5: []}  # any tokens that are not the row's own label
    return {"labels": [*row["labels"][: -len(learned)], *(other[4] * 2)[: len(learned) - 1], END]}


def two_starts(row):
    return {"input_ids": [START, START, *row["input_ids"]], "labels": [-100, -100, *row["labels"]]}


def one_row_less(made):
    made.train_dataset = made.train_dataset.select(range(1, len(made.train_dataset)))


def end_taken_for_padding(batch):
    """What DataCollatorForLanguageModeling does when the padding token is the end-of-text token."""
    batch["labels"][batch["input_ids"] == END] = -100
    return batch


def padded_on_the_left(batch):
    for row, mask in enumerate(batch["attention_mask"].clone()):
        turn = len(mask) - int(mask.sum())
        for values in batch.values():
            values[row] = values[row].roll(turn)
    return batch


def some_frozen(made):
    for name, parameter in made.model.named_parameters():
        if "layers.0.self_attn.q_proj.lora_B" in name:
            parameter.requires_grad = False


def all_frozen(made):
    made.model.requires_grad_(False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (each_row(end_is_not_labelled), "row 0 does not end with a labelled end-of-text token"),
        (each_row(cut_at_max_length), "row 0 does not end with a labelled end-of-text token"),
        (each_row(another_label), "row 0 would teach .*, but its label is 'Not Sarcasm'"),
        (each_row(two_starts), "row 0 begins with two beginning-of-text tokens"),
        (one_row_less, "Of 8 training rows TRL kept 7"),
        (collated(end_taken_for_padding), "the end-of-text token is not labelled.*taken for padding"),
        (collated(padded_on_the_left), "padded on the left"),
        (
            some_frozen,
            "1 of the adapter's .* matrices B are still zero after training, first .*layers.0.self_attn.q_proj",
        ),
        (all_frozen, "Nothing would be trained"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__qualname__.split(".")[0],
)
def test_training_refuses(spoil, message, spoilt, tiny, tmp_path):
    spoilt(spoil)
    with pytest.raises(CourseError, match=message):
        finetuning.finetune(tiny, SARCASM, TRAINING_ROWS[:8], TWO_EPOCHS, tmp_path)
    assert not tiny.has_adapter


@pytest.fixture
def study(tiny, tmp_path):
    return Experiment(some_rows(), tiny, tmp_path / "runs", quiet=True)


def switched_off(loaded):
    loaded.model.base_model.disable_adapter_layers()


def taken_off(loaded):
    loaded.model = loaded.model.unload()


def zeroed(loaded):
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()


@pytest.mark.parametrize("spoil", [switched_off, taken_off, zeroed])
def test_an_adapter_that_is_not_active_is_refused(spoil, study, monkeypatch):
    folder, _ = study.train(TWO_EPOCHS)

    def put(loaded, folder):
        card = models.put_adapter(loaded, folder)
        spoil(loaded)
        return card

    for function in (questions.Asker.answer, predict.before_and_after):
        monkeypatch.setattr(sys.modules[function.__module__], "put_adapter", put)
    with pytest.raises(CourseError, match="The adapter changes nothing"):
        study.adapter_arm(folder)
    with pytest.raises(CourseError, match="The adapter changes nothing"):
        predict.before_and_after(study.loaded, SARCASM, folder, study.test_rows())
    before, after = predict.before_and_after(study.loaded, SARCASM, folder, study.test_rows(), check=False)
    assert len(before.labels) == len(after.labels) == len(study.test_rows())


def test_numbers_that_overflow_are_refused(study):
    """Finite weights, and logits that are not: every answer would be the first label, or garbage."""
    folder, _ = study.train(TWO_EPOCHS)
    real = models.put_adapter

    def put(loaded, folder):
        card = real(loaded, folder)
        for name, parameter in loaded.model.named_parameters():
            if "lora_" in name:
                parameter.data.fill_(1e30)
        return card

    for way in ("generated", "scored"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(CourseError, match="The model's numbers overflow"):
            patch.setattr(questions, "put_adapter", put)
            study.adapter_arm(folder, way)
    study.loaded.model.lm_head.weight.data[7] = float("nan")
    for ask in (study.scored, study.generated):
        with pytest.raises(CourseError, match="The model's numbers overflow"):
            ask(study.prompt(0))


@pytest.mark.parametrize("broken", [1, 40])
def test_the_adapter_check_looks_at_rows_of_different_lengths(broken, study, monkeypatch):
    """Numbers can overflow for the longest row, or the shortest, and for no other."""
    folder, _ = study.train(TWO_EPOCHS)
    models.put_adapter(study.loaded, folder)
    times = (5, 1, 6, 8, 7, 40, 9, 10)
    rows = [{"parent_comment": "Late again.", "comment": "Great! " * count} for count in times]
    prompt = Prompt(SARCASM, instruction=False)
    predict.check_adapter(study.loaded, prompt, rows)
    ids = predict.encode(study.loaded, prompt, rows)[times.index(broken)]
    real = engine.next_logits

    def next_logits(loaded, batch):
        logits = real(loaded, batch)
        for place, (tokens, mask) in enumerate(zip(batch.tokens, batch.mask, strict=True)):
            if tokens[mask.bool()].tolist() == ids:
                logits[place] = float("nan")
        return engine.refuse_overflow(logits)

    monkeypatch.setattr(engine, "next_logits", next_logits)
    with pytest.raises(CourseError, match="The model's numbers overflow"):
        predict.check_adapter(study.loaded, prompt, rows)


def test_no_rows_say_nothing_of_an_adapter(study):
    folder, _ = study.train(TWO_EPOCHS)
    assert [found.labels for found in predict.before_and_after(study.loaded, SARCASM, folder, [])] == [[], []]


def test_two_beginnings_of_a_prompt_are_refused(tiny, monkeypatch):
    real = encoding.encode_text
    doubled = lambda *args: [[START, START, *ids] for ids in real(*args)]  # noqa: E731
    monkeypatch.setattr(encoding, "encode_text", doubled)
    with pytest.raises(CourseError, match="A prompt begins with two beginning-of-text tokens"):
        predict.score(tiny, Prompt(SARCASM), TRAINING_ROWS[:2])


def test_arms_on_different_rows_are_not_compared(study, tiny, tmp_path):
    other = Experiment(some_rows(mark="!"), tiny, tmp_path / "others", quiet=True).majority()
    mine = study.majority()
    with pytest.raises(CourseError, match=r"'majority' answered the test set .* methods on different rows"):
        study.p_value(mine, other)
    study.arms.append(other)
    with pytest.raises(CourseError, match="methods on different rows"):
        study.results()


def test_the_padding_side_of_a_tokenizer_changes_nothing(make_tiny, tmp_path):
    """Training and prediction pad by themselves; a tokenizer that was set otherwise must not spoil them."""
    outcomes = []
    for side in ("right", "left"):
        loaded = make_tiny(1)
        before, loaded.tokenizer.padding_side = loaded.tokenizer.padding_side, side
        try:
            finetuning.finetune(loaded, SARCASM, TRAINING_ROWS[:8], TWO_EPOCHS, tmp_path / side)
            scores = predict.score(loaded, Prompt(SARCASM, instruction=False), TRAINING_ROWS).logprobs
        finally:
            loaded.tokenizer.padding_side = before
        outcomes.append(torch.tensor(scores))
    assert torch.equal(*outcomes)
