"""The deck: every number has a source, every slide fits and can be read, its code runs, and the built page loads
nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page_loads import loads

ROOT = Path(__file__).parents[2]
SLIDES = ROOT / "slides"
sys.path.insert(0, str(SLIDES))

import content  # noqa: E402
import make  # noqa: E402

from llmcourse.data.tasks import SARCASM  # noqa: E402
from llmcourse.training.examples import training_rows  # noqa: E402

TEMPLATE = make.DECK.read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"^# (.+)$", flags=re.MULTILINE)


def slides(text: str) -> list[str]:
    """The slides of a deck's Markdown, its head left out."""
    return text.split("\n---\n")[1:]


@pytest.fixture(scope="module")
def deck() -> list[str]:
    return slides(make.filled())


# -- numbers ---------------------------------------------------------------------------------------------------------

NAMES = re.compile(
    r"Mistral-7B|Llama 2 7B|Llama3-8B|Mistral-8B|Phi-3-8B|Phi-3-mini|SmolLM2-135M|135M parameters"
    r"|135 million parameters|GPT-[13]|T4|the 7B model|at 7B|Appendix A[12]|Pal4AI"
    r"|NF4|nf4|int4|fp4|fp16|bf16|b?float16|float32|FP32|[14]6? bits|4-bit|4-shot|TRL 1\.16"
    r"|[Nn]otebooks? \d\d(?:, \d\d)*|arXiv:[\d.]+|et al\. \d{4}"
)
"""Names, types and citations that hold digits."""
CITED = {
    "184,320": "Touvron et al. 2023, table 2",
    "2022": "the talk; llm_sizes.csv",
    "17 + 25": "a prompt of notebook 01",
    "is 42": "arithmetic",
    "1e-4 to 2e-4": "llmcourse.training.recipes.TALK_NOTES",
}
"""Numbers that stand in the template and are nobody's measurement here: each with where it is from."""


def typed_numbers(template: str) -> list[str]:
    """Lines of the deck with digits outside placeholders, code, minutes, names and citations."""
    text = template.split("\n---\n", 1)[1]
    text = FENCE.sub("", text)
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    text = re.sub(r"^Minutes: [\d.]+$|^\d\. |</?h\d>", "", text, flags=re.MULTILINE)
    for known in (NAMES, *(rf"(?<!\d){re.escape(number)}(?!\d)" for number in CITED)):
        text = re.sub(known, "", text)
    return [line for line in text.splitlines() if re.search(r"\d", line)]


def test_no_number_is_typed_in():
    assert typed_numbers(TEMPLATE) == []


@pytest.mark.parametrize("line", ["It was right in 72 % of the rows.", "| LoRA | 37 |", "In 2019 it took 4 minutes."])
def test_a_typed_number_is_found(line):
    assert typed_numbers(TEMPLATE + f"\n\n{line}\n")


def test_a_changed_result_changes_the_slides(monkeypatch):
    before = content.result("demo")
    after = json.loads(json.dumps(before))
    content.method("demo", "LoRA")  # there is one
    next(arm for arm in after["arms"] if arm["kind"] == "finetuned")["accuracy"] = 0.615
    monkeypatch.setattr(content, "result", lambda name, real=content.result: after if name == "demo" else real(name))
    deck = make.filled()
    assert "LoRA gets 62%" in deck and "frozen features 78%; LoRA 62%" in deck


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("{{ result('nowhere') }}", "have no nowhere.json"),
        ("{{ saved('05', 'never printed') }}", "has no .never printed"),
        ("{{ nothing }}", "undefined"),
    ],
)
def test_a_placeholder_without_a_source_is_refused(wrong, message, tmp_path, monkeypatch):
    from llmcourse import CourseError

    (tmp_path / "deck.md").write_text(wrong)
    monkeypatch.setattr(make, "DECK", tmp_path / "deck.md")
    with pytest.raises(CourseError, match=message):
        make.filled()


