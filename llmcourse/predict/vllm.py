"""Whole models in vLLM, for large files on an NVIDIA GPU: the same prompts, token by token, answered greedily.

vLLM (Kwon et al. 2023, arXiv:2309.06180) is not among the course's packages. It is imported only when it is asked for.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from llmcourse._base import hardware, hub, redact
from llmcourse._base.errors import CourseError
from llmcourse.models import loading
from llmcourse.models.catalogue import Base
from llmcourse.predict import engine
from llmcourse.predict.encoding import SPARE_TOKENS, encode_and_cut, label_tokens
from llmcourse.predict.predictions import Generated
from llmcourse.predict.prompts import Prompt, parse_answer

CONTEXT = 8192
"""Most tokens of a prompt and its answer. vLLM sets memory aside for one text of this length, and many models would
allow a hundred thousand tokens."""

SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_NO_USAGE_STATS": "1"}
"""Its log would be written into a table on standard output, and it would send statistics about its use."""


def find() -> ModuleType:
    """Import vLLM. Raises CourseError if it is not installed."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
    except ImportError as error:
        raise CourseError(
            f"--engine vllm needs vLLM, on Linux with an NVIDIA GPU ({error}). Install it there with: pip install vllm."
            " Or leave --engine out."
        ) from None
    return vllm


def load(base: Base, prompt: Prompt) -> Callable[[Sequence[Mapping]], Generated]:
    """Load a model in vLLM and return the function that lets it answer rows with a prompt, greedily.

    Raises CourseError if vLLM cannot load it.
    """
    vllm, unloaded = find(), loading.without_weights(base)
    longest = max(map(len, label_tokens(unloaded, prompt))) + SPARE_TOKENS
    config = unloaded.model.config
    if limit := getattr(config, "max_position_embeddings", None):
        limit = config.max_position_embeddings = min(limit, CONTEXT)
    try:
        llm = vllm.LLM(
            model=unloaded.name,
            revision=base.revision,
            tokenizer_revision=base.revision,
            dtype=hardware.detect_without_torch().dtype,  # torch must not touch the GPU before vLLM's processes do
            max_model_len=limit,
            load_format="safetensors",  # by default it also reads pickles
            trust_remote_code=False,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise CourseError(f"vLLM cannot load {base.name}: {redact.reason(error)} Or leave --engine out.") from error
    hub.verify_model(unloaded.name, base.revision)
    # no stop text: a stop at a line break would end an answer that begins with an empty line
    settings = vllm.SamplingParams(temperature=0, max_tokens=longest, stop_token_ids=engine.end_tokens(unloaded))

    def write(rows: Sequence[Mapping]) -> Generated:
        start = time.perf_counter()
        prompts, cut = encode_and_cut(unloaded, prompt, rows)
        asked = [{"prompt_token_ids": tokens} for tokens in prompts]
        texts = [output.outputs[0].text for output in llm.generate(asked, settings, use_tqdm=False)]
        labels = [parse_answer(text, prompt.task) for text in texts]
        return Generated(labels, time.perf_counter() - start, texts, cut_rows=len(cut))

    return write
