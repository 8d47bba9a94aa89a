"""Image towers and pairs of towers: transformers' own ViT and BERT, with every field of their configuration set."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ViTConfig, ViTForImageClassification, ViTModel

from models.clip.schema import Cloob, Dual, ImageTower, Siglip, TextTower, parameters_in_words
from models.clip.schema import num_parameters as counted
from models.objective import Mismatch, Setting

MAX_SCALE = 100.0
"""Of cosines, where the scale is learned (Radford et al. 2021, section 2.5)."""


class DualEncoder(nn.Module):
    """A locked image tower, a text tower, and a projection of each into the width in which they are compared."""

    def __init__(
        self,
        tower: nn.Module | None,
        text_tower: nn.Module,
        visual_projection: nn.Linear,
        text_projection: nn.Linear,
        reads: Literal["class-token", "pooler"] = "class-token",
    ) -> None:
        """Take what it consists of.

        Args:
            tower: None where features come in its place.
            text_tower: BERT, or somebody else's.
            visual_projection: of the tower's width.
            text_projection: of the text tower's width.
            reads: what of a tower is projected: its last state of the first token; or, of other people's, what its
                pooler makes of that.
        """
        super().__init__()
        self.tower, self.text_tower = tower, text_tower
        self.visual_projection, self.text_projection = visual_projection, text_projection
        self.reads = reads
        self.logit_scale: nn.Parameter | None = None
        """The logarithm of what multiplies cosines, where it is learned."""
        self.logit_bias: nn.Parameter | None = None
        self.contrast: dict[str, Any] = {}
        """`kind` of the objective it was trained with, and numbers of it that a release tells."""
        if tower is not None:
            tower.requires_grad_(False)

    def train(self, mode: bool = True) -> "DualEncoder":
        """The locked tower stays as it evaluates."""
        super().train(mode)
        if self.tower is not None:
            self.tower.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.text_projection.weight.device

    def scale(self) -> Tensor | float:
        """What multiplies cosines."""
        if self.logit_scale is None:
            return float(self.contrast.get("inverse_temperature", 1.0))
        return self.logit_scale.clamp(max=math.log(MAX_SCALE)).exp()

    def _read(self, output: Any) -> Tensor:
        found: Tensor = output.last_hidden_state[:, 0] if self.reads == "class-token" else output.pooler_output
        return found

    def tower_features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [pictures, 3, height, width] -> what the locked tower makes of them, [pictures, width].

        Raises:
            Mismatch: it was built for features alone.
        """
        if self.tower is None:
            raise Mismatch("this network was built without its image tower, so it takes features in place of pixels")
        with torch.no_grad():
            return self._read(self.tower(pixel_values=pixels))

    def image_features(self, inputs: Tensor) -> Tensor:
        """Pixels as in `tower_features`, or what it has made of them -> [pictures, projection], of any length.

        Raises:
            Mismatch: the features are of another width than the projection takes.
        """
        features = self.tower_features(inputs) if inputs.ndim == 4 else inputs
        expected = self.visual_projection.in_features
        if features.shape[1] != expected:
            raise Mismatch(
                f"features have {features.shape[1]} numbers a picture, but the projection takes {expected}: they are "
                "another tower's. Name the shards of the encoder whose 'model' is network.tower."
            )
        found: Tensor = self.visual_projection(features.to(self.visual_projection.weight.dtype))
        return found

    def text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask of captions, int64 [captions, tokens] -> [captions, projection], of any length."""
        if self.training and self.reads == "class-token" and isinstance(self.text_tower, BertModel):
            state = first_states(self.text_tower, ids, mask)
        else:
            state = self._read(self.text_tower(input_ids=ids, attention_mask=mask))
        found: Tensor = self.text_projection(state)
        return found


def first_states(bert: BertModel, ids: Tensor, mask: Tensor) -> Tensor:
    """BERT's last state at the first token, without those at the others: the same but for rounding, for less.

    Of the last layer only keys and values are needed everywhere.

    Args:
        bert: without a pooler.
        ids: int64 [captions, tokens].
        mask: int64 [captions, tokens], 0 at padding.

    Returns:
        [captions, width].
    """
    every: Any = bert.encoder.layer
    *layers, last = every
    hidden, is_there = bert.embeddings(input_ids=ids), mask.bool()[:, None, None, :]
    # As many rows as queries: what the fused kernels take.
    square = is_there.expand(-1, 1, ids.shape[1], -1)
    for layer in layers:
        hidden = layer(hidden, square)
    own: Any = last.attention.self
    first = hidden[:, :1]
    heads = (own.num_attention_heads, own.attention_head_size)
    query, key, value = (
        part(states).unflatten(2, heads).transpose(1, 2)
        for part, states in ((own.query, first), (own.key, hidden), (own.value, hidden))
    )
    dropout = own.dropout.p if own.training else 0.0
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_there, dropout)
    found: Tensor = last.feed_forward_chunk(last.attention.output(mixed.transpose(1, 2).flatten(2), first))
    return found[:, 0]


# ---- configurations --------------------------------------------------------------------------------------------------


def vit_configuration(
    section: ImageTower, labels: int | list[str] = 0, many: bool = False, groups: dict[str, int] | None = None
) -> ViTConfig:
    """The configuration that is trained and published.

    Args:
        section: sizes.
        labels: names of what it can see, or how many there are.
        many: whether several of them can hold of one picture.
        groups: of which one name each holds: their sizes, in the order of the labels.
    """
    names = labels if isinstance(labels, list) else [f"LABEL_{number}" for number in range(labels)]
    here: dict[str, Any] = {"attn_implementation": "sdpa"}  # of this process; transformers does not save it
    return ViTConfig(
        **here,
        **({"label_groups": groups} if groups else {}),
        architectures=["ViTForImageClassification" if names else "ViTModel"],
        hidden_size=section.hidden_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        intermediate_size=section.intermediate_size,
        hidden_act="gelu",
        hidden_dropout_prob=section.dropout,
        attention_probs_dropout_prob=section.attention_dropout,
        initializer_range=section.initializer_range,
        layer_norm_eps=section.layer_norm_eps,
        image_size=section.size_px,
        patch_size=section.patch_px,
        num_channels=3,
        qkv_bias=True,
        problem_type="multi_label_classification" if many else "single_label_classification",
        id2label=dict(enumerate(names or ["LABEL_0", "LABEL_1"])),
        label2id={name: number for number, name in enumerate(names or ["LABEL_0", "LABEL_1"])},
    )


def bert_configuration(section: TextTower, facts: dict[str, Any]) -> BertConfig:
    """The configuration that is trained and published.

    Args:
        section: sizes.
        facts: the encoder's: `vocab_size` and the id `pad`.
    """
    here: dict[str, Any] = {"attn_implementation": "sdpa"}
    return BertConfig(
        **here,
        architectures=["BertModel"],
        vocab_size=int(facts["vocab_size"]),
        hidden_size=section.hidden_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        intermediate_size=section.intermediate_size,
        hidden_act="gelu",
        hidden_dropout_prob=section.dropout,
        attention_probs_dropout_prob=section.attention_dropout,
        max_position_embeddings=section.num_positions,
        type_vocab_size=2,
        initializer_range=section.initializer_range,
        layer_norm_eps=section.layer_norm_eps,
        pad_token_id=int(facts.get("pad", 0)),
        is_decoder=False,
        add_cross_attention=False,
        use_cache=False,
    )


# ---- making them -----------------------------------------------------------------------------------------------------


def build(section: ImageTower | Dual, facts: dict[str, Any]) -> nn.Module:
    """A network with random weights, drawn from torch's global generator: seed it first. No image tower beside text.

    Args:
        section: sizes.
        facts: the encoder's: `num_labels` (and `labels`, `many`, `groups`), or `vocab_size` and `pad`.
    """
    if isinstance(section, ImageTower):
        labels = facts.get("labels") or int(facts["num_labels"])
        config = vit_configuration(section, labels, bool(facts.get("many")), facts.get("groups"))
        return ViTForImageClassification(config)
    text = BertModel(bert_configuration(section.text, facts), add_pooling_layer=False)
    visual, textual = (projection(width, section) for width in (section.tower_width, section.text.hidden_size))
    return DualEncoder(None, text, visual, textual)


def projection(width: int, section: Dual) -> nn.Linear:
    """Without a bias, drawn as CLIP's are (Radford et al. 2021, its `model.py`)."""
    found = nn.Linear(width, section.projection_size, bias=False)
    nn.init.normal_(found.weight, std=width**-0.5)
    return found


