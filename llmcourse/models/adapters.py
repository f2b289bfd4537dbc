"""An adapter's folder: what the course writes of one, and how it reads one that a stranger made.

A folder holds safetensors weights, PEFT's config and the course's card. Reading trusts none of them: the config is read by an
allow-list, the names and shapes of the weights are compared with the model before anything is built, and nothing that could run
(a pickle, a class to import) is ever opened.
"""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from llmcourse._base import files
from llmcourse._base.errors import CourseError
from llmcourse.data.tasks import Task

ADAPTER_MARK = "llmcourse.json"
"""The file beside an adapter's weights that says on which base, for which task and prompt it was trained."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PARTS = (CONFIG, WEIGHTS, ADAPTER_MARK)
"""What makes an adapter; beside it a folder holds a README."""
MOST_BYTES = {CONFIG: 1 << 20, ADAPTER_MARK: 64 << 20}
"""How large a config and a card may be. A card holds a hash for each group of training rows."""
FLOATS = ("F32", "F16", "BF16")
"""The types of weights that are read, as safetensors calls them."""


def identity(base: dict[str, str]) -> str:
    """A base model's name and hash on one line, as adapters' configs give it."""
    return "@".join([base.get("name", "a model unknown"), *(f"{k}:{v}" for k, v in base.items() if k != "name")])


def save_adapter(
    loaded: Any,
    folder: str | Path,
    card: dict,
    readme: str,
    dtype: str = "float32",
    weights: dict | None = None,
) -> Path:
    """Write the adapter on `loaded` as a folder: safetensors weights, PEFT's config, `card` and a readable model card.

    The config names the base model by name and hash, never by a path of this machine. `dtype` float16 halves the file.
    `weights` are the model's, if they were gathered from several GPUs.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config, said = loaded.model.peft_config["default"], ("peft_type", "task_type")
    # what is at its default goes unsaid: an older PEFT, as on Colab, warns of each setting that it does not know
    defaults = type(config)().to_dict()
    config = {key: value for key, value in config.to_dict().items() if key in said or value != defaults[key]}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    config |= {"base_model_name_or_path": identity(loaded.base), "inference_mode": True}
    if weights is None:
        weights = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
    else:  # PEFT 0.21 does not find the adapter's layers inside FSDP's, and would keep nothing
        weights = {key.replace(".default.", "."): value for key, value in weights.items() if ".lora_" in key}
    weights = {key: value.detach().to("cpu", getattr(torch, dtype)).contiguous() for key, value in weights.items()}
    with files.folder_aside(folder) as aside:
        save_file(weights, aside / WEIGHTS, metadata={"format": "pt"})
        files.write_json(aside / CONFIG, config)
        files.write_json(aside / ADAPTER_MARK, {"base": loaded.base, **card})
        files.write_text(aside / "README.md", readme)
    return Path(folder)


def read_card(folder: str | Path) -> dict:
    """What an adapter's folder says of itself.

    Raises CourseError when it is no adapter of the course, or not whole, or says what no card says.
    """
    folder = Path(folder)
    for part in PARTS:
        if not (folder / part).is_file():
            pickled = part == WEIGHTS and sorted(folder.glob("*.bin"))
            if pickled:
                raise CourseError(
                    f"{folder} holds its weights only as {pickled[0].name}, a pickle: reading one can run a stranger's code, so it is not read."
                    f" Ask for {WEIGHTS}."
                )
            raise CourseError(
                f"{folder} holds no adapter of this course: {part} is missing. `llmcourse finetune` makes one."
            )
        if not (folder / part).resolve().is_relative_to(folder.resolve()):
            raise CourseError(
                f"{folder / part} is a link to a file outside of the folder, and is not followed. Copy the file itself there."
            )
    damage = files.damage(folder) if (folder / files.SEAL).is_file() else ""
    if damage:
        raise CourseError(f"The adapter in {folder} is damaged: {damage}. Train it again, or fetch it again.")
    try:
        card = _json(folder / ADAPTER_MARK)
        missing = {"base", "task", "prompt", "training", "groups", "spec"} - set(card)
        if missing:
            raise ValueError(f"it does not say {sorted(missing)[0]!r}")
        _check_card(card)
        return card
    except (ValueError, OSError, TypeError, RecursionError, CourseError) as error:
        raise CourseError(f"{folder / ADAPTER_MARK} cannot be read: {error}. Train the adapter again.") from error


