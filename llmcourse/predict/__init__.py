"""Predictions: prompts, scoring and generating, large files, retrieval and short answers."""

from llmcourse.predict import answers, features, retrieval
from llmcourse.predict.asking import (
    Way,
    before_and_after,
    check_adapter,
    fill_journal,
    generate,
    rows_to_ask,
    score,
)
from llmcourse.predict.encoding import SPARE_TOKENS, describe_cut, encode, encode_text, fit, label_tokens, render
from llmcourse.predict.labels import label_choices
from llmcourse.predict.predictions import Generated, Predictions, Scored
from llmcourse.predict.prompts import Prompt, few_shots, parse_answer
from llmcourse.predict.shards import predict_file

__all__ = [
    "SPARE_TOKENS",
    "Generated",
    "Predictions",
    "Prompt",
    "Scored",
    "Way",
    "answers",
    "before_and_after",
    "check_adapter",
    "describe_cut",
    "encode",
    "encode_text",
    "features",
    "few_shots",
    "fill_journal",
    "fit",
    "generate",
    "label_choices",
    "label_tokens",
    "parse_answer",
    "predict_file",
    "render",
    "retrieval",
    "rows_to_ask",
    "score",
]