def test_the_talks_numbers_agree_with_each_other_and_with_its_recipe():
    from llmcourse.training import recipes

    for way in ("few_shot", "finetuned"):
        report = content.TALK[way]
        right = sum(r * n for r, n in zip(report["recall"], report["support"], strict=True))
        assert right / sum(report["support"]) == pytest.approx(report["accuracy"])
        assert sum(report["support"]) == content.TALK["test_rows"]
    assert {key: content.TALK[key] for key in ("r", "alpha", "epochs", "learning_rate")} == {
        key: getattr(recipes.TALK, key) for key in ("r", "alpha", "epochs", "learning_rate")
    }


def test_who_measured_is_said_on_every_slide_with_a_figure_of_results(deck):
    for slide in deck:
        if re.search(r"accuracy on|right answers|flipped by", slide):
            assert 'class=\\"chip measured' in slide or 'class=\\"chip talk' in slide, TITLE.search(slide)[1]


MINUTES = re.compile(r"<!--\nMinutes: ([\d.]+)\n")


def test_every_slide_has_one_title_and_one_note(deck):
    for slide in deck:
        assert len(TITLE.findall(FENCE.sub("", slide))) == len(MINUTES.findall(slide)) == 1, slide


def test_the_talk_takes_at_most_forty_minutes(deck):
    titles = [TITLE.search(FENCE.sub("", slide))[1] for slide in deck]
    talk = deck[: titles.index("Appendix")]
    assert sum(float(MINUTES.search(slide)[1]) for slide in talk) <= 40


# -- code ------------------------------------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """The Python on the slides, by the title of its slide."""
    return {
        TITLE.search(FENCE.sub("", slide))[1]: code
        for slide in slides(TEMPLATE)
        for language, code in FENCE.findall(slide)
        if language == "python"
    }


def run(title: str, **names):
    import torch
    from peft import LoraConfig
    from torch import nn
    from torch.nn import functional as F
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    (code,) = [code for name, code in blocks().items() if name.startswith(title)]
    space = {"torch": torch, "nn": nn, "F": F, "BitsAndBytesConfig": BitsAndBytesConfig, "LoraConfig": LoraConfig}
    space |= {"SFTConfig": SFTConfig, "SFTTrainer": SFTTrainer, **names}
    exec(compile(code, f"slide {title}", "exec"), space)
    return space


def test_all_code_is_run_here():
    assert len(blocks()) == 7  # 4 bits, LoraConfig, training, attention, three ways, adapter, LoRA


def test_attention_on_the_slide_is_torchs():
    import torch

    query, key, value = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    ours = run("Attention is")["attention"](query, key, value)
    theirs = torch.nn.functional.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_adapter_on_the_slide_starts_as_the_identity():
    import torch

    adapter, h = run("Adapters in")["Adapter"](8, 2), torch.randn(3, 8)
    assert torch.equal(adapter(h), h)
    adapter(h).sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_lora_on_the_slide_is_the_courses():
    import torch

    from llmcourse.lessons.fromscratch.lora import LoRALinear

    base, x = torch.nn.Linear(6, 5), torch.randn(4, 6)
    slide, ours = run("LoRA in ten lines")["LoRA"](base, 2, 6), LoRALinear(base, 2, 6)
    assert torch.equal(slide(x), base(x)) and not base.weight.requires_grad
    with torch.no_grad():
        slide.B.normal_()
        ours.A.copy_(slide.A)
        ours.B.copy_(slide.B)
    assert torch.allclose(slide(x), ours(x), atol=1e-5)


def test_the_three_ways_on_the_slide_run(tiny, tmp_path, monkeypatch):
    from llmcourse import data, models

    few = data.load(SARCASM, n_train=20, n_test=20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "load", lambda: tiny)
    monkeypatch.setattr(data, "load", lambda task: few)
    ran = run("Three ways")
    assert [arm.name for arm in ran["experiment"].arms] == ["4-shot, generated", "4-shot, scored", "4-shot, calibrated"]


def test_the_base_model_on_the_slide_is_loaded_as_the_course_loads_it(t4):
    from types import SimpleNamespace

    from llmcourse import models

    loader = SimpleNamespace(from_pretrained=lambda name, quantization_config: (name, quantization_config))
    name, quantization = run("Load the base", AutoModelForCausalLM=loader)["model"]
    assert name == models.catalogue.base("mistral-7b").repo
    assert quantization.to_dict() == models.quantization_config().to_dict()


