"""GPT-2 and GPT-NeoX: transformers' own classes with every field of their configuration set.

What is trained is what is published. The defaults of GPTNeoXConfig are not those of the released models (parallel
residual, a quarter of the head rotated, 50k vocabulary), so nothing is left to a default.
"""

from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from models.gpt.schema import GPT2, GPTNeoX, Samples
from models.objective import Mismatch


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
    return GPT2LMHeadModel(config) if isinstance(config, GPT2Config) else GPTNeoXForCausalLM(config)


def num_parameters(section: GPT2 | GPTNeoX, facts: dict[str, Any]) -> int:
    """Parameters, tied ones counted once, without allocating any."""
    import torch

    with torch.device("meta"):
        network = build(section, facts)
    return sum(parameter.numel() for parameter in network.parameters())


def check(section: GPT2 | GPTNeoX, facts: dict[str, Any], samples: Samples) -> None:
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
