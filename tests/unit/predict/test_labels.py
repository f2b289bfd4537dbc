"""Where label words differ, and how the probability is divided there."""

import pytest
import torch

from llmcourse import predict
from llmcourse.data.tasks import Task
from llmcourse.predict import Prompt, label_choices


def test_choices_are_where_labels_part():
    choices = label_choices([[5, 6, 7], [8, 5, 6]])
    assert list(choices) == [()] and choices[()].next_token == [5, 8]
    choices = label_choices([[1, 2], [1, 3], [4]])
    assert list(choices) == [(), (1,)]
    assert choices[(1,)].next_token == [2, 3, None]


def test_a_label_that_begins_another_gets_the_rest_of_the_probability(make_tiny):
    loaded = make_tiny(5)
    task = Task("moods", "Say the mood.", {"comment": "text"}, ("good", "good indeed", "bad"))
    logprobs = predict.score(loaded, Prompt(task), [{"comment": "fine"}]).logprobs[0]
    assert sum(torch.tensor(logprobs).exp()) == pytest.approx(1, abs=1e-6)
    ids = loaded.tokenizer(Prompt(task).text({"comment": "fine"}) + " good").input_ids
    with torch.inference_mode():
        follows = loaded.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    more = float(follows[loaded.tokenizer(" indeed").input_ids[0]])
    first = torch.tensor(logprobs).exp()
    assert float(first[1] / (first[0] + first[1])) == pytest.approx(more, abs=1e-6)
