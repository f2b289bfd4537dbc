"""The catalogue: its entries' sizes, and the names under which other models are found."""

import pytest

from llmcourse import CourseError
from llmcourse.models import catalogue
from llmcourse.models.catalogue import BASES
from llmcourse.training.recipes import ALL_LINEAR, QUICK


@pytest.mark.parametrize("name", BASES)
def test_an_entrys_size_is_that_of_its_shape(name):
    entry = BASES[name]
    assert entry.billions == pytest.approx(entry.shape.parameters / 1e9, abs=0.006)
    if entry.repo and not entry.prequantised:  # 16 bits, in a file
        assert entry.download_gib == pytest.approx(2 * entry.shape.parameters / 2**30, rel=0.05, abs=0.05)
    assert entry.stand_in is None or BASES[entry.stand_in].shape == entry.shape
    assert entry.licence and entry.note


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smollm2-360m", 361_821_120),
        ("smollm2-1.7b", 1_711_376_384),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-1.7b", 1_720_574_976),
        ("gemma-3-270m", 268_098_176),
        ("gemma-3-1b", 999_885_952),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("smollm3-3b", 3_075_098_624),
        ("phi-4-mini", 3_836_021_760),
        ("mistral-7b", 7_241_732_096),
        ("llama-3-8b", 8_030_261_248),
    ],
)
def test_the_published_counts(name, parameters):
    """As the hub gives them for these repositories, or for a sibling of the same shape."""
    assert catalogue.base(name).shape.parameters == parameters


def test_phi_3_fuses():
    fused = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    assert catalogue.base("phi-3-mini").shape.targets(ALL_LINEAR) == fused
    assert catalogue.base("mistral-7b").shape.targets(QUICK.target_modules) == list(QUICK.target_modules)


def test_a_repository_and_a_folder_are_names_too(tmp_path, monkeypatch):
    other = catalogue.base("someone/their-model")
    assert (other.repo, other.revision, other.is_folder) == ("someone/their-model", None, False)
    pinned = catalogue.base("someone/their-model@v1.0")
    assert (pinned.repo, pinned.revision) == ("someone/their-model", "v1.0")
    assert catalogue.base("mistralai/Mistral-7B-v0.1") == catalogue.base("mistral-7b")  # with its pinned commit
    assert catalogue.base("mistralai/Mistral-7B-v0.1@main").revision == "main"
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("./mine", str(tmp_path / "mine"), "../" + tmp_path.name + "/mine"):
        folder = catalogue.base(name)
        assert folder.is_folder and folder.repo == str(tmp_path / "mine") and folder.revision is None


@pytest.mark.parametrize("name", ["mistral", "", "a b/c", "someone/model@", "https://huggingface.co/a/b", "mine"])
def test_a_name_of_another_form_is_refused(name, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"Known: smollm2-135m.*owner/name, or a folder as ./my-model"):
        catalogue.base(name)


@pytest.mark.parametrize("name", ["./nothing", "/nowhere/at/all", "~/nothing-here", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(CourseError, match=f"There is no folder {name}"):
        catalogue.base(name)


def test_the_model_of_an_adapter():
    mistral = {"name": "mistralai/Mistral-7B-v0.1", "weights": "nf4"}
    assert catalogue.of_adapter(mistral) == catalogue.of_adapter({**mistral, "commit": "local"}) == "mistral-7b"
    assert catalogue.of_adapter({**mistral, "commit": catalogue.base("mistral-7b").revision}) == "mistral-7b"
    assert catalogue.of_adapter({**mistral, "commit": "a" * 40}) == f"mistralai/Mistral-7B-v0.1@{'a' * 40}"
    assert catalogue.of_adapter({"name": "someone/their-model"}) == "someone/their-model"
    assert (
        catalogue.of_adapter({"name": "someone/their-model", "commit": "b" * 40}) == f"someone/their-model@{'b' * 40}"
    )
    assert catalogue.of_adapter({"name": "SmolLM2-135M-Instruct"}) == catalogue.EMBEDDED
