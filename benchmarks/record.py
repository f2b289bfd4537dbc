"""Keeps a run of the demo as a results file, and shows it in the README: `python benchmarks/record.py RESULTS_JSON`.

Copies the file to benchmarks/results/demo.json, draws its figure, and writes the README's tables between their markers. Without an
argument it only brings figures and tables up to date, with what `llmcourse demo --gear t4 --record` left on a T4 and what the
benchmarks left; those of speed stand in benchmarks/README.md too. A test compares both with the results files.
"""

import argparse
import json
import re
from pathlib import Path

from llmcourse import figures
from llmcourse._base import files
from llmcourse.experiment import metrics, report
from llmcourse.setup import gears

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
    words = next(arm["name"] for arm in results["arms"] if arm["name"].startswith("TF-IDF"))
    p = {name: metrics.p_text(tests[frozenset((tuned["name"], name))]) for name in (best["name"], "majority", words)}
    machine, versions = results["machine"], results["versions"]
    return f"""{report.table(results)}

{results["model"]["name"]}, {results["data"]["test"]} test rows of the bundled corpus (id `{results["data"]["test_id"]}`). Exact McNemar test of the finetuned arm against
the best prompted one: {p[best["name"]]}; against the majority: {p["majority"]}; against TF-IDF with logistic regression: {p[words]}. Training took {tuned["training_seconds"]:.0f} s on {machine["cores"]} cores ({machine["name"]}), peak memory {results["peak_memory_gib"]} GiB;
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
The finetuned arm reaches {tuned["accuracy"]:.1%} ({low:.1%} to {high:.1%}); against TF-IDF with logistic regression on the same rows ({words["accuracy"]:.1%}): {metrics.p_text(tests[frozenset((tuned["name"], words["name"]))])} (exact McNemar). {results["date"]}."""


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


SPEED_FIGURE = RESULTS.with_name("speed.svg")
SHOTS_FIGURE = RESULTS.with_name("shots.svg")
PANELS = {"scoring": "Scoring few-shot rows", "generating": "Generating answers", "finetuning": "Finetuning with LoRA"}


def speed() -> dict[str, dict]:
    """The results files of the benchmarks, by name."""
    names = (*PANELS, "scaling", "startup", "recipes")
    return {name: json.loads(RESULTS.with_name(f"{name}.json").read_text(encoding="utf-8")) for name in names}


def ratios(results: dict, name: str) -> dict[str, dict | float]:
    """Of each side but ours, how many times the time of `llmcourse` it takes."""
    return {
        side: one["times_slower"] for side, one in results[name]["sides"].items() if not side.startswith("llmcourse")
    }


def speed_figures(results: dict) -> dict[Path, str]:
    """The figures of speed, as SVG."""
    shots = results["scaling"]["shots"]
    lines = {
        "one generate a row": "one_generate_a_row_ms",
        "llmcourse, generated": "generated_ms",
        "llmcourse, scored": "scored_ms",
    }
    cost = figures.cost_of_shots(
        [int(k) for k in shots], {name: [one[key] for one in shots.values()] for name, key in lines.items()}
    )
    panels = {title: ratios(results, name) for name, title in PANELS.items()}
    return {SPEED_FIGURE: figures.svg(figures.times_slower(panels)), SHOTS_FIGURE: figures.svg(cost)}


def middle(ratio: dict | float) -> float:
    return ratio["median"] if isinstance(ratio, dict) else ratio


def goals(results: dict) -> list[tuple[str, float, str]]:
    """What was aimed at: work, measured, aim (the first number of which is the bound)."""
    scoring, generating, finetuning = (ratios(results, name) for name in PANELS)
    rate = {side: one["rows_per_second"] for side, one in results["finetuning"]["sides"].items()}
    file = results["scaling"]["file"]
    return [
        ("scoring against full forwards", middle(scoring["full forwards"]), "at least 4 times as fast"),
        ("scoring against lm-evaluation-harness", middle(scoring["lm-evaluation-harness"]), "at least 3 times as fast"),
        (
            "generating against one `generate` a row",
            middle(generating["one generate a row"]),
            "at least 10 times as fast",
        ),
        ("generating against transformers' pipeline", middle(generating["pipeline"]), "at least 4 times as fast"),
        ("generating against llama.cpp", middle(generating["llama.cpp, 4 bits"]), "at least 1 times as fast"),
        (
            "finetuning, `quick` against TRL as in the talk",
            rate["llmcourse, quick"] / rate["TRL as in the talk"],
            "at least 6 times as fast",
        ),
        (
            "finetuning against TRL at its best, like adapters",
            finetuning["TRL, best, quick's adapter"],
            "at least 1.3 times as fast",
        ),
        (
            "finetuning, share of the rate of matrix products",
            results["finetuning"]["sides"]["llmcourse, quick"]["share_of_product_rate"],
            "at least 0.7",
        ),
        (
            "a million rows against pyarrow's reader",
            file["times_slower_than_pyarrow"]["median"],
            "at most 3 times slower",
        ),
        ("a million rows, peak memory in GiB", file["llmcourse"]["peak_memory_gib"]["max"], "at most 1"),
    ]


