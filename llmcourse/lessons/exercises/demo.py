"""Exercises of notebook 05: what is learned from, and what the talk's report says between its lines."""

from llmcourse.lessons.exercises import exercise


def _examine_loss_mask(attempt) -> str | None:
    prompt, completion, end = [11, 12, 13], [21, 22], 2
    answer = list(attempt(prompt, completion, end))
    right = [-100, -100, -100, 21, 22, 2]
    if answer == right:
        return (
            None if list(attempt([5], [7], 0)) == [-100, 7, 0] else "it is right for one row only; use the arguments."
        )
    if answer == right[:-1]:
        return "the end-of-text token is missing. A model that never learns it never stops."
    if answer == [*prompt, *completion, end]:
        return "every token is learned from, the prompt too: put -100 where nothing is to be learned."
    if answer == [*right[:-1], -100]:
        return "the end-of-text token is masked. A model that never learns it never stops."
    if len(answer) != len(right):
        return f"a label for each token is needed: {len(right)} here, not {len(answer)}."
    if answer == [-100, -100, 21, 22, 2, -100]:
        return "the labels are shifted by one. The model shifts them itself; give each token its own."
    return f"for prompt {prompt}, completion {completion} and end {end} it gives {answer}."


@exercise("05_sarcasm_demo", "Write the loss mask", difficulty="easy", minutes=4, examine=_examine_loss_mask)
def loss_mask(prompt_ids, completion_ids, end_id):
    """The labels of a training row: -100 for the prompt, then the completion's tokens and the end-of-text token."""
    return [-100] * len(prompt_ids) + [*completion_ids, end_id]


def _examine_parsed(attempt) -> str | None:
    answer = attempt((0.16, 0.74), (0.67, 0.54), (50, 50))
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "return two numbers: (answers that could be read, share of them that are right)."
    read, right = answer
    if abs(read - 80.5) < 1 and abs(right - 0.56) < 0.01:
        return (
            None
            if attempt((1.0, 1.0), (1.0, 1.0), (10, 30)) == (40, 1.0)
            else "use the arguments, not the talk's numbers."
        )
    if abs(right - 0.45) < 0.005:
        return "0.45 counts all 100 rows. Divide the right answers by the answers that could be read."
    if abs(read - 100) < 0.5:
        return (
            "100 rows were asked; how many answers were read as a label?"
            " Of those, precision is the share that is right."
        )
    return (
        "right answers are recall x support (8 and 37); answers read are right / precision."
        f" It gives {read:.1f} and {right:.2f}."
    )


@exercise("05_sarcasm_demo", "What the talk's report implies", difficulty="medium", minutes=8, examine=_examine_parsed)
def on_parsed_answers(recall, precision, support):
    """From recall, precision and support per label: answers that were read, and the share of them that is right."""
    right = [r * n for r, n in zip(recall, support)]
    read = sum(n / p for n, p in zip(right, precision))
    return read, sum(right) / read
