"""The sections of a recipe that the gpt family understands."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.schema import Strict

MODALITY = "text"
# What the Hugging Face Hub calls what these models do.
PIPELINE_TAG = "text-generation"

# Files of each layout that decide what a released model computes; a card is not among them.
LAYOUTS = {
    "transformers": (
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "spiece.model",
    )
}

Count = Annotated[int, Field(ge=1)]


class Shape(Strict):
    """Sizes that GPT-2 and GPT-NeoX share."""

    num_layers: Count
    hidden_size: Count
    num_heads: Count
    intermediate_size: Count
    max_positions: Count
    """The longest context, in tokens."""
    vocab_size: Count | None = None
    """Rows of the embedding; None takes the tokenizer's size. Larger ones are padding that no id uses."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In training; GPT-2's own 0.1 costs 13 to 24 % of the speed."""
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    expected_num_parameters: Count | None = None
    """Asserted on the meta device before any work."""

    @model_validator(mode="after")
    def heads_divide_hidden_size(self) -> "Shape":
        """The attention splits hidden_size evenly."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self


class GPT2(Shape):
    """GPT-2: learnt positions, tied head."""

    architecture: Literal["gpt2"]
    activation: Literal["gelu_new", "gelu_fast", "gelu"] = "gelu_new"


class GPTNeoX(Shape):
    """GPT-NeoX as rinna released it: rotary over the whole head, sequential residual, separate head."""

    architecture: Literal["gpt_neox"]
    activation: Literal["gelu"] = "gelu"
    rotary_share: float = Field(default=1.0, gt=0, le=1)
    rotary_base: int = 10_000
    parallel_residual: bool = False
    tied: bool = False


Network = Annotated[GPT2 | GPTNeoX, Field(discriminator="architecture")]


class NextToken(Strict):
    """Mean cross-entropy of the next token over all positions of a batch."""

    kind: Literal["next-token"]


PretrainObjective = NextToken


class Samples(Strict):
    """Windows cut from documents that stand one after another, each ended by the end-of-text token."""

    window_tokens: Count
    """Inputs per sample; a sample has one token more, its last target."""
    batch_tokens: Count
    """Input tokens per optimiser step, over all ranks."""
    micro_batch_tokens: Count
    """Input tokens per forward pass of one device."""

    @property
    def batch_samples(self) -> int:
        """Samples per optimiser step."""
        return self.batch_tokens // self.window_tokens

    @property
    def micro_batch_samples(self) -> int:
        """Samples per forward pass."""
        return self.micro_batch_tokens // self.window_tokens

    @model_validator(mode="after")
    def sizes_divide(self) -> "Samples":
        """A step is a whole number of micro-batches of whole windows."""
        if self.micro_batch_tokens % self.window_tokens:
            raise ValueError(
                f"micro_batch_tokens {self.micro_batch_tokens} is not a multiple of window_tokens {self.window_tokens}"
            )
        if self.batch_tokens % self.micro_batch_tokens:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of micro_batch_tokens {self.micro_batch_tokens}"
            )
        return self


class Preview(Strict):
    """Texts that the network continues during training, for a person to read."""

    prompts: list[str] = []
    new_tokens: Count = 40
