"""Exercises of notebook 02 (reading an answer, calibrating it, letting prompts vote) and of its appendix, A1."""

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
        return "that doubles the preference instead of taking it off: divide by what the content-free text gets."
    if abs(first - 1 / 3) > 1e-6:
        return (
            "with 0.6 and 0.4 on the row, 0.75 and 0.25 on the content-free text, the first label keeps 1/3;"
            f" it gives {first:.3g}."
        )
    if any(abs(float(value) - 1 / 3) > 1e-6 for value in attempt([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])):
        return "a row that says no more than the content-free text leaves all labels equal, here a third each."
    return None


@exercise("02_prompting", "Calibrate by hand", difficulty="easy", minutes=4, examine=_examine_calibrate)
def calibrate(probs, free):
    """Divide the label probabilities of a row by those of the content-free text, and make them add up to 1."""
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


@exercise("02_prompting", "Read an answer", difficulty="medium", minutes=6, examine=_examine_parse)
def parse_first_label(text, labels):
    """Return the index in `labels` of the label that an answer begins with, or None."""
    answer = text.strip().lower()
    for label in sorted(labels, key=len, reverse=True):  # a longer label before one that it begins with
        rest = answer.removeprefix(label.lower())
        if rest != answer and not rest[:1].isalpha():
            return labels.index(label)
    return None


def _examine_vote(attempt) -> str | None:
    answer = attempt([1, 2, 2, 0, 2])
    if answer == 3:
        return "that is how many prompts agree. Return the label that they agree on."
    if answer != 2:
        return f"of the answers 1, 2, 2, 0, 2 most are 2; it gives {answer!r}."
    if attempt([0, 0, 1]) != 0:
        return "of the answers 0, 0, 1 most are 0. Is a label of 0 taken for no label?"
    if attempt([None, None, 1]) != 1:
        return "None is an invalid answer. Leave invalid answers out before you count."
    if attempt([2, 1, 1, 2]) != 2:
        return "of the answers 2, 1, 1, 2 none has more votes; then take the label that comes first, 2."
    if attempt([None, None]) is not None:
        return "without a valid answer there is nothing to vote for. Return None."
    return None


@exercise("02_prompting", "Let several prompts vote", difficulty="easy", minutes=4, examine=_examine_vote)
def vote(answers):
    """Return the label that most prompts gave to a row, ignoring invalid answers (None). In a tie, return the first."""
    valid = [answer for answer in answers if answer is not None]
    return max(valid, key=valid.count, default=None)


def _examine_flips(attempt) -> str | None:
    before, after = [0, 0, 1, 1, 1], [1, 0, 1, 0, 0]
    answer = attempt(before, after, 1)
    if answer == 3:
        return "that counts every changed answer. Count only those that become the wanted label."
    if answer == 2 and attempt(before, after, 0) == 3:
        return "an answer that was the wanted label before is no flip. Look at `before` too."
    if answer != 1:
        return f"of 0, 0, 1, 1, 1 that become 1, 0, 1, 0, 0, one answer turns into 1; it gives {answer!r}."
    if attempt(before, after, 0) != 2:
        return f"two answers turn into 0 there; it gives {attempt(before, after, 0)!r}. Use `wanted`."
    return None


@exercise("A1_prompting_appendix", "Count the flips", difficulty="easy", minutes=3, examine=_examine_flips)
def flips_to(before, after, wanted):
    """Return how many answers were another label before and are the wanted label after."""
    return sum(a != wanted and b == wanted for a, b in zip(before, after))


def _examine_prefix(attempt) -> str | None:
    answer = attempt([[1, 2, 3, 4], [1, 2, 9, 4], [1, 2, 3]])
    if answer == 3:
        return (
            "that compares two of the prompts only, or counts equal tokens after a difference. Stop at the first one."
        )
    if answer != 2:
        return f"[1, 2, 3, 4], [1, 2, 9, 4] and [1, 2, 3] all begin with the two tokens 1, 2; it gives {answer!r}."
    if attempt([[5, 6], [5, 6, 7]]) != 2:
        return "a prompt may be the beginning of another: [5, 6] and [5, 6, 7] share two tokens. zip() stops in time."
    if attempt([[1, 2], [3, 2]]) != 0:
        return "[1, 2] and [3, 2] begin differently, so they share nothing that can be kept."
    return None


@exercise("A1_prompting_appendix", "The shared beginning", difficulty="easy", minutes=4, examine=_examine_prefix)
def shared_tokens(prompts):
    """Return how many tokens all prompts (lists of token ids) have in common at their beginning."""
    count = 0
    for tokens in zip(*prompts):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count
