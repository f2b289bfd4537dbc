"""The values of the deck's placeholders: results files, saved outputs, counts, the talk's own numbers, and figures.

A number on a slide comes from one of four places, and the slide's foot says which:

    talk      talk.json, quoted from the talk
    measured  a results file (llmcourse/lessons/recorded/, benchmarks/results/) or the saved output of a notebook
    counted   shapes and formulas: what the library computes without running a model
    estimate  the planner's

tests/content/test_slides.py looks for digits in deck.md outside placeholders, so that no other number gets on a slide.
"""

import csv
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from llmcourse import CourseError, figures
from llmcourse.data import tasks
from llmcourse.experiment import SHOTS, metrics
from llmcourse.lessons import recorded
from llmcourse.lessons.fromscratch import lora, nf4
from llmcourse.lessons.widgets import explorers
from llmcourse.models import catalogue
from llmcourse.training import planner

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "results"
TALK = json.loads((Path(__file__).parent / "talk.json").read_text(encoding="utf-8"))


@cache
def result(name: str) -> dict:
    """Return a results file by name. Raises CourseError if there is none."""
    for path in (MEASURED / f"{name}.json", recorded.path(name)):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise CourseError(f"{MEASURED} and {recorded.path(name).parent} have no {name}.json. Correct the name in deck.md.")


def arm(name: str, start: str) -> dict:
    """Return the one arm of a results file whose name starts so. Raises CourseError if there is none, or several."""
    arms = [arm for arm in result(name)["arms"] if arm.get("name", arm.get("arm", "")).startswith(start)]
    if len(arms) != 1:
        raise CourseError(f"{name}.json has {len(arms)} arms that start with {start!r}. Name exactly one in deck.md.")
    return arms[0]


def trial(r: int, alpha: int) -> dict:
    """Return notebook 04's run with this rank and alpha, on float32 weights."""
    runs = result("lora")["runs"]
    (run,) = [run for run in runs if (run["r"], run["alpha"], run["weights"]) == (r, alpha, "float32")]
    return run


def p_value(name: str, a: str, b: str) -> float:
    """Return the paired test's p of two arms of a results file, each given by the start of its name."""
    pair = {arm(name, a)["name"], arm(name, b)["name"]}
    return next(test["p"] for test in result(name)["tests"] if {test["a"], test["b"]} == pair)


@cache
def outputs(notebook: str) -> str:
    """Return all that a notebook's cells printed when it was saved, and the texts of its figures."""
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in cell.get("outputs", ())]
    return "\n".join("".join(part.get("text") or part.get("data", {}).get("text/plain", "")) for part in parts)


def saved(notebook: str, pattern: str) -> str:
    """Return the group of `pattern` in the saved output of a notebook, such as "05".

    Raises CourseError if it is missing.
    """
    match = re.search(pattern, outputs(notebook), flags=re.MULTILINE)
    if not match:
        raise CourseError(
            f"The saved output of notebook {notebook} has no {pattern!r}. Correct the slide that quotes it."
        )
    return match[1]


def counted() -> dict:
    """Return numbers that follow from shapes and formulas."""
    mistral = catalogue.base("mistral-7b")
    shapes = [*mistral.shape.matrices.values()] * mistral.shape.layers
    head = (mistral.shape.vocabulary, mistral.shape.hidden)
    wilson = {way: metrics.wilson(round(TALK[way]["accuracy"] * 100), 100) for way in ("few_shot", "finetuned")}
    # How many answers the talk's report counts as a label: right ones / precision.
    right = [r * n for r, n in zip(TALK["few_shot"]["recall"], TALK["few_shot"]["support"], strict=True)]
    read = sum(n / p for n, p in zip(right, TALK["few_shot"]["precision"], strict=True))
    return {
        "base": catalogue.base,
        "lora": lora.count(shapes, TALK["r"]),
        "lora_share": lora.count(shapes, TALK["r"]) / mistral.shape.parameters,
        "lm_head": lora.count([head], TALK["r"]),
        "talk_wilson": wilson,
        "talk_read": read,
        "talk_right": sum(right),
        "talk_errors": TALK["test_rows"] - sum(right),
        "talk_format": TALK["test_rows"] - read,  # no label, so wrong
        "talk_labels_wilson": metrics.wilson(round(sum(right)), round(read)),
        "nf4_bits": 4 + 8 / nf4.BLOCK + 32 / (nf4.BLOCK * nf4.SCALE_BLOCK),
        "weights_gib": lambda name, is_nf4: planner.weights(catalogue.base(name), "float16", nf4=is_nf4) / planner.GIB,
        "t4_gib": planner.T4_GIB,
        "block": nf4.BLOCK,
        "labels": len(tasks.TASKS["support"].labels),
        "lora_trained": result("adaptation")["arms"]["pretraining, LoRA"]["trainable"]
        / catalogue.base(catalogue.EMBEDDED).shape.parameters,
    }


