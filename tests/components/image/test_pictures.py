"""Raw pictures become clean ones: what stays, what is changed, and what is a reject with which words."""

import io

import numpy as np
import pytest
from PIL import Image

from components.modalities import Rejected, image
from components.modalities.image import pictures, schema
from tests.components.image.small_pictures import bomb, file_of, noise


def read(raw, **more):
    return image.reader(schema.Column(modality="image", form="picture", **more))({"image": raw})


def pixels(value):
    return np.asarray(pictures.decoded(value))


def kind_of(value):
    return Image.open(io.BytesIO(value)).format


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_what_loses_nothing_becomes_a_png_of_the_same_pixels(kind):
    original = noise().convert("P").convert("RGB") if kind == "GIF" else noise()
    raw = file_of(original, kind)
    value = read(raw)
    assert kind_of(value) == "PNG"
    assert (pixels(value) == np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_what_has_lost_something_becomes_a_jpeg_that_is_close_to_it(kind):
    smooth = Image.linear_gradient("L").convert("RGB")
    raw = file_of(smooth, kind, quality=90)
    value = read({"bytes": raw, "path": None})
    assert kind_of(value) == "JPEG"
    assert np.abs(pixels(value).astype(int) - np.asarray(smooth)).max() <= 8


def test_a_clean_picture_stays_as_it_is_to_the_byte():
    column = schema.Column(modality="image", form="picture")
    value = read(file_of(noise(), "JPEG"))
    parts = image.with_texts(value, column, image.texts_of(value, column))
    assert image.reader(column)(parts) == value
    assert read(value) != value, "a raw JPEG is encoded again"
    smaller = image.reader(schema.Column(modality="image", form="picture", max_side_px=30))(parts)
    assert pixels(smaller).shape == (20, 30, 3)


def test_alpha_stands_on_white_whatever_the_mode():
    see_through = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    see_through.paste((0, 0, 255, 128), (0, 0, 20, 40))
    value = pixels(read(file_of(see_through)))
    assert value[0, 30].tolist() == [255, 255, 255]
    assert value[0, 10].tolist() == [127, 127, 255]
    assert pixels(read(file_of(Image.new("P", (40, 40)), transparency=0)))[0, 0].tolist() == [255, 255, 255]
    assert pixels(read(file_of(Image.new("LA", (40, 40), (0, 0)))))[0, 0].tolist() == [255, 255, 255]


def test_ink_becomes_light_and_sixteen_bits_become_eight():
    red = pixels(read(file_of(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")))
    assert np.abs(red[20, 20].astype(int) - [255, 0, 0]).max() <= 3
    grey = Image.fromarray(np.full((40, 40), 40_000, np.uint16))
    assert pixels(read(file_of(grey)))[0, 0].tolist() == [40_000 >> 8] * 3


def test_a_picture_is_turned_as_its_exif_says_and_keeps_no_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view (EXIF 2.3, 4.6.4)
    exif[0x010E] = "a secret"
    marked = Image.new("RGB", (60, 40), "white")
    marked.paste("red", (0, 0, 20, 20))
    value = read(file_of(marked, "JPEG", exif=exif, quality=100))
    assert pixels(value).shape == (60, 40, 3)
    assert pixels(value)[5, 35][1] < 60, "the corner at the left top is now at the right top"
    assert b"secret" not in value


def test_a_large_picture_is_made_smaller_with_its_sides_alike():
    assert pixels(read(file_of(noise(600, 300), "JPEG"), max_side_px=128)).shape == (64, 128, 3)
    assert pixels(read(file_of(noise(300, 600)), max_side_px=128)).shape == (128, 64, 3)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"no picture", "not readable as a picture"),
        (None, r"no bytes of a picture \(source\.files_field"),
        (file_of(noise())[:40], "not readable|ends early"),
        (file_of(noise())[:500], "ends early: the file is truncated or damaged"),
        (file_of(noise(), "JPEG")[:-200], "ends early: the file is truncated or damaged"),
        (file_of(noise(), "BMP")[:-1], "ends early: the file is truncated or damaged"),
        (bomb(), r"more than 80,000,000 pixels \(filters\.max_pixels\)"),
        (file_of(Image.new("RGB", (1, 1))), r"a side under 16 pixels \(filters\.min_side_px\)"),
        (file_of(noise(200, 20)), r"one side over 4 times the other \(filters\.max_aspect\)"),
        (file_of(Image.new("F", (40, 40)), "TIFF"), "no whole numbers"),
    ],
)
def test_what_cannot_be_read_is_a_reject_with_its_reason(raw, reason):
    with pytest.raises(Rejected, match=reason):
        read(raw)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_what_moves_is_a_reject(kind):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    raw = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(Rejected, match="animated, or several pictures in one file"):
        read(raw)


def test_a_bomb_is_told_by_its_head_without_the_memory_it_would_fill():
    import tracemalloc

    raw = bomb()
    assert len(raw) < 100_000
    tracemalloc.start()
    with pytest.raises(Rejected):
        read(raw)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_pictures_that_look_alike_have_one_digest_and_others_another():
    photograph = Image.linear_gradient("L").rotate(30).convert("RGB")
    photograph.paste((200, 40, 40), (60, 90, 150, 200))
    first = pictures.look_digest(photograph)
    again = pictures.decoded(read(file_of(photograph, "JPEG", quality=85)))
    assert pictures.look_digest(again) == first
    assert pictures.look_digest(photograph.resize((512, 512), Image.Resampling.BICUBIC)) == first
    assert pictures.look_digest(photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) != first
    blue = photograph.copy()
    blue.paste((40, 40, 255), (60, 90, 150, 200))
    assert pictures.look_digest(blue) != first
    assert len(first) == 18


def test_the_digest_is_that_of_the_cosine_transform():
    from scipy.fft import dctn

    small = np.asarray(noise(32, 32).convert("L"), dtype=np.float64)
    low = dctn(small, type=2)[:8, :8].ravel()[1:]
    expected = np.packbits(low > np.median(low)).tobytes().hex()
    assert pictures.look_digest(noise(32, 32))[:16] == expected
