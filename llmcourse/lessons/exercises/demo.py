"""Exercises of notebook 05: a baseline, what a model learns from, when to stop, and how to compare fairly."""

import math

from llmcourse.lessons.exercises import exercise


def _examine_majority(attempt) -> str | None:
    answer = attempt([0, 0, 0, 1, 1], [0, 1, 1, 1])
    if answer == 0.25:
        if attempt(["b", "b", "a"], ["a", "b", "b", "b"]) != 0.75:
            return "it is right for one pair of lists only. Find the commonest label of `train_labels` yourself."
        return None
    if answer == 0.75:
        return "1 is the commonest label of the test rows. A baseline may only look at the training rows."
    if answer == 0.6:
        return "0.6 is the label's share of the training rows. Count it among the test rows."
    if answer == 1:
        return "the right answers are counted. Divide them by the number of test rows."
    return f"the commonest training label is 0, and one of the four test rows has it: 0.25, not {answer!r}."


@exercise("05_sarcasm_demo", "Write the simplest baseline", difficulty="easy", minutes=3, examine=_examine_majority)
def majority_accuracy(train_labels, test_labels):
    """Return the accuracy on the test rows of always answering the most common training label."""
    commonest = max(set(train_labels), key=train_labels.count)
    return test_labels.count(commonest) / len(test_labels)


def _examine_parsed(attempt) -> str | None:
    answer = attempt((0.16, 0.74), (0.67, 0.54), (50, 50))
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "return two numbers: how many answers were labels, and the share of them that is right."
    read, right = answer
    if abs(read - 80.5) < 1 and abs(right - 0.56) < 0.01:
        if attempt((1.0, 1.0), (1.0, 1.0), (10, 30)) != (40, 1.0):
            return "use the arguments, not the talk's numbers."
        return None
    if abs(right - 0.45) < 0.005:
        return "0.45 counts all 100 rows. Divide the right answers by the answers that were labels."
    if abs(read - 100) < 0.5:
        return (
            "100 rows were asked, but fewer answers were labels. Precision is the share of a label's answers that is"
            " right, so the answers are the right ones divided by it."
        )
    return (
        "the right answers are recall x support, which is 8 and 37. The answers are right / precision. Yours are"
        f" {read:.1f} and {right:.2f}."
    )


@exercise("05_sarcasm_demo", "What the talk's report implies", difficulty="medium", minutes=8, examine=_examine_parsed)
def on_parsed_answers(recall, precision, support):
    """Return how many answers were labels, and the share of them that is correct. Lists have one number per label."""
    right = [r * n for r, n in zip(recall, support)]
    read = sum(n / p for n, p in zip(right, precision))
    return read, sum(right) / read


def _examine_loss_mask(attempt) -> str | None:
    prompt, completion, end = [11, 12, 13], [21, 22], 2
    answer = list(attempt(prompt, completion, end))
    right = [-100, -100, -100, 21, 22, 2]
    if answer == right:
        if list(attempt([5], [7], 0)) != [-100, 7, 0]:
            return "it is right for one row only. Use the arguments."
        return None
    if answer == right[:-1]:
        return "the end-of-text token is missing. A model that never learns it never stops."
    if answer == [*prompt, *completion, end]:
        return "every token is learned, the prompt too. Put -100 where nothing is to be learned."
    if answer == [*right[:-1], -100]:
        return "the end-of-text token is masked. A model that never learns it never stops."
    if len(answer) != len(right):
        return f"each token needs a label: {len(right)} here, not {len(answer)}."
    if answer == [-100, -100, 21, 22, 2, -100]:
        return "the labels are shifted by one. The model shifts them itself, so give each token its own."
    return f"for prompt {prompt}, completion {completion} and end {end} it gives {answer}."


@exercise("05_sarcasm_demo", "Write the loss mask", difficulty="easy", minutes=4, examine=_examine_loss_mask)
def loss_mask(prompt_ids, completion_ids, end_id):
    """Return a training row's labels: -100 for the prompt, then the completion's tokens and the end-of-text token."""
    return [-100] * len(prompt_ids) + [*completion_ids, end_id]


