"""Exercises of notebook 03 and its appendix A2: judging answers, retrieval, forgetting, cost, perplexity and KL."""

from math import exp, log

from llmcourse.lessons.exercises import exercise


def _examine_holds(attempt) -> str | None:
    if not attempt("3.2 metres", "3.2 metres"):
        return "'3.2 metres' is exactly the answer, but it counts as wrong."
    if not attempt("The tank is 3.2 metres deep.", "3.2 metres"):
        return "a whole sentence is fine too. Look for the answer inside the text."
    if not attempt("Guests park at CINDER YARD.", "Cinder Yard"):
        return "upper and lower case should make no difference, and a full stop may follow the answer."
    for text, answer in (("It takes 121 weeks.", "21 weeks"), ("Use channel 370.", "channel 37")):
        if attempt(text, answer):
            return (
                f"{text!r} does not give the answer {answer!r}. Digits or letters must not touch the answer on either"
                " side."
            )
    if attempt("It is 7x5 per cent.", "7.5 per cent"):
        return "in a regular expression a full stop matches any character. Use re.escape(answer)."
    return None


@exercise("03_domain_adaptation", "Judge an answer", difficulty="easy", minutes=4, examine=_examine_holds)
def holds(text, answer):
    """Return whether the text contains the answer as whole words, ignoring letter case."""
    import re

    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) is not None


def _examine_nearest(attempt) -> str | None:
    import torch

    question = torch.tensor([1.0, 0.2])
    pages = torch.tensor([[2.0, 0.4], [9.0, 9.0], [0.5, -0.1], [0.0, 1.0]])
    answer = attempt(question, pages, 2)
    answer = answer.tolist() if torch.is_tensor(answer) else list(answer)
    if len(answer) != 2:
        return f"with k = 2, return two indices. It returns {len(answer)}."
    if any(isinstance(value, float) and value != int(value) for value in answer):
        return "those are the cosines. Return the indices of the pages, which topk(k) gives as .indices."
    if answer == [1, 0]:
        return "page 1 wins only because its vector is long. Divide each product by the lengths of both vectors."
    if answer == [2, 0]:
        return "these are the right pages in the wrong order. Put the highest cosine first, and don't use distances."
    if answer == [3, 1]:
        return "these are the least similar pages. The highest cosine comes first."
    if answer != [0, 2]:
        return f"pages 0 and 2 point most nearly in the question's direction. It returns {answer}."
    more = attempt(question, pages, 3)
    if list(more.tolist() if torch.is_tensor(more) else more) != [0, 2, 1]:
        return "it is right for k = 2 only. Use the argument k."
    return None


@exercise("03_domain_adaptation", "Write the retriever", difficulty="medium", minutes=6, examine=_examine_nearest)
def nearest(question, pages, k):
    """Return the indices of the k pages with the highest cosine to the question, best first: (d,), (n, d)."""
    lengths = pages.norm(dim=1) * question.norm()
    return (pages @ question / lengths).topk(k).indices.tolist()


FOUND, PAGES = [4, 1, 7, 3, 2, 9], [4, 5, 7, 3, 8, 9]
VERDICTS = ["right", "wrong", "wrong", "open", "right", "wrong"]


def _examine_blame(attempt) -> str | None:
    answer = attempt(FOUND, PAGES, VERDICTS)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return "return two numbers: the retriever's errors and the reader's errors."
    hints = {
        (3, 1): "the two numbers are swapped: the retriever's errors come first.",
        (2, 3): "a right answer is no error, even if the page was wrong.",
        (1, 2): "an open answer is not right, so it is an error too.",
        (1, 4): "an error belongs to one part only. The reader is to blame if the page was right.",
    }
    if tuple(answer) in hints:
        return hints[tuple(answer)]
    if tuple(answer) != (1, 3):
        return f"here the retriever makes 1 error and the reader 3. It returns {tuple(answer)}."
    if tuple(attempt([1], [2], ["open"])) != (1, 0):
        return "without the right page, an open answer is the retriever's error."
    return None


@exercise("03_domain_adaptation", "Whose fault is it?", difficulty="easy", minutes=4, examine=_examine_blame)
def blame(found, right, verdicts):
    """Return two counts of wrong answers: those with a wrong page, and those with the right page."""
    errors = [page == wanted for page, wanted, verdict in zip(found, right, verdicts) if verdict != "right"]
    return errors.count(False), errors.count(True)


BEFORE = [True, True, True, True, True, False, False, False]
AFTER = [True, False, False, True, True, True, True, False]


def _examine_forgotten(attempt) -> str | None:
    answer = attempt(BEFORE, AFTER)
    for wrong, hint in (
        (
            0,
            "the accuracy is the same before and after, but two answers were lost. New right answers hide them.",
        ),
        (2 / 8, "divide by the answers that could be forgotten, which are the 5 that were right before."),
        (3 / 5, "that is the share that was kept."),
        (2, "that is the number of lost answers. Divide it by the number that were right before."),
        (4 / 8, "an answer that became right is not forgotten. Count only those that were right before."),
    ):
        if abs(answer - wrong) < 1e-9:
            return hint
    if abs(answer - 2 / 5) > 1e-9:
        return f"2 of the 5 answers that were right before are lost, so the share is 0.4. It returns {answer}."
    if attempt([True, False], [True, True]) != 0:
        return "if every answer that was right stays right, nothing is forgotten."
    return None