def _json(path: Path) -> dict:
    """A file's JSON object. Raises ValueError for anything else, also for text that no file could hold again."""
    size, most = path.stat().st_size, MOST_BYTES[path.name]
    if size > most:
        raise ValueError(f"{path.name} has {size:,} bytes, at most {most:,} are read")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def _check_card(card: dict) -> None:
    """Raise for a card whose parts are not what the rest of the course takes them for."""
    kinds = {"base": dict, "task": dict, "prompt": dict, "training": dict, "groups": list, "spec": dict}
    for name, kind in kinds.items():
        if not isinstance(card[name], kind):
            raise ValueError(f"{name!r} is {type(card[name]).__name__}, not {kind.__name__}")
    if not isinstance(card["base"].get("name"), str) or not all(isinstance(v, str) for v in card["base"].values()):
        raise ValueError("'base' does not name a model in words")
    if not all(isinstance(group, str) for group in card["groups"]):
        raise ValueError("'groups' holds something else than hashes")
    odd = set(card["prompt"]) - {"instruction", "fallback", "chat"}
    if odd or not all(isinstance(value, bool) for value in card["prompt"].values()):
        raise ValueError(
            f"'prompt' says more than yes or no to instruction, fallback and chat ({card['prompt']!r:.80})"
        )
    Task.from_dict(card["task"])


def task_of(card: dict) -> Task:
    """The task that an adapter was trained for."""
    return Task.from_dict(card["task"])


def shipped_adapter(task_name: str) -> Path:
    """The small trained adapter that comes with the package. Raises CourseError if there is none for this task."""
    folder = Path(str(resources.files("llmcourse.models") / "shipped" / task_name))
    if not folder.is_dir():
        raise CourseError(
            f"No adapter for the task {task_name!r} comes with the course. Give yours with --adapter FOLDER."
        )
    return folder


def put_adapter(loaded: Any, folder: str | Path) -> dict:
    """Lay a saved adapter on a base model and return its card.

    Only safetensors are read. Raises CourseError when the adapter was trained on another base model: its matrices would
    fit, and its answers would be noise. Raises it, too, for a config that asks for more than plain LoRA, and for weights that do not fit
    config and model; nothing has been built then.
    """
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    folder = Path(folder)
    card = read_card(folder)
    if card["base"] != loaded.base:
        raise CourseError(
            f"The adapter in {folder} belongs to another base model: it was trained on {identity(card['base'])}, and"
            f" {identity(loaded.base)} is loaded."
        )
    loaded.drop_adapter()
    try:
        config = read_config(folder)
        check_header(folder / WEIGHTS, expected_shapes(loaded.model, config))
        weights = load_file(folder / WEIGHTS)
        for key, value in weights.items():
            if not value.isfinite().all():
                raise ValueError(f"its weights hold what is not a number, first in {key}")
        config = LoraConfig(
            **config, task_type="CAUSAL_LM", base_model_name_or_path=identity(loaded.base), inference_mode=True
        )
        loaded.model = PeftModel(loaded.model, config)
        wrong = set_peft_model_state_dict(loaded.model, weights)
        lost = [*wrong.unexpected_keys, *(key for key in wrong.missing_keys if "lora_" in key)]
        if lost:
            raise ValueError(f"its weights do not fit the model, beginning with {lost[0]}")
    except Exception as error:  # a damaged file fails in many ways inside PEFT; all mean the same to the reader
        loaded.drop_adapter()
        raise CourseError(
            f"The adapter in {folder} cannot be loaded: {error}. Train it again, or ask whoever made it."
        ) from error
    loaded.model.eval()
    return card