# -- figures ---------------------------------------------------------------------------------------------------------


def _sizes():
    with open(ROOT / "llmcourse" / "data" / "corpora" / "llm_sizes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        year, month = map(int, row["release_year_month"].split("-"))
        row["year"] = year + (month - 0.5) / 12
        row["billion"] = float(row["parameters_billion"]) if row["disclosed"] == "yes" else None
        row["sparse"] = bool(row["active_parameters_billion"])
    named = {"GPT-1": (8, -3), "GPT-3 (davinci)": (-8, 6), "Switch-C": (-8, 6), "PaLM": (8, 4), "Mistral 7B": (8, -12)}
    drawn = figures.sizes(rows, named=named | {"DeepSeek-V4-Pro": (-8, 6)})
    drawn.axes[0].get_legend().set_loc("lower center")
    drawn.axes[0].get_legend().set_bbox_to_anchor((0.42, 0.07))
    return drawn


def _next_token():
    line = saved("01", r"^(Probability of the next token after 'The capital of France is'.*)$")
    pairs = re.findall(r"'([^']*)' ([\d.]+)%", line.partition("probability: ")[2])
    context = re.search(r"after '(.*?)'\.", line)[1]
    return figures.token_bars(
        [token for token, _ in pairs], {"probability": [float(p) / 100 for _, p in pairs]}, context
    )


def _answers(cases: dict[str, dict]):
    return figures.answer_rates(
        [
            {
                "name": name,
                "right": case["counts"]["right"],
                "n": len(case["texts"]),
                "ci95": metrics.wilson(case["counts"]["right"], len(case["texts"])),
            }
            for name, case in cases.items()
        ]
    )


def _retrieval():
    arms = result("adaptation")["arms"]
    asked = arms["retrieval"]["answers"]
    names = {
        "the right page": asked["right"],
        "page found by embeddings": asked["embeddings"],
        "page found by BM25": asked["bm25"],
        "a wrong page": asked["wrong"],
        "no page": arms["base"]["closed"],
    }
    return _answers(names)


def _trained():
    arms = result("adaptation")["arms"]
    full = arms["finetuning, full"]
    names = {
        "pages read, nothing asked": arms["pretraining, full"]["closed"],
        "answers trained: the same questions": _part(full["closed"], odd=False),
        "… in other words": full["paraphrased"],
        "… questions never seen": _part(full["closed"], odd=True),
    }
    return _answers(names)


def _part(asked: dict, odd: bool) -> dict:
    """Return every second question: those that were trained on (even), or the others."""
    verdicts = asked["verdicts"][odd::2]
    return {"counts": {"right": verdicts.count("right")}, "texts": verdicts}


def _forgotten():
    arms = result("adaptation")["arms"]
    ways = {"pages read": "pretraining", "answers trained": "finetuning"}
    names = {
        f"{what}, {how}": arms[f"{way}, {key}"]["facts"]
        for what, way in ways.items()
        for key, how in (("full", "in full"), ("LoRA", "LoRA"))
    }
    return _answers(names)


def _reduced():
    counts = {}
    for name in ("mistral-7b", "llama-3-8b", "phi-3-mini"):
        base = catalogue.base(name)
        shapes = [*base.shape.matrices.values()] * base.shape.layers
        counts[name] = (base.shape.parameters, {f"LoRA r={r}": lora.count(shapes, r) for r in (8, 64)})
    drawn = figures.reduced_parameters(counts)
    # Words, because the exponents of powers of ten are too small for the last row of a room.
    drawn.axes[0].set_xticks([1e6, 1e7, 1e8, 1e9, 1e10], ["1 M", "10 M", "100 M", "1 B", "10 B"])
    return drawn


def _talks_arms():
    arms = []
    for way, name, kind in (
        ("few_shot", "few-shot, Mistral-7B", "prompted"),
        ("finetuned", "finetuned, Mistral-7B", "finetuned"),
    ):
        accuracy, n = TALK[way]["accuracy"], TALK["test_rows"]
        interval = metrics.wilson(round(accuracy * n), n)
        arms.append({"name": name, "kind": kind, "accuracy": accuracy, "accuracy_ci95": interval, "invalid": 0, "n": n})
    return figures.waterfall(arms)


FIGURES: dict[str, Callable] = {
    "ai_map": lambda: figures.ai_map(described=False),
    "next_token": _next_token,
    "sizes": _sizes,
    "shots": lambda: figures.prompt_levers(
        result("prompting"), ("number of examples", "order of examples"), "Sentiment, one change at a time"
    ),
    "retrieval": _retrieval,
    "trained": _trained,
    "forgotten": _forgotten,
    "lora_picture": lambda: explorers.rank_picture("mistral-7b", "q_proj", TALK["r"]),
    "reduced": _reduced,
    "levels": lambda: explorers.levels_picture(),
    "memory": lambda: explorers.fit_picture("mistral-7b", "T4"),
    "talks_arms": _talks_arms,
    "demo": lambda: figures.waterfall(result("demo")["arms"]),
    "sarc": lambda: figures.waterfall(result("sarc")["arms"]),
}


def figure(name: str, height: float = 3.2, width: float = 7.3) -> str:
    """Return a figure as SVG for a slide, drawn for this size in inches. A smaller size gives larger letters."""
    drawn = FIGURES[name]()
    drawn.set_size_inches(width, height)
    text = figures.svg(drawn)
    # Figures on one page need different ids, the slide decides the size, and a blank line would end Markdown's HTML.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    opening = re.match(r"<svg [^>]*>", text).group()
    text = text.replace(opening, re.sub(r' (width|height)="[^"]*"', "", opening), 1)
    text = re.sub(r"<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", " ", text).strip()
    return f"<figure>{text}</figure>"


# -- where a number comes from ---------------------------------------------------------------------------------------


def foot(*parts: str) -> str:
    """Return a slide's foot in the form of Marp's directive."""
    return json.dumps("".join(f"<span class=part>{part}</span>" for part in parts), ensure_ascii=False)


def chip(kind: str, text: str = "") -> str:
    """Return the coloured word that says where a number comes from, and a text."""
    return f'<span class="chip {kind}">{kind}</span> {text}'.strip()


def measured(name: str, more: str = "") -> str:
    """Return a foot for a results file: its name, its day, and `more`, such as how many rows."""
    return foot(chip("measured", ", ".join(filter(None, (f"{name}.json", result(name)["date"][:10], more)))))


def filters() -> dict[str, Callable]:
    """Return the filters that deck.md may use."""

    def pct(value: float, digits: int = 0) -> str:
        return f"{value:.{digits}%}"

    def interval(pair, digits: int = 0) -> str:
        return f"{pair[0]:.{digits}%} to {pair[1]:.{digits}%}"

    def p(value: float) -> str:
        return "p < 0.001" if value < 0.001 else f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.3f}"

    return {"pct": pct, "interval": interval, "p": p, "count": lambda n: f"{n:,}", "gib": lambda x: f"{x:.1f}"}


def context() -> dict:
    """Return everything that deck.md may name."""
    return {
        "talk": TALK,
        "result": result,
        "arm": arm,
        "p_value": p_value,
        "trial": trial,
        "saved": saved,
        "counted": counted(),
        "figure": figure,
        "foot": foot,
        "chip": chip,
        "measured": measured,
        "shots": SHOTS,
        "example": tasks.SARCASM.example,
        "ran_on_t4": (MEASURED / "demo-t4.json").is_file(),
    }
