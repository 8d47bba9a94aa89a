"""GPT-2 and GPT-NeoX: transformers' own classes with every field of their configuration set.

What is trained is what is published. The defaults of GPTNeoXConfig are not those of the released models (parallel
residual, a quarter of the head rotated, 50k vocabulary), so nothing is left to a default.
"""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    PreTrainedModel,
)
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D

from models.gpt.schema import GPT2, GPTNeoX
from models.objective import Mismatch, Setting

VARLEN = "varlen"
"""What `varlen_attention` is called among transformers' attention functions."""


def vocab_size(section: GPT2 | GPTNeoX, facts: dict[str, Any]) -> int:
    """Rows of the embedding.

    Raises:
        Mismatch: the tokenizer has ids beyond them.
    """
    if section.vocab_size is None:
        return int(facts["vocab_size"])
    if section.vocab_size < facts["vocab_size"]:
        raise Mismatch(
            f"network.vocab_size is {section.vocab_size}, but the encoder has {facts['vocab_size']} ids. "
            f"Raise network.vocab_size to {facts['vocab_size']} or more, or remove the key to take the encoder's."
        )
    return section.vocab_size


def configuration(section: GPT2 | GPTNeoX, facts: dict[str, Any]) -> GPT2Config | GPTNeoXConfig:
    """The configuration that is trained and published; `facts` are the encoder's `vocab_size`, `bos`, `eos`, `pad`."""
    shared: dict[str, Any] = {
        "vocab_size": vocab_size(section, facts),
        "initializer_range": section.initializer_range,
        "bos_token_id": facts["bos"],
        "eos_token_id": facts["eos"],
        "pad_token_id": facts["pad"],
        "use_cache": True,  # for whoever generates; training passes False with each call
        "attn_implementation": "sdpa",  # of this process; transformers does not save it
    }
    if isinstance(section, GPT2):
        return GPT2Config(
            **shared,
            n_positions=section.max_positions,
            n_embd=section.hidden_size,
            n_layer=section.num_layers,
            n_head=section.num_heads,
            n_inner=section.intermediate_size,
            activation_function=section.activation,
            resid_pdrop=section.dropout,
            embd_pdrop=section.dropout,
            attn_pdrop=section.dropout,
            layer_norm_epsilon=section.layer_norm_eps,
            # The summary_* fields belong to GPT2DoubleHeadsModel alone; these are transformers' values.
            summary_type="cls_index",
            summary_use_proj=True,
            summary_activation=None,
            summary_proj_to_labels=True,
            summary_first_dropout=0.1,
            scale_attn_weights=True,
            scale_attn_by_inverse_layer_idx=False,
            reorder_and_upcast_attn=False,
            add_cross_attention=False,
            tie_word_embeddings=True,
        )
    return GPTNeoXConfig(
        **shared,
        hidden_size=section.hidden_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        intermediate_size=section.intermediate_size,
        hidden_act=section.activation,
        attention_dropout=section.dropout,
        hidden_dropout=section.dropout,
        classifier_dropout=0.1,  # belongs to the classifiers alone; transformers' value
        max_position_embeddings=section.max_positions,
        layer_norm_eps=section.layer_norm_eps,
        tie_word_embeddings=section.tied,
        use_parallel_residual=section.parallel_residual,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(section.rotary_base),
            "partial_rotary_factor": section.rotary_share,
        },
        attention_bias=True,
        is_decoder=False,  # transformers' value; the class is causal all the same
    )


def build(section: GPT2 | GPTNeoX, facts: dict[str, Any]) -> PreTrainedModel:
    """A network with random weights, drawn from torch's global generator: seed it first.

    Raises:
        Mismatch: see `vocab_size`.
    """
    config = configuration(section, facts)
    return quickened(GPT2LMHeadModel(config) if isinstance(config, GPT2Config) else GPTNeoXForCausalLM(config))


def quickened(network: Any) -> PreTrainedModel:
    """The same network with GELU's tanh form in one kernel.

    transformers writes it out in eight operations and keeps what each of them needs.
    """
    for block in blocks(network):
        layer: Any = block.mlp
        if isinstance(layer.act, NewGELUActivation | FastGELUActivation):
            layer.act = nn.GELU(approximate="tanh")
    found: PreTrainedModel = network
    return found


