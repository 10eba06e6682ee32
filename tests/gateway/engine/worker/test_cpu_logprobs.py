"""Log-probabilities computed in parts, compared with vLLM's own sampler."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gateway.engine import Engine

VOCABULARY = 1000


@pytest.fixture(scope="module", autouse=True)
def _vllm_is_imported(engine: Engine) -> None:
    """The engine's fixture imports vLLM without its warnings."""


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
    """vLLM's own sampler, and ours."""
    from vllm.v1.sample.sampler import Sampler

    from gateway.engine.worker import cpu_logprobs

    class Stock(Sampler):  # type: ignore[misc]  # vLLM's classes are Any to us
        forward = Sampler.forward

    monkeypatch.setattr(Sampler, "forward", Sampler.forward)  # restored at the end
    monkeypatch.setattr(cpu_logprobs, "TILE_BYTES", 3 * 4 * VOCABULARY)
    cpu_logprobs.install()
    return Stock(), Sampler()


def random_logits(rows: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(rows)).mul_(3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize("count", [0, 5])
def test_the_numbers_equal_vllm_s_to_the_bit(
    rows: int, count: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, ours = samplers(monkeypatch)
    mask = torch.zeros(rows, VOCABULARY, dtype=torch.bool)
    mask[:, :500] = True  # so the sampled token is not the likeliest; its rank is among all
    given = metadata(rows, max_num_logprobs=count, allowed_token_ids_mask=mask)
    stock_output, ours_output = (sampler(random_logits(rows, dtype), given) for sampler in (stock, ours))
    assert torch.equal(ours_output.sampled_token_ids, stock_output.sampled_token_ids)
    for name in ("logprob_token_ids", "logprobs", "selected_token_ranks"):
        ours_tensor, stock_tensor = (
            getattr(ours_output.logprobs_tensors, name),
            getattr(stock_output.logprobs_tensors, name),
        )
        assert torch.equal(ours_tensor, stock_tensor) and ours_tensor.dtype == stock_tensor.dtype, name
    assert ours_output.logprobs_tensors.selected_token_ranks.max() > 1 or rows == 1


def test_vllm_handles_all_none_or_named_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    stock, ours = samplers(monkeypatch)
    for fields in ({"max_num_logprobs": None}, {"max_num_logprobs": -1}, {"logprob_token_ids": {0: [7, 9]}}):
        stock_output, ours_output = (
            sampler(random_logits(4, torch.float32), metadata(4, **fields)) for sampler in (stock, ours)
        )
        if stock_output.logprobs_tensors is None:
            assert ours_output.logprobs_tensors is None
        else:
            assert torch.equal(ours_output.logprobs_tensors.logprobs, stock_output.logprobs_tensors.logprobs)
