"""Keep a run of the demo as a results file, and show it on the pages: `python benchmarks/record.py RESULTS_JSON`.

Copies the file to benchmarks/results/demo.json, draws its figure, and writes the tables of README and other pages
between their markers. Without an argument it only updates figures and tables from the results files: those of the
benchmarks, and the one that `llmcourse demo --gear t4 --record` leaves on a T4. A test compares figures and tables with
the results files.
"""

import argparse
import json
import re
from pathlib import Path
from statistics import fmean, median

from llmcourse import figures
from llmcourse._base import files
from llmcourse.data import tasks
from llmcourse.experiment import metrics, report
from llmcourse.lessons import recorded
from llmcourse.models import catalogue
from llmcourse.setup import gears

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "demo.json"
FIGURE = RESULTS.with_name("crossval.svg")
ON_A_T4 = RESULTS.with_name("demo-t4.json")


def read_json(path: Path) -> dict:
    """Return the content of a results file."""
    return json.loads(path.read_text(encoding="utf-8"))


def p_values(results: dict) -> dict[frozenset[str], str]:
    """Return the paired test's p of each pair of arms, as text."""
    return {frozenset((test["a"], test["b"])): metrics.p_text(test["p"]) for test in results["tests"]}


def finetuned_and_best(results: dict) -> tuple[dict, dict]:
    """Return the finetuned method of a demo and its best prompted one."""
    finetuned = next(arm for arm in results["arms"] if arm["kind"] == "finetuned")
    return finetuned, max(
        (arm for arm in results["arms"] if arm["kind"] == "prompted"), key=lambda arm: arm["accuracy"]
    )


def bag_of_words(results: dict) -> dict:
    """Return a demo's bag of words, which had another name before it counted characters."""
    return next(arm for arm in results["arms"] if arm["name"].startswith("TF-IDF"))


def message() -> str:
    """Return what cross-validation shows, in a few sentences."""
    points = recorded.read("evidence")["crossval"]["sarcasm"]["points"]
    prompt = max(point["accuracy"] for point in points if point["kind"] == "prompted")
    accuracy = {point["name"]: point["accuracy"] for point in points}
    millions = catalogue.base(catalogue.EMBEDDED).shape.parameters / 1e6
    right = {name: f"{100 * share:.0f} %" for name, share in (accuracy | {"prompt": prompt}).items()}
    return f"""A model with {millions:.0f} million parameters judges whether {points[0]["n"]:,} replies are sarcastic. \
With the better of two prompts it is right on {right["prompt"]}, no better than a coin. Finetuned on other replies, \
it is right on {right["LoRA"]}. A bag of words is right on {right["bag of words"]}, and a simple classifier on the \
vectors of the frozen model on {right["frozen features"]} (cross-validation)."""


def demo_block(results: dict) -> str:
    """Return the part about the demo, in Markdown."""
    finetuned, best = finetuned_and_best(results)
    words = bag_of_words(results)
    p = {
        other: p_values(results)[frozenset((finetuned["name"], other))]
        for other in (best["name"], "majority", words["name"])
    }
    data, machine, versions = results["data"], results["machine"], results["versions"]
    rows = f"{data['test']} test rows of the bundled corpus (id `{data['test_id']}`)"
    training = f"{finetuned['training_seconds']:.0f} s on {machine['cores']} cores ({machine['name']})"
    return f"""{report.table(results)}

{results["model"]["name"]}, {rows}.
An exact paired test compares the finetuned model with three other methods: the best prompt ({p[best["name"]]}), \
the majority ({p["majority"]}) and {words["name"]} ({p[words["name"]]}).
The two replies to a comment count as one pair.
Training took {training}, with a peak memory of {results["peak_memory_gib"]} GiB.
Measured on {results["date"]} with torch {versions["torch"]}, transformers {versions["transformers"]} \
and trl {versions["trl"]}."""


