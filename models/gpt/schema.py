"""The sections of a recipe that the gpt family understands."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from models.schedules import check_schedule
from models.schema import RecipeRef, Strict

MODALITY = "text"
# Layout -> the library that loads it and what it does, as the Hugging Face Hub calls them.
HUB_NAMES = {
    "transformers": ("transformers", "text-generation"),
    "reward": ("transformers", "text-classification"),
}

_NETWORK = ("config.json", "generation_config.json", "model.safetensors")
# Files of each layout that decide what a released model computes; a card is not among them.
LAYOUTS = {
    "transformers": (*_NETWORK, "tokenizer.json", "tokenizer_config.json", "spiece.model"),
    # A reward model: AutoModelForSequenceClassification, which generates nothing.
    "reward": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "spiece.model"),
    # Somebody else's language model, of any architecture of AutoModelForCausalLM, with a tokenizer of AutoTokenizer;
    # or, where that is a SentencePiece model alone, itself: transformers 5 gives other ids for the released models.
    "causal-lm": (*_NETWORK, "tokenizer.json", "tokenizer_config.json"),
    "causal-lm-spiece": (*_NETWORK, "tokenizer_config.json", "spiece.model"),
}
FOREIGN = ("causal-lm", "causal-lm-spiece")
"""Layouts in which only somebody else's model stands."""
FOREIGN_LAYOUT = FOREIGN[0]
"""How somebody else's model is taken in where its recipe does not say."""

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
    """Asserted before any work."""

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


class Sft(Strict):
    """Supervised fine-tuning: mean cross-entropy of the answers' tokens, each given its prompt."""

    kind: Literal["sft"]
    train_on_prompt: bool = False
    """Predict the prompt's tokens too. What the released models did is not known."""


class Reward(Strict):
    """A reward model: a scalar head on the network, trained on pairs of answers by the pairwise logistic loss."""

    kind: Literal["reward"]
    centre: float = Field(default=0.0, ge=0)
    """Weight of the squared sum of a pair's rewards in the loss, which keeps their mean near 0."""


class Dpo(Strict):
    """Direct preference optimisation (Rafailov et al. 2023): no reward model, the frozen start is the reference."""

    kind: Literal["dpo"]
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to move away from the reference."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs that are assumed to be the wrong way round."""


class Ppo(Strict):
    """Proximal policy optimisation against a reward model; one step of the trainer is one round of answers.

    Defaults are those of trlx's examples on HH (examples/hh/ppo_hh.py) where it has them; `missing_end_penalty`,
    `kl_limit` and `max_token_share` are our choice.
    """

    kind: Literal["ppo"]
    reward: RecipeRef
    """A recipe with the objective `reward`."""
    critic: Literal["shared", "separate"] = "shared"
    """A value head on the policy's trunk, or a network of its own that begins as the reward model."""
    num_trained_layers: Count | None = None
    """Train the last so many blocks and the last norm only; the frozen reference shares all others. None trains all."""
    num_epochs: Count = 4
    mini_batch_samples: Count
    """Answers per update."""
    max_answer_tokens: Count = 128
    temperature: float = Field(default=1.0, gt=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    """The price of a nat away from the reference, in units of the score."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats per answer that the coefficient is steered to (Ziegler et al. 2019, section 2.2); None keeps it fixed."""
    kl_horizon: Count = 10_000
    discount: float = Field(default=1.0, gt=0, le=1)
    trace: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.2, gt=0)
    value_weight: float = Field(default=1.0, ge=0)
    normalise_rewards: bool = True
    """By the mean and deviation that the reward model's configuration records."""
    reward_clip: float = Field(default=10.0, gt=0)
    missing_end_penalty: float = Field(default=1.0, ge=0)
    """What an answer loses that has not ended after `max_answer_tokens`."""
    kl_limit: float | None = Field(default=None, gt=0)
    """End a round's updates when the policy has moved so many nats per token from the round's beginning."""
    max_token_share: float = Field(default=0.8, gt=0, le=1)
    """A round in which one id makes up more of all sampled tokens refuses the training: the policy has collapsed."""


PretrainObjective = NextToken
AlignObjective = Annotated[Sft | Reward | Dpo | Ppo, Field(discriminator="kind")]

