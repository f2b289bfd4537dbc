"""What prompts share is computed once, and every row gets what one whole forward pass, or one `generate`, gives it.

Random prompts with random shared beginnings, on the attention and cache of each architecture of the catalogue, in
float32 and NF4, with and without an adapter.
"""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import CourseError
from llmcourse.models import LoadedModel, sharing
from llmcourse.predict import engine

SHAPES = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "mistral, window full": ("MistralConfig", {"sliding_window": 12}),
    "mistral, window wide": ("MistralConfig", {"sliding_window": 500}),
    "phi3": ("Phi3Config", {"sliding_window": 20, "num_key_value_heads": 4}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
}
WINDOWED = {
    "mistral": ("MistralConfig", {"sliding_window": 140}),
    "gemma3": (
        "Gemma3TextConfig",
        {"sliding_window": 140, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16},
    ),
    "llama4": ("Llama4TextConfig", {"attention_chunk_size": 140, "num_local_experts": 2, "intermediate_size_mlp": 64}),
}
"""Models that keep a window in all layers, in some, and as chunks."""
VOCABULARY = 97
END = 2


def make(shape: str, nf4: bool, adapter: bool, tokenizer) -> LoadedModel:
    """A random model of this shape, in evaluation mode."""
    import bitsandbytes as bnb
    import transformers
    from peft import LoraConfig, get_peft_model

    name, more = {**SHAPES, **WINDOWED}[shape]
    torch.manual_seed(len(shape) + 2 * nf4 + adapter)
    config = getattr(transformers, name)(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": END,
            "pad_token_id": 0,
            **more,
        }
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    if nf4:
        for parent in [*model.modules()]:
            for child, linear in [*parent.named_children()]:
                if isinstance(linear, torch.nn.Linear) and child != "lm_head":
                    four = bnb.nn.Linear4bit(
                        linear.in_features,
                        linear.out_features,
                        bias=False,
                        compute_dtype=torch.float32,
                        quant_type="nf4",
                    )
                    four.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
                    setattr(parent, child, four.to("cpu"))
    if adapter:
        model = get_peft_model(
            model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        )
    return LoadedModel("tiny", {"name": "tiny"}, model.eval(), tokenizer)


@pytest.fixture(scope="module", autouse=True)
def plain_nf4():
    """Compute NF4 in float32: results of bitsandbytes' bfloat16 kernel for some CPUs depend on the number of rows."""
    import bitsandbytes.nn.modules

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
        yield


@pytest.fixture(scope="module")
def loaded_models(tokenizer):
    kept = {}

    def get(shape, nf4, adapter):
        key = (shape, nf4, adapter)
        if key not in kept:
            kept[key] = make(*key, tokenizer)
        return kept[key]

    return get


tokens = st.integers(3, VOCABULARY - 1)


