"""Keep a run of the demo as a results file, and show it in the README: `python benchmarks/record.py RESULTS_JSON`.

Copies the file to benchmarks/results/demo.json, draws its figure, and writes the README's tables between their markers.
Without an argument it only updates figures and tables from the results files: those of the benchmarks, and the one that
`llmcourse demo --gear t4 --record` leaves on a T4. A test compares figures and tables with the results files.
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


def read_json(path: Path) -> dict:
    """Return the content of a results file."""
    return json.loads(path.read_text(encoding="utf-8"))


def p_values(results: dict) -> dict[frozenset[str], str]:
    """Return the paired test's p of each pair of arms, as text."""
    return {frozenset((test["a"], test["b"])): metrics.p_text(test["p"]) for test in results["tests"]}


def demo_block(results: dict) -> str:
    """Return the README's part about the demo, in Markdown."""
    finetuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    best = max((arm for arm in results["arms"] if arm["kind"] == "prompted"), key=lambda arm: arm["accuracy"])
    words = next(arm for arm in results["arms"] if arm["name"].startswith("TF-IDF"))
    p = {
        other: p_values(results)[frozenset((finetuned["name"], other))]
        for other in (best["name"], "majority", words["name"])
    }
    data, machine, versions = results["data"], results["machine"], results["versions"]
    rows = f"{data['test']} test rows of the bundled corpus (id `{data['test_id']}`)"
    training = f"{finetuned['training_seconds']:.0f} s ({machine['name']}, {machine['cores']} used)"
    return f"""{report.table(results)}

{results["model"]["name"]}, {rows}. Exact paired test of the finetuned model, by pairs of replies, against
the best prompted one: {p[best["name"]]}; against the majority: {p["majority"]}; \
against {words["name"]}: {p[words["name"]]}. \
Training took {training}, peak memory {results["peak_memory_gib"]} GiB;
{results["date"]}, torch {versions["torch"]}, transformers {versions["transformers"]}, trl {versions["trl"]}."""


def sarc_block() -> str:
    """Return the README's part about real rows, in Markdown."""
    results = read_json(SARC)
    finetuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    words = next(arm for arm in results["arms"] if arm["name"].startswith("TF-IDF"))
    p = p_values(results)[frozenset((finetuned["name"], words["name"]))]
    recipe, data, (low, high) = results["recipe"], results["data"], finetuned["accuracy_ci95"]
    layers = "all layers" if recipe["upper_layers"] is None else f"the upper {recipe['upper_layers']} layers"
    return f"""{report.table(results)}

{data["test"]:,} test rows of SARC (id `{data["test_id"]}`), {data["train"]:,} to train on; \
LoRA r={recipe["r"]} on {layers}, learning rate {recipe["learning_rate"]:g}, {recipe["epochs"]:g} epochs.
The finetuned arm reaches {finetuned["accuracy"]:.1%} ({low:.1%} to {high:.1%}); \
against {words["name"]} on the same rows ({words["accuracy"]:.1%}): {p} (exact paired test). \
{results["date"]}."""


def gear_table() -> str:
    """Return what each gear uses, and what was measured on a T4, in Markdown."""
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
    """Return the results of the demo on a real T4, or a sentence that it was not run there yet."""
    if not ON_A_T4.is_file():
        return (
            "Mistral-7B was **not yet run on a T4** with this course; minutes above `cpu` are the planner's estimate."
            " Whoever has one: `llmcourse demo --gear t4 --record`."
        )
    results = read_json(ON_A_T4)
    return f"On {results['machine']['name']}, {results['date']}, {results['model']['name']}:\n\n{report.table(results)}"


SPEED_FIGURE = RESULTS.with_name("speed.svg")
SHOTS_FIGURE = RESULTS.with_name("shots.svg")
PANELS = {"scoring": "Scoring few-shot rows", "generating": "Generating answers", "finetuning": "Finetuning with LoRA"}


def speed() -> dict[str, dict]:
    """Return the results files of the benchmarks, by name."""
    return {name: read_json(RESULTS.with_name(f"{name}.json")) for name in (*PANELS, "scaling", "startup", "recipes")}


def ratios(results: dict, name: str) -> dict[str, dict | float]:
    """Return how many times the time of `llmcourse` each other side takes."""
    sides = results[name]["sides"].items()
    return {side: measured["times_slower"] for side, measured in sides if not side.startswith("llmcourse")}


def speed_figures(results: dict) -> dict[Path, str]:
    """Return the figures about speed, as SVG."""
    shots = results["scaling"]["shots"]
    lines = {
        "one generate a row": "one_generate_a_row_ms",
        "llmcourse, generated": "generated_ms",
        "llmcourse, scored": "scored_ms",
    }
    cost = figures.cost_of_shots(
        [int(k) for k in shots], {name: [costs[key] for costs in shots.values()] for name, key in lines.items()}
    )
    panels = {title: ratios(results, name) for name, title in PANELS.items()}
    return {SPEED_FIGURE: figures.svg(figures.times_slower(panels)), SHOTS_FIGURE: figures.svg(cost)}