def test_training_on_the_slide_runs_and_lm_head_is_refused(make_tiny, bundled, tmp_path, monkeypatch):
    from datasets import Dataset

    from llmcourse.training import recipes

    monkeypatch.chdir(tmp_path)
    lora = run("Add LoRA to")["lora"]
    assert set(lora.target_modules) == set(recipes.ALL_LINEAR) and (lora.r, lora.lora_alpha) == (8, 16)
    tiny = make_tiny()
    rows, _ = training_rows(tiny, SARCASM, list(bundled.train)[:8], recipes.WORKSHOP)
    given = {"model": tiny.model, "tokenizer": tiny.tokenizer, "examples": Dataset.from_list(rows), "gpu": False}
    trainer = run("Train with", lora=lora, **given)["trainer"]
    assert trainer.state.global_step == 1 and trainer.state.log_history[-1]["train_loss"] > 0
    lora.target_modules = {*lora.target_modules, "lm_head"}
    with pytest.raises(ValueError, match="lm_head"):
        run("Train with", lora=lora, **given | {"model": make_tiny().model})


# -- the built page --------------------------------------------------------------------------------------------------

needs_marp = pytest.mark.skipif(not make.MARP.exists(), reason="no Marp: npm ci in slides/")
needs_browser = pytest.mark.skipif(make.browser() is None, reason="no Chromium, and no CHROME_PATH")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The deck as one HTML file."""
    patch = pytest.MonkeyPatch()
    patch.setattr(make, "BUILD", tmp_path_factory.mktemp("slides"))
    yield make.build(pdf=False)[0]
    patch.undo()


@needs_marp
def test_the_page_loads_nothing(page):
    assert loads(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "html",
    [
        '<img src="https://a.org/b.png">', '<script src="//a.org/b.js"></script>', '<link href="http://a.org/b.css">',
        "<style>@import 'b.css';</style>", "<style>p{background:url(https://a.org/b)}</style>",
        "<script>fetch('https://a.org/b')</script>", '<p style="background:url(https://a.org/b)">',
    ],
)  # fmt: skip
def test_what_a_page_loads_is_found(html):
    assert loads(html) and not loads('<a href="https://a.org">x</a><svg xmlns="http://www.w3.org/2000/svg"></svg>')


@needs_marp
def test_figures_and_formulas_are_drawn_in_the_page(page):
    html = page.read_text(encoding="utf-8")
    wanted = len(re.findall(r"\{\{ figure\(", TEMPLATE))
    described = re.findall(r'<svg role="img" aria-label="([^"]+)"', html)
    assert len(described) == wanted == 19 and all(len(text) > 40 for text in described)
    assert html.count("<mjx-container") == len(re.findall(r"^\$\$", TEMPLATE, flags=re.MULTILINE)) == 2
    assert "$$" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "two figures share an id"


MEASURE = """<script>(async () => {
  const style = document.createElement('style');
  style.textContent = 'svg[data-marpit-svg]{content-visibility:visible!important;display:block!important}';
  document.head.append(style);
  // a hidden slide has not asked for its fonts yet: measured before they are there, its lines would be another font's
  await Promise.all([...document.fonts].map(font => font.load()));
  await document.fonts.ready;
  document.body.getBoundingClientRect();
  const told = [...document.querySelectorAll('section')].map(section => {
    const scale = section.getBoundingClientRect().width / 1280 || 1, box = section.getBoundingClientRect();
    const title = section.querySelector('h1'), low = box.bottom - 72 * scale;
    const said = {title: title.textContent, height: [section.scrollHeight, section.clientHeight],
      width: [section.scrollWidth, section.clientWidth], beyond: [], small: [], fonts: [],
      lines: title.getClientRects().length};
    const parts = ':scope > :not(header, footer, h1), pre, td, th, figure svg text, footer';
    for (const one of section.querySelectorAll(parts)) {
      const at = one.getBoundingClientRect(), foot = one.closest('footer') ? box.bottom : low;
      if (at.bottom > foot + 1 || at.right > box.right - 20 * scale || at.left < box.left + 20 * scale
          || (!one.closest('svg') && one.scrollWidth > one.clientWidth + 1))
        said.beyond.push(one.tagName + ': ' + one.textContent.slice(0, 40));
    }
    if (title.getBoundingClientRect().height > 80 * scale && !section.matches('.title, .divider'))
      said.beyond.push('title in two lines');
    const walk = document.createTreeWalker(section, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const node = walk.currentNode, parent = node.parentElement;
      if (!node.textContent.trim() || parent.closest('mjx-container, style')) continue;
      const svg = parent.closest('figure svg');
      const size = parseFloat(getComputedStyle(parent).fontSize) * (svg ? svg.getScreenCTM().a / scale : 1);
      const least = svg ? 20 : parent.closest('pre, code') ? 18 : 24;
      if (size < least - 0.1) said.small.push(size.toFixed(1) + ' ' + node.textContent.trim().slice(0, 30));
    }
    return said;
  });
  const fonts = [...document.fonts].filter(font => font.status == 'loaded').map(font => font.family);
  document.body.innerHTML = '<pre id="told"></pre>';
  document.getElementById('told').textContent = JSON.stringify({slides: told, fonts});
})();</script>"""


@pytest.fixture(scope="module")
def told(page, tmp_path_factory):
    """What Chromium says about every slide, at 1280 x 720."""
    measured = tmp_path_factory.mktemp("measured") / "page.html"
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    return in_chromium(measured)


def in_chromium(path: Path) -> dict:
    command = [
        make.browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,720",
        "--virtual-time-budget=10000",
    ]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-1000:]
    import html

    return json.loads(html.unescape(found[1]))


@needs_marp
@needs_browser
def test_no_slide_overflows(told, deck):
    assert len(told["slides"]) == len(deck)
    for slide in told["slides"]:
        assert slide["height"][0] <= slide["height"][1] and slide["width"][0] <= slide["width"][1], slide["title"]
        assert slide["beyond"] == [], slide["title"]


@needs_marp
@needs_browser
def test_the_last_row_can_read_it(told):
    """Text of 24 pixels at 1280 x 720, code of 18, letters in figures of 20."""
    assert [(slide["title"], slide["small"]) for slide in told["slides"] if slide["small"]] == []
    assert {"Source Sans 3", "Source Code Pro"} <= {name.strip("'\"") for name in told["fonts"]}


@needs_marp
@needs_browser
def test_an_overflow_and_small_letters_are_found(page, tmp_path):
    bad = page.read_text(encoding="utf-8").replace(
        "</h1>", '</h1><p style="font-size:12px;flex:none;height:900px">small</p>'
    )
    (tmp_path / "bad.html").write_text(bad.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    slide = in_chromium(tmp_path / "bad.html")["slides"][2]
    assert slide["beyond"] and slide["small"] and slide["height"][0] > slide["height"][1]


@needs_marp
def test_what_marp_says_reaches_the_reader(tmp_path, monkeypatch):
    from llmcourse import CourseError

    fake = tmp_path / "marp"
    fake.write_text("#!/bin/sh\necho no such theme >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(make, "MARP", fake)
    with pytest.raises(CourseError, match="no such theme"):
        make.marp(tmp_path / "x.html")
    assert not list(tmp_path.glob("*.html"))


def test_without_npm_the_build_says_what_to_type(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make, "MARP", tmp_path / "nowhere")
    monkeypatch.setattr(make, "BUILD", tmp_path / "build")
    monkeypatch.setattr(make, "filled", lambda: "# filled")
    assert make.main([]) == 2 and "npm ci" in capsys.readouterr().err
    assert (tmp_path / "build" / "deck.md").is_file()  # what needs no npm is there


@needs_marp
@needs_browser
def test_the_pdf_has_every_slide(page, deck, monkeypatch):
    import zlib

    monkeypatch.setattr(make, "BUILD", page.parent)
    make.marp(page.parent / "x.pdf", "--pdf")
    streams = re.findall(rb"/ObjStm.*?stream\r?\n(.*?)endstream", (page.parent / "x.pdf").read_bytes(), flags=re.DOTALL)
    objects = b"".join(zlib.decompressobj().decompress(stream) for stream in streams)
    assert len(re.findall(rb"/Type\s*/Page\b", objects)) == len(deck)