def met(value: float, aim: str) -> bool:
    bound = float(re.search(r"[\d.]+", aim).group())
    return value >= bound if aim.startswith("at least") else value <= bound


def speed_block(results: dict) -> str:
    """The README's part about speed, in Markdown."""
    machine = results["generating"]["machine"]
    load = results["startup"]["seconds"]
    lines = [f"- {work}: {value:.1f} ({aim})" for work, value, aim in goals(results) if "as fast" in aim]
    return f"""![How many times the time of this course other ways take; the numbers stand below]({SPEED_FIGURE.relative_to(ROOT).as_posix()})

Medians of ratios, each taken in one run on the same rows, and in brackets what was aimed at:

{chr(10).join(lines)}

"Our model" is the other way on the model as `llmcourse.models.load` gives it, with the matrix products and the attention that suit this processor. Measured on {machine["cores"]} cores ({machine["name"]}), {results["generating"]["date"]};
the first answer of notebook 00 comes {load["first answer"]["median"]:.0f} s after `python` starts; the very first time the model is converted, {load["first load"]["median"] - load["later load"]["median"]:.0f} s more. How it was measured, what was not reached and why: [benchmarks](benchmarks/README.md)."""


def spread_text(ratio: dict | float) -> str:
    return (
        f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
        if isinstance(ratio, dict)
        else f"{ratio:.1f}"
    )


