"""An adapter's folder: how the course writes one, and how it reads one from a stranger.

A folder holds safetensors weights, PEFT's config and the course's card. Reading trusts none of them. Config and card
are checked against a list of what is allowed, the names and shapes of the weights are compared with the model before
anything is built, and nothing that could run code (a pickle, a class to import) is opened.
"""

import json
import os
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from llmcourse._base import files
from llmcourse._base.errors import CourseError, CourseWarning
from llmcourse.data.tasks import Task
from llmcourse.models import catalogue, embedded, loading
from llmcourse.models.catalogue import ADAPTER_MARK
from llmcourse.models.loading import LoadedModel
from llmcourse.models.shapes import decoder_layers, is_named, linear_modules

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PARTS = (CONFIG, WEIGHTS, ADAPTER_MARK)
"""The files that make an adapter. The folder also holds a README."""
MAX_BYTES = {CONFIG: 1 << 20, ADAPTER_MARK: 64 << 20}
"""The largest config and card that are read. A card holds a hash for each group of training rows."""
FLOATS = ("F32", "F16", "BF16")
"""The types of weights that are read, as safetensors calls them."""
IGNORED = ("base_model_name_or_path", "inference_mode", "peft_version")
"""Settings of PEFT's config that are not read: the card names the base, and the rest follows from how we load."""

Folder: TypeAlias = str | os.PathLike[str]
"""The path of an adapter's folder, or a `PlainAdapter`."""

LARGEST = 10**9
"""No number of an adapter's config reaches this."""
Number = Annotated[int | float, Field(ge=0, lt=LARGEST)]
Positive = Annotated[int, Field(gt=0, lt=LARGEST)]
MatrixName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$")]
"""A name such as q_proj or mlp.c_proj. PEFT takes regular expressions too, which are not read here."""


class LoraSettings(BaseModel):
    """The settings of plain LoRA, as PEFT's config names them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"] | None
    r: Positive
    lora_alpha: Annotated[Number, Field(gt=0)]
    lora_dropout: Annotated[Number, Field(lt=1)]
    target_modules: Annotated[list[MatrixName], Field(min_length=1)]
    layers_to_transform: Annotated[list[Annotated[int, Field(ge=0, lt=LARGEST)]], Field(min_length=1)] | None
    fan_in_fan_out: bool
    """Whether the model keeps its matrices transposed, as GPT-2 does."""


def _named(base: dict[str, str]) -> dict[str, str]:
    if "name" not in base:
        raise ValueError("no name")
    return base


def _limited(recipe: dict[str, Any]) -> dict[str, Any]:
    length = recipe.get("max_length", 1)
    if type(length) is not int or not 0 < length < LARGEST:
        raise ValueError("no max_length")
    return recipe


class _PromptSettings(BaseModel):
    """The settings of `predict.Prompt` that a card may name."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instruction: bool = True
    fallback: bool = True
    chat: bool | Literal["turns"] = False


class _Card(BaseModel):
    """What the rest of the course relies on in a card. A description completes the message "'base' must be ..."."""

    model_config = ConfigDict(strict=True)

    base: Annotated[dict[str, str], AfterValidator(_named), Field(description="a model's name and hash")]
    task: Annotated[dict[str, Any], Field(description="a task's settings")]
    prompt: Annotated[
        _PromptSettings,
        Field(description='true or false for instruction, fallback and chat (or "turns" for chat)'),
    ]
    recipe: Annotated[
        dict[str, Any],
        AfterValidator(_limited),
        Field(description="a recipe's numbers, with a whole number for max_length"),
    ] = {}
    training: Annotated[dict[str, Any], Field(description="facts about the training")]
    groups: Annotated[list[str], Field(description="a list of hashes")]
    spec: Annotated[dict[str, Any], Field(description="what decides the result")]


def identity(base: dict[str, str]) -> str:
    """Return a base model's name and hash on one line, as adapters' configs give it."""
    return "@".join([base.get("name", "an unknown model"), *(f"{k}:{v}" for k, v in base.items() if k != "name")])


