"""Prompts in the chat formats of several families: examples in one message or as turns, one beginning of the text, no
system message, no thinking, and an answer right after the assistant's header."""

import hashlib
import json

import alone
import architectures
import pytest
import vocabularies
from small import TRAINING_ROWS

from llmcourse import CourseError, predict
from llmcourse.data.tasks import SARCASM, Task
from llmcourse.predict import Prompt, encoding, engine, few_shots

TEMPLATES = list(vocabularies.TEMPLATES)
TASK = Task("moods", "Say the mood.", {"text": "text"}, ("glad", "sad"), fallback=0)
SHOTS = ({"text": "Sun!", "label": 0}, {"text": "Rain.", "label": 1})
ROW = {"text": "Snow."}
Q = [f"text: {text}\nCategory:" for text in ("Sun!", "Rain.", "Snow.")]
TURNS = {
    "ChatML": f"<|im_start|>user\n{Q[0]}<|im_end|>\n<|im_start|>assistant\nglad<|im_end|>\n"
    f"<|im_start|>user\n{Q[1]}<|im_end|>\n<|im_start|>assistant\nsad<|im_end|>\n"
    f"<|im_start|>user\n{Q[2]}<|im_end|>\n<|im_start|>assistant\n",
    "Llama 3": "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{Q[0]}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nglad<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{Q[1]}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nsad<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{Q[2]}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "Gemma": f"<s><start_of_turn>user\n{Q[0]}<end_of_turn>\n<start_of_turn>model\nglad<end_of_turn>\n"
    f"<start_of_turn>user\n{Q[1]}<end_of_turn>\n<start_of_turn>model\nsad<end_of_turn>\n"
    f"<start_of_turn>user\n{Q[2]}<end_of_turn>\n<start_of_turn>model\n",
    "Qwen3": f"<|im_start|>user\n{Q[0]}<|im_end|>\n<|im_start|>assistant\nglad<|im_end|>\n"
    f"<|im_start|>user\n{Q[1]}<|im_end|>\n<|im_start|>assistant\nsad<|im_end|>\n"
    f"<|im_start|>user\n{Q[2]}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "always thinking": f"<|im_start|>user\n{Q[0]}<|im_end|>\n<|im_start|>assistant\nglad<|im_end|>\n"
    f"<|im_start|>user\n{Q[1]}<|im_end|>\n<|im_start|>assistant\nsad<|im_end|>\n"
    f"<|im_start|>user\n{Q[2]}<|im_end|>\n<|im_start|>assistant\n<think>\n</think>\n\n",
    "Mistral": f"<s>[INST] {Q[0]}[/INST] glad</s>[INST] {Q[1]}[/INST] sad</s>[INST] {Q[2]}[/INST]",
    "Phi": f"<|user|>\n{Q[0]}<|end|>\n<|assistant|>\nglad<|end|>\n<|user|>\n{Q[1]}<|end|>\n<|assistant|>\nsad<|end|>\n"
    f"<|user|>\n{Q[2]}<|end|>\n<|assistant|>\n",
}
KINDS = ["byte-level, BOS, pad, left", "SentencePiece BPE, prefix space, BOS", "Unigram, first prefix space, BOS, pad"]


def tokenizer_of(template: str, kind: str = KINDS[0]):
    return vocabularies.tokenizer(kind, *vocabularies.TEMPLATES[template])


@pytest.mark.parametrize("template", TEMPLATES)
def test_examples_as_turns(template):
    prompt = Prompt(TASK, SHOTS, instruction=False, chat="turns")
    assert predict.render(tokenizer_of(template), prompt, ROW) == TURNS[template]
    # the instruction is the beginning of the first user message
    whole = Prompt(TASK, SHOTS, chat="turns")
    head = (
        "Say the mood.\nglad\nsad\n\n"
        "If the text doesn't fit into any of the above categories, classify it as:\nglad\n\n####\n"
    )
    assert whole.head() == head
    assert predict.render(tokenizer_of(template), whole, ROW) == TURNS[template].replace(Q[0], head + Q[0])


