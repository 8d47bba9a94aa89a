"""Scores of generated pictures, against scikit-learn and numbers that are counted by hand, on tiny networks."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from components.drawn import Drawn, card_grid, read_drawn, side_by_side, write_drawn
from components.judges import Judge
from components.measures import told_of
from components.modalities import modality
from components.modalities.image import distances, generating, judging
from components.modalities.image.labels import LabelEncoder
from components.modalities.image.schema import TASKS
from components.modalities.image.similarity import Pair
from components.outcomes import Refused
from models.clip import convert
from models.clip.network import build
from models.clip.objectives import objective
from models.clip.schema import Dual, ImageTower, Labels
from models.objective import Setting
from tests.components.image.small_pictures import file_of, noise
from tests.components.image.small_squares import TOWER
from tests.models.clip_small import write_encoder

TEXT = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "num_positions": 80}
NAMES = ["look plain", "look ringed", "look striped", "thing cup", "thing star"]
GROUPS = {"look": 3, "thing": 2}


def unit(count, width, seed):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mmd(ours, real):
    """Equation 3 of Gretton et al. 2012, summed one by one."""
    scale, width = np.sqrt(ours.shape[1]), ours.shape[1]
    same, other, cross = (
        polynomial_kernel(left * scale, right * scale, degree=3, gamma=1 / width, coef0=1)
        for left, right in ((ours, ours), (real, real), (ours, real))
    )
    n, m = len(ours), len(real)
    pairs = sum(same[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    others = sum(other[i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return pairs + others - 2 * cross.mean()


# ---- distances -------------------------------------------------------------------------------------------------------


def test_the_mean_of_pseudo_values_is_kid_of_scikit_learns_kernel():
    ours, real = unit(9, 5, 0), unit(7, 5, 1)
    assert distances.kernel_distance(ours, real).mean() == pytest.approx(mmd(ours, real))


def test_two_and_three_pictures_by_hand():
    ours = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    real = np.array([[1.0, 0.0], [0.0, 1.0]])
    # Cosines 0, -1, 0 among ours: (1 + 0 + 1) / 3; among real 0: 1; across 1, 0, 0, 1, -1, 0: 19 / 6
    assert distances.kernel_distance(ours, real).mean() == pytest.approx(2 / 3 + 1 - 2 * 19 / 6)
    assert distances.diversity(ours).mean() == pytest.approx((1 + 2 + 1) / 3)


def test_pseudo_values_are_those_of_leaving_each_picture_out():
    ours, real = unit(8, 4, 2), unit(6, 4, 3)
    found = distances.kernel_distance(ours, real)
    for place in range(8):
        rest = np.delete(ours, place, axis=0)
        assert found[place] == pytest.approx(8 * mmd(ours, real) - 7 * mmd(rest, real))


def test_pictures_of_one_kind_are_about_as_far_as_nothing_and_blocks_change_no_sum(monkeypatch):
    ours, real = unit(300, 16, 4), unit(300, 16, 5)
    found = distances.kernel_distance(ours, real)
    error = found.std(ddof=1) / np.sqrt(300)
    assert abs(found.mean()) < 4 * np.sqrt(2) * error
    monkeypatch.setattr(distances, "BLOCK_ROWS", 7)
    assert distances.kernel_distance(ours, real) == pytest.approx(found)


def test_the_nearest_is_found():
    ours, others = unit(5, 6, 6), unit(40, 6, 7)
    others[[3, 11]] = ours[[0, 4]]
    numbers, far = distances.nearest(ours, others)
    assert numbers[[0, 4]].tolist() == [3, 11]
    assert far[[0, 4]] == pytest.approx([0, 0], abs=1e-12)
    assert far[1] == pytest.approx(1 - max(others @ ours[1]))


# ---- groups of labels ------------------------------------------------------------------------------------------------


def judge():
    torch.manual_seed(1)
    facts = LabelEncoder(NAMES, True, GROUPS).facts
    return build(ImageTower(**TOWER), facts).eval()


def test_a_head_for_each_group_learns_by_its_own_cross_entropy():
    network = judge()
    batch = {"pixels": torch.randn(4, 3, 24, 24), "labels": torch.zeros(4, 5)}
    things, looks = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 1])
    batch["labels"][range(4), things + 3] = 1
    batch["labels"][range(4), looks] = 1
    found = objective(Labels(kind="labels"), network, Setting({}))(batch)
    logits = network(pixel_values=batch["pixels"]).logits
    wanted = torch.nn.functional.cross_entropy(logits[:, 3:], things)
    wanted += torch.nn.functional.cross_entropy(logits[:, :3], looks)
    assert found.total.item() == pytest.approx(wanted.item())
    assert float(found.parts["look_accuracy"]) == float((logits[:, :3].argmax(1) == looks).float().mean())


def test_a_record_has_one_name_of_each_group_and_others_are_left_out():
    encoder = LabelEncoder(NAMES, True, GROUPS)
    (row,) = encoder.encode([json.dumps(["look ringed", "place left", "thing star"])])
    assert row["label"].tolist() == [1, 4]
    with pytest.raises(Refused, match="A record has 0 names of the group 'look'"):
        encoder.encode([json.dumps(["thing star"])])


# ---- tasks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A judge, and a pair of towers, with random weights."""
    root = tmp_path_factory.mktemp("judges")
    convert.save(judge(), root / "judge")
    encoder = write_encoder(root / "encoder")
    torch.manual_seed(0)
    section = Dual(kind="dual", tower="small", tower_width=16, text=TEXT, projection_size=8)
    network = build(section, encoder.facts)
    network.tower = build(ImageTower(**TOWER), {"num_labels": 2, "labels": ["a", "b"]}).vit
    return SimpleNamespace(judge=root / "judge", pair=SimpleNamespace(network=network.eval(), encoder=encoder))


