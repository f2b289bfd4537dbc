"""Measure what each kind of domain adaptation gives and costs, for notebook 03: `python benchmarks/adaptation.py`.

The embedded model answers questions about the handbook of an invented company. Arms: the model as it is; with retrieval
(right, wrong and retrieved passage); continued pretraining on 48 passages; and finetuning on 30 questions with their
answers, each of the last two in full and with LoRA. During training we measure perplexity on the 12 passages that no
arm reads, and how far the model has moved on general passages. At the end come answers to all questions, and to those
general facts that the model knew before.

Each arm runs in a process of its own, so that its peak memory is its own, and is saved in the package,
llmcourse/lessons/recorded/adaptation.json, so an interrupted run continues. `--arm NAME` measures one. About 22 minutes
on 2 shared cores.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmcourse import models
from llmcourse._base import files, hardware
from llmcourse.data import handbook
from llmcourse.lessons import adaptation, recorded
from llmcourse.lessons.adaptation import Settings
from llmcourse.models import LoadedModel
from llmcourse.predict import answers, retrieval

CUTOFFS = (1, 3, 5)

READING = {
    "pretraining, full": Settings("full", learning_rate=1e-4, epochs=2),
    "pretraining, LoRA": Settings("lora", learning_rate=1e-3, epochs=2),
}
ANSWERING = {
    "finetuning, full": Settings("full", learning_rate=1e-4, epochs=6),
    "finetuning, LoRA": Settings("lora", learning_rate=1e-3, epochs=6),
}


class Bench:
    """The model and everything that it is asked. `few` keeps only the first few of everything, for tests."""

    def __init__(self, loaded: LoadedModel, few: int | None = None):
        self.loaded, self.book = loaded, handbook.load()
        self.questions = self.book.questions[:few]
        self.taught, self.untaught = self.questions[::2], self.questions[1::2]
        self.seen = [passage.whole for passage in self.book.seen[:few]]
        self.some_seen = self.seen[::4]  # as many as the unseen ones
        self.unseen = [passage.whole for passage in self.book.unseen[:few]]
        passages, facts = handbook.general()
        self.general, self.facts = [passage.whole for passage in passages[:few]], facts[:few]

    def measured(self, loaded: LoadedModel, facts) -> dict[str, Any]:
        """Measure what every model is asked: closed-book answers, perplexities, facts."""
        return {
            "closed": as_result(answers.ask(loaded, self.questions, about=self.book.company)),
            "perplexity": {
                "seen": adaptation.perplexity(loaded, self.some_seen),
                "unseen": adaptation.perplexity(loaded, self.unseen),
                "general": adaptation.perplexity(loaded, self.general),
            },
            "facts": as_result(answers.ask(loaded, facts)),
        }

    def base(self, kept: dict) -> dict[str, Any]:
        """Measure the model as it is. The trained models are asked the facts that it knows again."""
        return self.measured(self.loaded, self.facts)

    def retrieved(self, kept: dict) -> dict[str, Any]:
        """Measure recall of both retrievers, and answers with the right, a wrong and the retrieved passage."""
        texts = [passage.whole for passage in self.book.passages]
        right = [self.book.place(question) for question in self.questions]
        # A wrong passage is half the handbook further on, so about another topic.
        given = {"right": right, "wrong": [(place + len(texts) // 2) % len(texts) for place in right]}
        recalls = {}
        for name, kind in (("embeddings", retrieval.Embeddings), ("bm25", retrieval.BM25)):
            retriever = kind(texts)
            for wording in ("question", "paraphrase"):
                ranks = retriever.rank([getattr(question, wording) for question in self.questions], max(CUTOFFS))
                recalls[f"{name}, {wording}"] = {str(k): retrieval.recall(ranks, right, k) for k in CUTOFFS}
                if wording == "question":
                    given[name] = [row[0] for row in ranks]
        asked: dict[tuple[int, int], tuple[str, str]] = {}  # mostly the retrieved passage is the right one
        for places in given.values():
            new = [(number, place) for number, place in enumerate(places) if (number, place) not in asked]
            found = answers.ask(self.loaded, [self.questions[n] for n, _ in new], [texts[p] for _, p in new])
            asked |= dict(zip(new, zip(found.texts, found.verdicts, strict=True), strict=True))
        whole = {name: [asked[pair] for pair in enumerate(places)] for name, places in given.items()}
        return {
            "recall": recalls,
            "answers": {
                name: as_result(answers.Answered([t for t, _ in both], [v for _, v in both]))
                for name, both in whole.items()
            },
        }

    def reading(self, settings: Settings) -> Callable[[dict], dict[str, Any]]:
        """Return a function that measures continued pretraining on the seen passages."""
        return lambda kept: self.trained(settings, adaptation.passage_rows(self.loaded.tokenizer, self.seen), kept)

    def answering(self, settings: Settings) -> Callable[[dict], dict[str, Any]]:
        """Return a function that measures finetuning on every second question, also asked in other words."""

        def run(kept: dict) -> dict[str, Any]:
            rows = adaptation.answer_rows(self.loaded.tokenizer, self.taught, self.book.company)
            return self.trained(settings, rows, kept, paraphrases=True)

        return run

    def trained(self, settings: Settings, rows, kept: dict, paraphrases: bool = False) -> dict[str, Any]:
        """Train a copy of the model and measure it, during training (`followed`) and at the end."""
        epochs = []
        followed = {settings.epochs} if paraphrases else set(range(1, settings.epochs + 1))

        def after(trained: adaptation.Trained, epoch: int) -> None:
            if epoch not in followed:
                return
            last = len(trained.losses) // epoch
            follow = {
                "epoch": epoch,
                "loss": sum(trained.losses[-last:]) / last,
                "unseen": adaptation.perplexity(trained.loaded, self.unseen),
                "divergence": adaptation.divergence(trained.loaded, self.loaded, self.general),
            }
            epochs.append(follow)

        with hardware.PeakMemory() as memory:
            trained = adaptation.train(self.loaded, rows, settings, after)
        known = [q for q, v in zip(self.facts, kept["base"]["facts"]["verdicts"], strict=True) if v == "right"]
        found = self.measured(trained.loaded, known)
        if paraphrases:
            found["paraphrased"] = as_result(
                answers.ask(trained.loaded, [reworded(q) for q in self.taught], about=self.book.company)
            )
        return {
            "settings": asdict(settings),
            "trainable": trained.trainable,
            "tokens": sum(len(ids) for ids, _ in rows) * settings.epochs,
            "seconds": trained.seconds,
            "peak_memory_gib": memory.gib,
            "epochs": epochs,
            **found,
        }

    def arms(self) -> dict[str, Callable[[dict], dict[str, Any]]]:
        """Every arm by name; the first is needed by those that train."""
        return {
            "base": self.base,
            "retrieval": self.retrieved,
            **{name: self.reading(settings) for name, settings in READING.items()},
            **{name: self.answering(settings) for name, settings in ANSWERING.items()},
        }


def reworded(question: handbook.Question) -> handbook.Question:
    """Return a question in its other words."""
    return handbook.Question(question.paraphrase, question.answer, question.accept, question.id, question.passage)


def as_result(found: answers.Answered) -> dict[str, Any]:
    """Return what the results file saves of answers."""
    return {"counts": found.counts, "verdicts": found.verdicts, "texts": found.texts}


def about(bench: Bench) -> dict[str, Any]:
    """Return what the numbers are about. A results file about something else is replaced."""
    asked = [asdict(question) for question in (*bench.questions, *bench.facts)]
    words = files.short_hash([asked, bench.seen, bench.unseen, bench.general])
    return {"model": bench.loaded.base, "seed": 0, "words": words, "questions": len(bench.questions)}


def measure(bench: Bench, name: str, out: Path) -> dict[str, Any]:
    """Measure one arm and save it beside the others."""
    whole = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    kept = whole.get("arms", {}) if all(whole.get(key) == value for key, value in about(bench).items()) else {}
    kept[name] = {"date": hardware.now(), **bench.arms()[name](kept)}
    machine = {"machine": hardware.detect().as_dict(), "versions": hardware.versions()}
    whole = {"date": hardware.now(), **about(bench), **machine, "arms": kept}
    files.write_json(out, whole)
    return whole


def missing(bench: Bench, out: Path) -> list[str]:
    """Return the arms that are missing in the results file, or have other settings there."""
    whole = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    if any(whole.get(key) != value for key, value in about(bench).items()):
        return list(bench.arms())
    settings = {name: asdict(one) for name, one in {**READING, **ANSWERING}.items()}
    return [
        name
        for name in bench.arms()
        if name not in whole["arms"] or whole["arms"][name].get("settings") != settings.get(name)
    ]


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=recorded.path("adaptation"), help="the results file")
    parser.add_argument("--arm", help="measure this one alone, again if it is there")
    options = parser.parse_args(arguments)
    bench = Bench(models.load())
    if options.arm:
        measure(bench, options.arm, options.out)
        return
    for name in missing(bench, options.out):
        print(name, flush=True)
        subprocess.run([sys.executable, __file__, "--arm", name, "--out", str(options.out)], check=True)


if __name__ == "__main__":
    main()