def figures_of(results: dict) -> dict[Path, str]:
    """Return all figures of the pages, as SVG."""
    return {FIGURE: figures.svg(figures.waterfall(results["arms"])), **speed_figures(speed())}


def median(ratio: dict | float) -> float:
    """Return the median of a ratio that was measured several times, or the ratio itself."""
    return ratio["median"] if isinstance(ratio, dict) else ratio


def goals(results: dict) -> list[tuple[str, float, str]]:
    """Return what we aimed at: the work, the measured value, and the aim, whose first number is the bound."""
    scoring, generating, finetuning = (ratios(results, name) for name in PANELS)
    sides, file = results["finetuning"]["sides"], results["scaling"]["file"]
    talk = sides["llmcourse, quick"]["rows_per_second"] / sides["TRL as in the talk"]["rows_per_second"]
    return [
        ("scoring against full forwards", median(scoring["full forwards"]), "at least 4 times as fast"),
        ("scoring against lm-evaluation-harness", median(scoring["lm-evaluation-harness"]), "at least 3 times as fast"),
        (
            "generating against one `generate` a row",
            median(generating["one generate a row"]),
            "at least 10 times as fast",
        ),
        ("generating against transformers' pipeline", median(generating["pipeline"]), "at least 4 times as fast"),
        ("generating against llama.cpp", median(generating["llama.cpp, 4 bits"]), "at least 1 times as fast"),
        ("finetuning, `quick` against TRL as in the talk", talk, "at least 6 times as fast"),
        (
            "finetuning against TRL at its best, like adapters",
            finetuning["TRL, best, quick's adapter"],
            "at least 1.3 times as fast",
        ),
        (
            "finetuning, share of the rate of matrix products",
            sides["llmcourse, quick"]["share_of_product_rate"],
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
    """Return whether a measured value reaches an aim such as "at least 4 times as fast"."""
    bound = float(re.search(r"[\d.]+", aim).group())
    return value >= bound if aim.startswith("at least") else value <= bound


def speed_block(results: dict) -> str:
    """Return the README's part about speed, in Markdown."""
    machine, date = results["generating"]["machine"], results["generating"]["date"]
    load = {name: seconds["median"] for name, seconds in results["startup"]["seconds"].items()}
    lines = [f"- {work}: {value:.1f} ({aim})" for work, value, aim in goals(results) if "as fast" in aim]
    figure = SPEED_FIGURE.relative_to(ROOT).as_posix()
    return f"""![How many times the time of this course other ways take; the numbers stand below]({figure})

Medians of ratios, each taken in one run on the same rows, and in brackets what was aimed at:

{chr(10).join(lines)}

"Our model" is the other way on the model as `llmcourse.models.load` gives it, with the matrix products and the \
attention that suit this processor. Measured on {machine["cores"]} cores ({machine["name"]}), {date};
the first answer of notebook 00 comes {load["first answer"]:.0f} s after `python` starts; the very first time \
the model is converted, {load["first load"] - load["later load"]:.0f} s more. \
How it was measured, what was not reached and why: [benchmarks](benchmarks/README.md)."""


def spread_text(ratio: dict | float) -> str:
    """Return a ratio as text: its median and range if it was measured several times."""
    if isinstance(ratio, dict):
        return f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
    return f"{ratio:.1f}"


def speed_tables(results: dict) -> str:
    """Return all that the benchmarks measured, in Markdown, for benchmarks/README.md."""
    parts = [goal_table(results), side_table(results, "scoring"), side_table(results, "generating")]
    parts += [llama_sentence(results), finetuning_table(results), scaling_tables(results), startup_table(results)]
    return "\n\n".join(parts)


def goal_table(results: dict) -> str:
    lines = ["| aim | measured | wanted | |", "|---|---:|---|---|"]
    for work, value, aim in goals(results):
        lines.append(f"| {work} | {value:.2f} | {aim} | {'met' if met(value, aim) else '**not met**'} |")
    return "\n".join(lines)


def side_table(results: dict, name: str) -> str:
    work, date = results[name]["work"], results[name]["date"]
    prompts = f"{work['rows']} rows, {work['shots']} examples, {work['prompt_tokens']:.0f} tokens a prompt"
    lines = [f"{PANELS[name]}: {prompts}. {date}.", ""]
    lines += ["| side | rows a second (slowest to fastest block) | times our time |", "|---|---:|---:|"]
    for side, measured in results[name]["sides"].items():
        rate, ratio = spread_text(measured["rows_per_second"]), spread_text(measured["times_slower"])
        lines.append(f"| {side} | {rate} | {ratio} |")
    return "\n".join(lines)


def llama_sentence(results: dict) -> str:
    agree = results["generating"]["agree"]
    same = {kind: agree["same_first_line"][f"{kind}, LlamaCpp"] for kind in ("few-shot", "zero-shot")}
    return (
        f"llama.cpp computes in 4 bits: of {agree['rows']} rows it wrote the same first line as float32 on"
        f" {same['few-shot']} with examples and on {same['zero-shot']} without. The others wrote the same on all."
    )


def finetuning_table(results: dict) -> str:
    work, date = results["finetuning"]["work"], results["finetuning"]["date"]
    lines = [f"{PANELS['finetuning']}: {work['rows']} rows of {work['tokens_per_row']:.0f} tokens. {date}.", ""]
    columns = ("side", "epochs", "rows a second", "tokens a second", "times the time of what is like it of ours")
    lines += [
        f"| {' | '.join((*columns, 'peak GiB', 'share of the product rate'))} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, measured in results["finetuning"]["sides"].items():
        share, ratio = "not counted", ""
        if "share_of_product_rate" in measured:
            share = f"{measured['share_of_product_rate']:.0%} of {measured['product_gflop_per_second']:.0f} GFLOP/s"
        if "against" in measured:
            ratio = f"{measured['times_slower']:.1f} ({measured['against']})"
        rates = f"{measured['rows_per_second']:.2f} | {measured['tokens_per_second']:.0f}"
        memory = f"{measured['peak_memory_gib']:.1f}"
        lines.append(f"| {side} | {measured['epochs']:g} | {rates} | {ratio} | {memory} | {share} |")
    return "\n".join(lines)


def scaling_tables(results: dict) -> str:
    scaling = results["scaling"]
    lines = [
        f"Scaling. {scaling['date']}.",
        "",
        f"![Cost of a row against examples in the prompt](results/{SHOTS_FIGURE.name})",
        "",
    ]
    lines += ["| rows scored | milliseconds a row | peak memory above the loaded model, GiB |", "|---:|---:|---:|"]
    for size, measured in scaling["rows"].items():
        lines.append(f"| {int(size):,} | {measured['ms_per_row']:.1f} | {measured['above_loaded_model_gib']:.2f} |")
    file = scaling["file"]
    ours, pyarrow = file["llmcourse"], file["pyarrow"]
    lines += [
        "",
        f"A CSV of {file['rows']:,} rows ({file['megabytes']:.0f} MB):"
        f" `data.load` {ours['seconds']['median']:.1f} s and {ours['peak_memory_gib']['max']:.2f} GiB,"
        f" pyarrow's reader {pyarrow['seconds']['median']:.2f} s and {pyarrow['peak_memory_gib']['max']:.2f} GiB"
        f" ({file.get('date', scaling['date'])}).",
    ]
    return "\n".join(lines)


def startup_table(results: dict) -> str:
    lines = ["| from the start of Python | seconds |", "|---|---:|"]
    lines += [f"| {what} | {spread_text(seconds)} |" for what, seconds in results["startup"]["seconds"].items()]
    return "\n".join(lines)


def recipe_table(results: dict) -> str:
    """Return the variants of the `quick` recipe on held-out rows, in Markdown."""
    lines = [
        "| task | changed in `quick` | seed | accuracy after each epoch | log-probability at the end |",
        "|---|---|---:|---|---:|",
    ]
    for run in results["recipes"]["runs"]:
        curve = " ".join(f"{entry['accuracy']:.3f}" for entry in run["validation"])
        changed = f"`{run['variant']}`" if run["variant"] else "nothing"
        end = f"{-run['validation'][-1]['loss']:.3f}"
        lines.append(f"| {run['task']} | {changed} | {run['seed']} | {curve} | {end} |")
    return "\n".join(lines)


def processes_table() -> str:
    """Return how much faster a second process makes training, in Markdown."""
    results = read_json(RESULTS.with_name("processes.json"))
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
    """Return what the long tests measured, a line for each test, in Markdown."""
    sentences = {
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
        results = read_json(path)
        figures, day = results["figures"], results["date"].split()[0]
        lines.append(f"| {path.stem.replace('_', ' ')} | {sentences[path.stem](figures)} | {day} |")
    return "\n".join(lines)


def rewritten(text: str, blocks: dict[str, str], where: str) -> str:
    """Return a file's text with new blocks between their markers. Raises SystemExit if a marker is missing."""
    for name, block in blocks.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        new = f"{start}\n{block}\n{end}"
        text, count = re.subn(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, new=new: new, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{where} has the markers {start} and {end} {count} times. Write them there once.")
    return text


def pages(results: dict) -> dict[Path, dict[str, str]]:
    """Return the pages that show measurements, with the blocks of each."""
    measured = speed()
    return {
        ROOT / "README.md": {
            "demo": demo_block(results),
            "gears": gear_table(),
            "sarc": sarc_block(),
            "speed": speed_block(measured),
        },
        ROOT / "benchmarks" / "README.md": {
            "speed": speed_tables(measured),
            "recipes": recipe_table(measured),
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
    results = read_json(RESULTS)
    for path, figure in figures_of(results).items():
        files.write_text(path, figure)
    for path, blocks in pages(results).items():
        files.write_text(path, rewritten(path.read_text(encoding="utf-8"), blocks, path.name))


if __name__ == "__main__":
    main()
