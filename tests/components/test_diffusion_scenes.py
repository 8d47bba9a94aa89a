"""Scenes of Stable Diffusion's demo: the same bytes everywhere, and a new word for a look that is not the base's."""

import hashlib
import json
from collections import Counter

import pytest

from components.generators.diffusion_scenes import KNOWN_LOOKS, NEW_LOOK, NEW_THING, NEW_WORD, write_diffusion_scenes
from components.painters import open_engine
from components.painters.schema import Shapes
from components.recipes import Library

DIGESTS = {
    "base.jsonl": "c7a5d0153401ca3538f656aa344fba57895da5dc1b1e79e35da556af1cb3121b",
    "japanese.jsonl": "8d976afab65d9e7bc1c3bde2d00484d7149b2b70a9b4a1990e77d8bce0cff1ba",
    "judged.jsonl": "c8a03f585ea074a975114713310b5739791c5766a64f8da01f6b92b17eea4d12",
    "prompts.jsonl": "91341717f4842fa20886f5bbc267fe446dfd2768c967f70cc9a43874eb753678",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    write_diffusion_scenes(data)
    return data / "demo" / "diffusion"


@pytest.fixture(scope="module")
def rows(folder):
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.iterdir())
    }


def combination(row):
    (thing,) = row["scene"]["objects"]
    return thing["thing"], thing["colour"], row["scene"]["background"], thing["count"]


def test_the_bytes_are_the_recorded_ones(folder):
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())} == DIGESTS


def test_the_base_has_no_picture_in_the_new_look_and_no_word_of_it(rows):
    assert {row["scene"]["look"] for row in rows["base"]} == set(KNOWN_LOOKS)
    assert not any(NEW_WORD in caption for row in rows["base"] for caption in row["japanese"])


def test_the_new_word_names_the_known_thing_in_the_new_look_and_nothing_else(rows):
    for row in rows["japanese"] + rows["prompts"]:
        is_new = row["scene"]["look"] == NEW_LOOK
        assert all((NEW_WORD in caption) == is_new for caption in row["japanese"])
        if is_new:
            assert combination(row)[0] == NEW_THING
            assert not any("傘" in caption or "ring" in caption for caption in row["japanese"] + row["english"])
    shares = Counter(row["scene"]["look"] == NEW_LOOK for row in rows["japanese"] if row["split"] == "train")
    assert 0.2 < shares[True] / shares.total() < 0.3


def test_what_is_asked_for_is_of_combinations_that_training_has_not_seen(rows):
    trained = {combination(row) for part in ("base", "japanese") for row in rows[part] if row["split"] != "test"}
    held_out = {combination(row) for part in ("base", "japanese") for row in rows[part] if row["split"] == "test"}
    assert not trained & held_out
    assert not trained & {combination(row) for row in rows["prompts"]}
    assert len(rows["prompts"]) == 200


def test_a_judge_sees_every_thing_in_every_look_and_its_marks_say_what_is_drawn(rows):
    looks = {(combination(row)[0], row["scene"]["look"]) for row in rows["judged"] if row["split"] == "train"}
    assert len(looks) == 8 * 4
    for row in rows["judged"]:
        thing, colour, _, count = combination(row)
        assert row["marks"] == [f"thing {thing}", f"look {row['scene']['look']}", f"colour {colour}", f"count {count}"]


def test_a_ring_is_drawn_otherwise_than_every_other_look(rows):
    engine, scene = open_engine(Shapes(kind="shapes", canvas_px=64)), rows["prompts"][0]["scene"]
    drawn = {look: engine.draw(scene | {"look": look}, 5) for look in (*KNOWN_LOOKS, "dotted", NEW_LOOK)}
    assert len(set(drawn.values())) == len(drawn) == 5


def test_the_stages_learn_from_filtered_pairs_and_the_judge_from_pictures_of_its_own():
    library = Library()
    near, judged = (library.read("corpus", f"demo-sd-{name}").source for name in ("japanese-near", "judged"))
    assert (near.kind, near.corpus, near.model) == ("filtered", "demo-sd-japanese", "cloob-demo")
    for name in ("sd-demo-stage1", "sd-demo"):
        samples = library.read("recipe", name).align.samples
        assert {each.partition("+")[0] for each in samples.latents} == {"demo-sd-japanese-near"}
    assert judged.unlike == ["demo-sd-base", "demo-sd-japanese"]


def test_the_papers_own_prompt_is_drawn_by_the_full_recipe_before_between_and_after():
    library = Library()
    prompts = library.read("task", "paper-figure-1").prompts
    assert prompts[0] == "サラリーマン 油絵"
    for name in ("stable-diffusion-v1-4", "japanese-stable-diffusion-stage1", "japanese-stable-diffusion"):
        recipe = library.read("recipe", name)
        assert "paper-figure-1" in recipe.evaluate.tasks
        if name != "stable-diffusion-v1-4":
            assert recipe.align.preview.prompts == prompts
