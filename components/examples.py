"""The program on a card: what a user types first, run as it stands before a release counts."""

import json
from typing import Any

from components.outcomes import Refused


def _text_generation(name: str, recipe: Any) -> str:
    """Continue the recipe's prompt: greedily, or as the generation settings say from a fixed seed."""
    package = recipe.package
    samples = bool(package.generation.get("do_sample"))
    # A fixed length, so that the example is short and ends within the context.
    new_tokens = min(40, int(recipe.network.max_positions) // 2)
    lines = [
        *(["import torch"] if samples else []),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "tokenizer = AutoTokenizer.from_pretrained(name)",
        "model = AutoModelForCausalLM.from_pretrained(name)",
        "",
        *(["torch.manual_seed(0)"] if samples else []),
        f"prompt = {json.dumps(package.example_prompt, ensure_ascii=False)}",
        "# In training, a document begins after an end-of-text token.",
        'inputs = tokenizer(tokenizer.eos_token + prompt, return_tensors="pt")',
        f"tokens = model.generate(**inputs, max_new_tokens={new_tokens}{'' if samples else ', do_sample=False'})",
        "print(tokenizer.decode(tokens[0], skip_special_tokens=True))",
    ]
    return "\n".join(lines) + "\n"


# What a user types first, by what the model does and the layout it stands in.
EXAMPLES = {("text-generation", "transformers"): _text_generation}


def example_program(name: str, recipe: Any, tag: str, layout: str) -> str:
    """A Python program that finds the release under its recipe's name.

    Args:
        name: the recipe's name.
        recipe: its sections.
        tag: what the Hub calls what the model does.
        layout: the layout of the release.

    Raises:
        Refused: nobody has said yet how such a release is used.
    """
    if (tag, layout) not in EXAMPLES:
        known = ", ".join(" as ".join(key) for key in EXAMPLES)
        raise Refused(
            f"Recipe '{name}': a card has no example for {tag} as {layout}, only for {known}. Change 'layouts'."
        )
    return EXAMPLES[tag, layout](name, recipe)