def without_type(base: dict[str, str]) -> dict[str, str]:
    """Return a base model's identity without the type in which its weights were loaded."""
    return {key: value for key, value in base.items() if key != "weights"}


@dataclass(frozen=True)
class PlainAdapter(os.PathLike[str]):
    """A PEFT adapter without the course's card: what the card would say is given by the user (see `plain_adapter`).

    It can be given to every function that takes an adapter's folder.
    """

    folder: Path
    task: Task
    model: str
    """The base model, by its name in the catalogue, its repository or the path of its folder."""
    trained_on: str
    """What PEFT's config calls the base model."""

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def card(self) -> dict[str, Any]:
        """A card that says what is known. The prompt is the task's training prompt."""
        known = {"base": {"name": self.model}, "task": self.task.as_dict(), "prompt": {"instruction": False}}
        return {**known, "training": {}, "groups": [], "spec": {}}


# -- writing ---------------------------------------------------------------------------------------------------------


def save_adapter(
    loaded: LoadedModel, folder: str | Path, card: dict[str, Any], readme: str, dtype: str = "float32"
) -> Path:
    """Write the adapter on `loaded` as a folder: safetensors weights, PEFT's config, `card` and `readme`.

    The config names the base model by name and hash, never by a path on this machine. `dtype` float16 halves the file.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    lora, required = loaded.model.peft_config["default"], ("peft_type", "task_type")
    # settings at their defaults are left out: an older PEFT, as on Colab, warns about each one that it does not know
    defaults = type(lora)().to_dict()
    config = {key: value for key, value in lora.to_dict().items() if key in required or value != defaults[key]}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    config |= {"base_model_name_or_path": identity(loaded.base), "inference_mode": True}
    weights = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
    weights = {key: value.detach().to("cpu", getattr(torch, dtype)).contiguous() for key, value in weights.items()}
    with files.folder_aside(folder) as aside:
        save_file(weights, aside / WEIGHTS, metadata={"format": "pt"})
        files.write_json(aside / CONFIG, config)
        files.write_json(aside / ADAPTER_MARK, {"base": loaded.base, **card})
        files.write_text(aside / "README.md", readme)
    return Path(folder)


# -- reading ---------------------------------------------------------------------------------------------------------


def is_plain(folder: Folder) -> bool:
    """Return whether a folder has PEFT's config and not the course's card."""
    return (Path(folder) / CONFIG).is_file() and not os.path.lexists(Path(folder) / ADAPTER_MARK)


def plain_adapter(folder: str | Path, task: Task, model: str | None = None) -> PlainAdapter:
    """Return a PEFT adapter without a card of the course, for a task. It is asked with the task's training prompt.

    `model` is the name of its base model, as `models.load` takes it; by default it is the one that PEFT's config names,
    if that is an entry of the catalogue. Raises CourseError if it is none, for an unknown name, for a folder with a
    card, and for weights that are a pickle.
    """
    folder = Path(folder)
    if os.path.lexists(folder / ADAPTER_MARK):
        raise CourseError(f"{folder} has a card, {ADAPTER_MARK}, which names its task. Use the folder as it is.")
    _check_parts(folder, (CONFIG, WEIGHTS))
    try:
        trained_on = str(_read_json(folder / CONFIG).get("base_model_name_or_path") or "")
    except (ValueError, OSError) as error:
        raise CourseError(f"{folder / CONFIG} cannot be read: {error}. Ask the adapter's author for it.") from error
    model = model or _model_of(trained_on)
    if model is None:
        raise CourseError(
            f"The adapter in {folder} was trained on {trained_on!r:.120}, by its {CONFIG}. That is no model of"
            " `llmcourse models`. If you trust that name, or know the model by another, name it: --model NAME"
            " (model=NAME). NAME can be owner/name of the hub, or a folder."
        )
    return PlainAdapter(folder, task, catalogue.base(model).name, trained_on)


def _model_of(trained_on: str) -> str | None:
    """Return the catalogue's name of the base model that PEFT's config names, or None."""
    if trained_on == identity({"name": embedded.NAME, "sha256": embedded.SHA256}):
        return catalogue.EMBEDDED
    known = catalogue.entry_of(trained_on.partition("@")[0])  # what follows is a hash, if the course wrote the config
    return known.name if known else None


def read_card(folder: Folder) -> dict[str, Any]:
    """Return the card of an adapter's folder, or what is known of a `PlainAdapter`.

    Raises CourseError when the folder is not an adapter of the course, is damaged, or has a card with other content.
    """
    if isinstance(folder, PlainAdapter):
        _check_parts(folder.folder, (CONFIG, WEIGHTS))
        return folder.card
    folder = Path(folder)
    _check_parts(folder)
    return _valid_card(folder, "Train the adapter again.")


def merged_card(folder: str | Path) -> dict[str, Any]:
    """Return the card of a model that `llmcourse export` wrote: that of its adapter, and facts about the export.

    Raises CourseError for a card with other content.
    """
    _refuse_link(Path(folder) / ADAPTER_MARK)
    return _valid_card(Path(folder), "Export the model again.")


def _valid_card(folder: Path, remedy: str) -> dict[str, Any]:
    try:
        card = _read_json(folder / ADAPTER_MARK)
        try:
            _Card.model_validate(card)
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            if field not in card:
                raise ValueError(f"it does not say {field!r}") from None
            expected = _Card.model_fields[field].description
            raise ValueError(f"{field!r} must be {expected}, and is {card[field]!r:.80}") from None
        Task.from_dict(card["task"])
        return card
    except (ValueError, OSError, TypeError, RecursionError, CourseError) as error:
        raise CourseError(f"{folder / ADAPTER_MARK} cannot be read: {str(error).rstrip('.')}. {remedy}") from error


def _check_parts(folder: Path, parts: tuple[str, ...] = PARTS) -> None:
    """Raise CourseError if a file of the adapter is missing, leads out of the folder, or differs from the seal."""
    for part in parts:
        if not (folder / part).is_file():
            pickles = sorted(folder.glob("*.bin")) if part == WEIGHTS else []
            if pickles:
                raise CourseError(
                    f"{folder} has its weights only as {pickles[0].name}, a pickle. Reading a pickle can run a"
                    f" stranger's code, so it is not read. Ask for {WEIGHTS}."
                )
            if part == ADAPTER_MARK:
                raise CourseError(
                    f"{folder} is a PEFT adapter without a card of this course: {part} is missing. Name the task that"
                    " it was trained for: --task NAME, or --labels WORD,WORD for a task of your own"
                    " (models.plain_adapter(FOLDER, task))."
                )
            raise CourseError(f"{folder} is not an adapter: {part} is missing. To make one: llmcourse finetune")
        _refuse_link(folder / part)
    damage = files.find_damage(folder) if (folder / files.SEAL).is_file() else ""
    if damage:
        raise CourseError(f"The adapter in {folder} is damaged: {damage}. Train it again, or download it again.")


def _refuse_link(path: Path) -> None:
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise CourseError(
            f"{path} is a link to a file outside the folder, and is not followed. Copy the file itself there."
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object. Raises ValueError for anything else, and for text that is not valid Unicode."""
    size, largest = path.stat().st_size, MAX_BYTES[path.name]
    if size > largest:
        raise ValueError(f"{path.name} has {size:,} bytes, at most {largest:,} are read")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def task_of(card: dict[str, Any]) -> Task:
    """Return the task that an adapter was trained for."""
    return Task.from_dict(card["task"])


