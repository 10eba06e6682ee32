import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from baker.training.data.batches import make_batch
from baker.training.model.divergences import Measure
from baker.training.model.losses import divergence, forward_kl
from baker.training.model.student import Student, total
from tests.baker.tiny import make_model, make_trajectories
from tests.baker.training.model.models import ScaledLlama

CPU = torch.device("cpu")
ROWS = make_trajectories(5)


def one_by_one(model: LlamaForCausalLM) -> Tensor:
    """The response's logits of each row alone, without padding, batches or positions."""
    logits = []
    with torch.no_grad():
        for row in ROWS:
            ids = torch.tensor([[*row.student_ids.tolist(), *row.response_ids.tolist()]])
            logits.append(model(input_ids=ids).logits[0, len(row.student_ids) - 1 : -1])
    return torch.cat(logits)


@pytest.mark.parametrize("kind", [LlamaForCausalLM, ScaledLlama])
def test_a_padded_batch_gives_what_each_row_gives_alone(kind: type[LlamaForCausalLM]) -> None:
    model = make_model().requires_grad_(False)
    model.__class__ = kind
    student, batch, logits = Student(model), make_batch(ROWS), one_by_one(model)
    expected = float(forward_kl(logits, batch.top_ids_NK, batch.top_logprobs_NK).sum())
    assert float(student.divergence(batch)) == pytest.approx(expected, rel=1e-4)
    compared = total([student.compare(batch), student.compare(batch)])
    assert compared.nats == pytest.approx(2 * expected, rel=1e-4)
    assert compared.tokens == 2 * len(batch.response_ids_N)
    greedy = [int(row.argmax()) for row in logits]
    agreed = sum(token == int(ids[0]) for token, ids in zip(greedy, batch.top_ids_NK, strict=True))
    assert 0 < agreed < len(greedy) and compared.agreed == 2 * agreed
    other = Measure(beta=0.5, temperature=2.0)
    expected = float(divergence(logits, batch.top_ids_NK, batch.top_logprobs_NK, other).sum())
    assert float(student.divergence(batch, other)) == pytest.approx(expected, rel=1e-4)
    logprobs = logits.log_softmax(-1).gather(-1, batch.response_ids_N[:, None]).squeeze(-1)
    assert student.response_logprobs(batch) == pytest.approx(logprobs.tolist(), abs=1e-4)
