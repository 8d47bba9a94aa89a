"""What training a network of the gpt family takes, by arithmetic on its recipe alone.

Memory follows Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", section 4.1:
the tensors that a layer keeps for its backward pass are listed one by one. It differs from their 34 bytes for each
token and unit of width in what this trainer does otherwise: attention (sdpa) keeps no scores, the residual stream and
so the inputs of norms are fp32 under autocast, autocast keeps a copy of each matrix in bf16, and the loss never holds
all logits.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from models.cost import Cost
from models.gpt.schema import GPT2, GPTNeoX, num_parameters

CHUNK_BYTES = {False: 24 << 20, True: 512 << 20}
"""Logits of the loss held at once, on a GPU or not; as in `objectives.py`, which needs torch."""
LOGITS_COPIES = 3
"""Tensors of that size that live at a time."""

ACTIVATION_TENSORS = 2
"""Tensors as wide as the MLP that an activation in one kernel keeps: its input, and its output for the next matrix."""

UTILISATION_SHARES = {768: 0.4, 512: 0.25}
"""Widths, widest first, and the share of a GPU's peak that is assumed from each on; our estimate. MosaicML's
llm-foundry published 43 to 63 % on A100 and 35 to 46 % on H100 for 125M to 2.7B parameters in bf16; a width of 512 is
bound by memory and launches, and a smaller one by launches alone."""


def can_be_shared(training: Any) -> bool:
    """Whether devices can each hold a share of the network; PPO runs on one."""
    return _kind(training) != "ppo"


def _kind(training: Any) -> str:
    return getattr(getattr(training, "objective", None), "kind", "")


def training_cost(network: GPT2 | GPTNeoX, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:
    """What a recipe's training section asks for, with the networks that its objective reads beside.

    Args:
        network: the recipe's section of the network.
        training: its section of the training.
        encoder: the section of its encoder.
        on_gpu: whether attention keeps no scores under dropout, and masks are truth values, as on a GPU.
        is_compiled: whether layers are compiled, as by default on a GPU.
    """
    kind = _kind(training)
    if kind == "ppo":
        return _rounds_cost(network, training, encoder, on_gpu, is_compiled)
    cost = _network_cost(network, training, encoder, on_gpu, is_compiled)
    if kind == "dpo":
        # The reference's forward pass is a third of a forward and backward pass.
        return replace(cost, frozen_parameters=cost.num_parameters, step_flops=cost.step_flops * 4 / 3)
    return cost


def _rounds_cost(network: GPT2 | GPTNeoX, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:
    """Rounds of PPO: answers, their scores, and epochs of updates; each answer as long as it may be."""
    objective, samples = training.objective, training.samples
    longest = samples.max_tokens + objective.max_answer_tokens
    answered = samples.batch_samples * longest
    part = min(samples.micro_batch_samples, objective.mini_batch_samples) * longest
    sizes = SimpleNamespace(
        window_tokens=longest, batch_tokens=answered, micro_batch_tokens=part, isolate_documents=False
    )
    own = network.model_copy(update={"dropout": 0.0})  # policy and critic stay without
    one = SimpleNamespace(samples=sizes, precision=training.precision)
    epoch = _network_cost(own, one, encoder, on_gpu, is_compiled)
    trunks = 2 if objective.critic == "separate" else 1
    reference = epoch.num_parameters
    if objective.num_trained_layers is not None:  # it shares all other layers with the policy
        reference = objective.num_trained_layers * epoch.block_parameters + 2 * network.hidden_size
    # Sampling, and what policy, critic, reference and reward model say of the answers: each a third of an epoch.
    passes = 3 + trunks
    # Keys and values of all answers of a round, which are sampled at once.
    cache = 2 * network.num_layers * network.hidden_size * (2 if training.precision == "bf16" else 4) * answered
    return replace(
        epoch,
        num_parameters=trunks * epoch.num_parameters,
        step_flops=epoch.step_flops * (objective.num_epochs * trunks + passes / 3),
        recomputed_flops=epoch.recomputed_flops * objective.num_epochs * trunks,
        activation_bytes=max(trunks * epoch.activation_bytes, cache),
        recomputing_activation_bytes=max(trunks * epoch.recomputing_activation_bytes, cache),
        frozen_parameters=reference + epoch.num_parameters,
        can_be_shared=can_be_shared(training),
    )


def _network_cost(network: GPT2 | GPTNeoX, training: Any, encoder: Any, on_gpu: bool, is_compiled: bool) -> Cost:
    """Of one network that reads the samples as they are."""
    samples, rows = training.samples, network.vocab_size or encoder.vocab_size
    width, layers, window = network.hidden_size, network.num_layers, samples.window_tokens
    matrices = 4 * width * width + 2 * width * network.intermediate_size
    total = num_parameters(network, rows)
    block = matrices + 9 * width + network.intermediate_size  # four norm vectors, and the biases of four matrices
    tokens = samples.micro_batch_tokens
    number = 2 if training.precision == "bf16" else 4
    copy = 2 * matrices if number == 2 else 0
    layer = tokens * _layer_token_bytes(network, training, on_gpu) + copy
    # Autocast keeps its copies until the forward pass ends, of layers that are computed again too; compiled ones make
    # theirs inside.
    cached = 0 if is_compiled else copy * (layers - 1)
    # The last norm's input and its output's gradient, which the loss takes in its forward pass, in fp32; a mask.
    outer = tokens * (2 * 4 * width + _mask_bytes(network, on_gpu))
    return Cost(
        num_parameters=total,
        block_parameters=block,
        outer_parameters=total - layers * block,
        item="tokens",
        batch_items=samples.batch_tokens,
        micro_batch_items=tokens,
        # Chowdhery et al. 2022, "PaLM", appendix B: attention's full square, although half of it is masked.
        step_flops=samples.batch_tokens * (6 * (layers * matrices + rows * width) + 12 * layers * width * window),
        recomputed_flops=samples.batch_tokens * layers * (2 * matrices + 4 * width * window),
        activation_bytes=layers * layer + outer,
        recomputing_activation_bytes=layers * tokens * 4 * width + layer + cached + outer,
        # The head's gradient in fp32 twice, while it is scaled; a copy of the head in bf16; logits.
        loss_bytes=2 * 4 * rows * width
        + (2 * rows * width if number == 2 else 0)
        + LOGITS_COPIES * min(CHUNK_BYTES[on_gpu], 4 * rows * tokens),
        utilisation_share=next((share for least, share in UTILISATION_SHARES.items() if width >= least), None),
    )


def _layer_token_bytes(network: GPT2 | GPTNeoX, training: Any, on_gpu: bool) -> int:
    """Bytes of activations that one layer keeps for each token."""
    width, number = network.hidden_size, 2 if training.precision == "bf16" else 4
    # Inputs of query-key-value and of the MLP; query, key and value; what attention gives.
    wide = 2 + 3 + 1
    if isinstance(network, GPTNeoX):
        wide += 3  # rotated queries and keys, and a copy of what attention gives, in the order of tokens
    norms = 2 * 4 * width  # their inputs
    moments = 4 * (4 + network.num_heads)  # mean and deviation of two norms, the scores' normaliser of each head
    kept = norms + number * (wide * width + ACTIVATION_TENSORS * network.intermediate_size) + moments
    kept += 2 * _mask_bytes(network, on_gpu)
    window = training.samples.window_tokens
    if network.dropout and not on_gpu:
        kept += 3 * 4 * network.num_heads * window  # flash attention on a CPU has no dropout: scores, mask, product
    if training.samples.isolate_documents and bool(network.dropout) == on_gpu:
        # What is added to the scores to keep documents apart. On a GPU without dropout they have attention of their
        # own; on a CPU with it, the scores above hold it.
        kept += number * window
    return kept


def _mask_bytes(network: GPT2 | GPTNeoX, on_gpu: bool) -> int:
    """Bytes of one dropout mask for each token: truth values on a GPU, numbers in fp32 on a CPU."""
    return (1 if on_gpu else 4) * network.hidden_size if network.dropout else 0


def facts(encoder: Any) -> dict[str, Any]:
    """What such an encoder will tell a network, as far as that decides its shape."""
    return {"vocab_size": encoder.vocab_size, "unk": 0, "bos": 1, "eos": 2, "pad": 3}


def shortened(training: Any, num_tokens: int) -> Any:
    """A training section whose one micro-batch has about so many tokens, for a trial with random ones."""
    window = min(training.samples.window_tokens, num_tokens)
    tokens = num_tokens // window * window
    sizes = {"window_tokens": window, "batch_tokens": tokens, "micro_batch_tokens": tokens, "isolate_documents": False}
    return training.model_copy(update={"samples": training.samples.model_copy(update=sizes)})


def batch_shapes(network: GPT2 | GPTNeoX, training: Any, encoder: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """The tensors of one micro-batch: name -> shape, and the integer that every element lies below."""
    samples = training.samples
    shape = (samples.micro_batch_samples, samples.window_tokens + 1)
    return {"input_ids": (shape, network.vocab_size or encoder.vocab_size)}
