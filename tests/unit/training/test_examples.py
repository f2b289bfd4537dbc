"""Training rows: the loss is on label and end of text, and a long row loses text, never its label."""

from small import TRAINING_ROWS, TWO_EPOCHS, trainer_for

from llmcourse.data.tasks import SARCASM
from llmcourse.training.examples import training_rows


def test_loss_is_on_label_and_end_of_text_only(tiny, tmp_path):
    trainer = trainer_for(tiny, tmp_path)
    for row, labels, ids in zip(
        TRAINING_ROWS, trainer.train_dataset["labels"], trainer.train_dataset["input_ids"], strict=True
    ):
        learned = [token for token in labels if token != -100]
        answer = tiny.tokenizer(" " + SARCASM.labels[row["label"]]).input_ids
        assert learned == [*answer, tiny.tokenizer.eos_token_id]
        assert ids[-len(learned) :] == learned and labels[: -len(learned)] == [-100] * (len(ids) - len(learned))


def test_long_rows_lose_text_never_the_label(tiny, tmp_path):
    rows = [{**TRAINING_ROWS[0], "comment": "very " * 700}, *TRAINING_ROWS[:3]]
    examples, cut = training_rows(tiny, SARCASM, rows, TWO_EPOCHS)
    assert cut == 1 and examples[0]["completion"] == " Not Sarcasm" and examples[0]["prompt"].endswith("\nCategory:")
    lengths = [len(tiny.tokenizer(e["prompt"] + e["completion"]).input_ids) + 1 for e in examples]
    assert TWO_EPOCHS.max_length - 8 <= lengths[0] <= TWO_EPOCHS.max_length
