"""(b) The embedded model with the shipped adapter, in float16, bfloat16 and NF4: its answers beside those of the CPU,
and the engine's beside those of one forward pass for each label and row."""

from collections.abc import Callable, Sequence

from scoring import FullForwards, largest_difference

from gpu.setting import T4, Findings, Setting, pretend, shipped_prompt, with_shipped_adapter
from llmcourse import data, models, predict
from llmcourse._base.hardware import AMPERE
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel

KINDS: dict[str, tuple[tuple[int, int], Callable[[], LoadedModel], str]] = {
    "float16": (T4, models.load, "float32"),
    "bfloat16": (AMPERE, models.load, "float32"),
    "nf4": (T4, models.embedded_in_nf4, "nf4"),
}
"""Kind of weights -> the generation that computes so, what loads the model, and the CPU's answers to compare with."""

TOLERANCE = {"float16": 0.02, "bfloat16": 0.16, "nf4": 0.12}
"""Largest mean difference of a label's log-probability: five times what these types differed by on a CPU (60 rows)."""

SURE = 2.0
"""A difference of the labels' log-probabilities that no rounding should turn round."""


def run(setting: Setting, findings: Findings) -> None:
    """Compare each kind of weights."""
    stored, prompt = setting.answers(), shipped_prompt()
    rows = list(data.load(SARCASM).test)[: stored["rows"]]
    for kind, (capability, load, reference) in KINDS.items():
        with findings.part(kind) as measured, pretend(setting, capability):
            loaded = with_shipped_adapter(load())
            answers = predict.score(loaded, prompt, rows).logprobs
            measured["beside the CPU"] = compared = compare(answers, stored["logprobs"][reference])
            off = f"{kind}: other answers than the CPU's: {compared}"
            findings.check(compared["mean_difference"] <= TOLERANCE[kind] and not compared["sure_and_other"], off)
            few = rows[: setting.sizes.one_by_one]
            alone = [row["among"] for row in FullForwards(loaded, prompt)(few)]
            measured["engine beside one row at a time"] = compared = compare(answers[: len(few)], alone)
            off = f"{kind}: the engine answers otherwise than one row at a time: {compared}"
            findings.check(compared["mean_difference"] <= TOLERANCE[kind] and not compared["sure_and_other"], off)


def compare(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return how far two tables of log-probabilities are apart, and how many rows get another answer."""
    apart = [abs(x - y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a, b, strict=True)]
    other = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.index(max(a)) != b.index(max(b))]
    return {
        "rows": len(ours),
        "mean_difference": round(sum(apart) / len(apart), 5),
        "largest_difference": round(largest_difference(ours, theirs), 5),
        "other_answers": len(other),
        "sure_and_other": sum(max(b) - min(b) > SURE for _, b in other),
    }
