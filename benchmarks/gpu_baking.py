"""Measures the training step of an 8B Llama shape with random weights: tokens/s, memory, share of the GPU's peak.

    python -m benchmarks.gpu_baking [--teacher kept] [--tokens 8192] [--length 512] [--eager] [--peak-tflops 989]

Uses the GPU if torch sees one; otherwise a small shape on the CPU shows that it works. It runs the trainer's own step:
`Student.lesson` over packed rows, backward, AdamW. The teacher is the default one, with its hidden states computed in
advance, or the top-K that a rollout kept. Model FLOPs of a LoRA step count 2 (forward) and 2 (gradients of activations)
for each weight and token, the head only for predicted response tokens. Attention, the adapter itself, the teacher's
logits and recomputed activations are not counted: the card does more work than the share shows.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from baker.config.data import DataConfig
from baker.training.data.batches import Batch, make_batch
from baker.training.model import lora
from baker.training.model.student import Student
from baker.training.model.teacher_states import TeacherStates
from baker.types import Trajectory

SHAPES = {
    "8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "small": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
PEAK_TFLOPS = {"H200": 989, "H100": 989, "H800": 989, "B200": 2250, "A100": 312, "L40S": 362, "L4": 121, "4090": 165}
"""Dense bfloat16 peak from NVIDIA's data sheets, by a part of the GPU's name."""
TOP = 32
RANK = 16
WARMUP_STEPS = 3


def build(shape: str, device: torch.device) -> LlamaForCausalLM:
    """The model in bfloat16, with weights created on the device."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=131_072, tie_word_embeddings=False)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(default)
    return model.eval().requires_grad_(False)


def rows(count: int, length: int, prefix: int, response_share: float, vocabulary: int) -> list[Trajectory]:
    """Trajectories of `length` tokens that share their first `prefix` tokens."""
    generator = np.random.default_rng(0)
    shared = generator.integers(vocabulary, size=prefix)
    trajectories = []
    for _ in range(count):
        own = generator.integers(vocabulary, size=length - prefix)
        response = min(length - prefix - 1, round(length * response_share))
        ids = np.concatenate([shared, own]).astype(np.int32)
        top = np.stack([generator.choice(vocabulary, TOP, replace=False) for _ in range(response)])
        logprobs = np.log(generator.dirichlet(np.ones(TOP + 1), size=response))[:, :TOP]
        trajectories.append(
            Trajectory(
                teacher_ids=ids[:1],
                student_ids=ids[: length - response],
                response_ids=ids[length - response :],
                top_ids_TK=top.astype(np.int32),
                top_logprobs_TK=logprobs.astype(np.float32),
                stimulus="",
            )
        )
    return trajectories


def model_flops(model: LlamaForCausalLM, batch: Batch) -> float:
    """Model FLOPs of one step. Tokens that rows share are computed once and count once."""
    head: int = model.lm_head.weight.numel()
    inside: int = sum(layer.weight.numel() for layer in model.model.modules() if isinstance(layer, torch.nn.Linear))
    return 4.0 * (inside * len(batch.packing.source_T) + head * len(batch.response_ids_N))


def main() -> None:
    options = _options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_gpu = device.type == "cuda"
    length = options.length or (512 if is_gpu else 64)
    count = max(1, (options.tokens or (8192 if is_gpu else 256)) // length)
    torch.manual_seed(0)
    model = build(options.shape or ("8b" if is_gpu else "small"), device)
    student = Student(model)
    trajectories = rows(count, length, options.prefix, options.response_share, student.vocabulary)
    batch = make_batch(trajectories)
    flops = model_flops(model, batch)
    hidden_weight = 0.0
    if options.teacher == "full":
        hidden_weight = DataConfig().hidden_weight
        states_NLD = TeacherStates(student, trajectories, student.middle_layers).of(trajectories)
        batch = batch._replace(teacher_states_NLD=states_NLD)
    adapter = lora.attach(model, rank=RANK, alpha=RANK).model
    if options.checkpointing:
        student.recompute_activations()
    if is_gpu and not options.eager:
        begin = time.perf_counter()
        failure = student.compile_layers(make_batch(trajectories[:2]))
        print(failure or f"compiled in {time.perf_counter() - begin:.1f} s")
    weights = [weight for weight in adapter.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0, fused=True)
    model.train()

    def step() -> float:
        begin = time.perf_counter()
        lesson = student.lesson(batch.to(device), hidden_weight=hidden_weight)
        (lesson.loss / len(batch.response_ids_N)).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    for _ in range(WARMUP_STEPS):
        step()
    times = [step() for _ in range(options.steps)]
    seconds = statistics.median(times)
    name = torch.cuda.get_device_name() if is_gpu else "CPU"
    peak = options.peak_tflops or next((value for part, value in PEAK_TFLOPS.items() if part in name), None)
    print(f"{name}, torch {torch.__version__}, packed: {student.is_packed}, teacher: {options.teacher}")
    print(f"{count} trajectories of {length} tokens, {options.prefix} shared: {len(batch.packing.source_T)} computed")
    print(f"step {seconds * 1e3:.1f} ms (median of {len(times)}, {min(times) * 1e3:.1f} to {max(times) * 1e3:.1f})")
    print(f"{batch.tokens / seconds:,.0f} tokens/s, {flops / seconds / 1e12:.2f} TFLOP/s of the model")
    if is_gpu:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    if peak:
        print(f"{flops / seconds / 1e12 / peak:.1%} of {peak:g} TFLOP/s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_baking", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, help="absent: 8b on a GPU, small on a CPU")
    parser.add_argument("--tokens", type=int, help="tokens per step (8192 on a GPU, 256 on a CPU)")
    parser.add_argument("--length", type=int, help="tokens per trajectory (512 on a GPU, 64 on a CPU)")
    parser.add_argument("--prefix", type=int, default=0, help="tokens shared by all trajectories at their start (0)")
    parser.add_argument("--response-share", type=float, default=0.7, help="response's share of a trajectory (0.7)")
    parser.add_argument("--steps", type=int, default=10, help="measured steps, after the warmup (10)")
    parser.add_argument("--peak-tflops", type=float, help="bfloat16 peak of the card; absent: looked up by its name")
    parser.add_argument("--teacher", choices=["full", "kept"], default="full", help="whole vocabulary, or top-K (full)")
    parser.add_argument("--eager", action="store_true", help="do not compile the layers")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations: less memory")
    return parser.parse_args()


if __name__ == "__main__":
    main()
