"""The README of an adapter or a merged model: its card in words, and code that uses it without the course."""

import re
from importlib import resources
from typing import Any

from llmcourse.data.texts import CONTROL_TOKEN, MAX_CHARACTERS
from llmcourse.models import catalogue, embedded
from llmcourse.models.adapters import identity, is_local
from llmcourse.models.catalogue import Base
from llmcourse.predict import SPARE_TOKENS, Prompt, describe_cut

EMBEDDED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""From which the embedded model was rounded."""

LICENCE_IDS = {"Apache-2.0": "apache-2.0", "MIT": "mit", "Gemma": "gemma"}
"""The hub's names of licences, where the catalogue has others."""


def adapter_readme(card: dict[str, Any]) -> str:
    """Return the README for a card as `TrainingRunner.card` returns it."""
    return _render("model_card.md.j2", card, training=card["training"])


def exported_readme(card: dict[str, Any], base: Base, compared: str) -> str:
    """Return the README of a merged model, for an adapter's card with the facts of its export.

    `base` is what the adapter was merged into, and `compared` says how the answers of both compare.
    """
    fields = Prompt.from_card(card).task.fields.items()
    on_hub = EMBEDDED_ON_HUB if base.repo is None else "" if base.is_folder else base.repo
    return _render(
        "exported.md.j2",
        card,
        export=card["export"],
        compared=compared,
        hub_base=on_hub,
        licence=base.licence,
        licence_id=LICENCE_IDS.get(base.licence, ""),
        lines=" ".join(f"{name}: {{{column}}}" for column, name in fields),
    )


def modelfile(prompt: Prompt, gguf: str, new_tokens: int) -> str:
    """Return Ollama's Modelfile for a GGUF file: the prompt as a template of Go, greedy, up to `new_tokens` tokens.

    The user's message is the text of a task with one field. For other tasks it is the lines of all fields.
    """
    name, *others = prompt.task.fields.values()
    start = prompt.head() + ("" if others else f"{name}: ")
    template = f"{_for_go(start)}{{{{ .Prompt }}}}\n{_for_go(prompt.task.answer_name)}:"
    return f'FROM ./{gguf}\nTEMPLATE """{template}"""\nPARAMETER temperature 0\nPARAMETER num_predict {new_tokens}\n'


def _for_go(text: str) -> str:
    """Return a text as a template of Go writes it, inside the three quotation marks of a Modelfile."""
    return re.sub('["{]', lambda mark: '{{ "' + mark.group().replace('"', '\\"') + '" }}', text)


def _render(name: str, card: dict[str, Any], **more: Any) -> str:
    """Return a template filled with what a card says, and `more`.

    In its code the task's texts are Python literals, so that quotes, braces and line breaks stay text.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str:
        return resources.files("llmcourse.experiment").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, loader=FunctionLoader(source)
    )
    prompt, training, recipe = Prompt.from_card(card), card["training"], card["recipe"]
    task = prompt.task
    end = f"{task.answer_name}:"
    shown = prompt.head() + "\n".join([*(f"{name}: {{{column}}}" for column, name in task.fields.items()), end])
    return environment.get_template(name).render(
        task=task,
        data=card["data"],
        recipe=recipe,
        cut=describe_cut(training["cut_rows"], training["rows"], "training rows", recipe["max_length"]),
        results=card.get("results"),
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
        **more,
    )


def _base(base: dict[str, str]) -> dict[str, Any]:
    """Return what the template needs to load a base model, by its identity on a card."""
    nf4, is_embedded = base.get("weights") == "nf4", base.get("sha256") == embedded.SHA256
    known = catalogue.entry_of(base["name"])
    return {
        "base": identity(base),
        "embedded": is_embedded,
        "local": is_local(base),
        "wheel": embedded.WHEEL,
        "gguf": embedded.GGUF if is_embedded and not nf4 else "",
        "repo": base["name"],
        "repo_literal": repr(base["name"]),
        "revision": "" if base.get("commit") in (None, "local") else base["commit"],
        "weights": base.get("weights", "float32"),
        "nf4": nf4,
        "quantise": nf4 and not (known and known.prequantised),
    }
