"""Predictions: prompts, scoring and generating, large files, retrieval and short answers."""

from llmcourse.predict.asking import (
    SPARE_TOKENS,
    Generated,
    Predictions,
    Scored,
    before_and_after,
    check_adapter,
    encode,
    encode_text,
    generate,
    label_choices,
    label_tokens,
    render,
    score,
    share,
)
from llmcourse.predict.prompts import Prompt, few_shots, parse_answer

__all__ = [
    "SPARE_TOKENS",
    "Generated",
    "Predictions",
    "Prompt",
    "Scored",
    "before_and_after",
    "check_adapter",
    "encode",
    "encode_text",
    "few_shots",
    "generate",
    "label_choices",
    "label_tokens",
    "parse_answer",
    "render",
    "score",
    "share",
]
