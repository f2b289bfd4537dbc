"""One experiment: several arms answer the same frozen test rows, each is kept, and they are compared in pairs.

An arm is kept under a hash of all that decides its answers: task, rows, base model, prompt, recipe. Running it again finds
it; changing a number adds an arm beside the old one. Nothing is trained or asked twice.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llmcourse._base import files, hardware, processes
from llmcourse._base.errors import CourseError
from llmcourse._base.spreadsheet import table, unguarded
from llmcourse.data import Rows, groups, in_order
from llmcourse.data.tasks import Task
from llmcourse.experiment import baselines, metrics
from llmcourse.experiment.backup import Backup
from llmcourse.models import LoadedModel, put_adapter, read_card, save_adapter, shipped_adapter
from llmcourse.models.adapters import task_of
from llmcourse.predict import Generated, Predictions, Scored, check_adapter, generate, score
from llmcourse.predict.journal import Journal
from llmcourse.predict.prompts import Prompt, few_shots
from llmcourse.training import finetuning as finetuning
from llmcourse.training.recipes import Recipe

ARM_FORMAT = 2
"""Raised when the way in which arms answer changes, so that answers kept by an older version are not taken for new ones."""


@dataclass
class Arm:
    """A kept arm: who answered, what, and how well."""

    name: str
    kind: str
    """"baseline", "prompted" or "finetuned"."""
    spec: dict[str, Any]
    """All that decided the answers."""
    predictions: Predictions
    score: metrics.Score
    example: str | None = None
    """The arm's answer to the task's example row, in words."""
    training: dict[str, Any] | None = None
    """Seconds, steps, losses and trained parameters (finetuned arms)."""
    adapter: Path | None = None
    folder: Path | None = None
    answered: dict[str, Any] | None = None
    """When, on which machine and with which versions the answers were given."""

    @property
    def seconds_per_row(self) -> float:
        return self.predictions.seconds / self.score.n

    def as_dict(self) -> dict[str, Any]:
        """The arm's entry in results.json."""
        entry = {
            "name": self.name,
            "kind": self.kind,
            **self.score.as_dict(),
            "seconds_per_row": round(self.seconds_per_row, 5),
            "answered": self.answered,
        }
        if self.training:
            entry["training_seconds"] = round(self.training["seconds"], 1)
            entry["trained_parameters"] = self.training["trainable"]
        return entry


