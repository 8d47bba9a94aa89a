"""The aligned models of arXiv 2404.01657: recipes, corpora and prompt formats agree with what their cards state."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Environment

from components.cost import cost_of
from components.encoders import tokenizer_of
from components.graph import plan
from components.modalities import Rejected
from components.modalities.text import chat, reader, schema, tokenizers
from components.recipes import Library
from models.conversation import REJECTED
from models.gpt import network, release
from tests.conftest import ROOT

# Recipe -> what it starts from, the objective, the English corpora behind it, whether these are read untranslated too.
MODELS = {
    "japanese-gpt-neox-3.6b-instruction-sft": ("japanese-gpt-neox-3.6b", "sft", {"hh-chat", "flan", "shp"}, False),
    "japanese-gpt-neox-3.6b-instruction-sft-v2": ("japanese-gpt-neox-3.6b", "sft", {"hh-chat", "flan", "shp"}, False),
    "japanese-gpt-neox-3.6b-instruction-reward": (
        "japanese-gpt-neox-3.6b-instruction-sft-v2", "reward", {"hh"}, False,
    ),
    "japanese-gpt-neox-3.6b-instruction-ppo": ("japanese-gpt-neox-3.6b-instruction-sft-v2", "ppo", {"hh"}, False),
    "bilingual-gpt-neox-4b-instruction-sft": ("bilingual-gpt-neox-4b", "sft", {"hh-chat", "flan"}, True),
    "bilingual-gpt-neox-4b-instruction-reward": ("bilingual-gpt-neox-4b-instruction-sft", "reward", {"hh"}, False),
    "bilingual-gpt-neox-4b-instruction-ppo": ("bilingual-gpt-neox-4b-instruction-sft", "ppo", {"hh"}, False),
}  # fmt: skip

SHIBUYA = [
    {"role": "user", "content": "日本のおすすめの観光地を教えてください。"},
    {"role": "assistant", "content": "どの地域の観光地が知りたいですか？"},
    {"role": "user", "content": "渋谷の観光地を教えてください。"},
]
# What the example of the 3.6b cards prints; the 4b cards have a line feed in place of <NL>.
RELEASED = (
    "ユーザー: 日本のおすすめの観光地を教えてください。<NL>システム: どの地域の観光地が知りたいですか？<NL>"
    "ユーザー: 渋谷の観光地を教えてください。<NL>システム: "
)
FORMATS = {"web-ja-chat": "<NL>", "web-ja-en-chat": "\n"}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.chdir(ROOT)
    return Library()


@pytest.mark.parametrize("name", MODELS)
def test_an_aligned_recipe_starts_where_its_card_says_and_reads_what_its_card_names(
    library: Library, name: str
) -> None:
    parent, objective, english, is_bilingual = MODELS[name]
    recipe, base = library.read("recipe", name), library.read("recipe", parent)
    assert (recipe.starts_from, recipe.align.objective.kind) == (parent, objective)
    free = {"expected_num_parameters"}
    assert recipe.network.model_dump(exclude=free) == base.network.model_dump(exclude=free)
    corpora = {each.shards.partition("+")[0] for each in recipe.align.shards}
    assert corpora == {f"{each}-ja" for each in english} | (english if is_bilingual else set())
    for each in english:
        section = library.read("corpus", f"{each}-ja")
        assert (section.source.kind, section.source.corpus, section.language) == ("translated", each, "ja")
    assert recipe.licence == "MIT"
    if objective == "ppo":
        judge = library.read("recipe", recipe.align.objective.reward)
        assert (judge.align.objective.kind, judge.starts_from) == ("reward", parent)


@pytest.mark.parametrize("name", MODELS)
def test_an_aligned_recipe_goes_from_raw_files_to_a_package_and_its_cost_is_known(library: Library, name: str) -> None:
    stages = plan(library, name)
    verbs = {stage.verb for stage in stages}
    assert {"ingest", "validate", "fit", "shard", "pretrain", "align", "evaluate", "package"} <= verbs
    for corpus in {stage.name for stage in stages if stage.verb == "ingest"} - {"hh-chat"}:
        section = library.read("corpus", corpus)
        if section.source.kind == "files":
            assert f"hiraku collect {corpus} --from" in " ".join(section.description.split())
    recipe = library.read("recipe", name)
    facts = {"vocab_size": tokenizer_of(library, recipe.encoder).vocab_size, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
    cost = cost_of(library, name, on_gpu=True, is_compiled=True)
    assert cost is not None
    if recipe.network.expected_num_parameters:
        assert network.num_parameters(recipe.network, facts) == recipe.network.expected_num_parameters


@pytest.mark.parametrize("name", FORMATS)
def test_the_chat_template_writes_the_prompt_that_the_released_models_were_trained_on(
    library: Library, name: str
) -> None:
    section = library.read("encoder", name)
    released = RELEASED.replace("<NL>", FORMATS[name])
    written = Environment().from_string(chat.template(section))
    assert written.render(messages=SHIBUYA, add_generation_prompt=True, eos_token="</s>") == released
    answered = [*SHIBUYA, {"role": "assistant", "content": "一つ目\n二つ目"}]
    assert written.render(messages=answered, add_generation_prompt=False, eos_token="</s>") == (
        f"{released}一つ目{FORMATS[name]}二つ目</s>"
    )


def test_a_fitted_tokenizer_with_the_released_separator_gives_its_ids_in_training_and_in_transformers(
    library: Library, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    texts = [f"{turn['content']} ユーザー システム {number}" for number in range(60) for turn in SHIBUYA]
    pieces = library.read("encoder", "web-ja-spm-32k").model_copy(update={"vocab_size": 340})
    tokenizers.fit(pieces, texts, texts[:5], tmp_path / "spm")
    chat.fit(library.read("encoder", "web-ja-chat"), tmp_path / "spm", tmp_path / "chat")
    ours = chat.ChatEncoder(tmp_path / "chat")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "chat", local_files_only=True)
    ids = ours.prompt(SHIBUYA).tolist()
    assert theirs.apply_chat_template(SHIBUYA, add_generation_prompt=True, return_dict=False) == ids
    assert theirs.apply_chat_template(SHIBUYA, add_generation_prompt=True, tokenize=False) == RELEASED
    (separator,) = ours.encode_texts(["<NL>"])[0].tolist()
    assert ids.count(separator) == 3
    assert ours.decode(ids) == RELEASED.replace("<NL>", "\n")


# ---- raw rows of the corpora that they read --------------------------------------------------------------------------

ASKED = "\n\nHuman: What is a comet?\n\nAssistant: A body of ice.\n\nHuman: How big?\n\nAssistant:"
TURNS = [
    {"role": "user", "content": "What is a comet?"},
    {"role": "assistant", "content": "A body of ice."},
    {"role": "user", "content": "How big?"},
]


def read(library: Library, corpus: str, **parts: Any) -> dict[str, Any]:
    (column,) = library.read("corpus", corpus).columns.values()
    return json.loads(reader(column)(parts))


def test_the_transcripts_of_hh_become_a_prompt_with_two_answers_and_a_conversation(library: Library) -> None:
    pair = {"chosen": f"{ASKED} A few kilometres.", "rejected": f"{ASKED} Human: what?"}
    answers = {"chosen": "A few kilometres.", "rejected": "Human: what?"}
    assert read(library, "hh", **pair) == {"messages": TURNS, **answers}
    answered = [*TURNS, {"role": "assistant", "content": "A few kilometres."}]
    assert read(library, "hh-chat", messages=pair["chosen"]) == {"messages": answered}


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ({"chosen": f"{ASKED} Big.", "rejected": f"{ASKED} Big."}, "chosen is equal to rejected"),
        ({"chosen": f"{ASKED} Big.", "rejected": ASKED}, "empty"),
        (
            {"chosen": f"{ASKED} Big.", "rejected": f"{ASKED} No.\n\nHuman: Oh."},
            "does not end with a turn of the assis",
        ),
        ({"chosen": f"{ASKED} Big.", "rejected": f"{ASKED} No.".replace("ice", "iron")}, "differ before their last"),
        ({"chosen": "What is a comet?", "rejected": "What?"}, "does not begin with the mark of a speaker"),
    ],
)
def test_a_broken_transcript_is_a_reject_with_its_reason(library: Library, pair: dict[str, str], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        read(library, "hh", **pair)


@pytest.mark.parametrize("fields", [{"chosen": "a", "rejected": "b"}, {}])
def test_speakers_belong_to_transcripts_alone(fields: dict[str, str]) -> None:
    marks = None if fields else {"user": "U:", "assistant": "A:"}
    with pytest.raises(ValueError, match="'speakers' belongs to 'fields' of messages, or of chosen and rejected"):
        schema.Column(modality="text", form="preference", fields=fields, speakers=marks)


def test_the_program_of_a_reward_card_encodes_an_answer_in_latin_letters_as_training_does(
    library: Library, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    texts = [f"システム: the answer is the number {number} ユーザー: はい。わかりません。" for number in range(60)]
    pieces = library.read("encoder", "web-ja-en-spm-65536").model_copy(update={"vocab_size": 340})
    tokenizers.fit(pieces, texts, texts[:5], tmp_path / "spm")
    chat.fit(library.read("encoder", "web-ja-en-chat"), tmp_path / "spm", tmp_path / "chat")
    ours, question, answer = chat.ChatEncoder(tmp_path / "chat"), "the number?", "the answer"
    pair = {"messages": [{"role": "user", "content": question}], "chosen": answer, "rejected": "はい。"}
    [rows] = ours.encode([json.dumps(pair)])
    trained = rows[rows[:, 1] != REJECTED, 0].tolist()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "chat", local_files_only=True)
    joined = ours.prompt_text(pair["messages"]) + answer + tokenizer.eos_token
    assert tokenizer(joined)["input_ids"] != trained  # a piece reaches over the border

    given = []

    def model(ids: Any) -> Any:
        given.append(ids[0].tolist())
        return SimpleNamespace(logits=ids[:1, :1].float())

    program = "\n".join(release._rewarding("it", json.dumps(question))).replace('"はい。"', json.dumps(answer))
    lines = [line for line in program.split("\n") if not line.startswith(("from ", "tokenizer =", "model ="))]
    exec("\n".join(lines), {"tokenizer": tokenizer, "model": model})
    assert given[0] == trained