@pytest.fixture(scope="module")
def painter():
    """A tiny pipeline of diffusers with random weights; what a prompt means is drawn by its hash."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8), layers_per_block=1, sample_size=8, cross_attention_dim=8, attention_head_dim=2,
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae, None, None, unet, DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)

    def meaning(prompt):
        number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
        return torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(number))

    def paint(prompts, seeds):
        rows = [
            pipeline(
                prompt_embeds=meaning(prompt), negative_prompt_embeds=meaning(""), num_inference_steps=2,
                generator=torch.Generator().manual_seed(seed), output_type="np",
            ).images[0]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]  # fmt: skip
        return (np.stack(rows) * 255).round().astype(np.uint8)

    return paint


RECORDS = [
    {
        "id": f"r{number}", "split": "test" if number < 6 else "train", "picture": file_of(noise(16 + number, 16)),
        "captions": json.dumps([["web", ["赤い丸", "青い星"][number % 2]]], ensure_ascii=False),
        "marks": json.dumps([["thing cup", "thing star"][number % 2], "look ringed"]),
    }
    for number in range(12)
]  # fmt: skip


def scored(monkeypatch, places, painter, kind, **keys):
    monkeypatch.setattr(judging, "judge_of", lambda name: Judge("clip", places.judge))
    monkeypatch.setattr(judging, "open_pair", lambda family, folder, size: Pair(places.pair, family, size))
    monkeypatch.setattr(generating, "painter_of", lambda task, model: painter)
    model = SimpleNamespace(network=places.pair.network, encoder=places.pair.encoder)
    task = TASKS[kind](kind=kind, corpus="squares", model="judge", **keys)

    def read(corpus, columns, splits):
        return ({key: each[key] for key in ["id", "split", *columns]} for each in RECORDS if each["split"] in splits)

    rows = list(modality("image").score(task, model, read, lambda *_: None))
    totals = {row["metric"]: row["value"] for row in rows if row["item"] is None and "metric" in row}
    items = {(row["item"], row["metric"]): row["value"] for row in rows if row["item"] is not None}
    pictures = {row["picture"]: row["svg"] for row in rows if "picture" in row}
    drawn = [row["drawn"] for row in rows if "drawn" in row]
    for measure in told_of(task):  # each total is the mean over items, so that it has a standard error
        own = [value for (_, metric), value in items.items() if metric == measure.metric]
        assert totals[measure.total or measure.metric] == pytest.approx(np.mean(own)), measure
        assert len(own) == 6
    return totals, items, pictures, drawn


def test_a_judge_tells_each_group_by_itself(monkeypatch, places, painter):
    totals, items, pictures, drawn = scored(monkeypatch, places, painter, "scene-judge", groups=["thing", "look"])
    network = convert.load(places.judge)
    for row, record in zip(drawn, RECORDS, strict=False):
        logits = torch.from_numpy(judging.logits_of(network, [row["picture"]], "clip"))[0]
        said = [NAMES[3 + int(logits[3:].argmax())], NAMES[int(logits[:3].argmax())]]
        wanted = json.loads(record["marks"])
        assert items[record["id"], "thing_is_right"] == (said[0] == wanted[0])
        assert items[record["id"], "look_is_right"] == (said[1] == wanted[1])
        assert items[record["id"], "all_is_right"] == row["is_right"] == (said == wanted)
    assert set(pictures) == {"pictures.svg", "thing.svg", "look.svg"}
    assert totals["num_pictures"] == 6
    with pytest.raises(Refused, match="has the groups look, thing, expected size among them"):
        scored(monkeypatch, places, painter, "scene-judge", groups=["size"])


def test_pictures_are_compared_with_their_prompts(monkeypatch, places, painter):
    totals, items, _, drawn = scored(monkeypatch, places, painter, "image-similarity")
    pair = Pair(places.pair, "clip", 64)
    for row in drawn:
        near = float(pair.of_pictures([row["picture"]])[0] @ pair.of_texts([row["prompt"]])[0])
        assert items[row["item"], "cosine"] == pytest.approx(near, abs=1e-5)
    assert totals["num_prompts"] == 2
    assert -1 <= totals["cosine_of_real"] <= 1


def test_the_lot_is_compared_with_real_pictures_and_looked_for_in_training(monkeypatch, places, painter):
    keys = {"trained_on": ["squares"]}
    totals, items, pictures, drawn = scored(monkeypatch, places, painter, "image-distance", **keys)
    pair = Pair(places.pair, "clip", 64)
    ours = pair.of_pictures([row["picture"] for row in drawn]).numpy()
    real = pair.of_pictures([record["picture"] for record in RECORDS[:6]]).numpy()
    assert totals["kernel_distance"] == pytest.approx(mmd(ours, real), abs=1e-4)
    trained = pair.of_pictures([record["picture"] for record in RECORDS[6:]]).numpy()
    assert items["r0", "train_distance"] == pytest.approx(1 - (trained @ ours[0]).max(), abs=1e-5)
    assert totals["num_same"] == 0
    assert pictures["nearest.svg"].count("<image") == 2 * 6


def test_fixed_prompts_are_drawn_from_the_same_seeds_and_compared_with_themselves(monkeypatch, places, painter):
    monkeypatch.setattr(judging, "judge_of", lambda name: Judge("clip", places.judge))
    monkeypatch.setattr(judging, "open_pair", lambda family, folder, size: Pair(places.pair, family, size))
    monkeypatch.setattr(generating, "painter_of", lambda task, model: painter)
    prompts = ["サラリーマン 油絵", "赤い丸"]
    task = TASKS["fixed-prompts"](kind="fixed-prompts", prompts=prompts, pictures_of_each=3, model="judge")
    rows = list(modality("image").score(task, places.pair, lambda *_, **__: [], lambda *_: None))
    drawn = [row["drawn"] for row in rows if "drawn" in row]
    assert [row["prompt"] for row in drawn] == [each for each in prompts for _ in range(3)]
    assert len({row["seed"] for row in drawn}) == 6
    again = list(modality("image").score(task, places.pair, lambda *_, **__: [], lambda *_: None))
    assert [row["drawn"] for row in again if "drawn" in row] == drawn
    totals = {row["metric"]: row["value"] for row in rows if row["item"] is None and "metric" in row}
    values = [row["value"] for row in rows if row["item"] is not None]
    assert totals["cosine"] == pytest.approx(np.mean(values))
    assert totals["num_prompts"] == 2


def test_a_copy_of_training_is_told(monkeypatch, places):
    copy = np.asarray(noise(16 + 7, 16))
    totals, _, _, _ = scored(
        monkeypatch, places, lambda prompts, seeds: np.stack([copy] * len(prompts)), "image-distance",
        trained_on=["squares"],
    )  # fmt: skip
    assert totals["num_same"] == 6
    assert totals["train_distance"] == pytest.approx(0, abs=1e-5)


def test_a_picture_is_a_function_of_its_record_alone(monkeypatch, places, painter):
    whole = scored(monkeypatch, places, painter, "image-similarity")[3]
    parts = scored(monkeypatch, places, painter, "image-similarity", batch_pictures=1)[3]
    assert [row["picture"] for row in whole] == [row["picture"] for row in parts]
    assert len({row["seed"] for row in whole}) == 6
    others = scored(monkeypatch, places, painter, "image-similarity", seed=1)[3]
    assert not {row["seed"] for row in whole} & {row["seed"] for row in others}


def test_a_stopped_evaluation_draws_the_rest_in_the_batches_of_one_never_stopped(tmp_path, monkeypatch, painter):
    monkeypatch.chdir(tmp_path)
    batches: list[list[str]] = []

    def paint(prompts, seeds):
        if len(batches) == stops_after:
            raise KeyboardInterrupt
        batches.append(prompts)
        return painter(prompts, seeds)

    monkeypatch.setattr(generating, "painter_of", lambda task, model: paint)
    task = TASKS["image-similarity"](kind="image-similarity", corpus="squares", model="judge", batch_pictures=4)
    records = [{"id": f"r{number}"} for number in range(10)]
    prompts = [f"prompt {number}" for number in range(10)]
    wanted = [prompts[:4], prompts[4:8], prompts[8:]]

    def pictures(content):
        model = SimpleNamespace(network=torch.nn.Linear(1, 1), content=content)
        return generating.draw_prompts(task, model, records, prompts, lambda *_: None).pictures

    stops_after = None
    whole = pictures("never-stopped")
    assert batches == wanted
    batches.clear()
    stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        pictures("stopped")
    stops_after = None
    assert pictures("stopped") == whole
    assert batches == wanted
    assert pictures("stopped") == whole
    assert batches == wanted, "all is known by then"


def test_what_draws_nothing_is_refused(places):
    task = TASKS["image-similarity"](kind="image-similarity", corpus="squares", model="judge")
    with pytest.raises(Refused, match="scores generators of pictures; found a DualEncoder"):
        generating.painter_of(task, places.pair)
    with pytest.raises(Refused, match=r"gave float64 \[1, 2, 2, 3\] for 2 prompts"):
        generating._files(np.zeros((1, 2, 2, 3)), 2)


# ---- grids -----------------------------------------------------------------------------------------------------------


def test_recipes_stand_side_by_side_where_prompts_and_seeds_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from components import paths

    file = file_of(noise(8, 8))
    rows = [{"task": "words", "item": f"i{n}", "prompt": f"<{n}>", "seed": n, "picture": file} for n in range(3)]
    for recipe, own in (("before", rows), ("after", rows[1:]), ("other", [rows[0] | {"seed": 9}])):
        folder = paths.payload("evaluate", recipe)
        folder.mkdir(parents=True)
        write_drawn(own, folder)
    assert read_drawn(paths.payload("evaluate", "after"))[0] == Drawn(**rows[1])
    svg, count = side_by_side(["before", "after"])
    assert (count, svg.count("<image")) == (2, 4)
    assert "&lt;1&gt;" in svg
    assert ">before<" in svg
    assert card_grid(paths.payload("evaluate", "before")).count("<image") == 3
    with pytest.raises(Refused, match="are of other prompts or seeds"):
        side_by_side(["before", "other"])
    with pytest.raises(Refused, match="do not share the task 'nothing'"):
        side_by_side(["before", "after"], "nothing")
    with pytest.raises(Refused, match="There are no pictures of 'nobody'"):
        side_by_side(["before", "nobody"])