FORMS = {"sft": "conversations", "reward": "preferences", "dpo": "preferences", "ppo": "prompts"}
"""Objective -> the form of its samples."""


class Samples(Strict):
    """Windows cut from documents that stand one after another, each ended by the end-of-text token."""

    window_tokens: Count
    """Inputs per sample; a sample has one token more, its last target."""
    batch_tokens: Count
    """Input tokens per optimiser step, over all ranks."""
    micro_batch_tokens: Count
    """Input tokens per forward pass of one device."""
    isolate_documents: bool = False
    """Documents that share a window do not see each other, and each begins at position 0 with the end-of-text token."""

    form: Literal["windows"] = "windows"

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


class Conversations(Samples):
    """Prompts with their answers, as many of them whole in a window as have room there; they do not see each other."""

    form: Literal["conversations"]  # type: ignore[assignment]
    isolate_documents: Literal[True] = True
    max_left_out_share: float = Field(default=0.05, ge=0, le=1)
    """Sequences longer than a window are left out; more than this share of them refuse the shards."""

    length_key: ClassVar[str] = "'align.samples.window_tokens'"

    @property
    def max_tokens(self) -> int:
        """Tokens of a sample: the last one is a target only."""
        return self.window_tokens + 1


class Preferences(Strict):
    """Prompts with a better and a worse answer each, padded to the longest of a batch."""

    form: Literal["preferences"]
    batch_samples: Count
    """Pairs per optimiser step, over all ranks."""
    micro_batch_samples: Count
    """Pairs per forward pass of one device."""
    max_tokens: Count
    """Of a prompt with its longer answer."""
    max_left_out_share: float = Field(default=0.05, ge=0, le=1)
    """Longer ones are left out; more than this share of them refuse the shards."""

    length_key: ClassVar[str] = "'align.samples.max_tokens'"
    isolate_documents: ClassVar[bool] = False
    """Each sequence is a sample of its own."""

    @property
    def window_tokens(self) -> int:
        """Inputs of the longest sequence."""
        return self.max_tokens

    @property
    def batch_tokens(self) -> int:
        """At most, per optimiser step: two answers a pair."""
        return 2 * self.batch_samples * self.max_tokens

    @property
    def micro_batch_tokens(self) -> int:
        """At most, per forward pass of one device."""
        return 2 * self.micro_batch_samples * self.max_tokens

    @model_validator(mode="after")
    def sizes_divide(self) -> "Preferences":
        """A step is a whole number of micro-batches."""
        whole, part = self.batch_samples, self.micro_batch_samples
        if whole % part:
            raise ValueError(f"batch_samples {whole} is not a multiple of micro_batch_samples {part}")
        return self


class Prompts(Preferences):
    """Prompts to be answered: those of conversations, or of preferences."""

    form: Literal["prompts"]  # type: ignore[assignment]


AlignSamples = Annotated[Conversations | Preferences | Prompts, Field(discriminator="form")]


class Preview(Strict):
    """Texts that the network continues during training, for a person to read."""

    prompts: list[str] = []
    new_tokens: Count = 40


def num_parameters(section: GPT2 | GPTNeoX, vocab_size: int) -> int:
    """Parameters, tied ones counted once, by arithmetic alone: with weights and biases of every linear layer.

    Args:
        section: the network.
        vocab_size: the encoder's, for a network that names none.
    """
    width, inner = section.hidden_size, section.intermediate_size
    attention = 4 * width * width + 4 * width  # query, key and value in one layer, and the output
    mlp = 2 * width * inner + inner + width
    norms = 2 * 2 * width
    rows = section.vocab_size or vocab_size
    if isinstance(section, GPT2):
        embeddings = (rows + section.max_positions) * width
    else:
        embeddings = rows * width * (1 if section.tied else 2)
    return section.num_layers * (attention + mlp + norms) + 2 * width + embeddings