@pytest.mark.parametrize("chat", [True, "turns"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_begins_once_and_the_answer_is_the_template_s(template, kind, chat):
    tokenizer = tokenizer_of(template, kind)
    loaded = architectures.make("llama", tokenizer)
    prompt = Prompt(TASK, SHOTS, chat=chat)
    start = predict.encode(loaded, prompt, [ROW])[0]
    begins = "bos_token" in vocabularies.TEMPLATES[template][1]
    assert start.count(tokenizer.bos_token_id) == begins and (start[0] == tokenizer.bos_token_id) == begins
    messages = prompt.messages(ROW)
    for label, tokens in zip(TASK.labels, predict.label_tokens(loaded, prompt), strict=True):
        answered = [*messages, {"role": "assistant", "content": label}]
        text = encoding._apply_template(tokenizer, answered)
        whole = tokenizer(text, add_special_tokens=False).input_ids
        if template == "always thinking":  # its thought is not part of the answer that a template is given
            whole = tokenizer(predict.render(tokenizer, prompt, ROW) + label, add_special_tokens=False).input_ids
        assert whole[: len(start) + len(tokens)] == start + tokens
        assert tokenizer.decode(tokens).strip() == label


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_turns_are_computed_once_and_change_no_answer(template, kind):
    loaded = architectures.make("llama", tokenizer_of(template, kind), max_position_embeddings=2048)
    prompt = Prompt(SARCASM, few_shots(SARCASM, TRAINING_ROWS[6:], 4), chat="turns")
    rows = TRAINING_ROWS[:6]
    prompts = predict.encode(loaded, prompt, rows)
    shared = engine.tree(prompts, range(len(prompts)))
    assert len(shared) == 1 and shared[0].children and len(shared[0].tokens) > 0.6 * max(map(len, prompts))
    labels = predict.label_tokens(loaded, prompt)
    new_tokens = max(map(len, labels)) + predict.SPARE_TOKENS
    scored, generated = predict.score(loaded, prompt, rows), predict.generate(loaded, prompt, rows)
    for tokens, logprobs, text in zip(prompts, scored.logprobs, generated.texts, strict=True):
        assert logprobs == pytest.approx(alone.label_logprobs(loaded, tokens, labels), abs=1e-4)
        assert engine.first_line(text) == alone.first_line(loaded, tokens, new_tokens)


def test_a_prompt_without_turns_is_the_prompt_that_it_was():
    """Adapters and kept answers are found by this hash."""
    known = [
        (Prompt(TASK), "add4eb6efdcaa187"),
        (Prompt(TASK, SHOTS), "bacef9963bc620c2"),
        (Prompt(TASK, SHOTS, chat=True), "6eb694b7854a746e"),
        (Prompt(TASK, SHOTS, instruction=False, fallback=False, chat=True, max_length=64), "b3574066cbd13fc2"),
    ]
    for prompt, digest in known:
        text = json.dumps(prompt.as_dict(), sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
    turns = Prompt(TASK, SHOTS, chat="turns").as_dict()
    assert turns["chat"] == "turns" and turns["text"] != Prompt(TASK, SHOTS, chat=True).as_dict()["text"]


def test_what_cannot_be_prompted_is_explained():
    with pytest.raises(CourseError, match=r"chat='turn' is unknown. Use chat=True, chat=False or chat=\"turns\""):
        Prompt(TASK, chat="turn")
    tokenizer = vocabularies.tokenizer(KINDS[0], template="{{ raise_exception('No tools, no chat') }}")
    for chat in (True, "turns"):
        with pytest.raises(CourseError, match=r"chat template fails: No tools, no chat. Use Prompt\(..., chat=False\)"):
            predict.render(tokenizer, Prompt(TASK, SHOTS, chat=chat), ROW)