@dataclass
class Experiment:
    """Arms on one frozen test set, kept in a folder."""

    rows: Rows
    loaded: LoadedModel
    folder: Path = Path("runs")
    seed: int = 0
    quiet: bool = False
    """True shows no progress bars."""
    backup: Path | None = None
    """A folder that gets a copy of everything kept; by default what the variable LLMCOURSE_BACKUP names, if anything."""
    arms: list[Arm] = field(default_factory=list)

    def __post_init__(self):
        self.folder = Path(self.folder)
        self._backup = Backup(self.folder, self.backup)
        processes.from_main(self._backup.restore)
        self.task = self.rows.task
        # answers are kept in this order, so it must not depend on how the rows were drawn
        self._train, self._test = in_order(self.task, self.rows.train), in_order(self.task, self.rows.test)
        self._asked = [*self._test, *([self.task.example] if self.task.example else [])]
        self._ids = {"test": self.rows.test_id, "train": self.rows.train_id}
        self._groups = groups(self.task, self._test)
        self._refuse_leak(groups(self.task, self._train), "The training rows")
        example = self.task.example
        if example and any(all(row[c] == example[c] for c in self.task.columns) for row in self._train):
            raise CourseError("The task's example row is among the training rows; leave it out of them.")

    @property
    def _quiet(self) -> bool:
        return self.quiet or not processes.is_main()

    def _refuse_leak(self, seen: set[str], what: str) -> None:
        """Raise CourseError if `seen` (groups, hashed) and the test rows meet."""
        shared = len(seen & self._groups)
        if shared:
            raise CourseError(
                f"{what} and the test rows share {shared} {self.task.group_column or 'texts'}: answers would be known, not found."
                " Use other rows, or the same seed and files as in training."
            )

    def _refuse_other_rows(self, arms: Sequence[Arm]) -> None:
        for arm in arms:
            if arm.spec["test"] != self._ids["test"]:
                raise CourseError(
                    f"The arm {arm.name!r} answered the test set {arm.spec['test']}, this experiment has {self._ids['test']}:"
                    " arms on different rows cannot be compared."
                )

    # -- the arms ------------------------------------------------------------------------------------------------

    def majority(self) -> Arm:
        """Always the commonest label of the training rows."""
        return self._baseline("majority", baselines.majority)

    def bag_of_words(self) -> Arm:
        """TF-IDF and logistic regression on the training rows."""
        return self._baseline("TF-IDF + logistic regression", baselines.bag_of_words)

    def prompt(self, k: int = 0, chat: bool = False, fallback: bool = True) -> Prompt:
        """The task's prompt with `k` shots, drawn from the training rows by the experiment's seed."""
        return Prompt(self.task, few_shots(self.task, self._train, k, self.seed), chat=chat, fallback=fallback)

    def generated(self, prompt: Prompt, name: str | None = None) -> Arm:
        """The base model writes freely; its text is read as a label, or counted as invalid."""
        return self._prompted(name or _prompt_name(prompt, "generated"), prompt, "generated")

    def scored(self, prompt: Prompt, calibrate: bool = False, name: str | None = None) -> Arm:
        """The base model chooses among the labels only; `calibrate` takes off its bias towards one of them."""
        way = "calibrated" if calibrate else "scored"
        return self._prompted(name or _prompt_name(prompt, way), prompt, way)

    def finetuned(self, recipe: Recipe, resume: bool = True, name: str | None = None) -> Arm:
        """Train an adapter by the recipe (or find it), then let the model write freely, as the prompted arms do."""
        prompt = finetuning.training_prompt(self.task, recipe)
        trained = training_spec(self.task, self._ids["train"], self.loaded.base, recipe)
        shipped = self._shipped(trained)
        more = {"adapter": files.sha256_of_file(shipped / "adapter_model.safetensors")} if shipped else {}
        spec = self._spec("generated", prompt, trained=trained, **more)
        name = name or f"LoRA r={recipe.r} ({recipe.name})"

        def ask(journal: Journal):
            adapter, training = self.train(recipe, resume)
            more = {"training": {**training, "recipe": recipe.as_dict()}, "adapter": adapter}
            return *self._ask_adapter(adapter, prompt, "generated", name, journal), more

        return self._once(name, "finetuned", spec, ask)

    def train(self, recipe: Recipe, resume: bool = True) -> tuple[Path, dict[str, Any]]:
        """The recipe's adapter on the training rows: its folder and the story of its training.

        With the environment variable LLMCOURSE_USE_SHIPPED=1 the adapter that comes with the course stands in for a training
        that would make the same one (same task, rows, base and recipe): for tests of notebooks, in minutes.
        """
        spec = training_spec(self.task, self._ids["train"], self.loaded.base, recipe)
        shipped = self._shipped(spec)
        if shipped:
            return shipped, read_card(shipped)["training"]
        key = files.short_hash(spec)
        folder, work = self.folder / "adapters" / key, self.folder / "training" / key
        with processes.lock(work):  # of two runs one trains, the other waits and finds the adapter
            if not processes.from_main(lambda: self._is_whole(folder, "The adapter is trained anew.")):
                self._train_into(folder, work, recipe, spec, resume)
        return folder, read_card(folder)["training"]

    def _shipped(self, spec: dict) -> Path | None:
        """The shipped adapter, if it may and can stand in for this training."""
        if os.environ.get("LLMCOURSE_USE_SHIPPED") != "1":
            return None
        try:
            folder = shipped_adapter(self.task.name)
        except CourseError:
            return None
        return folder if read_card(folder)["spec"] == spec else None

    def _train_into(self, folder: Path, work: Path, recipe: Recipe, spec: dict, resume: bool) -> None:
        if not resume:  # or a later session would bring the discarded run's checkpoints back
            processes.from_main(lambda: self._backup.drop(work))
        with tqdm(desc=f"training {recipe.name}", unit="step", disable=self._quiet, leave=False) as bar:
            copied: list[Path] = []

            def progress(step: int, steps: int, loss: float | None) -> None:
                nonlocal copied
                latest = finetuning.checkpoints(work)[:1] if self._backup.there and processes.is_main() else []
                if latest != copied:
                    self._backup.keep(latest[0])
                    copied = latest
                if loss is None:
                    # the clock starts here, so that preparations do not spoil the estimate
                    bar.reset(total=steps)
                    bar.initial = step
                else:
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(step - bar.n)

            run = finetuning.finetune(self.loaded, self.task, self._train, recipe, work, resume, progress)
        training = {
            "seconds": run.seconds,
            "steps": run.steps,
            "rows": run.rows,
            "cut_rows": run.cut_rows,
            "trainable": run.trainable,
            "resumed_from": run.resumed_from,
            "micro_rows": run.micro_rows,
            "processes": processes.count(),
            "checkpointing": run.checkpointing,
            "notes": run.notes,
            "losses": [round(loss, 5) for loss in run.losses],
        }
        prompt = finetuning.training_prompt(self.task, recipe)
        card = {
            "spec": spec,
            "task": self.task.as_dict(),
            "prompt": {"instruction": prompt.instruction, "fallback": prompt.fallback, "chat": prompt.chat},
            "recipe": recipe.as_dict(),
            "data": {"source": self.rows.source, "train": self._ids["train"], "rows": len(self._train)},
            "groups": sorted(groups(self.task, self._train)),
            "training": training,
            "versions": hardware.versions(),
        }

        def keep() -> None:
            save_adapter(self.loaded, folder, card, adapter_readme(card))
            self._backup.keep(folder)
            # only now: until the adapter is kept, the last checkpoint is all there is
            shutil.rmtree(work, ignore_errors=True)
            self._backup.drop(work)

        processes.from_main(keep)
        if run.weights is None:
            self.loaded.drop_adapter()

    def adapter_arm(self, folder: str | Path, way: str = "generated") -> Arm:
        """A saved adapter on the test rows; its file's hash is part of the arm's name.

        Raises CourseError if it was trained for other labels or with another prompt, on another base, or on rows that the test rows share a
        group with.
        """
        card = read_card(folder)
        if list(card["task"]["labels"]) != list(self.task.labels):
            raise CourseError(
                f"The adapter in {folder} answers {', '.join(card['task']['labels'])}; the task {self.task.name!r} has"
                f" {', '.join(self.task.labels)}."
            )
        prompt, theirs = (Prompt(task, **card["prompt"]) for task in (self.task, task_of(card)))
        asked, trained = (one.text(dict.fromkeys(one.task.fields, "x")) for one in (prompt, theirs))
        if asked != trained or theirs.task.group_column != self.task.group_column:
            raise CourseError(
                f"The adapter in {folder} was trained with another prompt or other groups than the task {self.task.name!r} has now."
                " Use the task of its card (adapter_files.task_of), or train anew."
            )
        self._refuse_leak(set(card["groups"]), f"The rows on which {folder} was trained")
        digest = files.sha256_of_file(Path(folder) / "adapter_model.safetensors")
        name = f"adapter {Path(folder).name} ({digest[:8]}), {way}"
        spec = self._spec(way, prompt, adapter=digest)
        return self._once(name, "finetuned", spec, lambda log: (*self._ask_adapter(folder, prompt, way, name, log), {}))

    def find_all(self) -> list[Arm]:
        """All arms that the folder keeps for this task, these test rows and this base model, oldest first."""
        found = sorted((self.folder / "arms").glob("*/arm.json"), key=lambda path: (path.stat().st_mtime_ns, path))
        for path in found:
            # a dot: half written, by another process or one that was killed
            if path.parent.name.startswith((".", "damaged-")) or not self._is_whole(
                path.parent, "The arm is left out."
            ):
                continue
            kept = json.loads(path.read_text(encoding="utf-8"))
            spec = kept["spec"]
            same = (
                spec["task"] == {**self.task.as_dict(), "example": self.task.example}
                and spec["test"] == self._ids["test"]
            )
            if same and spec["format"] == ARM_FORMAT and spec.get("model", self.loaded.base) == self.loaded.base:
                self._find(spec, kept["name"])
        return self.arms

    # -- keeping and finding --------------------------------------------------------------------------------------

    def _spec(self, way: str, prompt: Prompt | None = None, **more: Any) -> dict[str, Any]:
        task = {**self.task.as_dict(), "example": self.task.example}
        spec = {"format": ARM_FORMAT, "way": way, "task": task, "test": self._ids["test"], **more}
        if prompt is not None:
            spec |= {"model": self.loaded.base, "prompt": prompt.as_dict()}
        return spec

    def _baseline(self, name: str, answer) -> Arm:
        spec = self._spec(name, train=self._ids["train"])

        def ask(journal: Journal):
            return *self._without_example(answer(self.task, self._train, self._asked)), {}

        return self._once(name, "baseline", spec, ask)

    def _prompted(self, name: str, prompt: Prompt, way: str) -> Arm:
        self._refuse_leak(groups(self.task, prompt.shots), "The prompt's examples")

        def ask(journal: Journal):
            with self.loaded.without_adapter():
                return *self._ask(prompt, way, name, journal), {}

        return self._once(name, "prompted", self._spec(way, prompt), ask)

    def _once(self, name: str, kind: str, spec: dict, ask) -> Arm:
        """The kept arm of this spec, or what `ask(journal)` answers now: predictions, example, and what else the arm keeps.

        Of two runs that want the same arm one asks, and the other waits and finds it. Answers of an interrupted evaluation
        are not asked again.
        """
        folder = self.folder / "arms" / files.short_hash(spec)
        found = self._from_main(lambda: self._find(spec, name))
        if found:
            return found
        with processes.lock(folder):
            found = self._from_main(lambda: self._find(spec, name))
            if found:
                return found
            predictions, example, more = ask(self._journal(folder))
            arm = Arm(name, kind, spec, predictions, self._score(predictions), example, **more)
            arm = self._from_main(lambda: self._keep(arm))
            if processes.is_main():
                for journal in _journals(folder):
                    journal.unlink(missing_ok=True)
            return arm

    def _from_main(self, find: Callable[[], Arm | None]) -> Arm | None:
        """The arm that the main process finds, or keeps, among every process's arms."""
        arm = processes.from_main(find)
        return self._add(arm) if arm and not processes.is_main() else arm

    def _journal(self, folder: Path) -> Journal:
        """This process's journal of an arm. It knows all answers that an interrupted evaluation left, by however many processes."""

        def left() -> tuple[dict[int, Any], float]:
            journals = [Journal(path) for path in _journals(folder)]
            answers = {row: answer for journal in journals for row, answer in journal.answers.items()}
            return answers, max((journal.seconds for journal in journals), default=0.0)

        answers, seconds = processes.from_main(left)
        number = f".{processes.rank()}" if processes.rank() else ""
        journal = Journal(folder.with_name(f"{folder.name}.partial{number}.jsonl"))
        journal.answers, journal.seconds = answers, seconds
        return journal

    def _ask_adapter(
        self, adapter: str | Path, prompt: Prompt, way: str, name: str, journal: Journal
    ) -> tuple[Predictions, str | None]:
        put_adapter(self.loaded, adapter)
        try:
            check_adapter(self.loaded, prompt, self._asked[:1])
            return self._ask(prompt, way, name, journal)
        finally:
            self.loaded.drop_adapter()

    def _ask(self, prompt: Prompt, way: str, name: str, journal: Journal) -> tuple[Predictions, str | None]:
        with tqdm(desc=name, total=len(self._asked), unit="row", disable=self._quiet, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            if way == "generated":
                predictions = generate(self.loaded, prompt, self._asked, progress, journal)
            else:
                predictions = score(self.loaded, prompt, self._asked, way == "calibrated", progress, journal)
        return self._without_example(predictions)

    def _without_example(self, predictions: Predictions) -> tuple[Predictions, str | None]:
        """Take the example row, which was answered last, off the predictions; return its answer in words."""
        if not self.task.example:
            return predictions, None
        *labels, label = predictions.labels
        changes: dict[str, Any] = {"labels": labels, "seconds": predictions.seconds * len(labels) / (len(labels) + 1)}
        text = None
        if isinstance(predictions, Generated):
            *changes["texts"], text = predictions.texts
            text = text.strip()
        elif isinstance(predictions, Scored):
            changes["logprobs"] = predictions.logprobs[:-1]
        predictions = replace(predictions, **changes)
        word = "invalid" if label is None else self.task.labels[label]
        return predictions, word if text is None or text == word else f"{text} ({word})"

    def _score(self, predictions: Predictions) -> metrics.Score:
        return metrics.evaluate([row["label"] for row in self._test], predictions.labels, self.task.labels)

    def _keep(self, arm: Arm) -> Arm:
        arm.folder = self.folder / "arms" / files.short_hash(arm.spec)
        # who answered: results.json is often written later, by another process
        arm.answered = {
            "date": hardware.now(),
            "machine": hardware.detect().as_dict(),
            "versions": hardware.versions(),
            **({"processes": processes.count()} if processes.count() > 1 else {}),
        }
        with files.folder_aside(arm.folder) as aside:
            files.write_text(aside / "predictions.csv", self.predictions_csv(arm.predictions))
            files.write_json(
                aside / "arm.json",
                {
                    "name": arm.name,
                    "kind": arm.kind,
                    "spec": arm.spec,
                    "seconds": arm.predictions.seconds,
                    "bias": arm.predictions.bias if isinstance(arm.predictions, Scored) else None,
                    "example": arm.example,
                    "training": arm.training,
                    "adapter": os.path.relpath(arm.adapter, self.folder) if arm.adapter else None,
                    "answered": arm.answered,
                },
            )
        self._backup.keep(arm.folder)
        return self._add(arm)

    def _find(self, spec: dict, name: str) -> Arm | None:
        folder = self.folder / "arms" / files.short_hash(spec)
        if not self._is_whole(folder, "The arm answers anew."):
            return None
        kept = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
        predictions = self._read_predictions(folder / "predictions.csv", kept)
        adapter = self.folder / kept["adapter"] if kept["adapter"] else None
        score = self._score(predictions)
        arm = Arm(
            name, kept["kind"], kept["spec"], predictions, score, kept["example"], kept["training"], adapter, folder
        )
        arm.answered = kept.get("answered")
        return self._add(arm)

    def _is_whole(self, folder: Path, instead: str) -> bool:
        """Whether a kept folder is there as it was written. A damaged one is set aside, and brought back from the backup if that has it."""
        damage = files.damage(folder) if folder.is_dir() else ""
        if damage:
            files.set_aside(folder, damage, instead)
            self._backup.restore()
        return folder.is_dir()

    def _add(self, arm: Arm) -> Arm:
        if any(other.name == arm.name and other.folder != arm.folder for other in self.arms):
            arm.name = f"{arm.name} #{arm.folder.name[:4]}"
        # a cell that is run again leaves the arm in its place
        places = [place for place, other in enumerate(self.arms) if other.folder == arm.folder]
        if places:
            self.arms[places[0]] = arm
        else:
            self.arms.append(arm)
        return arm

    def predictions_csv(self, predictions: Predictions) -> str:
        """A row a test row: its number in its file, gold and predicted label, raw text or log-probabilities."""
        labels = self.task.labels
        more: list[str] = []
        columns: list[list[Any]] = [[] for _ in self._test]
        if isinstance(predictions, Scored):
            more = [f"logprob {word}" for word in labels]
            columns = [[Decimal(f"{value:.6f}") for value in row] for row in predictions.logprobs]
        elif isinstance(predictions, Generated):
            more, columns = ["text"], [[text] for text in predictions.texts]
        rows: list[list[Any]] = [["row", "gold", "predicted", *more]]
        for row, label, values in zip(self._test, predictions.labels, columns, strict=True):
            rows.append([row["row"], labels[row["label"]], "" if label is None else labels[label], *values])
        return table(rows)

    def _read_predictions(self, path: Path, kept: dict) -> Predictions:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        gold = [self.task.labels[label] for label in self.gold()]
        if [unguarded(line["gold"]) for line in lines] != gold:
            raise CourseError(f"{path} answers other rows than these. Delete {path.parent} and run again.")
        numbers = {word: label for label, word in enumerate(self.task.labels)} | {"": None}
        answers = [numbers[unguarded(line["predicted"])] for line in lines]
        columns = [name for name in lines[0] if name.startswith("logprob ")]
        if columns:
            logprobs = [[float(line[name]) for name in columns] for line in lines]
            return Scored([label for label in answers if label is not None], kept["seconds"], logprobs, kept["bias"])
        if "text" in lines[0]:
            return Generated(answers, kept["seconds"], [unguarded(line["text"]) for line in lines])
        return Predictions(answers, kept["seconds"])

    # -- the comparison -------------------------------------------------------------------------------------------

    def test_rows(self) -> list[dict]:
        """The test rows in the order of `gold()` and of every arm's predictions."""
        return list(self._test)

    def gold(self) -> list[int]:
        """The test rows' labels."""
        return [row["label"] for row in self._test]

    def p_value(self, a: Arm, b: Arm) -> float:
        """Exact McNemar test between two arms on the frozen rows. Raises CourseError for an arm that answered others."""
        self._refuse_other_rows([a, b])
        return metrics.mcnemar(self.gold(), a.predictions.labels, b.predictions.labels)

    def results(self, peak_memory_gib: float | None = None, arms: Sequence[Arm] | None = None) -> dict[str, Any]:
        """Everything that was measured, as results.json holds it."""
        arms = list(arms or self.arms)
        self._refuse_other_rows(arms)
        recipe = next((arm.training["recipe"] for arm in reversed(arms) if arm.training), None)
        return {
            "date": hardware.now(),
            "gear": hardware.detect().gear,
            "task": self.task.name,
            "data": {
                "source": self.rows.source,
                "report": self.rows.report,
                "train": len(self._train),
                "test": len(self._test),
                "train_id": self._ids["train"],
                "test_id": self._ids["test"],
            },
            "model": self.loaded.base,
            "recipe": recipe,
            "seed": self.seed,
            "machine": hardware.detect().as_dict(),
            "versions": hardware.versions(),
            "peak_memory_gib": None if peak_memory_gib is None else round(peak_memory_gib, 2),
            "arms": [arm.as_dict() for arm in arms],
            "tests": [{"a": a.name, "b": b.name, "p": self.p_value(a, b)} for a, b in combinations(arms, 2)],
        }


def _journals(arm_folder: Path) -> list[Path]:
    """What an interrupted evaluation of this arm left: one file a process."""
    return sorted(arm_folder.parent.glob(f"{arm_folder.name}.partial*.jsonl"))


def training_spec(task: Task, train_id: str, base: dict[str, str], recipe: Recipe) -> dict[str, Any]:
    """All that decides an adapter's weights; its hash names the adapter's folder."""
    numbers = {key: value for key, value in recipe.as_dict().items() if key not in ("name", "save_steps")}
    prompt = finetuning.training_prompt(task, recipe).as_dict()
    return {"format": ARM_FORMAT, "prompt": prompt, "train": train_id, "model": base, "recipe": numbers}


def _prompt_name(prompt: Prompt, way: str) -> str:
    shots = f"{len(prompt.shots)}-shot" if prompt.shots else "zero-shot"
    chat = ", chat format" if prompt.chat else ""
    doubt = "" if prompt.fallback or prompt.task.fallback is None else ", no fallback line"
    return f"{shots}{chat}{doubt}, {way}"


def adapter_readme(card: dict) -> str:
    """A model card in words."""
    training, recipe, data, results = card["training"], card["recipe"], card["data"], card.get("results")
    measured = ""
    if results:
        low, high = results["accuracy_ci95"]
        measured = (
            f"- on {results['n']} test rows (id {results['test']}): accuracy {results['accuracy']:.1%}, 95 % interval {low:.1%} to"
            f" {high:.1%}; {results['invalid']} invalid answers\n"
        )
    return f"""# LoRA adapter: {card["task"]["name"]}

Trained by the course *Finetune LLMs* on {data["rows"]} rows ({data["source"]}, id {data["train"]}).

- labels: {", ".join(card["task"]["labels"])}
- recipe `{recipe["name"]}`: r={recipe["r"]}, alpha={recipe["alpha"]}, learning rate {recipe["learning_rate"]:g} ({recipe["scheduler"]}),
  {recipe["epochs"]:g} epochs of batches of {recipe["batch_rows"]} rows, seed {recipe["seed"]}
- {training["trainable"]:,} trained parameters, {training["steps"]} steps, {training["seconds"]:.0f} s
{measured}
`llmcourse predict --adapter THIS_FOLDER "a text"` uses it. It fits the base model that `llmcourse.json` names, and no other.
"""