def equip(network: Any, objective: Any) -> None:
    """Give a pair of towers the scale and bias that an objective learns, and note what it is trained with."""
    if network.contrast:
        return
    network.contrast = {"kind": objective.kind}
    like = network.text_projection.weight
    if isinstance(objective, Cloob):
        network.contrast |= {
            "inverse_temperature": objective.inverse_temperature,
            "hopfield_scale": objective.hopfield_scale,
        }
        return
    network.logit_scale = nn.Parameter(torch.tensor(math.log(objective.init_scale), dtype=like.dtype).to(like.device))
    if isinstance(objective, Siglip):
        network.logit_bias = nn.Parameter(torch.tensor(objective.init_bias, dtype=like.dtype).to(like.device))


def begin(section: ImageTower | Dual, objective: Any, setting: Setting) -> nn.Module:
    """The network that a training begins with; a pair of towers has the locked one's weights.

    Args:
        section: the recipe's network.
        objective: the section of the objective.
        setting: says where the locked tower lies.

    Raises:
        Mismatch: the encoder makes something else, or the tower is none, or one of another size.
    """
    fact = "num_labels" if isinstance(section, ImageTower) else "vocab_size"
    if fact not in setting.facts:
        raise Mismatch(
            f"network.kind is '{section.kind}', but the encoder tells {', '.join(setting.facts)}, expected {fact}. "
            "Change one of the keys network.kind and 'encoder'."
        )
    network: Any = build(section, setting.facts)
    if isinstance(section, Dual):
        equip(network, objective)
        tower = locked_tower(section, setting.parents[section.tower])
        network.tower = tower.requires_grad_(False)
    return network


