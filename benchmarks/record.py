"""Keeps a run of the demo as a results file, and shows it in the README: `python benchmarks/record.py RESULTS_JSON`.

Copies the file to benchmarks/results/demo.json, draws its figure, and writes the README's table between its markers. Without an
argument it only brings figure and table up to date. A test compares the README with the results file.
"""

import argparse
import json
import re
from pathlib import Path

from llmcourse import figures, files, report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "demo.json"
FIGURE = RESULTS.with_suffix(".svg")
MARKERS = "<!-- demo:start -->", "<!-- demo:end -->"


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


def rewritten(readme: str, results: dict) -> str:
    """The README with the part between the markers made anew."""
    start, end = map(re.escape, MARKERS)
    text, count = re.subn(
        f"{start}.*?{end}", lambda _: f"{MARKERS[0]}\n{block(results)}\n{MARKERS[1]}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"README.md must hold the markers {' and '.join(MARKERS)} once; found {count}.")
    return text


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