def _examine_choice(attempt) -> str | None:
    logprobs = [math.log(0.2), math.log(0.05)]
    answer, right = attempt(logprobs, 1), math.log(5)
    if not isinstance(answer, int | float):
        return "return one number, the loss in nats."
    if abs(answer - right) < 1e-6:
        if abs(attempt([math.log(0.1)] * 3, 0) - math.log(3)) > 1e-6:
            return "three labels of the same probability cost ln 3, whichever is right. Use all of `logprobs`."
        return None
    if abs(answer + logprobs[1]) < 1e-6:
        return (
            "that is the ordinary loss of this token. It also charges the model for words that are no labels. Divide by"
            " the probability of both labels together."
        )
    if abs(answer + right) < 1e-6:
        return "a loss is minus the logarithm, so that it is smaller for a better model."
    if abs(answer - 0.2) < 1e-6:
        return "0.2 is the right label's share of the two. The loss is minus its logarithm."
    if abs(answer - math.log(1.25)) < 1e-6:
        return "that is the loss of the other label. `own` is the right label's place in the list."
    if abs(answer - math.log2(5)) < 1e-6:
        return "that is in bits. Use the natural logarithm, which gives nats."
    return f"with probabilities 0.2 and 0.05, the second label's share is 0.2. The loss is 1.61, not {answer:.3g}."


@exercise("05_sarcasm_demo", "The label loss", difficulty="medium", minutes=5, examine=_examine_choice)
def choice_loss(logprobs, own):
    """Return the label loss from the log-probability of each label. `own` is the index of the right label."""
    together = math.log(sum(math.exp(value) for value in logprobs))
    return together - logprobs[own]


def _examine_best_epoch(attempt) -> str | None:
    losses, accuracies = (0.68, 0.6, 0.55, 0.7, 0.9), (0.5, 0.6, 0.66, 0.7, 0.68)
    curve = [
        {"epoch": float(number), "loss": loss, "accuracy": accuracy}
        for number, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1)
    ]
    answer = attempt(curve)
    if answer == 3:
        if attempt([{"epoch": 0.5, "loss": 0.4, "accuracy": 1.0}, {"epoch": 1.0, "loss": 0.6, "accuracy": 1.0}]) != 0.5:
            return "return the entry's own epoch. It need not be a whole number."
        return None
    if isinstance(answer, dict):
        return 'that is the whole entry. Return its "epoch".'
    if answer == 0.55:
        return "that is the smallest loss. Return the epoch that has it."
    if answer == 2:
        return "that is the entry's place in the list, which counts from 0. Return its epoch."
    if answer == 4:
        return "epoch 4 has the highest accuracy, but its loss is higher than that of epoch 3. Choose by the loss."
    if answer == 5:
        return "epoch 5 is the last one, or the one with the largest loss. Choose the smallest loss."
    return f"the smallest loss is that of epoch 3; it gives {answer!r}."


@exercise("05_sarcasm_demo", "Choose when to stop", difficulty="easy", minutes=3, examine=_examine_best_epoch)
def best_epoch(validation):
    """Return the epoch with the smallest held-out loss. Each entry has an "epoch", a "loss" and an "accuracy"."""
    return min(validation, key=lambda entry: entry["loss"])["epoch"]


def _examine_ahead(attempt) -> str | None:
    gold = [0, 1, 0, 1, 0, 1, 0, 1]
    a = [0, 1, 0, 0, 0, 1, 1, 1]
    b = [1, 0, 0, 1, 1, 1, 0, None]
    comments = ["w", "w", "x", "x", "y", "y", "z", "z"]
    answer = attempt(gold, a, b, comments)
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "return two numbers: comments on which `a` is ahead, and comments on which `b` is ahead."
    if answer == (2, 1):
        mixed = attempt([0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], ["v", "w", "v", "w"])
        return None if mixed == (1, 0) else "the two replies to a comment need not be next to each other."
    if answer == (1, 2):
        return "the two numbers are the wrong way round. First the comments on which `a` is ahead."
    if answer == (4, 2):
        return "that counts rows. On comment w, `a` is ahead on both replies, and this is one comment."
    if answer == (3, 2):
        return "on comment z each method is right once, so neither is ahead. Add up a comment's rows first."
    return f"`a` is ahead on comments w and y, `b` on x, and z is a tie: (2, 1), not {answer}."


@exercise("05_sarcasm_demo", "Count comments, not rows", difficulty="medium", minutes=6, examine=_examine_ahead)
def comments_ahead(gold, a, b, comments):
    """Return on how many comments `a` has more rows right than `b`, and on how many it has fewer."""
    lead = dict.fromkeys(comments, 0)
    for label, x, y, comment in zip(gold, a, b, comments):
        lead[comment] += (x == label) - (y == label)
    return sum(n > 0 for n in lead.values()), sum(n < 0 for n in lead.values())
