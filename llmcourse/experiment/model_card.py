"""The README in an adapter's folder: its card in words, and code that uses the adapter without the course."""

import re
from importlib import resources
from typing import Any

from llmcourse.data.texts import CONTROL_TOKEN, MAX_CHARACTERS
from llmcourse.models import catalogue, embedded
from llmcourse.models.adapters import identity
from llmcourse.predict import SPARE_TOKENS, Prompt, describe_cut


def adapter_readme(card: dict[str, Any]) -> str:
    """Return the README for a card as `TrainingRunner.card` returns it.

    In its code the task's texts are Python literals, so that quotes, braces and line breaks stay text.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    template = resources.files("llmcourse.experiment").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    prompt, training, recipe = Prompt.from_card(card), card["training"], card["recipe"]
    task, results = prompt.task, card.get("results")
    end = f"{task.answer_name}:"
    shown = prompt.head() + "\n".join([*(f"{name}: {{{column}}}" for column, name in task.fields.items()), end])
    return environment.from_string(template).render(
        task=task,
        data=card["data"],
        recipe=recipe,
        training=training,
        cut=describe_cut(training["cut_rows"], training["rows"], "training rows", recipe["max_length"]),
        results=results,
        prompt=shown,
        fence="`" * max([3, *(len(run) + 1 for run in re.findall("`+", shown))]),  # longer than any run in the text
        **_base(card["spec"]["model"]),
        fields=repr(task.fields),
        labels=repr(list(task.labels)),
        head=repr(prompt.head()),
        end=repr(end),
        control=CONTROL_TOKEN,
        max_length=recipe["max_length"],
        characters=MAX_CHARACTERS,
        spare=SPARE_TOKENS,
        example=repr(dict.fromkeys(task.fields, "a text")),
    )


def _base(base: dict[str, str]) -> dict[str, Any]:
    """Return what the template needs to load a base model, by its identity on a card."""
    nf4, is_embedded = base.get("weights") == "nf4", base.get("sha256") == embedded.SHA256
    prequantised = any(known.prequantised for known in catalogue.BASES.values() if known.repo == base["name"])
    return {
        "base": identity(base),
        "embedded": is_embedded,
        "wheel": embedded.WHEEL,
        "gguf": embedded.GGUF if is_embedded and not nf4 else "",
        "repo": base["name"],
        "repo_literal": repr(base["name"]),
        "revision": "" if base.get("commit") in (None, "local") else base["commit"],
        "weights": base.get("weights", "float32"),
        "nf4": nf4,
        "quantise": nf4 and not prequantised,
    }
