"""The demo's scenes and their pictures: the same bytes everywhere, captions that say just what is drawn."""

import hashlib
import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from components.generators import GENERATORS
from components.generators.scene_words import BACKGROUNDS, COLOURS, LOOKS, THINGS
from components.generators.scenes import PLACES, is_unseen
from components.painters import open_engine
from components.painters import shapes as painter
from components.painters.schema import Shapes
from components.painters.silhouettes import SILHOUETTES

DIGESTS = {
    "compositions.jsonl": "78164a0bbe6e33709b5ba1eb3bc3cf13619950f26d593999a2707de562ca3528",
    "pairs.jsonl": "ab5561929bb48cd6074096cf9cc8e37c08bd0824e1442f99d2794b403f99bcd4",
}
ENGINE = open_engine(Shapes(kind="shapes", canvas_px=64))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    GENERATORS["scenes"](folder)
    return folder / "demo" / "scenes"


@pytest.fixture(scope="module")
def rows(data):
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(data.iterdir())
    }


def without_name(scene):
    return json.dumps({key: value for key, value in scene.items() if key != "name"}, sort_keys=True)


def test_the_bytes_are_the_recorded_ones(data):
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.iterdir())}
    assert found == DIGESTS


def test_no_scene_of_pairs_comes_twice_and_ids_are_their_own(rows):
    scenes = [without_name(row["scene"]) for row in rows["pairs"]]
    assert len(set(scenes)) == len(scenes) == 11_200
    assert Counter(row["split"] for row in rows["pairs"]) == {"train": 9_600, "valid": 400, "test": 1_200}
    ids = [row["id"] for part in rows.values() for row in part]
    assert len(set(ids)) == len(ids) == 12_200


def test_a_hundred_pairs_of_thing_and_colour_are_seen_in_the_compositions_alone(rows):
    unseen = {(thing, colour) for thing in THINGS for colour in COLOURS if is_unseen(thing, colour)}
    assert len(unseen) == 100
    shown = {(each["thing"], each["colour"]) for row in rows["pairs"] for each in row["scene"]["objects"]}
    assert shown == {(thing, colour) for thing in THINGS for colour in COLOURS} - unseen
    assert Counter((row["thing"], row["colour"]) for row in rows["compositions"]) == dict.fromkeys(unseen, 10)
    assert len({row["label"] for row in rows["compositions"]}) == 100


def test_captions_name_every_thing_colour_and_look_and_foils_say_the_same_words_in_another_order(rows):
    for row in rows["pairs"]:
        look = LOOKS[row["look"]][0]
        for each in row["scene"]["objects"]:
            named = look + COLOURS[each["colour"]][0] + THINGS[each["thing"]][0]
            assert all(named in caption for caption in row["captions"])
            assert THINGS[each["thing"]][0] in row["brief"]
        assert row["captions"][0] != row["captions"][1]
        foils = [row[key] for key in ("foil_order", "foil_colour", "foil_count") if key in row]
        assert row["captions"][0] not in foils
        for foil in foils:
            assert foil not in row["captions"]
            if "foil_count" not in row:
                assert Counter(foil) == Counter(row["captions"][0])
    assert sum("foil_order" in row for row in rows["pairs"] if row["split"] == "test") >= 500


def test_one_scene_is_said_as_a_person_would_say_it(rows):
    row = next(row for row in rows["pairs"] if row["layout"] == "beside" and row["captions"][0].startswith("左に"))
    (one, red), (other, blue) = ((each["thing"], each["colour"]) for each in row["scene"]["objects"])
    left, right = COLOURS[red][0] + THINGS[one][0], COLOURS[blue][0] + THINGS[other][0]
    look = LOOKS[row["look"]][0]
    assert row["captions"][0] == f"左に{look}{left}、右に{look}{right}がある"
    assert row["foil_order"] == f"左に{look}{right}、右に{look}{left}がある"
    swapped = COLOURS[blue][0] + THINGS[one][0], COLOURS[red][0] + THINGS[other][0]
    assert row["foil_colour"] == f"左に{look}{swapped[0]}、右に{look}{swapped[1]}がある"
    marks = dict(mark.split() for mark in row["marks"])
    assert (marks["left-thing"], marks["right-colour"], marks["top-thing"]) == (one, blue, "nothing")
    assert len(marks) == len(row["marks"]) == 17


def test_every_word_of_a_scene_is_known_to_the_painter():
    assert set(THINGS) == set(SILHOUETTES)
    assert set(COLOURS) == set(painter.COLOURS)
    assert set(BACKGROUNDS) == set(painter.BACKGROUNDS)
    assert set(PLACES) == set(painter.SIZES)


# ---- pictures --------------------------------------------------------------------------------------------------------


def pixels(scene, lot=0, engine=ENGINE):
    return np.asarray(Image.open(io.BytesIO(engine.draw(scene, lot)))).astype(int)


def scene(layout="single", count=1, look="plain", **colours):
    objects = [
        {"thing": "square", "colour": colour, "place": place, "count": count}
        for colour, place in zip(colours.values(), PLACES[layout], strict=True)
    ]
    return {"background": "white", "look": look, "layout": layout, "objects": objects}


def middle(picture, colour):
    """(down, across) of the middle of all pixels of a colour, and how many there are."""
    near = np.abs(picture - painter.COLOURS[colour]).max(axis=2) < 12
    return (*np.argwhere(near).mean(axis=0).tolist(), int(near.sum()))


def test_a_scene_and_its_lot_give_the_same_bytes_and_another_lot_others(rows):
    drawn = rows["pairs"][0]["scene"]
    again = open_engine(Shapes(kind="shapes", canvas_px=64))
    assert ENGINE.draw(drawn, 7) == again.draw(drawn, 7)
    assert len({ENGINE.draw(drawn, lot) for lot in range(20)}) == 20


def test_things_stand_where_the_scene_says_in_the_colour_it_says():
    for lot in range(10):
        beside = pixels(scene("beside", left="red", right="blue"), lot)
        assert middle(beside, "red")[1] + 16 < middle(beside, "blue")[1]
        above = pixels(scene("above", top="red", bottom="blue"), lot)
        assert middle(above, "red")[0] + 16 < middle(above, "blue")[0]
        row = pixels(scene("row", left="red", middle="green", right="blue"), lot)
        across = [middle(row, colour)[1] for colour in ("red", "green", "blue")]
        assert across == sorted(across)
        assert np.diff(across).min() > 12


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_things_are_drawn_as_the_scene_says_and_none_touches_another(count):
    from scipy.ndimage import label

    layout = "single" if count == 1 else "several"
    for thing in sorted(set(SILHOUETTES) - {"boat"}):  # whose sails hang in the air
        drawn = scene(layout, count, one="red")
        drawn["objects"][0]["thing"] = thing
        ink = (pixels(drawn, 3) < 250).any(axis=2)
        found = label(ink, structure=np.ones((3, 3)))[1]
        assert found == count, thing


def test_looks_differ_in_how_much_of_the_colour_is_left():
    left = {look: middle(pixels(scene(look=look, one="red"), 5), "red")[2] for look in LOOKS}
    assert max(left, key=left.get) == "plain"
    assert min(left.values()) > 50
    down, across, _ = middle(pixels(scene(one="red"), 5), "red")
    hollow = pixels(scene(look="hollow", one="red"), 5)
    assert hollow[round(down), round(across)].tolist() == [255, 255, 255]


def test_a_thing_that_nobody_knows_is_an_error():
    drawn = scene(one="red")
    drawn["objects"][0]["thing"] = "unicorn"
    with pytest.raises(KeyError):
        ENGINE.draw(drawn, 0)