def check(recipe: Any, encoder: Any, tasks: dict[str, Any]) -> list[str]:
    """What in a recipe contradicts itself, its encoder or its tasks, in words; empty if nothing does.

    Needs nothing but the YAML files, so it is asked before any work. Imports transformers only if the recipe has
    generation settings.

    Args:
        recipe: a recipe of this family.
        encoder: the section of its encoder.
        tasks: the sections of its tasks by name.
    """
    from models.gpt.release import check_package

    network = recipe.network
    context = f"network.max_positions is {network.max_positions}"
    problems = []
    for key in ("pretrain", "align"):
        training = getattr(recipe, key)
        if training is not None:
            problems += _check_training(key, training, network)
            problems += [
                f"'encoder' is {recipe.encoder}, but the shards {each.shards} are made with another one. Change "
                f"'encoder' or '{key}.shards'."
                for each in training.shards
                if each.shards.partition("+")[2] != recipe.encoder
            ]
    if network.vocab_size is not None and network.vocab_size < encoder.vocab_size:
        problems.append(
            f"network.vocab_size is {network.vocab_size}, but the encoder '{recipe.encoder}' has {encoder.vocab_size} "
            f"ids. Raise it to {encoder.vocab_size} or more, or remove the key to take the encoder's."
        )
    found, expected = num_parameters(network, encoder.vocab_size), network.expected_num_parameters
    if expected is not None and found != expected:
        problems.append(
            f"the network has {found:,} parameters, expected {expected:,} (network.expected_num_parameters). Change "
            "the shape, or the expected number if the shape is meant."
        )
    for name, task in tasks.items():
        window_tokens = getattr(task, "window_tokens", None)
        if window_tokens is not None and window_tokens > network.max_positions:
            problems.append(
                f"task '{name}' has window_tokens {window_tokens}, but {context}. Set the task's 'window_tokens' to "
                f"{network.max_positions} or less, or leave it out."
            )
    is_reward = recipe.align is not None and recipe.align.objective.kind == "reward"
    what, right = ("a", "reward") if is_reward else ("no", "transformers")
    problems += [
        f"package.layouts has '{layout}', but the model is {what} reward model. Change the key to [{right}]."
        for layout in recipe.package.layouts
        if layout in LAYOUTS and (layout == "reward") != is_reward
    ]
    return problems + check_package(recipe.package)


def _check_training(key: str, training: Any, network: GPT2 | GPTNeoX) -> list[str]:
    """What does not fit in one training section, which stands under a key."""
    problems = []
    expected = FORMS.get(training.objective.kind, "windows")
    if training.samples.form != expected:
        problems.append(
            f"{key}.objective.kind '{training.objective.kind}' reads {expected}, but {key}.samples.form is "
            f"'{training.samples.form}'. Change one of them."
        )
    if expected == "prompts":
        problems += _check_rounds(key, training, network)
    window_tokens = training.samples.window_tokens
    if window_tokens > network.max_positions:
        problems.append(
            f"{key}.samples.window_tokens is {window_tokens}, but network.max_positions is {network.max_positions}, "
            "so a sample does not fit into the context. Lower the first or raise the second."
        )
    return problems + check_schedule(key, training)


def _check_rounds(key: str, training: Any, network: GPT2 | GPTNeoX) -> list[str]:
    """What does not fit in a training that makes its own data."""
    objective, samples, problems = training.objective, training.samples, []
    longest = samples.max_tokens + objective.max_answer_tokens
    if longest > network.max_positions:
        problems.append(
            f"{key}.samples.max_tokens and {key}.objective.max_answer_tokens are {longest} together, but "
            f"network.max_positions is {network.max_positions}. Lower one of them."
        )
    if samples.batch_samples % objective.mini_batch_samples:
        problems.append(
            f"{key}.samples.batch_samples {samples.batch_samples} is not a multiple of {key}.objective."
            f"mini_batch_samples {objective.mini_batch_samples}. Change one of them."
        )
    if training.strategy != "single":
        problems.append(f"{key}.strategy is '{training.strategy}', but PPO runs on one device: set it to single.")
    if training.guard.spike_ratio is not None:
        problems.append(
            f"{key}.guard.spike_ratio is {training.guard.spike_ratio}, but a loss of PPO is near 0 and may be "
            f"negative, so its spikes mean nothing. Set {key}.guard: {{spike_ratio: null}}"
        )
    if objective.num_trained_layers is not None and objective.num_trained_layers > network.num_layers:
        problems.append(
            f"{key}.objective.num_trained_layers is {objective.num_trained_layers}, but network.num_layers is "
            f"{network.num_layers}. Lower the first, or leave it out to train all."
        )
    return problems