@exercise("03_domain_adaptation", "Measure forgetting", difficulty="easy", minutes=4, examine=_examine_forgotten)
def forgotten(before, after):
    """Return the share of the answers that were right before training and are wrong after it."""
    return sum(was and not now for was, now in zip(before, after)) / sum(before)


def _examine_gpu_hours(attempt) -> str | None:
    answer = float(attempt(1e9, 1e9, 1e14))
    right = 6e18 / 1e14 / 3600
    for factor, hint in (
        (
            1 / 6,
            "training takes 6 operations for each parameter and token: 2 to compute the loss and 4 for the gradients.",
        ),
        (2 / 6, "2 operations are enough to read a token. Training takes 6."),
        (3600, "those are seconds. There are 3,600 of them in an hour."),
        (60, "those are minutes."),
    ):
        if abs(answer / right - factor) < 1e-6:
            return hint
    if abs(answer / right - 1) > 1e-6:
        return f"a billion parameters and tokens at 1e14 operations a second take {right:.1f} hours, not {answer:.3g}."
    if abs(attempt(2e9, 3e9, 1e14) / right - 6) > 1e-6:
        return "use the arguments: twice the parameters and three times the tokens cost six times as much."
    return None


@exercise("03_domain_adaptation", "What would it cost?", difficulty="easy", minutes=4, examine=_examine_gpu_hours)
def gpu_hours(parameters, tokens, speed):
    """Return the hours of training at `speed` operations a second, with 6 operations per parameter and token."""
    return 6 * parameters * tokens / speed / 3600


def _examine_perplexity(attempt) -> str | None:
    texts = [[-1.0, -3.0], [-2.0, -2.0, -2.0, -2.0, -2.0, -8.0]]
    mean = 22 / 8
    first = float(attempt([[-1.0, -3.0]]))
    if abs(first - exp(-2)) < 1e-6:
        return "log-probabilities are negative, but perplexity is at least 1. Put a minus sign into the exponent."
    if abs(first - 2) < 1e-6:
        return "that is the loss in nats. Perplexity is exp of it."
    if abs(first - exp(4)) < 1e-4:
        return "that is exp of the sum. Divide by the number of tokens first, or longer texts always look worse."
    if abs(first - 4) < 1e-6:
        return "these are natural logarithms, so the inverse is exp and not a power of 2."
    if abs(first - (exp(1) + exp(3)) / 2) < 1e-6:
        return "take the mean of the log-probabilities first, and exp of the mean afterwards."
    if abs(first - exp(2)) > 1e-6:
        return f"for one text with the two log-probabilities -1 and -3 it is exp(2) = 7.389. It returns {first:.4g}."
    answer = float(attempt(texts))
    if abs(answer - exp((2 + 3) / 2)) < 1e-6 or abs(answer - (exp(2) + exp(3)) / 2) < 1e-6:
        return "each token counts the same, not each text. Put the log-probabilities of all texts together first."
    if abs(answer - exp(mean)) > 1e-6:
        return f"the two texts have 8 tokens with a sum of -22, so it is exp(22/8) = {exp(mean):.4g}, not {answer:.4g}."
    return None


@exercise(
    "A2_forgetting_appendix",
    "Perplexity from log-probabilities",
    difficulty="medium",
    minutes=6,
    examine=_examine_perplexity,
)
def perplexity_of(texts):
    """Return exp of the mean negative log-probability of all tokens. A text is a list of natural log-probabilities."""
    from math import exp

    every = [logprob for text in texts for logprob in text]
    return exp(-sum(every) / len(every))


def _examine_kl(attempt) -> str | None:
    p, q = [0.5, 0.25, 0.25], [0.8, 0.1, 0.1]
    right = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    answer = float(attempt(p, q))
    for wrong, hint in (
        (-right, "the sign is wrong. KL is never negative: use log(p/q), not log(q/p)."),
        (sum(b * log(b / a) for a, b in zip(p, q, strict=True)), "that is KL(q || p). Weight the logarithms by p."),
        (right / log(2), "that is in bits. Use the natural logarithm, which gives nats."),
        (sum(log(a / b) for a, b in zip(p, q, strict=True)), "weight each logarithm by p, the token's probability."),
        (right / 3, "add the terms up. The weights p are the mean already."),
    ):
        if abs(answer - wrong) < 1e-6:
            return hint
    if abs(answer - right) > 1e-6:
        return f"for p = {p} and q = {q} it is {right:.4f} nats. It returns {answer:.4f}."
    try:
        certain = float(attempt([1.0, 0.0], [0.5, 0.5]))
    except (ValueError, ZeroDivisionError):
        certain = None
    if certain is None or not abs(certain - log(2)) < 1e-6:
        return "a token with p = 0 adds nothing to the sum. Leave it out, because log(0) has no value."
    return None


@exercise("A2_forgetting_appendix", "KL divergence", difficulty="easy", minutes=4, examine=_examine_kl)
def kl_divergence(p, q):
    """Return KL(p || q) in nats, for two lists of probabilities of the same tokens."""
    from math import log

    return sum(a * log(a / b) for a, b in zip(p, q) if a > 0)
