"""Exercises of notebook 02: reading an answer, and taking a prompt's preference off."""

from llmcourse.lessons.exercises import exercise

LABELS = ("Sarcasm", "Not Sarcasm")


def _examine_calibrate(attempt) -> str | None:
    answer = attempt([0.6, 0.4], [0.75, 0.25])
    if not hasattr(answer, "__len__") or len(answer) != 2:
        return "return one probability for each label."
    first = float(answer[0])
    if abs(first + float(answer[1]) - 1) > 1e-6:
        if abs(first - 0.8) < 1e-6:
            return "divided, but not normalised: the probabilities of the labels must add up to 1 again."
        if abs(first - 0.6 * 0.75) < 1e-6 or abs(first + 0.15) < 1e-6:
            return (
                "the preference is a factor in the probabilities: divide by it, do not multiply by it or subtract it."
            )
        return f"the probabilities must add up to 1; these add up to {first + float(answer[1]):.3g}."
    if abs(first - 0.45 / 0.55) < 1e-6:
        return "that doubles the preference instead of taking it off: divide by what the empty row gets."
    if abs(first - 1 / 3) > 1e-6:
        return (
            "with 0.6 and 0.4 on the row, 0.75 and 0.25 on the empty row, the first label keeps 1/3;"
            f" it gives {first:.3g}."
        )
    if any(abs(float(value) - 1 / 3) > 1e-6 for value in attempt([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])):
        return "a row that says no more than the empty row leaves all labels equal; with three labels, a third each."
    return None


@exercise("02_prompting", "Take the preference off", difficulty="easy", minutes=4, examine=_examine_calibrate)
def calibrate(probs, free):
    """Label probabilities of a row, with what the prompt gives a row without content divided out."""
    ratios = [p / f for p, f in zip(probs, free)]
    return [ratio / sum(ratios) for ratio in ratios]


def _examine_parse(attempt) -> str | None:
    if attempt("Sarcasm", LABELS) != 0:
        return (
            f"'Sarcasm' is label 0 here; it gives {attempt('Sarcasm', LABELS)!r}. Return the label's place in `labels`."
        )
    if attempt(" Not Sarcasm\n", LABELS) == 0:
        return "'Not Sarcasm' was read as Sarcasm, which it contains. Try the longer label first."
    if attempt(" Not Sarcasm\n", LABELS) != 1:
        return "models write a space before the answer and a line break after it: strip() both."
    if attempt("sarcasm", LABELS) != 0:
        return "'sarcasm' is an answer too: compare without regard to letter case."
    for text, why in (
        ("", "an empty answer"),
        ("I cannot decide.", "an answer without a label"),
        ("This comment is not about Sarcasm.", "an answer that only mentions a label further on"),
    ):
        if attempt(text, LABELS) is not None:
            return f"{text!r} is {why}: return None. Only an answer that begins with a label gives one."
    if attempt("Sarcasmus", LABELS) is not None:
        return "'Sarcasmus' only begins like a label: what follows the label must not be a letter."
    if attempt("Sarcasm.", LABELS) != 0 or attempt("Not Sarcasm, I think", LABELS) != 1:
        return "'Sarcasm.' and 'Not Sarcasm, I think' begin with a label, and something else follows: they count."
    if attempt("Not Spam", ("Not Spam", "Spam")) != 0 or attempt("neutral", ("positive", "neutral")) != 1:
        return "it reads the labels of this task only. Take them from `labels`."
    return None


@exercise("02_prompting", "Read an answer", difficulty="medium", minutes=8, examine=_examine_parse)
def parse_first_label(text, labels):
    """The place in `labels` of the label that an answer begins with, or None."""
    answer = text.strip().lower()
    for label in sorted(labels, key=len, reverse=True):  # "Not Sarcasm" before "Sarcasm"
        rest = answer.removeprefix(label.lower())
        if rest != answer and not rest[:1].isalpha():
            return labels.index(label)
    return None