REWARD_HEAD = "score.weight"
"""What a reward model has besides the trunk of the language model that it starts from."""


def begin(section: GPT2 | GPTNeoX, objective: Any, setting: Setting) -> nn.Module:
    """The network that a training begins with: random, or with the weights of the model that it starts from.

    Args:
        section: the recipe's network.
        objective: the section of the objective, which decides what the network predicts.
        setting: says where to start from.

    Raises:
        Mismatch: see `vocab_size`; or the weights are those of another shape.
    """
    network = build(section, setting.facts)
    if objective.kind == "reward":
        network = with_scalar_head(network)
    if setting.start is not None:
        take_weights(network, setting.start)
    if objective.kind == "ppo":
        from models.gpt.ppo import begin_actor

        return begin_actor(objective, network, setting)
    return network


def with_scalar_head(network: PreTrainedModel) -> PreTrainedModel:
    """A network of the same shape that gives one number a sequence, as AutoModelForSequenceClassification loads it.

    Its head is linear, without a bias, and drawn from torch's global generator.
    """
    config: Any = copy.deepcopy(network.config)
    config.num_labels = 1
    kind = GPT2ForSequenceClassification if isinstance(config, GPT2Config) else GPTNeoXForSequenceClassification
    made: Any = kind(config)
    head = made.score
    # Small enough that all rewards begin near 0 (Stiennon et al. 2020, "Learning to summarize", appendix B.1).
    nn.init.normal_(head.weight, std=1 / math.sqrt(config.hidden_size + 1))
    return quickened(made)


def take_weights(network: PreTrainedModel, folder: Path) -> None:
    """Copy the weights of a folder of safetensors into a network; a head for rewards that it lacks keeps its own.

    Raises:
        Mismatch: another tensor is missing there, or one has another shape.
    """
    from models.gpt.convert import load

    given = load(folder).state_dict()
    own = network.state_dict()
    wrong = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if (given[name].shape != tensor.shape if name in given else name != REWARD_HEAD)
    ]
    if wrong:
        raise Mismatch(
            f"'starts_from' is a network of another shape or kind: {folder} lacks {', '.join(wrong[:3])}"
            f"{' and others' if len(wrong) > 3 else ''}. Copy the section 'network' of that recipe."
        )
    network.load_state_dict({name: given.get(name, tensor) for name, tensor in own.items()})


def num_parameters(section: GPT2 | GPTNeoX, facts: dict[str, Any]) -> int:
    """Parameters, tied ones counted once, without allocating any."""
    with torch.device("meta"):
        network = build(section, facts)
    return sum(parameter.numel() for parameter in network.parameters())


def check(section: GPT2 | GPTNeoX, facts: dict[str, Any], samples: Any) -> None:
    """Refuse sections that do not fit each other, before anything is allocated.

    Raises:
        Mismatch: samples are longer than the context, ids beyond the embedding, or the parameters are not as many as
            the recipe asserts.
    """
    if samples.window_tokens > section.max_positions:
        raise Mismatch(
            f"samples.window_tokens is {samples.window_tokens}, but network.max_positions is {section.max_positions}, "
            "so a sample does not fit into the context. Lower the first or raise the second."
        )
    found, expected = num_parameters(section, facts), section.expected_num_parameters
    if expected is not None and found != expected:
        raise Mismatch(
            f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). "
            "Change the shape, or the expected number if the shape is meant."
        )


def blocks(network: nn.Module) -> list[nn.Module]:
    """The layers, first to last; of a policy with its critic those of both, which stay in evaluation: not compiled."""
    if not isinstance(network, PreTrainedModel):
        return [block for each in network.children() if isinstance(each, PreTrainedModel) for block in blocks(each)]
    base = network.base_model
    layers: Any = base.h if isinstance(network.config, GPT2Config) else base.layers
    return list(layers)


def num_matrix_parameters(network: PreTrainedModel) -> int:
    """Parameters that are multiplied with every token: matrices of the blocks and of the head.

    Embeddings are looked up, biases added and norms scaled, so they do not count; a head tied to the embedding does.
    """
    matrices = [each for each in network.base_model.modules() if isinstance(each, nn.Linear | Conv1D)]
    head = network.get_output_embeddings()
    return sum(each.weight.numel() for each in matrices) + (head.weight.numel() if head is not None else 0)


# ---- forward pass ----------------------------------------------------------------------------------------------------


