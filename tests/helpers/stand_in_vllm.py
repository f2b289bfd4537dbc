"""Stands in for the package vllm, which needs an NVIDIA GPU: the calls that we make, answered by plain transformers.

The names and defaults of its arguments are those of vLLM, so a call that vLLM would not understand fails here too.
"""

from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

made = []
"""Each `LLM`, in order."""


class SamplingParams:
    def __init__(self, *, n=1, temperature=1.0, top_p=1.0, stop=None, stop_token_ids=None, max_tokens=16, seed=None):
        assert n == 1 and temperature == 0 and stop is None, "only greedy answers without a stop text"
        self.max_tokens, self.stop_token_ids = max_tokens, list(stop_token_ids or ())


class LLM:
    def __init__(
        self,
        model,
        *,
        tokenizer=None,
        trust_remote_code=False,
        dtype="auto",
        revision=None,
        tokenizer_revision=None,
        max_model_len=None,
        load_format="auto",
        seed=0,
    ):
        assert not trust_remote_code and load_format == "safetensors" and revision == tokenizer_revision
        self.max_model_len, self.asked, self.calls = max_model_len, [], 0
        self.model = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=getattr(torch, dtype)).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        made.append(self)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None, priority=None):
        self.calls += 1
        return [self._answer(prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def _answer(self, tokens, params):
        assert len(tokens) + params.max_tokens <= self.max_model_len
        self.asked.append(tokens)
        ids = torch.tensor([tokens])
        out = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=params.max_tokens,
            do_sample=False,
            eos_token_id=params.stop_token_ids or None,
            pad_token_id=0,
        )
        text = self.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True)
        return SimpleNamespace(prompt_token_ids=tokens, outputs=[SimpleNamespace(index=0, text=text)])