@st.composite
def families(draw):
    """Prompts of 1 to some 60 tokens, grown from each other's beginnings, so that they share some, twice over."""
    prompts = [draw(st.lists(tokens, min_size=1, max_size=30))]
    for _ in range(draw(st.integers(0, 7))):
        earlier = draw(st.sampled_from(prompts))
        kept = draw(st.sampled_from([0, len(earlier) // 2, len(earlier) - 1, len(earlier)]))
        prompts.append([*earlier[:kept], *draw(st.lists(tokens, min_size=1, max_size=15))])
    if draw(st.booleans()):
        prompts.append(list(prompts[0]))  # the same row twice
    return draw(st.permutations(prompts))


def next_logits_alone(loaded, prompt) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(torch.tensor([prompt])).logits[0, -1]


def written_alone(loaded, prompt, new_tokens) -> list[int]:
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        out = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("window_known", [True, False])
@pytest.mark.parametrize("shape", WINDOWED)
def test_padding_takes_no_place_in_a_window_that_a_long_answer_fills(shape, window_known, loaded_models, monkeypatch):
    loaded = loaded_models(shape, False, False)
    if not window_known:
        monkeypatch.setattr(sharing, "window", lambda config: None)
    beginning, path = list(range(10, 50)), [3 + place % 90 for place in range(110)]
    prompts = [[*beginning, *range(row + 3, row + 11 + 2 * row)] for row in range(3)]
    differences = []
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, range(3), len(path)):
            engine.next_logits(loaded, batch)
            further = engine.next_logits(loaded, engine.extend_batch(loaded, batch, path))
            for row, logits in zip(batch.rows, further, strict=True):
                differences.append(float((logits - next_logits_alone(loaded, [*prompts[row], *path])).abs().max()))
    assert len(differences) == 3 and (max(differences) < 1e-3) == window_known


COMBINATIONS = [(s, n, a) for s in SHAPES for n, a in [(False, False), (False, True), (True, False), (True, True)]]


@pytest.mark.parametrize(
    ("shape", "nf4", "adapter"),
    COMBINATIONS,
    ids=[f"{s}{', NF4' * n}{', adapter' * a}" for s, n, a in COMBINATIONS],
)
@settings(max_examples=20, deadline=None)
@given(prompts=families(), path=st.lists(tokens, min_size=1, max_size=3), limit=st.sampled_from([1, 40, 1024]))
def test_logits_equal_those_of_each_prompt_alone(shape, nf4, adapter, loaded_models, prompts, path, limit):
    loaded = loaded_models(shape, nf4, adapter)
    seen = []
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(engine, "TOKENS_AT_ONCE", limit)
        for batch in engine.batches(loaded, prompts, range(len(prompts)), len(path)):
            first = engine.next_logits(loaded, batch)
            further = engine.next_logits(loaded, engine.extend_batch(loaded, batch, path))
            again = engine.next_logits(loaded, engine.extend_batch(loaded, batch, path))
            assert torch.equal(further, again)  # going on from a batch leaves it as it was
            for row, here, there in zip(batch.rows, first, further, strict=True):
                torch.testing.assert_close(here, next_logits_alone(loaded, prompts[row]), atol=1e-4, rtol=1e-4)
                alone = next_logits_alone(loaded, [*prompts[row], *path])
                torch.testing.assert_close(there, alone, atol=1e-4, rtol=1e-4)
                seen.append(row)
    assert sorted(seen) == list(range(len(prompts)))


@pytest.mark.parametrize(
    ("shape", "nf4", "adapter"), [("llama", False, True), ("mistral, window full", False, False), ("phi3", True, True)]
)
@settings(max_examples=30, deadline=None)
@given(prompts=families(), data=st.data())
def test_text_equals_that_of_one_generate_a_row(shape, nf4, adapter, loaded_models, prompts, data):
    """With answers to check at once that come true, half true and not at all."""
    loaded = loaded_models(shape, nf4, adapter)
    alone = [written_alone(loaded, prompt, 6) for prompt in prompts]
    expected = [written[: data.draw(st.integers(1, 4))] for written in alone if END not in written[:4]]
    wrong = [[written[0], *data.draw(st.lists(tokens, min_size=1, max_size=3))] for written in alone[:2]]
    likely = data.draw(st.permutations([*expected, *wrong, [3, 4]]))
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, range(len(prompts)), 6):
            for row, text in zip(batch.rows, engine.write(loaded, batch, 6, likely), strict=True):
                assert text == until_line_end(loaded.tokenizer, alone[row])


def until_line_end(tokenizer, written: list[int]) -> str:
    """Return what `write` makes of these tokens: it stops after the token that ends the first line with text."""
    for count in range(1, len(written) + 1):
        if "\n" in tokenizer.decode(written[:count]).lstrip():
            return tokenizer.decode(written[:count], skip_special_tokens=True)
    return tokenizer.decode(written, skip_special_tokens=True)


def watch_passes(monkeypatch, loaded, look):
    """Call `look` with the tokens of each forward pass."""
    real = type(loaded.model).forward

    @functools.wraps(real)
    def forward(self, input_ids=None, **how):
        look(input_ids)
        return real(self, input_ids, **how)

    monkeypatch.setattr(type(loaded.model), "forward", forward)


def test_an_expected_answer_takes_one_pass(loaded_models, monkeypatch):
    loaded = loaded_models("llama", False, False)
    prompt = [5, 6, 7]
    answer = written_alone(loaded, prompt, 3)
    # where the model goes on, its line ends
    after = written_alone(loaded, prompt, 4)[3]
    loaded.model.generation_config.eos_token_id = [END, after]
    passes = []
    watch_passes(monkeypatch, loaded, lambda ids: passes.append(1))
    counts = []
    try:
        for likely in ([], [answer], [[answer[0], 3, 3]]):
            passes.clear()
            with torch.inference_mode():
                (batch,) = engine.batches(loaded, [prompt], [0], 8)
                text = engine.write(loaded, batch, 8, likely)
            counts.append(len(passes))
            assert text == [loaded.tokenizer.decode([*answer, after], skip_special_tokens=True)]
    finally:
        loaded.model.generation_config.eos_token_id = END
    assert counts == [4, 2, 5]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("broken_pass", "with_draft"),
    [(0, False), (1, True), (1, False), (2, False)],
    ids=["first token", "draft", "second token", "third token"],
)
def test_overflow_at_any_token_is_refused(loaded_models, monkeypatch, broken_pass, with_draft, value):
    """The likeliest token of NaN logits is the first of the vocabulary: an answer like any other."""
    loaded = loaded_models("llama", False, False)
    prompts = [[5, 6, 7], [5, 6, 8, 9]]
    likely = [written_alone(loaded, prompt, 3) for prompt in prompts] if with_draft else []
    real, passes = type(loaded.model).forward, []

    def forward(self, *args, **kwargs):
        out = real(self, *args, **kwargs)
        if len(passes) == broken_pass:
            out.logits[-1] = value  # of one row only
        passes.append(1)
        return out

    with torch.inference_mode():
        (batch,) = engine.batches(loaded, prompts, range(2), 6)
        monkeypatch.setattr(type(loaded.model), "forward", forward)
        with pytest.raises(CourseError, match="The model's numbers overflow"):
            engine.write(loaded, batch, 6, likely)
    assert len(passes) == broken_pass + 1  # at once