def shipped_adapter(task_name: str) -> Path:
    """Return the folder of the adapter that ships for a task. Raises CourseError if there is none."""
    folder = Path(str(resources.files("llmcourse.models") / "shipped" / task_name))
    if not folder.is_dir():
        raise CourseError(
            f"The course ships no adapter for the task {task_name!r}. Name the folder of yours: --adapter FOLDER"
        )
    return folder


# -- its base model ----------------------------------------------------------------------------------------------------


def base_of(adapter: Folder, model: str | None = None) -> str:
    """Return the name under which `models.load` finds the base model of an adapter.

    A repository is loaded at the commit that the card names. If the adapter was trained on a local folder, `model` says
    where that folder is on this machine; its hash has to be the card's. Raises CourseError, before a weight is loaded,
    if that is not said, and if `model` is a folder with another hash.
    """
    if isinstance(adapter, PlainAdapter):
        return adapter.model
    trained = read_card(adapter)["base"]
    if model is None:
        if is_local(trained):
            raise CourseError(f"The adapter in {adapter} was trained on a local folder. {_name_base(trained)}")
        return catalogue.of_adapter(trained)
    base = catalogue.base(model)
    actual = loading.identity_of(base)
    if "sha256" in trained or "sha256" in actual:
        refuse_other_base(adapter, without_type(trained), actual)
    return catalogue.of_adapter(trained) if base.repo == trained["name"] and base.revision is None else model


