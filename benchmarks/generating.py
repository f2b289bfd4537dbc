"""Generating answers to few-shot rows: greedy, the same few tokens, by the course's engine and by three others.

    llmcourse               `predict.generate`: what the prompts share is computed once, expected answers are checked in one pass
    one generate a row      as in the talk: one `model.generate` after the other
    pipeline                transformers' text-generation pipeline, with the batch size that was fastest of a few
    llama.cpp               llama-cpp-python on the file the model came in, with its own prompt cache; its weights stay in 4 bits

The two that compute in torch also on the model as `llmcourse` loads it ("our model"): with the matrix products and the attention that it chooses for
this processor. Checked before timing: the first lines that ours, `generate` and the pipeline write are the same; for llama.cpp it is counted how many are. 200 rows take
about 15 minutes on 2 cores.
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
    """The talk's way: a `generate` for each row, over the whole prompt."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, new_tokens: int):
        self.loaded, self.prompt, self.new_tokens = loaded, prompt, new_tokens

    def __call__(self, rows: Sequence[Mapping]) -> list[str]:
        texts = []
        for row in rows:
            ids = self.loaded.tokenizer(self.prompt.text(row), return_tensors="pt")
            out = self.loaded.model.generate(
                **ids,
                max_new_tokens=self.new_tokens,
                do_sample=False,
                pad_token_id=self.loaded.tokenizer.eos_token_id,
            )
            texts.append(self.loaded.tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True))
        return [first_line(text) for text in texts]


class Pipeline:
    """transformers' own batching."""

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
        """Choose the fastest batch size on these rows; rows a second of each."""

        def sized(size: int) -> None:
            self.batch_size = size
            self(rows)

        self.batch_size, tried = fastest(BATCH_SIZES, rows, sized)
        return tried


class LlamaCpp:
    """llama.cpp keeps the keys and values of the prompt before, and goes on from where the next one parts from it."""

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


def same(one: Sequence[str], other: Sequence[str]) -> int:
    """On how many rows two sides say the same."""
    return sum(a == b for a, b in zip(one, other, strict=True))


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
    one, pipe = OneByOne(loaded, prompt, new_tokens), Pipeline(loaded, prompt, new_tokens)
    cpp = LlamaCpp(prompt, new_tokens, torch.get_num_threads())

    def ours(some: Sequence[Mapping]) -> list[str]:
        return [first_line(text) for text in predict.generate(loaded, prompt, some).texts]

    # without examples the model says more than one thing, so that agreeing means something
    bare = Prompt(SARCASM)
    some = rows[: chosen.check]
    agree = {}
    for name, asked in (("few-shot", prompt), ("zero-shot", bare)):
        texts = [first_line(text) for text in predict.generate(loaded, asked, some).texts]
        for side in (one, pipe, cpp):
            side.prompt = asked
            with as_it_comes(loaded):
                agree[f"{name}, {type(side).__name__}"] = same(texts, side(some))
            side.prompt = prompt
        agree[f"{name}, different answers"] = len(set(texts))
    must = [count for name, count in agree.items() if "OneByOne" in name or "Pipeline" in name]
    if min(must) < len(some):
        raise CourseError(f"The sides write different things: of {len(some)} rows, {agree}")
    with as_it_comes(loaded):
        tried = pipe.tune(some[:16])
    sides = [
        Side(OURS, ours),
        Side("one generate a row", one, plain=loaded),
        Side("pipeline", pipe, plain=loaded),
        Side("llama.cpp, 4 bits", cpp),
        Side("one generate a row, our model", one),
        Side("pipeline, our model", pipe),
    ]
    results = {
        **about(loaded, ["llama-cpp-python"]),
        "work": {**work, "new_tokens": new_tokens},
        "agree": {"rows": len(some), "same_first_line": agree},
        "pipeline_batch_sizes": {"rows_per_second": tried, "chosen": pipe.batch_size},
        "sides": compare(sides, rows, chosen.blocks),
    }
    return finish("generating", results, chosen)


if __name__ == "__main__":
    main()