def shape_of(nodes):
    return sorted(
        (node.tokens, node.row) if node.row is not None else (node.tokens, shape_of(node.children)) for node in nodes
    )


def test_a_beginning_within_a_beginning_is_computed_once():
    instruction, shots, other = [1] * 20, [2] * 10, [3] * 10
    prompts = [
        [*instruction, *shots, 4],
        [*instruction, *other, 5],
        [*instruction, *shots, 6, 7],
        [*instruction, *other, 6],
        [*instruction, 9],
    ]
    assert shape_of(engine.tree(prompts, range(5))) == [
        (instruction, [([2] * 10, [([4], 0), ([6, 7], 2)]), ([3] * 10, [([5], 1), ([6], 3)]), ([9], 4)])
    ]


def test_short_and_costly_beginnings_are_left_alone():
    short = [[1, 2, 3, row] for row in range(4)]
    assert shape_of(engine.tree(short, range(4))) == sorted((tokens, row) for row, tokens in enumerate(short))
    # ten tokens shared by two, behind a thousand that would be copied for their sake
    long = [[1] * 1000 + [2] * 10 + [row] for row in range(3, 5)] + [[1] * 1000 + [7]]
    (root,) = engine.tree(long, range(3))
    assert len(root.tokens) == 1000 and all(child.row is not None for child in root.children)


def test_prompts_that_grow_out_of_each_other_stay_flat():
    prompts = [[1] * length for length in range(1, 400)]
    depth, level = 0, engine.tree(prompts, range(len(prompts)))
    rows = []
    while level:
        rows += [node.row for node in level if node.row is not None]
        level = [child for node in level for child in node.children]
        depth += 1
    assert sorted(rows) == list(range(len(prompts))) and depth <= engine.DEPTH + 1


def test_a_shared_beginning_passes_through_the_model_once(loaded_models, monkeypatch):
    loaded = loaded_models("llama", False, False)
    prompts = [[*range(10, 60), *range(60, 70 + pair), 80 + reply] for pair in range(3) for reply in (1, 2)]
    columns = []
    watch_passes(monkeypatch, loaded, lambda ids: columns.append(ids.numel()))
    with torch.inference_mode():
        for batch in engine.batches(loaded, prompts, range(6), 0):
            engine.next_logits(loaded, batch)
    assert sum(columns) < 50 + 3 * 12 + 6 * 3 + 10 < sum(map(len, prompts)) / 3