def locked_tower(section: Dual, folder: Path) -> ViTModel:
    """The image tower of a folder, without head and pooler, ready to evaluate.

    Raises:
        Mismatch: there is none, or it is of another size.
    """
    from models.clip.convert import load

    tower = vit_of(load(folder), folder)
    if tower.config.hidden_size != section.tower_width:
        raise Mismatch(
            f"network.tower_width is {section.tower_width}, but '{section.tower}' has {tower.config.hidden_size}. "
            "Change one of the keys network.tower and network.tower_width."
        )
    found, expected = sum(each.numel() for each in tower.parameters()), section.expected_tower_parameters
    if expected is not None and found != expected:
        raise Mismatch(
            f"the tower '{section.tower}' has {found:,} parameters, expected {expected:,} "
            "(network.expected_tower_parameters). Change the key network.tower, or the number if that one is meant."
        )
    return tower.eval()


def vit_of(network: Any, folder: Path) -> ViTModel:
    """The ViT in a network that was read from a folder, without a pooler.

    Raises:
        Mismatch: there is none.
    """
    tower = getattr(network, "vit", None) or getattr(network, "tower", None) or network
    if not isinstance(tower, ViTModel):
        raise Mismatch(
            f"{folder} holds a network of type {type(network).__name__}, expected a ViT that 'network.tower' can name."
        )
    tower.pooler = None
    return tower


def num_parameters(section: ImageTower | Dual, facts: dict[str, Any]) -> int:
    """Of what `expected_num_parameters` counts, without allocating any."""
    with torch.device("meta"):
        network: Any = build(section, facts)
    counting = network.vit if isinstance(section, ImageTower) else network
    return sum(parameter.numel() for parameter in counting.parameters())


def check(section: ImageTower | Dual, facts: dict[str, Any], samples: Any) -> None:  # noqa: ARG001 - as every family
    """Refuse a network that has not as many parameters as the recipe asserts, before anything is allocated.

    Raises:
        Mismatch: as it says; or a position table is shorter than the captions that the encoder makes.
    """
    fact = "num_labels" if isinstance(section, ImageTower) else "vocab_size"
    if fact not in facts:
        return  # `begin` says what is wrong
    found, expected = num_parameters(section, facts), section.expected_num_parameters
    if expected is not None and found != expected:
        raise Mismatch(parameters_in_words(found, expected))
    if found != counted(section, int(facts.get("vocab_size", 0))):
        raise AssertionError(f"{found} parameters, but schema.py says {counted(section, facts.get('vocab_size', 0))}")
    if isinstance(section, Dual) and facts.get("width", section.tower_width) != section.tower_width:
        raise Mismatch(
            f"the shards of pretrain.samples.features hold {facts['width']} numbers a picture, but network.tower_width "
            f"is {section.tower_width}: they are another tower's. Name the shards of the encoder whose 'model' is "
            f"'{section.tower}', or change network.tower and network.tower_width."
        )
    longest = int(facts.get("max_tokens", 0))
    if isinstance(section, Dual) and longest > section.text.num_positions:
        raise Mismatch(
            f"the encoder makes captions of up to {longest} tokens, but network.text.num_positions is "
            f"{section.text.num_positions}. Raise it, or lower the encoder's max_tokens."
        )


def blocks(network: Any) -> list[nn.Module]:
    """The layers that are trained, first to last."""
    return list(network.text_tower.encoder.layer if hasattr(network, "text_tower") else network.vit.layers)