def read_config(folder: str | Path) -> dict[str, Any]:
    """The settings of PEFT's config that plain LoRA has: r, lora_alpha, lora_dropout, target_modules, layers_to_transform.

    Any other setting must be at PEFT's default; one that PEFT does not know must be empty. Raises ValueError otherwise.
    """
    from peft import LoraConfig

    said = _json(Path(folder) / CONFIG)
    if said.get("peft_type") != "LORA":
        raise ValueError(f"its config is for {said.get('peft_type')!r:.40}, not for LoRA")
    if said.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"its config is for the task {said['task_type']!r:.40}, not for CAUSAL_LM")
    fixed = ("peft_type", "task_type", "base_model_name_or_path", "inference_mode", "peft_version")
    checks = {
        "r": lambda value: _is_number(value, int) and value > 0,
        "lora_alpha": lambda value: _is_number(value) and value > 0,
        "lora_dropout": lambda value: _is_number(value) and 0 <= value < 1,
        "target_modules": lambda value: isinstance(value, list) and value and all(map(_is_name, value)),
        "layers_to_transform": lambda value: (
            value is None
            or (isinstance(value, list) and value and all(_is_number(layer, int) and layer >= 0 for layer in value))
        ),
    }
    defaults = LoraConfig().to_dict()
    config = {name: said.get(name, defaults[name]) for name in checks}
    for name, fits in checks.items():
        if not fits(config[name]):
            raise ValueError(f"its config says {name}={config[name]!r:.60}, which is not read here")
    for name, value in said.items():
        if name not in (*fixed, *checks) and value and value != defaults.get(name):
            raise ValueError(f"its config says {name}={value!r:.60}; only plain LoRA is read here")
    return config


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds or (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_name(value: object) -> bool:
    """A matrix's own name, such as q_proj: no path to it, no pattern."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII) is not None


def expected_shapes(model: Any, config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """What an adapter of this config holds on this model: each tensor's name and shape.

    A is (r, inputs), B is (outputs, r). Raises ValueError for a matrix or a layer that the model does not have.
    """
    layers, shapes, found = config["layers_to_transform"], {}, set()
    for path, module in model.named_modules():
        inside = re.search(r"\.layers\.(\d+)\..*?(\w+)$", path)
        if not inside or inside[2] not in config["target_modules"] or not hasattr(module, "in_features"):
            continue
        layer = int(inside[1])
        if layers is None or layer in layers:
            found |= {layer, inside[2]}
            shapes[f"base_model.model.{path}.lora_A.weight"] = (config["r"], module.in_features)
            shapes[f"base_model.model.{path}.lora_B.weight"] = (module.out_features, config["r"])
    for name in (*(layers or ()), *config["target_modules"]):
        if name not in found:
            raise ValueError(
                f"the model has no {'matrix' if isinstance(name, str) else 'layer'} {name!r:.40} to lay it on"
            )
    return shapes


def check_header(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """Compare what a safetensors file announces with what is expected; no weight is read. Raises ValueError where they differ."""
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"its weights are no whole safetensors file ({error})") from None
    with opened as file:
        names = set(file.keys())
        for name in sorted(names ^ set(shapes)):
            raise ValueError(f"its weights {'have' if name in names else 'lack'} {name!r:.120}, unlike its config")
        for name, shape in shapes.items():
            part = file.get_slice(name)
            if tuple(part.get_shape()) != shape:
                raise ValueError(
                    f"{name} is {tuple(part.get_shape())}; by its config and the model it would be {shape}"
                )
            if part.get_dtype() not in FLOATS:
                raise ValueError(f"{name} is of type {part.get_dtype()}; {', '.join(FLOATS)} are read")