def is_local(base: dict[str, str]) -> bool:
    """Return whether the base model that a card names was a folder, which only its hash identifies."""
    return base.get("sha256", embedded.SHA256) != embedded.SHA256


def refuse_other_base(adapter: Folder, trained: dict[str, str], actual: dict[str, str]) -> None:
    """Raise CourseError unless `actual` is the base that an adapter was trained on. A folder may have another name.

    Weights in another type are the same base; a CourseWarning says that answers can differ.
    """
    same = {**actual, "name": trained["name"]} if is_local(trained) else actual
    if without_type(same) != without_type(trained):
        raise CourseError(
            f"The adapter in {os.fspath(adapter)} belongs to another base model: it was trained on {identity(trained)},"
            f" and this is {identity(actual)}. {_name_base(trained)}"
        )
    types = [base.get("weights", "float32") for base in (trained, actual)]
    if types[0] != types[1]:
        text = (
            f"The adapter in {os.fspath(adapter)} was trained on weights in {types[0]}, and here they are in"
            f" {types[1]}. Its answers can differ a little."
        )
        warnings.warn(text, CourseWarning, stacklevel=3)


def _name_base(trained: dict[str, str]) -> str:
    """Return what to type to name the base model of a card."""
    if is_local(trained):
        path = f"PATH/{trained['name']}"
        return f"Say where it is: --model {path} (in Python, model={path!r} or models.load({path!r}))."
    name = catalogue.of_adapter(trained)
    return f"Name its own: --model {name} (models.load({name!r}))."


# -- putting one on a model --------------------------------------------------------------------------------------------


def put_adapter(loaded: LoadedModel, folder: Folder) -> dict[str, Any]:
    """Put a saved adapter on a base model and return its card (of a `PlainAdapter`, what is known of it).

    Raises CourseError when the adapter was trained on another base model: its matrices would fit, but its answers would
    be noise. Raises it, too, for a config that asks for more than plain LoRA, and for weights that do not fit config
    and model. Both are checked before any layer is built.
    """
    card = read_card(folder)
    if isinstance(folder, PlainAdapter):
        if folder.model != loaded.name:
            raise CourseError(
                f"The base model of the adapter in {folder.folder} is {folder.model}, and {loaded.name} is loaded. Load"
                f" its own: models.load({folder.model!r})."
            )
    else:
        refuse_other_base(folder, card["base"], loaded.base)
    folder = Path(folder)
    loaded.drop_adapter()
    try:
        _build(loaded, folder)
    except Exception as error:  # a damaged file fails in many ways inside PEFT; all mean the same to the reader
        loaded.drop_adapter()
        raise CourseError(
            f"The adapter in {folder} cannot be loaded: {error}. Train it again, or ask its author."
        ) from error
    loaded.model.eval()
    return card


