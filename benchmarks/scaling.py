"""Measure what a row costs as the work grows: more examples in the prompt, more rows, a file of a million rows.

    shots   milliseconds per row, scored and generated, with 0 to 16 examples, beside one `generate` per row
    rows    milliseconds per row and peak memory, scored in a process of its own, from 100 to 10,000 rows
    file    seconds and peak memory of `data.load` on a CSV of 1,010,000 rows, which it checks, cleans and splits,
            and of pyarrow's reader, which only reads it; each in a process of its own

About 12 minutes on 2 cores.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from generating import OneByOne
from measure import about, as_it_comes, finish, options, spread

from llmcourse import data, models, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt, few_shots

SHOTS = (0, 2, 4, 8, 16)
SIZES = (100, 1_000, 10_000)
FILE_ROWS = 1_010_000


def shots(loaded: LoadedModel, count: int, alone: int) -> dict[str, Any]:
    """Measure milliseconds per row for each number of examples, over `count` rows; one by one over `alone` of them."""
    corpus = data.load(SARCASM)
    rows, train = list(corpus.test)[:count], list(corpus.train)
    predict.score(loaded, Prompt(SARCASM), rows[:2])
    new_tokens = max(map(len, predict.label_tokens(loaded, Prompt(SARCASM)))) + predict.SPARE_TOKENS
    result = {}
    for k in SHOTS:
        prompt = Prompt(SARCASM, few_shots(SARCASM, train, k))
        lengths = [len(ids) for ids in predict.encode(loaded, prompt, rows)]
        scored, written = (way(loaded, prompt, rows).seconds for way in (predict.score, predict.generate))
        with as_it_comes(loaded):
            clock = time.perf_counter()
            OneByOne(loaded, prompt, new_tokens)(rows[:alone])
            one_by_one = time.perf_counter() - clock
        result[k] = {
            "prompt_tokens": round(sum(lengths) / len(lengths), 1),
            "scored_ms": round(scored / count * 1e3, 2),
            "generated_ms": round(written / count * 1e3, 2),
            "one_generate_a_row_ms": round(one_by_one / alone * 1e3, 2),
        }
        print("shots", k, result[k], flush=True)
    return result


def pairs(count: int) -> list[dict[str, str]]:
    """Rows that differ: every post of the corpus with replies that were given to others."""
    corpus = [row for side in (data.load(SARCASM).train, data.load(SARCASM).test) for row in side]
    posts, replies = ([row[column] for row in corpus] for column in ("parent_comment", "comment"))
    steps = range(1, 2 + count // len(corpus))
    every = (
        {"parent_comment": post, "comment": replies[(place + 7 * step) % len(replies)]}
        for step in steps
        for place, post in enumerate(posts)
    )
    return [row for row, _ in zip(every, range(count), strict=False)]


def scored(count: int) -> dict[str, Any]:
    """Measure scoring of `count` rows in this process."""
    loaded, rows = models.load(), pairs(count)
    prompt = Prompt(SARCASM, instruction=False)
    predict.score(loaded, prompt, rows[:20])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = predict.score(loaded, prompt, rows).seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "ms_per_row": round(seconds / count * 1e3, 2),
        "peak_memory_gib": round(peak / 2**20, 3),
        "above_loaded_model_gib": round((peak - before) / 2**20, 3),
    }


def lines(count: int, seed: int = 0) -> Iterator[str]:
    """Yield the lines of a CSV of random sentences: label, reply and post. Each post has one reply of each label."""
    luck = random.Random(seed)
    words = [word for row in data.load(SARCASM).train for word in row["comment"].replace('"', "").split()]
    yield "label,comment,parent_comment\n"
    for number in range(count):
        if number % 2 == 0:
            post = " ".join(luck.choices(words, k=12))
        yield f'{number % 2},"{" ".join(luck.choices(words, k=10))} {number}","{post}"\n'


READERS = {
    "llmcourse": "import datasets; from llmcourse import SARCASM, data\n"
    "rows = data.load(SARCASM, {path!r}, n_train=4000, n_test=1000)\n"
    "assert len(rows.train) == 4000 and len(rows.test) == 1000",
    "pyarrow": "import pyarrow.csv\nassert len(pyarrow.csv.read_csv({path!r})) == {count}",
}
MEASURED = """
import json, resource, time
{imports}
clock = time.perf_counter()
{work}
seconds = time.perf_counter() - clock
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def read(count: int, rounds: int) -> dict[str, Any]:
    """Measure both readers on one file, in turn. Imports are not timed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines(count))
        measured: dict[str, list] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name, code in READERS.items():
                imports, work = code.format(path=str(path), count=count).split("\n", 1)
                script = MEASURED.format(imports=imports, work=work)
                done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
                measured[name].append(json.loads(done.stdout.splitlines()[-1]))
        size = path.stat().st_size
    result: dict[str, Any] = {"rows": count, "megabytes": round(size / 1e6, 1)}
    for name, runs in measured.items():
        result[name] = {"seconds": spread([s for s, _ in runs]), "peak_memory_gib": spread([gib for _, gib in runs])}
    both = zip(measured["llmcourse"], measured["pyarrow"], strict=True)
    return {**result, "times_slower_than_pyarrow": spread([ours[0] / theirs[0] for ours, theirs in both])}


def main(arguments: Sequence[str] | None = None) -> dict | None:
    chosen = options(
        __doc__,
        arguments,
        rows=(100, 4, "rows for each number of examples"),
        alone=(5, 1, "of them, rows that are also answered one by one"),
        most=(SIZES[-1], 50, "most rows scored in one go"),
        file=(FILE_ROWS, 20_200, "rows of the file"),
        rounds=(3, 1, "times that each reader reads it"),
        score=(str, "score so many rows only, in this process"),
    )
    if chosen.score:
        print(json.dumps(scored(int(chosen.score))))
        return None
    by_rows = {}
    for size in [size for size in SIZES if size < chosen.most] + [chosen.most]:
        done = subprocess.run(
            [sys.executable, __file__, "--score", str(size)], capture_output=True, text=True, check=True
        )
        by_rows[size] = json.loads(done.stdout.splitlines()[-1])
        print("rows", size, by_rows[size], flush=True)
    file = read(chosen.file, chosen.rounds)
    print("file", file, flush=True)
    loaded = models.load()
    results = {
        **about(loaded, ["pyarrow"]),
        "shots": shots(loaded, chosen.rows, chosen.alone),
        "rows": by_rows,
        "file": file,
    }
    return finish("scaling", results, chosen)


if __name__ == "__main__":
    main()
