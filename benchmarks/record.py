"""Keeps a run of the demo as a results file, and shows it in the README: `python benchmarks/record.py RESULTS_JSON`.

Copies the file to benchmarks/results/demo.json, draws its figure, and writes the README's tables between their markers. Without an
argument it only brings figure and tables up to date, with what `llmcourse demo --gear t4 --record` left on a T4. A test compares the
README with the results files.
"""

import argparse
import json
import re
from pathlib import Path

from llmcourse import figures, files, gears, report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "demo.json"
FIGURE = RESULTS.with_suffix(".svg")
SARC = RESULTS.with_name("sarc.json")
ON_A_T4 = RESULTS.with_name("demo-t4.json")


def block(results: dict) -> str:
    """The README's measured part, in Markdown."""
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    best = max((arm for arm in results["arms"] if arm["kind"] == "prompted"), key=lambda arm: arm["accuracy"])
    tests = {frozenset((test["a"], test["b"])): test["p"] for test in results["tests"]}
    p = {name: report.p_text(tests[frozenset((tuned["name"], name))]) for name in (best["name"], "majority")}
    machine, versions = results["machine"], results["versions"]
    return f"""![Accuracy of each arm with its 95 % interval; the table below holds the numbers]({FIGURE.relative_to(ROOT).as_posix()})

{report.table(results)}

{results["model"]["name"]}, {results["data"]["test"]} test rows of the bundled corpus (id `{results["data"]["test_id"]}`). Exact McNemar test of the finetuned arm against
the best prompted one: {p[best["name"]]}; against the majority: {p["majority"]}. Training took {tuned["training_seconds"]:.0f} s on {machine["cores"]} cores ({machine["name"]}), peak memory {results["peak_memory_gib"]} GiB;
{results["date"]}, torch {versions["torch"]}, transformers {versions["transformers"]}, trl {versions["trl"]}."""


def sarc_block() -> str:
    """The comparison on real rows, in Markdown."""
    results = json.loads(SARC.read_text(encoding="utf-8"))
    tuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    words = next(arm for arm in results["arms"] if arm["name"].startswith("TF-IDF"))
    tests = {frozenset((test["a"], test["b"])): test["p"] for test in results["tests"]}
    recipe, data, low, high = results["recipe"], results["data"], *tuned["accuracy_ci95"]
    layers = "all layers" if recipe["upper_layers"] is None else f"the upper {recipe['upper_layers']} layers"
    return f"""{report.table(results)}

{data["test"]:,} test rows of SARC (id `{data["test_id"]}`), {data["train"]:,} to train on; LoRA r={recipe["r"]} on {layers}, learning rate {recipe["learning_rate"]:g}, {recipe["epochs"]:g} epochs.
The finetuned arm reaches {tuned["accuracy"]:.1%} ({low:.1%} to {high:.1%}); against TF-IDF with logistic regression on the same rows ({words["accuracy"]:.1%}): {report.p_text(tests[frozenset((tuned["name"], words["name"]))])} (exact McNemar). {results["date"]}."""


def gear_table() -> str:
    """What each gear takes, and what was measured on a T4, in Markdown."""
    lines = ["| gear | machine | model | rows | recipe | minutes |", "|---|---|---|---|---|---:|"]
    machines = {
        "cpu": "none needed",
        "t4": "a GPU before Ampere, such as Colab's free T4",
        "gpu": "Ampere or newer",
    }
    for gear in gears.GEARS.values():
        rows = f"{gear.n_train:,} + {gear.n_test:,} of SARC" if gear.n_train else "the bundled corpus"
        minutes = f"{sum(minutes for _, minutes in gear.minutes):.0f}" + ("" if gear.name == "cpu" else " (estimate)")
        lines.append(
            f"| `{gear.name}` | {machines[gear.name]} | {gear.model} | {rows} | `{gear.recipe.name}` | {minutes} |"
        )
    return "\n".join([*lines, "", on_a_t4()])


def on_a_t4() -> str:
    """The acceptance run on a real T4, or that nobody has made it."""
    if not ON_A_T4.is_file():
        return (
            "Mistral-7B was **not yet run on a T4** with this course; minutes above `cpu` are the planner's estimate. Whoever has one:"
            " `llmcourse demo --gear t4 --record`."
        )
    results = json.loads(ON_A_T4.read_text(encoding="utf-8"))
    machine = results["machine"]
    return f"On {machine['name']}, {results['date']}, {results['model']['name']}:\n\n{report.table(results)}"


def rewritten(readme: str, results: dict) -> str:
    """The README with the parts between their markers made anew."""
    for name, text in (("demo", block(results)), ("gears", gear_table()), ("sarc", sarc_block())):
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        new = f"{start}\n{text}\n{end}"
        pattern = f"{re.escape(start)}.*?{re.escape(end)}"
        readme, count = re.subn(pattern, lambda _, new=new: new, readme, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md must hold the markers {start} and {end} once; found {count}.")
    return readme


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, help="a results.json that `llmcourse demo` wrote")
    options = parser.parse_args()
    if options.results:
        files.write_text(RESULTS, options.results.read_text(encoding="utf-8"))
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    files.write_text(FIGURE, figures.svg(figures.waterfall(results["arms"])))
    readme = ROOT / "README.md"
    files.write_text(readme, rewritten(readme.read_text(encoding="utf-8"), results))


if __name__ == "__main__":
    main()
