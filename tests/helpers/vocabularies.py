"""Small tokenizers of each kind that models come with, trained on the bundled corpora, and chat templates."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

import llmcourse

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"
BYTES = [f"<0x{number:02X}>" for number in range(256)]
SPACE = "▁"
TO_SPACE = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]


TEMPLATES: dict[str, tuple[tuple[str, ...], str]] = {
    "ChatML": (
        ("<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    "Llama 3": (
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}"
        "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
        "<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    "Gemma": (
        ("<start_of_turn>", "<end_of_turn>"),
        "{{ bos_token }}"
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    "Qwen3": (
        ("<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
        "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}"
        "<think>\n\n</think>\n\n{% endif %}{% endif %}",
    ),
    "always thinking": (
        ("<|im_start|>", "<|im_end|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    ),
    "Mistral": (
        ("[INST]", "[/INST]"),
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
        "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}",
    ),
    "Phi": (
        ("<|user|>", "<|assistant|>", "<|end|>"),
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    ),
}
"""The chat templates of some families of models, without their parts for tools: control tokens and Jinja text."""


@cache
def lines() -> tuple[str, ...]:
    """Return some hundred lines of the corpora, with the prompt's own words among them."""
    folder = Path(llmcourse.__file__).parent / "data" / "corpora"
    with (folder / "sarcasm.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:300]
    return tuple(f"comment: {row['parent_comment']}\nreply: {row['comment']}\nCategory: Sarcasm" for row in rows)


def byte_level(prefix: bool = False) -> Tokenizer:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    special = [UNKNOWN, BOS, EOS]
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=letters, special_tokens=special, show_progress=False)
    made.train_from_iterator(lines(), trainer)
    return made


def sentencepiece_bpe(prefix: bool) -> Tokenizer:
    """SentencePiece's BPE with byte fallback, converted as Llama 2 (with prefix) and Gemma (without) have it."""
    trained = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = [UNKNOWN, BOS, EOS, *BYTES, "\n"]
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False)
    trained.train_from_iterator((part for line in lines() for part in line.split("\n")), trainer)
    # the bytes were special to the trainer only
    saved = json.loads(trained.to_str())
    saved["added_tokens"] = saved["added_tokens"][:3]
    made = Tokenizer.from_str(json.dumps(saved))
    spaces = normalizers.Replace(" ", SPACE)
    if prefix:
        made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        made.pre_tokenizer = None
        made.decoder = decoders.Sequence([*TO_SPACE, decoders.Strip(" ", 1, 0)])
    else:
        made.normalizer = spaces
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        made.decoder = decoders.Sequence(TO_SPACE)
    return made


def unigram(prefix: str, fallback: bool) -> Tokenizer:
    """SentencePiece's Unigram, with or without a prefix space ("always", "first", "never") and byte fallback."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    special = [UNKNOWN, BOS, EOS]
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=special, unk_token=UNKNOWN, show_progress=False, initial_alphabet=["\n"]
    )
    made.train_from_iterator(lines(), trainer)
    if fallback:
        saved = json.loads(made.to_str())["model"]
        known = [tuple(piece) for piece in saved["vocab"]] + [(byte, -20.0) for byte in BYTES]
        made.model = models.Unigram(known, unk_id=saved["unk_id"], byte_fallback=True)
    made.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme=prefix), *TO_SPACE[1:]])
    return made


KINDS: dict[str, dict[str, Any]] = {
    "byte-level": {"make": byte_level},
    "byte-level, prefix space, BOS": {"make": lambda: byte_level(prefix=True), "bos": True},
    "byte-level, BOS, pad, left": {"make": byte_level, "bos": True, "pad": True, "left": True},
    "SentencePiece BPE, prefix space, BOS": {"make": lambda: sentencepiece_bpe(prefix=True), "bos": True},
    "SentencePiece BPE, BOS, pad, left": {
        "make": lambda: sentencepiece_bpe(prefix=False),
        "bos": True,
        "pad": True,
        "left": True,
    },
    "Unigram, prefix space": {"make": lambda: unigram("always", fallback=True)},
    "Unigram, first prefix space, BOS, pad": {
        "make": lambda: unigram("first", fallback=True),
        "bos": True,
        "pad": True,
    },
    "Unigram, BOS, left": {"make": lambda: unigram("never", fallback=True), "bos": True, "left": True},
}
"""What each kind has: a BOS before every text, a token for padding, padding on the left."""
NO_BYTES = "Unigram, no bytes"
"""One more kind: it has no tokens for a character that it has not seen."""


@cache
def trained(kind: str) -> str:
    """Return a kind's tokenizer as JSON."""
    return (KINDS[kind]["make"]() if kind in KINDS else unigram("always", fallback=False)).to_str()


def tokenizer(kind: str, special: tuple[str, ...] = (), template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a new tokenizer of this kind, with these more control tokens and this chat template."""
    made, has = Tokenizer.from_str(trained(kind)), KINDS.get(kind, {})
    if has.get("bos"):
        made.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, made.token_to_id(BOS))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        pad_token=PAD if has.get("pad") else None,
        padding_side="left" if has.get("left") else "right",
        extra_special_tokens=list(special),
    )
    wrapped.chat_template = template
    return wrapped
