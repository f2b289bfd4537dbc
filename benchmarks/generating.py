"""Measure greedy answers to few-shot rows, all with as many tokens: the course's engine and three others.

    llmcourse               `predict.generate` computes what prompts share once and checks expected answers in one pass
    one generate a row      as in the talk: one `model.generate` after the other
    pipeline                transformers' text-generation pipeline, with the fastest of a few batch sizes
    llama.cpp               llama-cpp-python on the model's own 4-bit file, with its own prompt cache

The two that compute in torch also run on the model as `llmcourse` loads it ("our model"), with the matrix products and
the attention that it chooses for this processor. Before timing, ours, `generate` and the pipeline must write the same
first lines. For llama.cpp we count how many are the same. 200 rows take about 15 minutes on 2 cores.
"""

from collections.abc import Mapping, Sequence

from measure import OURS, Side, about, as_it_comes, compare, fastest, few_shot_work, finish, options

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM
from llmcourse.models import LoadedModel, embedded
from llmcourse.predict.engine import first_line
from llmcourse.predict.prompts import Prompt

BATCH_SIZES = (1, 4, 16)


class OneByOne:
    """Generate as in the talk: one call for each row, over the whole prompt."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, new_tokens: int):
        self.loaded, self.prompt, self.new_tokens = loaded, prompt, new_tokens

    def __call__(self, rows: Sequence[Mapping]) -> list[str]:
        texts = []
        for row in rows:
            ids = self.loaded.tokenizer(self.prompt.text(row), return_tensors="pt").to(self.loaded.model.device)
            out = self.loaded.model.generate(
                **ids,
                max_new_tokens=self.new_tokens,
                do_sample=False,
                pad_token_id=self.loaded.tokenizer.eos_token_id,
            )
            texts.append(self.loaded.tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True))
        return [first_line(text) for text in texts]


class Pipeline:
    """Generate with transformers' own batching."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, new_tokens: int):
        from transformers import pipeline

        loaded.tokenizer.padding_side = "left"
        self.prompt, self.batch_size = prompt, BATCH_SIZES[0]
        self.pipe = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer)
        self.how = {"max_new_tokens": new_tokens, "do_sample": False, "return_full_text": False}

    def __call__(self, rows: Sequence[Mapping]) -> list[str]:
        prompts = [self.prompt.text(row) for row in rows]
        answers = self.pipe(prompts, batch_size=self.batch_size, **self.how)
        return [first_line(answer[0]["generated_text"]) for answer in answers]

    def tune(self, rows: Sequence[Mapping]) -> dict[int, float]:
        """Choose the fastest batch size on these rows. Return the rows per second of each."""

        def sized(size: int) -> None:
            self.batch_size = size
            self(rows)

        self.batch_size, tried = fastest(BATCH_SIZES, rows, sized)
        return tried


class LlamaCpp:
    """Generate with llama.cpp, which reuses the keys and values of the previous prompt up to the first difference."""

    def __init__(self, prompt: Prompt, new_tokens: int, threads: int):
        from llama_cpp import Llama

        self.prompt, self.new_tokens = prompt, new_tokens
        self.llama = Llama(
            str(embedded.gguf_path()), n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False
        )

    def __call__(self, rows: Sequence[Mapping]) -> list[str]:
        texts = []
        for row in rows:
            out = self.llama(self.prompt.text(row), max_tokens=self.new_tokens, temperature=0.0, stop=["\n"])
            texts.append(out["choices"][0]["text"])
        return [first_line(text) for text in texts]


def count_same(a: Sequence[str], b: Sequence[str]) -> int:
    """Return on how many rows two sides write the same text."""
    return sum(x == y for x, y in zip(a, b, strict=True))


def main(arguments: Sequence[str] | None = None) -> dict:
    import torch

    chosen = options(
        __doc__,
        arguments,
        rows=(200, 4, "test rows to answer"),
        shots=(4, 2, "examples in the prompt"),
        blocks=(4, 2, "blocks of rows that the sides do in turn"),
        check=(40, 4, "rows on which the sides must agree"),
    )
    loaded, prompt, rows, work = few_shot_work(chosen)
    new_tokens = max(map(len, predict.label_tokens(loaded, prompt))) + predict.SPARE_TOKENS
    one_by_one, pipe = OneByOne(loaded, prompt, new_tokens), Pipeline(loaded, prompt, new_tokens)
    cpp = LlamaCpp(prompt, new_tokens, torch.get_num_threads())

    def ours(rows: Sequence[Mapping]) -> list[str]:
        return [first_line(text) for text in predict.generate(loaded, prompt, rows).texts]

    # Without examples the model writes different answers, so that agreement means something.
    bare = Prompt(SARCASM)
    checked = rows[: chosen.check]
    agree = {}
    for name, asked in (("few-shot", prompt), ("zero-shot", bare)):
        texts = [first_line(text) for text in predict.generate(loaded, asked, checked).texts]
        for side in (one_by_one, pipe, cpp):
            side.prompt = asked
            with as_it_comes(loaded):
                agree[f"{name}, {type(side).__name__}"] = count_same(texts, side(checked))
            side.prompt = prompt
        agree[f"{name}, different answers"] = len(set(texts))
    must = [count for name, count in agree.items() if "OneByOne" in name or "Pipeline" in name]
    if min(must) < len(checked):
        raise CourseError(f"The sides write different answers to {len(checked)} rows. The same are: {agree}")
    with as_it_comes(loaded):
        tried = pipe.tune(checked[:16])
    sides = [
        Side(OURS, ours),
        Side("one generate a row", one_by_one, plain=loaded),
        Side("pipeline", pipe, plain=loaded),
        Side("llama.cpp, 4 bits", cpp),
        Side("one generate a row, our model", one_by_one),
        Side("pipeline, our model", pipe),
    ]
    results = {
        **about(loaded, ["llama-cpp-python"]),
        "work": {**work, "new_tokens": new_tokens},
        "agree": {"rows": len(checked), "same_first_line": agree},
        "pipeline_batch_sizes": {"rows_per_second": tried, "chosen": pipe.batch_size},
        "sides": compare(sides, rows, chosen.blocks),
    }
    return finish("generating", results, chosen)


if __name__ == "__main__":
    main()
