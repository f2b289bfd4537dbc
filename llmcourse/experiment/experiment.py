"""One experiment: several arms answer the same frozen test rows, and are compared in pairs.

An arm is kept under a hash of all that decides its answers: task, rows, base model, prompt, recipe. Running it again
finds it, and changing a number adds an arm beside the old one. Nothing is trained or asked twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import figures
from llmcourse._base import files, hardware
from llmcourse._base.errors import CourseError
from llmcourse.data import Rows, groups, in_order
from llmcourse.experiment import baselines, metrics
from llmcourse.experiment.arms import Arm, PairedTest
from llmcourse.experiment.questions import Asker, Question, in_words
from llmcourse.experiment.runner import FORMAT, TrainingRunner
from llmcourse.experiment.store import ArmStore
from llmcourse.models import LoadedModel, read_card, task_of
from llmcourse.models.adapters import CONFIG, WEIGHTS, Folder, PlainAdapter
from llmcourse.predict import Predictions
from llmcourse.predict.asking import Way
from llmcourse.predict.prompts import Chat, Prompt, few_shots
from llmcourse.training.configs import training_prompt
from llmcourse.training.recipes import Recipe

if TYPE_CHECKING:
    from llmcourse.figures.described import DescribedFigure

ADAPTER_FORMAT = 3
"""Like FORMAT, for the answers of arms with an adapter. Since 3 their test rows are cut as training rows are."""


@dataclass
class Experiment:
    """Arms on one frozen test set, kept in a folder."""

    rows: Rows
    loaded: LoadedModel
    folder: Path = Path("runs")
    seed: int = 0
    """Draws the examples of prompts."""
    quiet: bool = False
    """True shows no progress bars."""
    backup: Path | None = None
    """A folder that gets a copy of everything kept; by default the one that LLMCOURSE_BACKUP names, if any."""
    arms: list[Arm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.task = self.rows.task
        # answers are kept in this order, so it must not depend on how the rows were drawn
        self._train, self._test = in_order(self.task, self.rows.train), in_order(self.task, self.rows.test)
        self._test_id, self._train_id = self.rows.test_id, self.rows.train_id
        self._test_groups = groups(self.task, self._test)
        self._refuse_leak(groups(self.task, self._train), "The training rows")
        self._refuse_trained_example()
        self.store = ArmStore(self.folder, self.task, self._test, self.backup)
        self.asker = Asker(self.loaded, self._test, self.task.example, self.quiet)
        self.runner = TrainingRunner(self.store, self.loaded, self.rows, self._train, self.quiet)

    def _refuse_leak(self, seen: set[str], what: str) -> None:
        """Raise CourseError if `seen` (hashes of groups) and the test rows share a group."""
        shared = len(seen & self._test_groups)
        if shared:
            raise CourseError(
                f"{what} and the test rows share {shared} {self.task.group_column or 'texts'}. This would leak test"
                " answers and inflate the score. Use other rows, or the same seed and files as in training."
            )

    def _refuse_trained_example(self) -> None:
        """Raise CourseError if the row that every arm answers for all to see is among the training rows."""
        example = self.task.example
        if example and any(all(row[c] == example[c] for c in self.task.columns) for row in self._train):
            raise CourseError("The task's example row is among the training rows. Leave it out of them.")

    def _refuse_other_rows(self, arms: Sequence[Arm]) -> None:
        for arm in arms:
            if arm.spec["test"] != self._test_id:
                raise CourseError(
                    f"The method {arm.name!r} answered the test set {arm.spec['test']}, but this experiment has"
                    f" {self._test_id}: methods on different rows cannot be compared. Run it in this experiment."
                )

    # -- baselines and prompts -------------------------------------------------------------------------------------

    def majority(self) -> Arm:
        """Answer every row with the commonest label of the training rows."""
        return self._baseline("majority", baselines.majority)

    def bag_of_words(self) -> Arm:
        """Answer with logistic regression on the TF-IDF of words and characters, fitted to the training rows."""
        return self._baseline("TF-IDF of words and characters", baselines.bag_of_words)

    def sentence_embeddings(self) -> Arm:
        """Answer with logistic regression on sentence embeddings. Raises CourseError if their model is not
        installed."""
        return self._baseline("sentence embeddings", baselines.sentence_embeddings)

    def frozen_features(self) -> Arm:
        """Answer with logistic regression on the frozen base model's vectors: what pretraining has learned already."""
        fit = partial(baselines.frozen_features, self.loaded)
        return self._baseline("frozen features", fit, model=self.loaded.base)

    def prompt(self, k: int = 0, chat: Chat = False, fallback: bool = True) -> Prompt:
        """Return the task's prompt with `k` examples, drawn from the training rows by the experiment's seed.

        `chat` is True for the model's chat format, and "turns" for examples as turns of a chat.
        """
        return Prompt(self.task, few_shots(self.task, self._train, k, self.seed), chat=chat, fallback=fallback)

    def generated(self, prompt: Prompt, name: str | None = None) -> Arm:
        """Let the base model write freely. Its text is read as a label, or counted as invalid."""
        return self.ask(self.question(prompt, "generated", name))

    def scored(self, prompt: Prompt, calibrate: bool = False, name: str | None = None) -> Arm:
        """Let the base model choose among the labels. `calibrate` subtracts its bias towards one of them."""
        return self.ask(self.question(prompt, "calibrated" if calibrate else "scored", name))

    # -- finetuning --------------------------------------------------------------------------------------------------

    def finetuned(self, recipe: Recipe, resume: bool = True, name: str | None = None) -> Arm:
        """Train an adapter by the recipe, or find it, then let the model write freely, as the prompted arms do."""
        prompt = training_prompt(self.task, recipe)
        shipped = self.runner.shipped(recipe)
        more = {"adapter": files.sha256_of_file(shipped / WEIGHTS)} if shipped else {}
        spec = self._spec("generated", prompt, trained=self.runner.spec(recipe), **more)
        name = name or f"LoRA r={recipe.r} ({recipe.name})"

        def answer() -> Arm:
            adapter, training = self.train(recipe, resume)
            arm = self._answer(Question(name, prompt, "generated", spec, adapter))
            arm.training, arm.adapter = {**training, "recipe": recipe.as_dict()}, adapter
            return arm

        return self._once(name, spec, answer)

    def train(self, recipe: Recipe, resume: bool = True) -> tuple[Path, dict[str, Any]]:
        """Train the recipe's adapter on the training rows, or find it. Returns its folder and what its card says of the
        training."""
        folder = self.runner.train(recipe, resume)
        return folder, read_card(folder)["training"]

    def adapter_arm(self, folder: Folder, way: Way = "generated") -> Arm:
        """Ask the model with a saved adapter. The hash of the adapter's file is part of the arm's name.

        `folder` can also be a PEFT adapter without a card (`models.plain_adapter`).
        Raises CourseError if it was trained for other labels or with another prompt, on another base, or on rows that
        share a group with the test rows.
        """
        return self.ask(self.adapter_question(folder, way))

    # -- asking ------------------------------------------------------------------------------------------------------

    def question(self, prompt: Prompt, way: Way, name: str | None = None) -> Question:
        """Return what `generated` and `scored` ask. Raises CourseError if an example of the prompt shares a group with
        test rows."""
        self._refuse_leak(groups(self.task, prompt.shots), "The prompt's examples")
        return Question(name or _prompt_name(prompt, way), prompt, way, self._spec(way, prompt))

    def adapter_question(self, folder: Folder, way: Way = "generated") -> Question:
        """Return what `adapter_arm` asks, and raise as it does."""
        path, card = Path(folder), read_card(folder)
        theirs = task_of(card)
        if list(theirs.labels) != list(self.task.labels):
            raise CourseError(
                f"The adapter in {path} answers {', '.join(theirs.labels)}, but the task {self.task.name!r} has"
                f" {', '.join(self.task.labels)}. Use the adapter's own task."
            )
        prompt, trained = (Prompt.from_card(card, task) for task in (self.task, theirs))
        self._refuse_other_prompt(path, prompt, trained)
        self._refuse_leak(set(card["groups"]), f"The rows on which {path} was trained")
        digest = files.sha256_of_file(path / WEIGHTS)
        name = f"adapter {path.name} ({digest[:8]}), {way}"
        # a card belongs to its weights; without one, their scale is known from PEFT's config only
        more = {"peft_config": files.sha256_of_file(path / CONFIG)} if isinstance(folder, PlainAdapter) else {}
        return Question(name, prompt, way, self._spec(way, prompt, adapter=digest, **more), folder)

    def _refuse_other_prompt(self, folder: Path, prompt: Prompt, trained: Prompt) -> None:
        """Raise CourseError when the adapter in `folder` was trained with another prompt or other groups than the task
        has."""
        texts = [one.text(dict.fromkeys(one.task.fields, "x")) for one in (prompt, trained)]
        if texts[0] != texts[1] or trained.task.group_column != self.task.group_column:
            raise CourseError(
                f"The adapter in {folder} was trained with another prompt or other groups than the task"
                f" {self.task.name!r} has now. Use the task of its card (models.task_of), or train again."
            )

    def ask(self, question: Question) -> Arm:
        """Return the kept arm for a question, or ask the model. Answers of an interrupted evaluation are not asked
        again."""
        return self._once(question.name, question.spec, lambda: self._answer(question))

    def _once(self, name: str, spec: dict[str, Any], answer: Callable[[], Arm]) -> Arm:
        """Return the kept arm of this spec, or keep what `answer()` returns. Of two runs that want it, one answers."""
        arm = self.store.find(spec, name)
        if arm is None:
            with self.store.lock(spec):
                arm = self.store.find(spec, name) or self.store.keep(answer())
        return self._add(arm)

    def _baseline(self, name: str, fit: baselines.Fit, **more: Any) -> Arm:
        spec = self._spec(name, train=self._train_id, **more)

        def answer() -> Arm:
            fitted = fit(self.task, self._train)
            example = in_words(fitted([self.task.example]), self.task.labels) if self.task.example else None
            return self._arm(name, "baseline", spec, fitted(self._test), example)

        return self._once(name, spec, answer)

    def _answer(self, question: Question) -> Arm:
        """Ask the model for every test row and for the example row."""
        kind = "finetuned" if question.adapter else "prompted"
        answers = self.asker.answer(question, self.store.journal(question.spec))
        return self._arm(question.name, kind, question.spec, *answers)

    def _arm(self, name: str, kind: str, spec: dict[str, Any], predictions: Predictions, example: str | None) -> Arm:
        return Arm(name, kind, spec, predictions, self.store.score(predictions), example)

    def _spec(self, way: str, prompt: Prompt | None = None, **more: Any) -> dict[str, Any]:
        """Return all that decides an arm's answers."""
        task = {**self.task.as_dict(), "example": self.task.example}
        spec = {"format": _format(more), "way": way, "task": task, "test": self._test_id, **more}
        if prompt is not None:
            spec |= {"model": self.loaded.base, "prompt": prompt.as_dict()}
        return spec

    def _add(self, arm: Arm) -> Arm:
        """Put an arm into the list: in its place if a cell is run again, under a name of its own otherwise."""
        if any(other.name == arm.name and other.folder != arm.folder for other in self.arms):
            arm.name = f"{arm.name} #{files.short_hash(arm.spec)[:4]}"
        places = [place for place, other in enumerate(self.arms) if other.folder == arm.folder]
        if places:
            self.arms[places[0]] = arm
        else:
            self.arms.append(arm)
        return arm

    def find_all(self) -> list[Arm]:
        """Add all arms that the folder keeps for this task, these test rows and this base model, oldest first. Returns
        all arms."""
        task = {**self.task.as_dict(), "example": self.task.example}
        for spec, name in self.store.entries():
            same_rows = spec["task"] == task and spec["test"] == self._test_id
            same_model = spec.get("model", self.loaded.base) == self.loaded.base
            if same_rows and same_model and spec["format"] == _format(spec):
                arm = self.store.find(spec, name)
                if arm:
                    self._add(arm)
        return self.arms

    # -- the comparison ----------------------------------------------------------------------------------------------

    def test_rows(self) -> list[Mapping]:
        """Return the test rows in the order of `gold()` and of every arm's predictions."""
        return list(self._test)

    def gold(self) -> list[int]:
        """Return the test rows' labels."""
        return [row["label"] for row in self._test]

    def report(self, arm: Arm) -> str:
        """Return scikit-learn's classification report for an arm, with a row for invalid answers if there are any."""
        return metrics.report(self.gold(), arm.predictions.labels, self.task.labels)

    def p_value(self, a: Arm, b: Arm) -> float:
        """Return the exact paired test between two arms (see `metrics.paired_test`): McNemar's, or by whole groups.

        Raises CourseError for an arm that answered other rows.
        """
        self._refuse_other_rows([a, b])
        return metrics.paired_test(self.gold(), a.predictions.labels, b.predictions.labels, self.store.groups())

    def compare(self, arm: Arm, against: Sequence[Arm] | None = None) -> list[PairedTest]:
        """Return the paired tests of one arm against all others, or against those given: `print(*tests, sep="\\n")`."""
        others = self.arms if against is None else against
        return [PairedTest(arm, other, self.p_value(arm, other)) for other in others if other is not arm]

    def best_prompted(self) -> Arm | None:
        """Return the prompted arm with the highest accuracy; None if no prompt was asked yet."""
        prompted = [arm for arm in self.arms if arm.kind == "prompted"]
        return max(prompted, key=lambda arm: arm.score.accuracy, default=None)

    def waterfall(self, title: str = "") -> "DescribedFigure":
        """Draw the accuracy of every arm with its interval, in the order in which they were run."""
        return figures.waterfall([arm.as_dict() for arm in self.arms], 1 / len(self.task.labels), title)

    def confusions(self, *arms: Arm, title: str = "") -> "DescribedFigure":
        """Draw gold against predicted labels, one table for each of these methods."""
        labels, gold = self.task.labels, self.gold()
        tables = {arm.name: metrics.confusion(gold, arm.predictions.labels, labels) for arm in arms}
        return figures.confusions(tables, labels, title)

    def results(self, peak_memory_gib: float | None = None) -> dict[str, Any]:
        """Return everything that was measured, as results.json holds it."""
        self._refuse_other_rows(self.arms)
        recipe = next((arm.training["recipe"] for arm in reversed(self.arms) if arm.training), None)
        tests = [PairedTest(a, b, self.p_value(a, b)) for a, b in combinations(self.arms, 2)]
        return {
            "date": hardware.now(),
            "gear": hardware.detect().gear,
            "task": self.task.name,
            "data": {
                "source": self.rows.source,
                "report": self.rows.report,
                "train": len(self._train),
                "test": len(self._test),
                "train_id": self._train_id,
                "test_id": self._test_id,
            },
            "model": self.loaded.base,
            "recipe": recipe,
            "seed": self.seed,
            "machine": hardware.detect().as_dict(),
            "versions": hardware.versions(),
            "peak_memory_gib": None if peak_memory_gib is None else round(peak_memory_gib, 2),
            "arms": [arm.as_dict() for arm in self.arms],
            "tests": [test.as_dict() for test in tests],
        }


def _format(spec: Mapping[str, Any]) -> int:
    """Return the format of an arm's answers today."""
    return ADAPTER_FORMAT if {"adapter", "trained"} & set(spec) else FORMAT


def _prompt_name(prompt: Prompt, way: str) -> str:
    shots = f"{len(prompt.shots)}-shot" if prompt.shots else "zero-shot"
    chat = ", chat turns" if prompt.chat == "turns" else ", chat format" if prompt.chat else ""
    fallback = "" if prompt.fallback or prompt.task.fallback is None else ", no fallback line"
    return f"{shots}{chat}{fallback}, {way}"
