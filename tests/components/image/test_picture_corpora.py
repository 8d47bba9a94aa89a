"""Pictures from raw files to accepted records, and corpora that are made from them: drawn, captioned, translated."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

from components import paths
from components.captioning import Captioning
from components.graph import stages
from components.ingest import ingest
from components.manifest import Manifest, read_manifest, writing
from components.outcomes import Refused
from components.package import package
from components.recipes import Library
from components.records import ACCEPTED_NAME, TableWriter, text_schema
from components.validate import validate
from tests.components.image.small_captioner import write_captioner
from tests.components.image.small_pictures import bomb, file_of, noise, tar_of
from tests.components.small_endpoint import serving

PICTURE = {"modality": "image", "form": "picture"}
CAPTIONS = {"modality": "image", "form": "captions"}
SCENE = {
    "background": "white",
    "look": "plain",
    "layout": "single",
    "objects": [{"thing": "star", "colour": "red", "place": "centre", "count": 1}],
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()


def write(name, content):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        content = yaml.safe_dump(content, allow_unicode=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def corpus(name, source, columns, **more):
    section = {"description": "Small.", "language": "ja", "licence": "CC0-1.0", "source": source, "columns": columns}
    write(f"recipes/corpora/{name}.yaml", section | {"splits": {"only": "train"}} | more)


def records(name):
    parts = sorted(paths.payload("ingest", name).glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def picture(number):
    """Smooth, as photographs are: of noise no two sizes look alike."""
    return Image.linear_gradient("L").rotate(37 * number).convert("RGB").resize((80 + number, 96))


def accept(name):
    """Every record, as `validate` would."""
    parents = {paths.payload("ingest", name).as_posix(): read_manifest("ingest", name).payload_hash}
    with writing(Manifest("validate", name, {}, parents)) as folder:
        (folder / "accepted").mkdir()
        with TableWriter(folder / "accepted" / ACCEPTED_NAME, text_schema("id")) as table:
            for record in records(name):
                table.add({"id": record["id"]})


def write_table(number=8, language="ja"):
    """A folder of pictures and a table that names them."""
    rows = []
    for each in range(number):
        write(f"data/pictures/files/{each}.png", file_of(picture(each)))
        text = f"{each}番目の絵" if language == "ja" else f"picture number {each}"
        rows.append({"id": f"p{each}", "image": f"files/{each}.png", "caption": [text, f"{text}!"]})
    write("data/pictures/rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "files", "paths": ["pictures"], "format": "jsonl", "files_field": "image", "id_field": "id"}
    corpus("pictures", source, {"picture": PICTURE, "captions": CAPTIONS}, language=language)


def test_a_table_with_pictures_becomes_accepted_records_and_a_page_with_a_contact_sheet():
    write_table()
    ingest("pictures")
    first, *_ = records("pictures")
    assert json.loads(first["captions"]) == [["web", "0番目の絵"], ["web", "0番目の絵!"]]
    assert Image.open(io.BytesIO(first["picture"])).tobytes() == picture(0).tobytes()
    validate("pictures")
    assert read_manifest("validate", "pictures").counts["num_accepted"] == 8
    page = (paths.state("validate", "pictures") / "report.html").read_text(encoding="utf-8")
    assert page.count("<img alt=") == 8
    assert 'src="data:image/png;base64,' in page
    assert "7番目の絵!" in page
    assert "http" not in page.partition("</style>")[2]
    profile = json.loads((paths.state("validate", "pictures") / "profile.json").read_text())
    widths = profile["facts"]["picture_width_px"]
    assert (widths["quantiles"]["0"], widths["quantiles"]["1"], widths["sum"]) == (80, 87, sum(range(80, 88)))
    assert profile["categories"]["captions_language"] == {"ja": 8}
    assert profile["categories"]["picture_format"] == {"PNG": 8}
    assert not [name for name in profile["categories"] if name.endswith("digest")]


def test_bad_rows_of_a_tar_are_named_and_the_rest_goes_on():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green")]
    fine = file_of(noise(), "JPEG")
    members = [
        ("0.jpg", fine), ("0.txt", "よい絵".encode()), ("0.json", b'{"unsafe": false}'),
        ("1.jpg", file_of(picture(1))), ("1.json", b'{"unsafe": false}'),
        ("2.png", file_of(Image.new("RGB", (1, 1)))), ("2.txt", "一画素".encode()), ("2.json", b'{"unsafe": false}'),
        ("3.png", bomb()), ("3.txt", "爆弾".encode()), ("3.json", b'{"unsafe": false}'),
        ("4.gif", file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])), ("4.txt", "動く".encode()),
        ("4.json", b'{"unsafe": false}'),
        ("5.jpg", file_of(picture(5))), ("5.txt", b"une image"), ("5.json", b'{"unsafe": false}'),
        ("6.jpg", file_of(picture(6))), ("6.txt", "危ない絵".encode()), ("6.json", b'{"unsafe": true}'),
        ("7.jpg", fine[:-200]), ("7.txt", "切れた絵".encode()), ("7.json", b'{"unsafe": false}'),
    ]  # fmt: skip
    write("data/tars/a.tar", tar_of(members))
    columns = {
        "flag": {"modality": "image", "form": "flag"},
        "picture": PICTURE,
        "captions": CAPTIONS | {"field": "txt", "filters": {"min_japanese_share": 0.5}},
    }
    corpus("tars", {"kind": "files", "paths": ["tars"]}, columns, max_reject_share=0.9)
    ingest("tars")
    (row,) = records("tars")
    assert (row["id"], row["flag"], json.loads(row["captions"])) == ("tars/a.tar:0", "safe", [["web", "よい絵"]])
    rejects = pq.read_table(paths.state("ingest", "tars") / "rejects.parquet").to_pylist()
    assert {row["where"].rpartition(":")[2]: row["reason"] for row in rejects} == {
        "1": "no field 'txt' (columns.captions.field)",
        "2": "picture: a side under 16 pixels (filters.min_side_px)",
        "3": "picture: more than 80,000,000 pixels (filters.max_pixels)",
        "4": "picture: animated, or several pictures in one file",
        "5": "captions: in another language: Japanese share under 0.5 (filters.min_japanese_share)",
        "6": "flag: flagged as unsafe",
        "7": "picture: the picture ends early: the file is truncated or damaged",
    }


def test_pictures_that_look_alike_and_captions_in_another_language_are_shown_and_left_out():
    write_table()
    write("data/pictures/files/7.png", file_of(picture(3).resize((150, 174))))
    path = Path("data/pictures/rows.jsonl")
    text = path.read_text().replace(json.dumps("5番目の絵"), '"in English"')
    path.write_text(text.replace(json.dumps("5番目の絵!"), '"too"'))
    section = yaml.safe_load(Path("recipes/corpora/pictures.yaml").read_text())
    section["columns"]["picture"]["expectations"] = {"unique_mostly": 0.7}
    section["columns"]["captions"]["expectations"] = {"language_mostly": 0.7}
    write("recipes/corpora/pictures.yaml", section)
    ingest("pictures")
    validate("pictures")
    accepted = pq.read_table(paths.payload("validate", "pictures") / "ids.parquet").to_pylist()
    assert [row["id"] for row in accepted] == ["p0", "p1", "p2", "p4", "p6"]
    page = (paths.state("validate", "pictures") / "report.html").read_text(encoding="utf-8")
    assert "Broken: picture_look_digest: looks like no other picture" in page


def write_scenes(number=3, **scene):
    rows = [{"id": f"s{each}", "scene": SCENE | {"name": each} | scene, "caption": "赤い星"} for each in range(number)]
    write("data/scenes.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    columns = {
        "scene": {"modality": "image", "form": "scene"},
        "captions": CAPTIONS,
        "foils": {"modality": "image", "form": "foils"},
    }
    corpus("scenes", {"kind": "files", "paths": ["scenes.jsonl"], "id_field": "id"}, columns)
    drawn = {"kind": "drawn", "corpus": "scenes", "engine": {"kind": "shapes", "canvas_px": 32}}
    corpus("drawn", drawn, {"picture": PICTURE, **columns})


def test_scenes_are_drawn_with_all_that_stands_beside_them():
    write_scenes()
    ingest("scenes")
    accept("scenes")
    ingest("drawn")
    for row, other in zip(records("drawn"), records("scenes"), strict=True):
        assert {key: row[key] for key in other} == other
        image = Image.open(io.BytesIO(row["picture"]))
        assert image.size == (32, 32)
        counts = image.getcolors(32 * 32)
        assert any(red > 180 and green < 90 and blue < 90 for _, (red, green, blue) in counts)
    manifest = read_manifest("ingest", "drawn")
    assert manifest.revisions["components.painters.shapes"] == 2
    assert manifest.details["drawing"]["engine"]["canvas_px"] == 32
    first = manifest.payload_hash
    ingest("drawn")
    assert read_manifest("ingest", "drawn").payload_hash == first
    stage = next(row for row in stages(Library()) if row.key == "ingest-drawn")
    assert "artifacts/ingested/scenes/records" in stage.deps
    assert ("components/painters/shapes.py", ("REVISION",)) in stage.params


def test_pictures_of_another_corpus_do_not_come_again_where_that_is_asked():
    write_scenes(6)
    section = {"kind": "drawn", "corpus": "scenes", "engine": {"kind": "shapes", "canvas_px": 64}}
    columns = {"picture": PICTURE, "scene": {"modality": "image", "form": "scene"}}
    small = section | {"engine": {"kind": "shapes", "canvas_px": 16}}  # on which there are few ways
    for name, made in (("drawn", section), ("same", section), ("apart", section | {"unlike": ["drawn"]})):
        corpus(name, made, columns)
    corpus("small", small, columns)
    corpus("few", small | {"unlike": ["small"]}, columns)
    ingest("scenes")
    accept("scenes")
    ingest("drawn")
    accept("drawn")
    seen = {}
    for name in ("drawn", "same", "apart"):
        ingest(name)
        seen[name] = [Image.open(io.BytesIO(row["picture"])).tobytes() for row in records(name)]
    assert seen["same"] == seen["drawn"]
    assert not set(seen["apart"]) & set(seen["drawn"])
    assert len(set(seen["apart"])) == len(seen["apart"]) == 6
    ingest("small")
    accept("small")
    ingest("few")
    (reason,) = read_manifest("ingest", "few").details["rejects"]
    assert "or has drawn it in all ways (source.unlike)" in reason
    stage = next(row for row in stages(Library()) if row.key == "ingest-apart")
    assert {"artifacts/ingested/drawn/records", "artifacts/validated/drawn/accepted"} <= set(stage.deps)
    assert paths.payload("ingest", "drawn").as_posix() in read_manifest("ingest", "apart").parents


def test_a_scene_that_the_painter_does_not_know_is_a_reject_and_a_missing_column_is_refused():
    write_scenes(objects=[{"thing": "unicorn", "colour": "red", "place": "centre", "count": 1}])
    ingest("scenes")
    accept("scenes")
    with pytest.raises(Refused, match=r"3 × the painter does not know what its scene says \(source\.engine\)"):
        ingest("drawn")
    path = Path("recipes/corpora/drawn.yaml")
    section = yaml.safe_load(path.read_text())
    write(path, section | {"columns": {"captions": CAPTIONS}})
    with pytest.raises(Refused, match="has 0 columns of form 'picture', expected the one that is drawn"):
        ingest("drawn")
    write(path, section | {"columns": {"picture": PICTURE, "label": {"modality": "image", "form": "label"}}})
    with pytest.raises(Refused, match="takes over the column 'label', expected one of the same name"):
        ingest("drawn")
    write(path, section | {"source": section["source"] | {"scene_column": "other"}})
    with pytest.raises(Refused, match=r"draws the column 'other' of corpus 'scenes', which has captions, foils, scene"):
        ingest("drawn")


@pytest.fixture
def captioner():
    """A recipe of a captioner, and a corpus of English captions that it adds to."""
    write_captioner(Path("foreign/blip"))
    recipe = {"family": "clip", "description": "b", "language": "en", "licence": "MIT", "source": "path:foreign/blip"}
    write("recipes/blip.yaml", recipe | {"layout": "captioner"})
    write_table(6, "en")
    ingest("pictures")
    accept("pictures")
    source = {"kind": "captioned", "corpus": "pictures", "model": "blip", "num_beams": 2, "batch_pictures": 2}
    corpus("captioned", source, {"picture": PICTURE, "captions": CAPTIONS}, language="en")


def by_transformers(pictures):
    """What the library itself says of pictures, one at a time."""
    model = BlipForConditionalGeneration.from_pretrained("foreign/blip").eval()
    processor, tokenizer = (each.from_pretrained("foreign/blip") for each in (AutoImageProcessor, AutoTokenizer))
    settings = {"num_beams": 2, "do_sample": False, "min_new_tokens": 5, "max_new_tokens": 20}
    with torch.no_grad():
        ids = [model.generate(**processor(each, return_tensors="pt"), **settings)[0] for each in pictures]
    return [tokenizer.decode(each, skip_special_tokens=True) for each in ids]


def test_a_captioner_adds_what_transformers_itself_says_and_makes_nothing_twice(captioner, monkeypatch):
    package("blip")
    said = []
    described = Captioning._described

    def stopped(self, pictures):
        said.append(len(pictures))
        if len(said) == 3:
            raise KeyboardInterrupt
        return described(self, pictures)

    monkeypatch.setattr(Captioning, "_described", stopped)
    with pytest.raises(KeyboardInterrupt):
        ingest("captioned")
    ingest("captioned")
    assert said == [2, 2, 2, 2], "the second run describes the last two pictures alone"
    found = records("captioned")
    originals = records("pictures")
    expected = by_transformers([Image.open(io.BytesIO(row["picture"])).convert("RGB") for row in originals])
    for row, original, text in zip(found, originals, expected, strict=True):
        assert row["picture"] == original["picture"]
        assert json.loads(row["captions"]) == [*json.loads(original["captions"]), ["generated", text]]
    manifest = read_manifest("ingest", "captioned")
    assert manifest.details["captioning"]["model"] == "blip"
    assert manifest.details["captioning"]["captions"] == 6
    assert manifest.details["engines"] == {"captions by blip": "MIT"}
    assert (
        manifest.parents["artifacts/packaged/blip/captioner"]
        == read_manifest("package", "blip").details["weights_hash"]
    )
    stage = next(row for row in stages(Library()) if row.key == "ingest-captioned")
    assert "artifacts/packaged/blip/captioner/model.safetensors" in stage.deps
    assert ("models/clip/__init__.py", ("REVISION",)) in stage.params


def test_captions_are_translated_and_the_picture_beside_them_stays_as_it_is():
    write_table(3, "en")
    ingest("pictures")
    accept("pictures")
    with serving() as server:
        engine = {"kind": "openai", "url": server.url, "model": "m", "licence": "MIT", "key_variable": None}
        source = {"kind": "translated", "corpus": "pictures", "engine": engine}
        corpus("translated", source, {"picture": PICTURE, "captions": CAPTIONS}, language="und")
        ingest("translated")
    for row, original in zip(records("translated"), records("pictures"), strict=True):
        assert row["picture"] == original["picture"]
        assert row["captions_original"] == original["captions"]
        assert json.loads(row["captions"]) == [[kind, text.upper()] for kind, text in json.loads(original["captions"])]
        assert "picture_original" not in row


def test_a_captioned_corpus_wants_a_captioner(captioner):
    write("recipes/blip.yaml", Path("recipes/blip.yaml").read_text().replace("captioner", "clip"))
    with pytest.raises(Refused, match=r"wants captions of 'blip', expected somebody else's model with the layout"):
        ingest("captioned")
    path = Path("recipes/corpora/captioned.yaml")
    write(path, yaml.safe_load(path.read_text()) | {"columns": {"captions": CAPTIONS}})
    with pytest.raises(Refused, match="has 0 columns of form 'picture', expected one"):
        ingest("captioned")
