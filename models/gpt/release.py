"""How a released language model is used and proven equal to its weights; transformers alone reads a release.

Answers are named tensors: the ids of each text, and the logits [tokens, vocabulary] of its tokens.
"""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.gpt.schema import FOREIGN, LAYOUTS
from models.packaging import layout_problems

if TYPE_CHECKING:
    import torch

ENCODER_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")

# Texts on which released and trained model must agree: scripts, white space, rare characters, the names of special
# tokens, nothing.
PROBES = (
    "日本語の文章を、つづけて書きます。",
    "The quick brown fox jumps over the lazy dog 12,345 times.",
    "  行頭の空白\n\n改行\t水平タブ\u3000全角空白  ",
    "ｶﾞｷﾞｸﾞ か\u3099 𠮷野家 👨‍👩‍👧 \u200b",
    "<s></s><unk><pad><0x0A>",
    "",
)


def check_package(package: Any) -> list[str]:
    """What this family cannot release as the section `package` asks, in words; empty if it can.

    transformers keeps and ignores a generation setting that it does not know.
    """
    own = [layout for layout in LAYOUTS if layout not in FOREIGN]
    problems = layout_problems(package, own)
    if not package.layouts:
        return problems
    if not getattr(package, "example_prompt", "-"):
        problems.append("key 'package.example_prompt' is missing")
    return problems + (_check_generation(package.generation) if package.generation else [])


def _check_generation(generation: dict[str, Any]) -> list[str]:
    from transformers import GenerationConfig

    settings = {key for key in vars(GenerationConfig()) if not key.startswith("_")}
    known = sorted(settings - {"transformers_version", *ENCODER_IDS})
    problems = []
    for key in generation:
        where = f"package.generation.{key}"
        if key in ENCODER_IDS:
            problems.append(f"{where} is set, but these ids come from the encoder. Remove the key.")
        elif key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(known)}."
            problems.append(f"{where} is no setting of generation_config.json. {hint} Change the key.")
    if problems:
        return problems
    try:
        GenerationConfig(**generation).validate(strict=True)
    except (ValueError, TypeError) as error:
        return [f"package.generation is refused by transformers: {' '.join(str(error).split())} Change the key."]
    return []


def probes(example: str | None) -> list[str]:
    """What a model is asked: a recipe's own example, if it has one, and the texts that go wrong first."""
    return [*([example] if example else []), *PROBES]


def answer(network: Any, encoder: Any, texts: list[str]) -> dict[str, "torch.Tensor"]:
    """What trained weights and a fitted tokenizer compute."""
    import torch

    rows = [torch.from_numpy(row.astype("int64")) for row in encoder.encode_texts(texts)]
    return _answer(network, texts, [{"input_ids": row[None]} for row in rows])


def answer_of_folder(folder: Path, texts: list[str]) -> dict[str, "torch.Tensor"]:
    """What a release computes, loaded the way its card says."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        return _answer_by_pieces(folder, texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    is_reward = any(each.endswith("ForSequenceClassification") for each in config.architectures or ())
    kind: Any = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
    network = kind.from_pretrained(folder, use_safetensors=True)
    # Everything the tokenizer returns goes in, as in a user's program: a stray token_type_ids would show.
    return _answer(network, texts, [tokenizer(text, return_tensors="pt", split_special_tokens=True) for text in texts])


def _answer_by_pieces(folder: Path, texts: list[str]) -> dict[str, "torch.Tensor"]:
    """What somebody else's model computes whose tokenizer is a SentencePiece model."""
    import sentencepiece
    import torch
    from transformers import AutoModelForCausalLM

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rows = [torch.tensor([pieces.encode(text)], dtype=torch.int64) for text in texts]
    network = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    return _answer(network, texts, [{"input_ids": row} for row in rows])


def _answer(network: Any, texts: list[str], inputs: list[Any]) -> dict[str, "torch.Tensor"]:
    """Pass texts through a network one at a time, as many tokens as its context holds."""
    import torch

    network.eval()
    limit = int(network.config.max_position_embeddings)
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for number, (text, each) in enumerate(zip(texts, inputs, strict=True)):
            name = f"{number} {text[:40]!r}"
            found[f"the ids of {name}"] = each["input_ids"][0].long().contiguous()
            if each["input_ids"].shape[1]:
                clipped = {key: value[:, :limit] for key, value in each.items()}
                found[f"the logits of {name}"] = network(**clipped).logits[0].clone()
    return found


def example(name: str, network: Any, package: Any, facts: dict[str, Any]) -> str:
    """The program on a card: continue the recipe's prompt, greedily or as its generation settings say from a seed.

    With a prompt format, the prompt is a question, and the program prints the answer.

    Args:
        name: what the release is called; the program finds its folder under this name.
        network: the recipe's section of the network.
        package: the recipe's section of the package.
        facts: the encoder's, `chat` among them if it has a prompt format.
    """
    asks = json.dumps(package.example_prompt, ensure_ascii=False)
    if package.layouts[0] == "reward":
        return "\n".join(_rewarding(name, asks)) + "\n"
    samples = bool(package.generation.get("do_sample"))
    # A fixed length, so that the example is short and ends within the context.
    new_tokens = min(40, int(network.max_positions) // 2)
    lines = [
        *(["import torch"] if samples else []),
        *_loading(name, "AutoModelForCausalLM"),
        *(["torch.manual_seed(0)"] if samples else []),
        f"prompt = {asks}",
        *(_asking() if "chat" in facts else _beginning()),
        f"tokens = model.generate(**inputs, max_new_tokens={new_tokens}{'' if samples else ', do_sample=False'})",
        *(_answering(facts["chat"]) if "chat" in facts else _continuing()),
    ]
    return "\n".join(lines) + "\n"


def _loading(name: str, kind: str) -> list[str]:
    return [
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f'name = "{name}"  # the folder of this page, or its repository on the Hub',
        "tokenizer = AutoTokenizer.from_pretrained(name)",
        f"model = {kind}.from_pretrained(name)",
        "",
    ]


def _beginning() -> list[str]:
    return [
        "# In training, a document begins after an end-of-text token.",
        'inputs = tokenizer(tokenizer.eos_token + prompt, return_tensors="pt")',
    ]


def _continuing() -> list[str]:
    return ["print(tokenizer.decode(tokens[0], skip_special_tokens=True))"]


def _asking() -> list[str]:
    return [
        'messages = [{"role": "user", "content": prompt}]',
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
    ]


def _answering(chat: dict[str, str]) -> list[str]:
    newline = "" if chat["newline"] == "\n" else f'.replace({json.dumps(chat["newline"])}, "\\n")'
    return [
        'answer = tokens[0, inputs["input_ids"].shape[1] :]',
        f"print(tokenizer.decode(answer, skip_special_tokens=True){newline})",
    ]


def _rewarding(name: str, asks: str) -> list[str]:
    """Two answers and their rewards; the last token that is no padding is where a reward is read.

    Prompt and answer are encoded apart, as in training: in one text, pieces may reach over the border between them.
    """
    return [
        "import torch",
        *_loading(name, "AutoModelForSequenceClassification"),
        f"prompt = {asks}",
        'messages = [{"role": "user", "content": prompt}]',
        "# As in training, the answer is encoded apart from the prompt.",
        "asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)",
        'for answer in ("はい。", "わかりません。"):',
        '    said = tokenizer(answer + tokenizer.eos_token)["input_ids"]',
        '    print(answer, f"{model(torch.tensor([asked + said])).logits.item():.3f}")',
    ]
