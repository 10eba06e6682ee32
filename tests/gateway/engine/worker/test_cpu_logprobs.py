"""Log-probabilities tile by tile against vLLM's own sampler."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gateway.engine import Engine

VOCABULARY = 1000


@pytest.fixture(scope="module", autouse=True)
def _vllm_is_imported(engine: Engine) -> None:
    """The engine's fixture imports it without its warnings."""


def metadata(rows: int, **fields: Any) -> Any:
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.sample.metadata import SamplingMetadata

    nothing = torch.zeros(rows)
    settings: dict[str, Any] = {
        "temperature": None,
        "all_greedy": True,
        "all_random": False,
        "top_p": None,
        "top_k": None,
        "generators": {},
        "max_num_logprobs": 5,
        "no_penalties": True,
        "prompt_token_ids": None,
        "frequency_penalties": nothing,
        "presence_penalties": nothing,
        "repetition_penalties": nothing,
        "output_token_ids": [[] for _ in range(rows)],
        "allowed_token_ids_mask": None,
        "bad_words_token_ids": {},
        "logitsprocs": LogitsProcessors(),
    }
    return SamplingMetadata(**settings | fields)


def samplers(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """vLLM's own, and ours."""
    from vllm.v1.sample.sampler import Sampler

    from gateway.engine.worker import cpu_logprobs

    class Stock(Sampler):  # type: ignore[misc]  # vLLM's classes are Any to us
        forward = Sampler.forward

    monkeypatch.setattr(Sampler, "forward", Sampler.forward)  # and put it back
    monkeypatch.setattr(cpu_logprobs, "TILE_BYTES", 3 * 4 * VOCABULARY)
    cpu_logprobs.install()
    return Stock(), Sampler()


def random_logits(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(rows)).mul_(3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize("count", [0, 5])
def test_the_numbers_are_vllm_s_to_the_bit(
    rows: int, count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, ours = samplers(monkeypatch)
    mask = torch.zeros(rows, VOCABULARY, dtype=torch.bool)
    mask[:, :500] = True  # what is sampled is not the likeliest, and is ranked among all
    given = metadata(rows, max_num_logprobs=count, allowed_token_ids_mask=mask)
    expected, found = (sampler(random_logits(rows, dtype), given) for sampler in (stock, ours))
    assert torch.equal(found.sampled_token_ids, expected.sampled_token_ids)
    for name in ("logprob_token_ids", "logprobs", "selected_token_ranks"):
        one, other = getattr(found.logprobs_tensors, name), getattr(expected.logprobs_tensors, name)
        assert torch.equal(one, other) and one.dtype == other.dtype, name
    assert found.logprobs_tensors.selected_token_ranks.max() > 1 or rows == 1


def test_all_or_none_or_named_tokens_are_left_to_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    stock, ours = samplers(monkeypatch)
    for fields in ({"max_num_logprobs": None}, {"max_num_logprobs": -1}, {"logprob_token_ids": {0: [7, 9]}}):
        expected, found = (sampler(random_logits(4, torch.float32), metadata(4, **fields)) for sampler in (stock, ours))
        if expected.logprobs_tensors is None:
            assert found.logprobs_tensors is None
        else:
            assert torch.equal(found.logprobs_tensors.logprobs, expected.logprobs_tensors.logprobs)