def hidden_states(network: PreTrainedModel, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """What the head reads.

    Args:
        network: as `build` makes it, wrapped for several devices or not.
        input_ids: int64, shape [samples, tokens].
        position_ids: int64, shape [samples, tokens], counted from 0 in each document. Documents of a sample do not see
            each other. None: a sample is one document.

    Returns:
        The last hidden states, shape [samples, tokens, hidden_size].
    """
    given: dict[str, Any] = {}
    if position_ids is not None:
        given["position_ids"] = position_ids
        if takes_varlen(network, position_ids.device):
            # It stays set: blocks that are computed again in the backward pass must find the same function.
            if network.config._attn_implementation != VARLEN:  # noqa: SLF001 - transformers has no public name
                network.set_attn_implementation(VARLEN)
            given |= varlen_arguments(position_ids)
    # Danger: without varlen_arguments, transformers keeps documents apart only if positions restart, no attention mask
    # is given and no cache is used. Otherwise they see each other, and nothing says so.
    return network.base_model(input_ids=input_ids, use_cache=False, **given).last_hidden_state


def takes_varlen(network: PreTrainedModel, device: torch.device) -> bool:
    """Whether `varlen_attn` of torch can compute this network's attention; transformers' dense mask always can.

    It is FlashAttention-2 (Dao 2023) without dropout: for GPUs from compute capability 8.0 (Ampere) on, 16-bit types,
    and heads of a multiple of 8 up to 256.
    """
    config, kind = network.config, device.type
    if kind != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    dtype = network.get_input_embeddings().weight.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    dropout = config.attn_pdrop if isinstance(config, GPT2Config) else config.attention_dropout
    head_size = config.hidden_size // config.num_attention_heads
    return (
        dtype in (torch.bfloat16, torch.float16)
        and head_size % 8 == 0
        and head_size <= 256
        and not (network.training and dropout)
    )


def varlen_arguments(position_ids: Tensor) -> dict[str, Any]:
    """What `varlen_attention` needs to know of a batch, once for all layers, under transformers' own names.

    The number of documents comes from the device, which this waits for.

    Args:
        position_ids: int64, shape [samples, tokens], 0 where a document begins.

    Returns:
        `cu_seq_lens_q`: int32, shape [documents + 1], where each document begins in the tokens of all samples one after
            another, and where the last one ends.
        `max_length_q`: no document is longer.
        `attention_mask`: stands for the mask that is not needed.
    """
    begins = position_ids == 0
    begins[:, 0] = True
    bounds = nn.functional.pad(begins.flatten().nonzero().flatten(), (0, 1), value=begins.numel())
    return {
        "cu_seq_lens_q": bounds.to(torch.int32),
        "max_length_q": position_ids.shape[1],
        # transformers takes a mask of four dimensions as it is, and builds no dense one [samples, 1, tokens, tokens].
        "attention_mask": begins.new_zeros((1, 1, 1, 1)),
    }


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **given: Any,
) -> tuple[Tensor, None]:
    """Causal attention within documents, as an attention function of transformers; without their bounds, sdpa.

    Args:
        module: the layer's attention.
        query: shape [samples, heads, tokens, head_size]; keys and values likewise.
        key: see query.
        value: see query.
        attention_mask: for sdpa only.
        scaling: of the scores; None takes head_size ** -0.5.
        cu_seq_lens_q: see `varlen_arguments`.
        max_length_q: see `varlen_arguments`.
        given: for sdpa only.

    Returns:
        Shape [samples, tokens, heads, head_size], and no weights.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **given)
    samples, heads, tokens, head_size = query.shape
    # Rotary embeddings leave queries and keys in fp32 under autocast; values are in the type to compute in.
    queries, keys, values = (
        each.transpose(1, 2).reshape(samples * tokens, heads, head_size).to(value.dtype) for each in (query, key, value)
    )
    bounds, longest = cu_seq_lens_q, max_length_q
    causal = (-1, 0)  # varlen_attn's word for it
    attended = varlen_attn(queries, keys, values, bounds, bounds, longest, longest, scale=scaling, window_size=causal)
    assert isinstance(attended, Tensor)  # noqa: S101 - a tuple is returned where more was asked for
    return attended.view(samples, tokens, heads, head_size), None


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, sdpa_mask)