def evidence_block() -> str:
    """Return the part about cross-validation and all tasks, in Markdown."""
    evidence = recorded.read("evidence")
    whole = evidence["crossval"]["sarcasm"]
    lines = ["| method | accuracy | 95 % interval | against LoRA | seeds |", "|---|---:|:---:|---:|---:|"]
    for point in sorted(whole["points"], key=lambda point: point["accuracy"]):
        low, high = point["accuracy_ci95"]
        p = metrics.p_text(point["p_against_lora"]) if "p_against_lora" in point else ""
        lines.append(
            f"| {point['name']} | {point['accuracy']:.1%} | {low:.1%} to {high:.1%} | {p} | {len(point['seeds'])} |"
        )
    lines += [
        "",
        f"{evidence['folds']}-fold cross-validation over all {whole['rows']:,} sarcasm rows, so that each is a test row"
        f" once for each seed. Both replies to a comment are in the same fold. {evidence['date']}.",
        "",
        *every_task(evidence["curves"]),
    ]
    return "\n".join(lines)


def every_task(curves: dict) -> list[str]:
    """Return a table of the methods' accuracy on each task with all training rows, in Markdown."""
    largest = {name: max(point["size"] for point in curve["points"]) for name, curve in curves.items()}
    seeds = max(len(point["seeds"]) for curve in curves.values() for point in curve["points"])
    means = {
        (point["method"], name): f"{point['mean']:.1%}" + ("" if len(point["seeds"]) == seeds else " (fewer seeds)")
        for name, curve in curves.items()
        for point in curve["points"]
        if point["size"] == largest[name]
    }
    heads = [
        f"{name}: {len(tasks.TASKS[name].labels)} labels, {largest[name]:,} + {curve['rows']}"
        for name, curve in curves.items()
    ]
    lines = [f"| method | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for method in dict.fromkeys(method for method, _ in means):
        lines.append(f"| {method} | {' | '.join(means.get((method, name), '') for name in curves)} |")
    return [
        *lines,
        "",
        "Accuracy on the test rows after training on all training rows (training + test rows), mean over"
        f" {seeds} seeds.",
    ]


def sarc_block(name: str) -> str:
    """Return what a results file measured on real rows, in Markdown."""
    results = read_json(RESULTS.with_name(f"{name}.json"))
    data, words, p = results["data"], bag_of_words(results), p_values(results)
    sentences = []
    for arm in results["arms"]:
        if arm["kind"] == "finetuned":
            low, high = arm["accuracy_ci95"]
            sentences.append(
                f"{arm['name']} reaches {arm['accuracy']:.1%} ({low:.1%} to {high:.1%}), and {words['name']}"
                f" {words['accuracy']:.1%} on the same rows ({p[frozenset((arm['name'], words['name']))]}, exact paired"
                " test)."
            )
    rows = f"{data['test']:,} test rows of SARC (id `{data['test_id']}`), {data['train']:,} training rows."
    return "\n".join([report.table(results), "", f"{rows} {results['date']}.", *sentences])


def second_model_block() -> str:
    """Return what the demo measured on another model, in Markdown."""
    results = read_json(RESULTS.with_name("gemma.json"))
    finetuned, best = finetuned_and_best(results)
    p = p_values(results)[frozenset((finetuned["name"], best["name"]))]
    return f"""{report.table(results)}

{results["model"]["name"]}, the same {results["data"]["test"]} test rows, in {results["model"]["weights"]}. \
{results["recipe"]["epochs"]} epochs. The finetuned model against the best prompt: {p}. {results["date"]}."""


def gear_table() -> str:
    """Return what each gear uses, and the results on a T4, in Markdown."""
    lines = ["| gear | machine | model | rows | recipe | minutes |", "|---|---|---|---|---|---:|"]
    machines = {
        "cpu": "any, no GPU needed",
        "t4": "a GPU older than Ampere, such as Colab's free T4",
        "gpu": "an Ampere GPU or newer",
    }
    for gear in gears.GEARS.values():
        rows = f"{gear.n_train:,} + {gear.n_test:,} of SARC" if gear.n_train else "the bundled corpus"
        minutes = f"{sum(minutes for _, minutes in gear.minutes):.0f}" + ("" if gear.name == "cpu" else " (estimate)")
        lines.append(
            f"| `{gear.name}` | {machines[gear.name]} | {gear.model} | {rows} | `{gear.recipe.name}` | {minutes} |"
        )
    return "\n".join([*lines, "", on_a_t4()])


def on_a_t4() -> str:
    """Return the results of the demo on a real T4, or a sentence that says it has not been run there."""
    if not ON_A_T4.is_file():
        return (
            "We have **not yet run Mistral-7B on a T4**. The minutes of `t4` and `gpu` are our estimates."
            " If you have a T4, run `llmcourse demo --gear t4 --record`."
        )
    results = read_json(ON_A_T4)
    return f"On {results['machine']['name']}, {results['date']}, {results['model']['name']}:\n\n{report.table(results)}"


SPEED_FIGURE = RESULTS.with_name("speed.svg")
SHOTS_FIGURE = RESULTS.with_name("shots.svg")
PANELS = {"scoring": "Scoring few-shot rows", "generating": "Generating answers", "finetuning": "Finetuning with LoRA"}


def speed() -> dict[str, dict]:
    """Return the results files of the benchmarks, by name."""
    return {name: read_json(RESULTS.with_name(f"{name}.json")) for name in (*PANELS, "scaling", "startup", "recipes")}


def ratios(results: dict, name: str) -> dict[str, dict]:
    """Return how many times the time of `llmcourse` each other side takes: minimum, median and maximum."""
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


def figures_of() -> dict[Path, str]:
    """Return all figures of the pages, as SVG."""
    methods = recorded.read("evidence")["crossval"]["sarcasm"]["points"]
    title = "Is this reply sarcastic? No prompt beats guessing, training does"
    return {FIGURE: figures.svg(figures.waterfall(methods, title=title)), **speed_figures(speed())}


def goals(results: dict) -> list[tuple[str, float, str]]:
    """Return our aims: the work, the measured value, and the aim in words, with the bound as its first number or 1."""
    scoring, generating, finetuning = (ratios(results, name) for name in PANELS)
    sides, file = results["finetuning"]["sides"], results["scaling"]["file"]
    one_epoch = "TRL as in the talk", "llmcourse, quick, one epoch"
    return [
        ("scoring against full forwards", scoring["full forwards"]["median"], "at least 4 times as fast"),
        (
            "scoring against lm-evaluation-harness",
            scoring["lm-evaluation-harness"]["median"],
            "at least 3 times as fast",
        ),
        (
            "generating against one `generate` per row",
            generating["one generate a row"]["median"],
            "at least 10 times as fast",
        ),
        ("generating against transformers' pipeline", generating["pipeline"]["median"], "at least 4 times as fast"),
        ("generating against llama.cpp", generating["llama.cpp, 4 bits"]["median"], "at least as fast"),
        (
            "finetuning, one epoch of `quick` against TRL as in the talk",
            median(slow / quick for slow, quick in zip(*(sides[side]["seconds"] for side in one_epoch), strict=True)),
            "at least 6 times as fast",
        ),
        (
            "finetuning against TRL's best settings, same adapter",
            finetuning["TRL, best, quick's adapter"]["median"],
            "at least 2.5 times as fast",
        ),
        (
            "finetuning, share of the matrix-product rate",
            sides["llmcourse, quick"]["share_of_product_rate"]["median"],
            "at least 0.65",
        ),
        (
            "loading a million rows against pyarrow's reader",
            file["times_slower_than_pyarrow"]["median"],
            "at most 5 times as long",
        ),
        ("loading a million rows, peak memory in GiB", file["llmcourse"]["peak_memory_gib"]["max"], "at most 1"),
    ]


def met(value: float, aim: str) -> bool:
    """Return whether a measured value reaches an aim such as "at least 4 times as fast"."""
    number = re.search(r"[\d.]+", aim)
    bound = float(number.group()) if number else 1.0
    return value >= bound if aim.startswith("at least") else value <= bound


def spread_text(values: dict) -> str:
    """Return the median and the range of what was measured several times, as text."""
    return f"{values['median']:.1f} ({values['min']:.1f} to {values['max']:.1f})"


def where_and_when(results: dict) -> str:
    """Return on which machine and when a results file was measured, as text."""
    machine = results["machine"]
    return f"{machine['cores']} cores ({machine['name']}), {results['date']}"


def speed_tables(results: dict) -> str:
    """Return all that the benchmarks measured, in Markdown, for benchmarks/README.md."""
    about = (
        "Each ratio comes from one run on the same rows, and is a median over its blocks or rounds. *Our model* means"
        " that the other library runs the model as `llmcourse.models.load` returns it, with the matrix products and the"
        " attention that are fastest on this processor."
    )
    parts = [f"![Time of other libraries relative to the course](results/{SPEED_FIGURE.name})", about]
    parts += [goal_table(results), side_table(results, "scoring"), side_table(results, "generating")]
    parts += [llama_sentence(results), finetuning_table(results), scaling_tables(results), startup_table(results)]
    return "\n\n".join(parts)


def goal_table(results: dict) -> str:
    lines = ["| what | measured | aim | |", "|---|---:|---|---|"]
    for work, value, aim in goals(results):
        lines.append(f"| {work} | {value:.2f} | {aim} | {'met' if met(value, aim) else '**not met**'} |")
    return "\n".join(lines)


def side_table(results: dict, name: str) -> str:
    work = results[name]["work"]
    prompts = f"{work['rows']} rows, {work['shots']} examples, {work['prompt_tokens']:.0f} tokens per prompt"
    lines = [f"{PANELS[name]}: {prompts}. {where_and_when(results[name])}.", ""]
    lines += ["| side | rows per second (slowest to fastest block) | relative time |", "|---|---:|---:|"]
    for side, measured in results[name]["sides"].items():
        rate, ratio = spread_text(measured["rows_per_second"]), spread_text(measured["times_slower"])
        lines.append(f"| {side} | {rate} | {ratio} |")
    return "\n".join(lines)


def llama_sentence(results: dict) -> str:
    agree = results["generating"]["agree"]
    same = {kind: agree["same_first_line"][f"{kind}, LlamaCpp"] for kind in ("few-shot", "zero-shot")}
    return (
        f"llama.cpp computes in 4 bits. Of {agree['rows']} rows, its first line is the same as in float32 for"
        f" {same['few-shot']} with examples and {same['zero-shot']} without. The other sides agree on every row."
    )


def finetuning_table(results: dict) -> str:
    work, measured_at = results["finetuning"]["work"], where_and_when(results["finetuning"])
    lines = [f"{PANELS['finetuning']}: {work['rows']} rows of {work['tokens_per_row']:.0f} tokens. {measured_at}.", ""]
    columns = ("side", "epochs", "rows per second", "tokens per second", "relative time, compared with")
    lines += [
        f"| {' | '.join((*columns, 'peak GiB', 'share of the matrix-product rate'))} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, measured in results["finetuning"]["sides"].items():
        share, ratio = "not counted", ""
        if "share_of_product_rate" in measured:
            part, of = measured["share_of_product_rate"]["median"], measured["product_gflop_per_second"]["median"]
            share = f"{part:.0%} of {of:.0f} GFLOP/s"
        if "against" in measured:
            ratio = f"{spread_text(measured['times_slower'])}, {measured['against']}"
        rates = f"{spread_text(measured['rows_per_second'])} | {measured['tokens_per_second']['median']:.0f}"
        memory = f"{measured['peak_memory_gib']:.1f}"
        lines.append(f"| {side} | {measured['epochs']:g} | {rates} | {ratio} | {memory} | {share} |")
    return "\n".join(lines)


def scaling_tables(results: dict) -> str:
    scaling = results["scaling"]
    lines = [
        f"Scaling. {where_and_when(scaling)}.",
        "",
        f"![Time per row against the number of examples in the prompt](results/{SHOTS_FIGURE.name})",
        "",
    ]
    lines += ["| rows scored | milliseconds per row | peak memory beyond the loaded model, GiB |", "|---:|---:|---:|"]
    for size, measured in scaling["rows"].items():
        lines.append(f"| {int(size):,} | {measured['ms_per_row']:.1f} | {measured['above_loaded_model_gib']:.2f} |")
    file = scaling["file"]
    ours, pyarrow = file["llmcourse"], file["pyarrow"]
    lines += [
        "",
        f"A CSV of {file['rows']:,} rows ({file['megabytes']:.0f} MB):"
        f" `data.load` takes {ours['seconds']['median']:.1f} s and {ours['peak_memory_gib']['max']:.2f} GiB,"
        f" pyarrow's reader {pyarrow['seconds']['median']:.2f} s and {pyarrow['peak_memory_gib']['max']:.2f} GiB.",
    ]
    return "\n".join(lines)


def startup_table(results: dict) -> str:
    lines = [f"Starting. {where_and_when(results['startup'])}.", ""]
    lines += ["| time from the start of Python | seconds |", "|---|---:|"]
    lines += [f"| {what} | {spread_text(seconds)} |" for what, seconds in results["startup"]["seconds"].items()]
    return "\n".join(lines)


def recipe_table(results: dict) -> str:
    """Return the variants of the `quick` recipe on held-out rows, in Markdown: a row for each, means over its seeds.

    The oldest runs held out the same rows for every seed, and say which (`held_out_id`).
    """
    variants: dict[tuple[str, str, str], list[list[dict]]] = {}
    for run in sorted(results["recipes"]["runs"], key=lambda run: run["seed"]):
        drawn = "the same fifth" if "held_out_id" in run else "by seed"
        variants.setdefault((run["task"], drawn, run["variant"]), []).append(run["validation"])
    lines = [
        "| task | held out | change to `quick` | accuracy after each epoch | after the last, by seed"
        " | log-probability |",
        "|---|---|---|---|---|---:|",
    ]
    for (task, drawn, variant), curves in sorted(variants.items(), key=lambda item: item[0][:2]):
        means = " ".join(f"{fmean(entry['accuracy'] for entry in epoch):.3f}" for epoch in zip(*curves, strict=True))
        last = [curve[-1] for curve in curves]
        ends = " ".join(f"{entry['accuracy']:.3f}" for entry in last)
        loss = fmean(entry["loss"] for entry in last)
        changed = f"`{variant}`" if variant else "none"
        lines.append(f"| {task} | {drawn} | {changed} | {means} | {ends} | {-loss:.3f} |")
    return "\n".join(lines)


def processes_table() -> str:
    """Return how much faster a second process makes training, in Markdown."""
    results = read_json(RESULTS.with_name("processes.json"))
    lines = ["| training | rows per second | speed-up |", "|---|---:|---:|"]
    for name, way in results["ways"].items():
        lines.append(f"| {name} | {way['rows_per_second']['median']:.1f} | {way['times_faster']['median']:.2f} |")
    work = results["work"]
    lines.append(
        f"\n{work['rows']} rows, {work['epochs']} epochs, recipe `quick`. {results['date']}."
        f" The losses differ by at most {results['agree']['largest_difference_of_losses']:g}."
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
            f"{f['runs']} runs: memory {f['memory_mib'][0]:,} MiB halfway and {f['memory_mib'][1]:,} MiB at the end"
            f" (change of 20-run means: {f['mib_per_run']:g} MiB per run); files {f['files'][0]} and {f['files'][1]}"
        ),
    }
    lines = ["| test | result | date |", "|---|---|---|"]
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
            "message": message(),
            "demo": demo_block(results),
            "evidence": evidence_block(),
        },
        ROOT / "docs" / "setup.md": {"gears": gear_table()},
        ROOT / "benchmarks" / "README.md": {
            "second-model": second_model_block(),
            "sarc": sarc_block("sarc"),
            "sarc-label-loss": sarc_block("sarc-label-loss"),
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
    for path, figure in figures_of().items():
        files.write_text(path, figure)
    for path, blocks in pages(results).items():
        files.write_text(path, rewritten(path.read_text(encoding="utf-8"), blocks, path.name))


if __name__ == "__main__":
    main()
