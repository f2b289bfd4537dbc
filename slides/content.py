"""The values of the deck's placeholders: results files, saved outputs, counts, the talk's own numbers, and figures.

A number on a slide comes from one of three places, and the slide's footer says which:

    talk      talk.json, quoted from the talk
    measured  a results file (llmcourse/lessons/recorded/, benchmarks/results/) or the saved output of a notebook
    counted   shapes and formulas, which the library computes without running a model, and the planner's estimates

tests/content/test_slides.py looks for digits in deck.md outside placeholders, so no other number gets on a slide.
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


def method(name: str, start: str) -> dict:
    """Return a method of a results file by the start of its name. Raises CourseError if none or several fit."""
    methods = [entry for entry in result(name)["arms"] if entry.get("name", entry.get("arm", "")).startswith(start)]
    if len(methods) != 1:
        raise CourseError(f"{name}.json has {len(methods)} methods that start with {start!r}. Name one in deck.md.")
    return methods[0]


def crossval(name: str) -> dict:
    """Return a method of the recorded cross-validation on sarcasm."""
    return next(point for point in result("evidence")["crossval"]["sarcasm"]["points"] if point["name"] == name)


def prompt(lever: str, value: str = "", way: str = "scored") -> dict:
    """Return the first prompt of prompting.json on the test rows with this lever, value and way of reading answers."""
    points = [p for p in result("prompting")["points"] if (p["on"], p["lever"], p["way"]) == ("test", lever, way)]
    return next(point for point in points if value in ("", point["value"]))


def trial(r: int, alpha: int) -> dict:
    """Return notebook 04's run with this rank and alpha, on float32 weights."""
    runs = result("lora")["runs"]
    (run,) = [run for run in runs if (run["r"], run["alpha"], run["weights"]) == (r, alpha, "float32")]
    return run


def p_value(name: str, a: str, b: str) -> float:
    """Return the paired test's p of two methods of a results file, each given by the start of its name."""
    pair = {method(name, a)["name"], method(name, b)["name"]}
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


def support(start: str) -> dict:
    """Return a method's score on the support messages, from the saved output of notebook 06."""
    line = saved("06", rf"^({re.escape(start)}.*% .*)$")
    accuracy, *interval = [float(share) / 100 for share in re.findall(r"([\d.]+)%", line)]
    return {
        "kind": {"LoRA": "finetuned", "8-shot": "prompted"}.get(start, "baseline"),
        "accuracy": accuracy,
        "accuracy_ci95": interval or [accuracy, accuracy],
        "invalid": int((re.search(r"(\d+) invalid", line) or [0, 0])[1]),
        "n": int(saved("06", r"(\d+) to test on")),
    }


def talk_interval(way: str) -> tuple[float, float]:
    """Return Wilson's interval of one of the talk's two accuracies."""
    return metrics.wilson(round(TALK[way]["accuracy"] * TALK["test_rows"]), TALK["test_rows"])


def counted() -> dict:
    """Return numbers that follow from shapes and formulas."""
    mistral = catalogue.base("mistral-7b")
    shapes = [*mistral.shape.matrices.values()] * mistral.shape.layers
    head = (mistral.shape.vocabulary, mistral.shape.hidden)
    wilson = {way: talk_interval(way) for way in ("few_shot", "finetuned")}
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
        "labels": len(tasks.SUPPORT.labels),
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
        counts[name] = (base.shape.parameters, {f"LoRA r={TALK['r']}": lora.count(shapes, TALK["r"])})
    drawn = figures.reduced_parameters(counts)
    # Words, because the exponents of powers of ten are too small for the last row of a room.
    drawn.axes[0].set_xticks([1e6, 1e7, 1e8, 1e9, 1e10], ["1 M", "10 M", "100 M", "1 B", "10 B"])
    return drawn


def _talk():
    methods = []
    for way, name, kind in (
        ("few_shot", "few-shot, Mistral-7B", "prompted"),
        ("finetuned", "finetuned, Mistral-7B", "finetuned"),
    ):
        known = {"accuracy": TALK[way]["accuracy"], "accuracy_ci95": talk_interval(way), "n": TALK["test_rows"]}
        methods.append({"name": name, "kind": kind, "invalid": 0, **known})
    return figures.waterfall(methods)


