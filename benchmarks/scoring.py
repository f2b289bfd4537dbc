"""Measure scoring of few-shot rows, the log-probability of each label: the course's engine and two others.

    llmcourse                  `predict.score`: what prompts share is computed once
    full forwards              one whole forward pass for each label of each row
    lm-evaluation-harness      log-likelihoods on its HF backend, with the fastest of a few batch sizes

The two others also run on the model as `llmcourse` loads it ("our model"), with the matrix products and the attention
that it chooses for this processor. All use the same weights, which are in memory once. Before timing, the
log-probabilities of our engine and the full forwards must agree, and so must the harness's sums and those of the full
forwards. 200 rows take about 15 minutes on 2 cores.
"""

from collections.abc import Mapping, Sequence

from measure import OURS, Side, about, as_it_comes, compare, fastest, few_shot_work, finish, options

from llmcourse import CourseError, predict
from llmcourse.models import LoadedModel
from llmcourse.predict.prompts import Prompt

TOLERANCE = 1e-4
BATCH_SIZES = (1, 4, 16)


class FullForwards:
    """Score with one forward pass for each label and row, over prompt and label, with all logits."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt):
        self.loaded, self.prompt = loaded, prompt
        self.labels = predict.label_tokens(loaded, prompt)
        self.choices = predict.label_choices(self.labels)

    def __call__(self, rows: Sequence[Mapping]) -> list[dict[str, list[float]]]:
        """Return for each row the summed log-probabilities of the labels ("sums"), and those among the labels only, as
        `predict.score` computes them ("among")."""
        import torch

        result = []
        for ids in predict.encode(self.loaded, self.prompt, rows):
            sums, among = [], torch.zeros(1, len(self.labels), dtype=torch.float64)
            for place, label in enumerate(self.labels):
                with torch.inference_mode():
                    logits = (
                        self.loaded.model(torch.tensor([ids + label], device=self.loaded.model.device)).logits[0].cpu()
                    )
                logs = logits[len(ids) - 1 : -1].double().log_softmax(-1)
                sums.append(float(sum(logs[step, token] for step, token in enumerate(label))))
                for path, choice in self.choices.items():
                    if list(path) == label[: len(path)] and len(path) < len(label):
                        among[0, place] += choice.logprobs(logs[[len(path)]])[0, place]
            result.append({"sums": sums, "among": among[0].tolist()})
        return result


class Harness:
    """Score with lm-evaluation-harness's HF backend around the same model."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt):
        from lm_eval.models.huggingface import HFLM

        self.loaded, self.prompt = loaded, prompt
        self.backend = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1)

    def __call__(self, rows: Sequence[Mapping]) -> list[list[float]]:
        """Return for each row the summed log-probabilities of the labels."""
        from lm_eval.api.instance import Instance

        labels = len(self.prompt.task.labels)
        instances = [
            Instance("loglikelihood", dict(row), (self.prompt.text(row), self.prompt.answer(label)), label)
            for row in rows
            for label in range(labels)
        ]
        answers = [likelihood for likelihood, _greedy in self.backend.loglikelihood(instances, disable_tqdm=True)]
        return [answers[start : start + labels] for start in range(0, len(answers), labels)]

    def tune(self, rows: Sequence[Mapping]) -> dict[int, float]:
        """Choose the fastest batch size on these rows. Return the rows per second of each."""

        def sized(size: int) -> None:
            self.backend.batch_size_per_gpu = size
            self(rows)

        self.backend.batch_size_per_gpu, tried = fastest(BATCH_SIZES, rows, sized)
        return tried


def largest_difference(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Return the largest absolute difference of two tables of numbers."""
    return max(abs(x - y) for row_a, row_b in zip(a, b, strict=True) for x, y in zip(row_a, row_b, strict=True))


def main(arguments: Sequence[str] | None = None) -> dict:
    chosen = options(
        __doc__,
        arguments,
        rows=(200, 4, "test rows to score"),
        shots=(4, 2, "examples in the prompt"),
        blocks=(4, 2, "blocks of rows that the sides do in turn"),
        check=(20, 4, "rows on which the sides must agree"),
    )
    loaded, prompt, rows, work = few_shot_work(chosen)
    full, harness = FullForwards(loaded, prompt), Harness(loaded, prompt)

    def ours(rows: Sequence[Mapping]) -> list[list[float]]:
        return predict.score(loaded, prompt, rows).logprobs

    checked = rows[: chosen.check]
    with as_it_comes(loaded):
        whole, sums = full(checked), harness(checked)
    differences = {
        "llmcourse and full forwards": largest_difference(ours(checked), [row["among"] for row in whole]),
        "harness and full forwards": largest_difference(sums, [row["sums"] for row in whole]),
    }
    if max(differences.values()) > 10 * TOLERANCE or differences["llmcourse and full forwards"] > TOLERANCE:
        raise CourseError(f"The sides compute different log-probabilities; the largest differences are {differences}")
    with as_it_comes(loaded):
        tried = harness.tune(checked[:4])
    sides = [
        Side(OURS, ours),
        Side("full forwards", full, plain=loaded),
        Side("lm-evaluation-harness", harness, plain=loaded),
        Side("full forwards, our model", full),
        Side("lm-evaluation-harness, our model", harness),
    ]
    results = {
        **about(loaded, ["lm-eval"]),
        "work": work,
        "agree": {"rows": len(checked), "largest_difference": differences},
        "harness_batch_sizes": {"rows_per_second": tried, "chosen": harness.backend.batch_size_per_gpu},
        "sides": compare(sides, rows, chosen.blocks),
    }
    return finish("scoring", results, chosen)


if __name__ == "__main__":
    main()