def speed_tables(results: dict) -> str:
    """All that the benchmarks measured, in Markdown."""
    parts = ["| aim | measured | wanted | |", "|---|---:|---|---|"]
    parts += [
        f"| {work} | {value:.2f} | {aim} | {'met' if met(value, aim) else '**not met**'} |"
        for work, value, aim in goals(results)
    ]
    for name in ("scoring", "generating"):
        work = results[name]["work"]
        parts += [
            "",
            f"{PANELS[name]}: {work['rows']} rows, {work['shots']} examples, {work['prompt_tokens']:.0f} tokens a prompt. {results[name]['date']}.",
            "",
        ]
        parts += ["| side | rows a second (slowest to fastest block) | times our time |", "|---|---:|---:|"]
        parts += [
            f"| {side} | {spread_text(one['rows_per_second'])} | {spread_text(one['times_slower'])} |"
            for side, one in results[name]["sides"].items()
        ]
    agree = results["generating"]["agree"]
    cpp = {kind: agree["same_first_line"][f"{kind}, LlamaCpp"] for kind in ("few-shot", "zero-shot")}
    parts += [
        "",
        f"llama.cpp computes in 4 bits: of {agree['rows']} rows it wrote the same first line as float32 on {cpp['few-shot']} with examples and on {cpp['zero-shot']} without. The others wrote the same on all.",
    ]
    work = results["finetuning"]["work"]
    parts += [
        "",
        f"{PANELS['finetuning']}: {work['rows']} rows of {work['tokens_per_row']:.0f} tokens. {results['finetuning']['date']}.",
        "",
    ]
    parts += [
        "| side | epochs | rows a second | tokens a second | times the time of what is like it of ours | peak GiB | share of the product rate |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, one in results["finetuning"]["sides"].items():
        share = (
            f"{one['share_of_product_rate']:.0%} of {one['product_gflop_per_second']:.0f} GFLOP/s"
            if "share_of_product_rate" in one
            else "not counted"
        )
        beside = f"{one['times_slower']:.1f} ({one['against']})" if "against" in one else ""
        parts.append(
            f"| {side} | {one['epochs']:g} | {one['rows_per_second']:.2f} | {one['tokens_per_second']:.0f} | {beside} | {one['peak_memory_gib']:.1f} | {share} |"
        )
    scaling = results["scaling"]
    parts += [
        "",
        f"Scaling. {scaling['date']}.",
        "",
        f"![Cost of a row against examples in the prompt](results/{SHOTS_FIGURE.name})",
        "",
    ]
    parts += ["| rows scored | milliseconds a row | peak memory above the loaded model, GiB |", "|---:|---:|---:|"]
    parts += [
        f"| {int(size):,} | {one['ms_per_row']:.1f} | {one['above_loaded_model_gib']:.2f} |"
        for size, one in scaling["rows"].items()
    ]
    file = scaling["file"]
    parts += [
        "",
        f"A CSV of {file['rows']:,} rows ({file['megabytes']:.0f} MB): `data.load` {file['llmcourse']['seconds']['median']:.1f} s and {file['llmcourse']['peak_memory_gib']['max']:.2f} GiB, pyarrow's reader {file['pyarrow']['seconds']['median']:.2f} s and {file['pyarrow']['peak_memory_gib']['max']:.2f} GiB.",
    ]
    parts += ["", "| from the start of Python | seconds |", "|---|---:|"]
    parts += [f"| {what} | {spread_text(seconds)} |" for what, seconds in results["startup"]["seconds"].items()]
    return "\n".join(parts)


def recipe_table(results: dict) -> str:
    """The variants of the `quick` recipe, in Markdown."""
    runs: dict[str, list] = {}
    for run in results["recipes"]["runs"]:
        runs.setdefault(run["variant"], []).append(run)
    parts = [
        "| variant | seeds | accuracy of each | mean | log-probability, mean | seconds of training, mean |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for name, some in runs.items():
        mean = {key: sum(run[key] for run in some) / len(some) for key in ("accuracy", "log_probability", "seconds")}
        each = ", ".join(f"{run['accuracy']:.3f}" for run in some)
        parts.append(
            f"| {name} | {len(some)} | {each} | {mean['accuracy']:.3f} | {mean['log_probability']:.3f} | {mean['seconds']:.0f} |"
        )
    return "\n".join(parts)


def processes_table() -> str:
    """What a second process buys, in Markdown."""
    results = json.loads(RESULTS.with_name("processes.json").read_text(encoding="utf-8"))
    lines = ["| training | rows a second | times the first |", "|---|---:|---:|"]
    for name, way in results["ways"].items():
        lines.append(f"| {name} | {way['rows_per_second']['median']:.1f} | {way['times_faster']['median']:.2f} |")
    work = results["work"]
    lines.append(
        f"\n{work['rows']} rows, {work['epochs']} epochs, recipe `quick`. {results['date']}. Losses differ by"
        f" {results['agree']['largest_difference_of_losses']:g} at most."
    )
    return "\n".join(lines)


def trust_table() -> str:
    """What the long tests measured: a line a test."""
    said = {
        "kills": lambda f: (
            f"{f['kills']} kills in {f['jobs']} jobs: "
            + ", ".join(f"{count} while {name}" for name, count in f["while"].items())
        ),
        "long_files": lambda f: "; ".join(
            f"{rows:,} rows: peak memory {mib} MiB" for rows, mib in zip(f["rows"], f["peak_memory_mib"], strict=True)
        ),
        "long_running": lambda f: (
            f"{f['runs']} runs; memory {f['memory_mib'][0]:,} MiB half-way and {f['memory_mib'][1]:,} at the end,"
            f" means of 20 runs grew by {f['mib_per_run']:g} MiB a run; files {f['files'][0]} and {f['files'][1]}"
        ),
    }
    lines = ["| what | measured | on |", "|---|---|---|"]
    for path in sorted((ROOT / "benchmarks" / "results" / "trust").glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        lines.append(
            f"| {path.stem.replace('_', ' ')} | {said[path.stem](kept['figures'])} | {kept['date'].split()[0]} |"
        )
    return "\n".join(lines)


def rewritten(text: str, blocks: dict[str, str], where: str) -> str:
    """A file's text with the parts between their markers made anew."""
    for name, block in blocks.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        new = f"{start}\n{block}\n{end}"
        text, count = re.subn(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, new=new: new, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{where} must hold the markers {start} and {end} once; found {count}.")
    return text


def pages(results: dict) -> dict[Path, dict[str, str]]:
    """The pages that show measurements, and the blocks of each."""
    fast = speed()
    return {
        ROOT / "README.md": {
            "demo": block(results),
            "gears": gear_table(),
            "sarc": sarc_block(),
            "speed": speed_block(fast),
        },
        ROOT / "benchmarks" / "README.md": {
            "speed": speed_tables(fast),
            "recipes": recipe_table(fast),
            "processes": processes_table(),
        },
        ROOT / "TRUST.md": {"trust": trust_table()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, help="a results.json that `llmcourse demo` wrote")
    options = parser.parse_args()
    if options.results:
        files.write_text(RESULTS, options.results.read_text(encoding="utf-8"))
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for path, figure in {FIGURE: figures.svg(figures.waterfall(results["arms"])), **speed_figures(speed())}.items():
        files.write_text(path, figure)
    for path, blocks in pages(results).items():
        files.write_text(path, rewritten(path.read_text(encoding="utf-8"), blocks, path.name))


if __name__ == "__main__":
    main()