def _build(loaded: LoadedModel, folder: Path) -> None:
    """Check config and weights, then wrap the model. Raises ValueError for what does not fit."""
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    settings = read_config(folder)
    check_header(folder / WEIGHTS, expected_shapes(loaded.model, settings))
    weights = load_file(folder / WEIGHTS)
    for key, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"its weights have a value that is not a number, first in {key}")
    config = LoraConfig(
        **settings.model_dump(exclude={"peft_type", "task_type"}),
        task_type="CAUSAL_LM",
        base_model_name_or_path=identity(loaded.base),
        inference_mode=True,
    )
    loaded.model = PeftModel(loaded.model, config)
    result: Any = set_peft_model_state_dict(loaded.model, weights)
    misfits = [*result.unexpected_keys, *(key for key in result.missing_keys if "lora_" in key)]
    if misfits:
        raise ValueError(f"its weights do not fit the model, beginning with {misfits[0]}")


def read_config(folder: str | Path) -> LoraSettings:
    """Return the settings of PEFT's config in an adapter's folder.

    Settings that plain LoRA does not have must be at PEFT's default, and empty if PEFT does not know them. Raises
    ValueError otherwise.
    """
    from peft import LoraConfig

    config = _read_json(Path(folder) / CONFIG)
    defaults = {**LoraConfig().to_dict(), "peft_type": None}
    names = LoraSettings.model_fields
    for name, value in config.items():
        if name not in (*IGNORED, *names) and value and value != defaults.get(name):
            raise ValueError(f"its config says {name}={value!r:.60}; only plain LoRA is read here")
    values = {name: config.get(name, defaults[name]) for name in names}
    try:
        return LoraSettings.model_validate(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise ValueError(f"its config says {name}={values[name]!r:.60}, which is not read here") from None


def expected_shapes(model: "nn.Module", settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """Return the name and shape of each tensor that an adapter with these settings has on this model.

    A is (r, inputs), B is (outputs, r). Raises ValueError for a matrix or a layer that the model does not have.
    """
    chosen, matrices = settings.layers_to_transform, settings.target_modules
    shapes: dict[str, tuple[int, int]] = {}
    present: set[int | str] = set()
    layers = decoder_layers(model)
    folder = next(path for path, module in model.named_modules() if module is layers)
    for number, layer in enumerate(layers):
        for path, (outputs, inputs) in linear_modules(layer).items():
            names = {name for name in matrices if is_named(path, name)}
            if names and (chosen is None or number in chosen):
                present |= {number, *names}
                start = f"base_model.model.{folder}.{number}.{path}"
                shapes[f"{start}.lora_A.weight"] = (settings.r, inputs)
                shapes[f"{start}.lora_B.weight"] = (outputs, settings.r)
    for absent in (name for name in (*(chosen or ()), *matrices) if name not in present):
        kind = "matrix" if isinstance(absent, str) else "layer"
        raise ValueError(f"its config names the {kind} {absent!r:.40}, which the model does not have")
    return shapes


def check_header(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """Compare what a safetensors file announces with what is expected, without reading a weight.

    Raises ValueError where they differ.
    """
    from safetensors import SafetensorError, safe_open

    try:
        weights = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"its weights are not a whole safetensors file ({error})") from None
    with weights as file:
        names = set(file.keys())
        for name in sorted(names ^ set(shapes)):
            raise ValueError(f"its weights {'have' if name in names else 'lack'} {name!r:.120}, unlike its config")
        for name, expected in shapes.items():
            tensor = file.get_slice(name)
            actual = tuple(tensor.get_shape())
            if actual != expected:
                raise ValueError(f"{name} is {actual}; by its config and the model it would be {expected}")
            if tensor.get_dtype() not in FLOATS:
                raise ValueError(f"{name} is of type {tensor.get_dtype()}; {', '.join(FLOATS)} are read")