def _sentiment():
    n = result("prompting")["rows"]
    cases = {
        "numbers as label words": prompt("label words", "numbers"),
        "no separators": prompt("separators", "none"),
        "the talk's zero-shot prompt": prompt("the talk's prompt"),
        "our first few-shot prompt": prompt("reference"),
        "the prompt that we chose": prompt("chosen"),
    }
    return figures.waterfall([{"name": name, "kind": "prompted", "n": n} | case for name, case in cases.items()], 1 / 3)


def _untitled(drawn):
    """Return a figure without its title, because the slide has one."""
    if drawn.get_suptitle():
        drawn.suptitle("")
    for axes in drawn.axes:
        axes.set_title("", loc="left")
    return drawn


def _picture(drawn):
    """Return a figure without its title, and with each line of a centred text as a text of its own.

    matplotlib places the lines of a longer text by the widths of its own font, so they are off centre in the slides'.
    """
    for axes in _untitled(drawn).axes:
        for text in [text for text in axes.texts if "\n" in text.get_text() and text.get_ha() == "center"]:
            lines, (align, size) = text.get_text().split("\n"), (text.get_va(), text.get_fontsize())
            first = {"top": 0, "center": (len(lines) - 1) / 2, "bottom": len(lines) - 1}[align]
            for place, line in enumerate(lines):
                up = {"xytext": (0, (first - place) * 1.2 * size), "textcoords": "offset points"}
                axes.annotate(line, text.get_position(), **up, ha="center", va=align, size=size, color=text.get_color())
            text.remove()
    return drawn


def _named(name: str, names: dict[str, str]):
    """Draw methods of a results file under simpler names. `names` maps the start of a name to the name to show."""
    return figures.waterfall([method(name, start) | {"name": shown} for start, shown in names.items()])


DEMO = {
    "zero-shot": "zero-shot prompt",
    "the talk's 2": "the talk's two examples",
    "4-shot, gen": "four examples",
    "4-shot, cal": "four examples, calibrated",
    "4-shot, chat": "four examples, chat format",
    "TF-IDF": "bag of words",
    "sentence": "sentence embeddings",
    "frozen": "frozen features",
    "LoRA": "LoRA",
}
SARC = (
    {"4-shot, scored": "four examples, scored"}
    | {start: DEMO[start] for start in ("4-shot, cal", "TF-IDF", "sentence", "frozen")}
    | {"LoRA r=32": "LoRA, upper layers", "LoRA r=16": "LoRA, all layers"}
)
SUPPORT = {
    "majority": "majority",
    "8-shot": "eight examples, calibrated",
    "TF-IDF": "bag of words",
    "frozen": "frozen features",
    "LoRA": "LoRA",
}

FIGURES: dict[str, Callable] = {
    "ai_map": lambda: figures.ai_map(described=False),
    "next_token": _next_token,
    "transformer": lambda: _picture(figures.transformer()),
    "sizes": _sizes,
    "sentiment": _sentiment,
    "rag": lambda: _picture(figures.rag_picture()),
    "lora": lambda: _picture(figures.lora_flow()),
    "reduced": _reduced,
    "memory": lambda: explorers.fit_picture("mistral-7b", "T4"),
    "demo": lambda: _named("demo", DEMO),
    "crossval": lambda: figures.waterfall(result("evidence")["crossval"]["sarcasm"]["points"]),
    "support": lambda: figures.waterfall(
        [support(start) | {"name": name} for start, name in SUPPORT.items()], 1 / len(tasks.SUPPORT.labels)
    ),
    "shots": lambda: _untitled(
        figures.prompt_levers(
            result("prompting"), ("number of examples", "order of examples"), "Sentiment, one change at a time"
        )
    ),
    "retrieval": _retrieval,
    "trained": _trained,
    "forgotten": _forgotten,
    "levels": lambda: explorers.levels_picture(),
    "talk": _talk,
    "sarc": lambda: _named("sarc-label-loss", SARC),
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
    """Return a slide's footer in the form of Marp's directive."""
    return json.dumps("".join(f"<span class=part>{part}</span>" for part in parts), ensure_ascii=False)


def chip(kind: str, text: str = "") -> str:
    """Return a text after the coloured word that says where its numbers come from."""
    return f'<span class="chip {kind}">{kind}</span> {text}'.strip()


def measured(name: str, more: str = "") -> str:
    """Return a footer for a results file: its name, its date, and `more`, such as the number of rows."""
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
        "method": method,
        "crossval": crossval,
        "prompt": prompt,
        "support": support,
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
