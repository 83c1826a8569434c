"""Every mode and depth that Pillow opens is scaled by its own range, or refused by name."""

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from mltk.data import BrokenImageWarning, ImageFolder
from mltk.data.images.file import on_white
from mltk.errors import DataError

RAMP = np.add.outer(np.arange(32), np.arange(32)) * 4  # 0 … 248 in 63 levels
SIDE = len(RAMP)
COLOUR = np.stack([RAMP, RAMP.T[::-1], 255 - RAMP], axis=-1).astype(np.uint8)


def write(tmp_path, image, name="a.tif", **options):
    """A folder with one class and this image in it."""
    path = tmp_path / "class" / name
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
    return tmp_path


def read(root, channels=1, **settings):
    return ImageFolder(root, SIDE, channels=channels, **settings).pictures.images


def refused(root, **settings):
    """Why the only image of a folder is left out."""
    with pytest.raises(DataError, match="no images but for 1 that cannot be read") as raised:
        read(root, **settings)
    return str(raised.value)


GREYS = {
    "8 bits": (RAMP.astype(np.uint8), ("tif", "png", "bmp", "pgm")),
    "12 bits in 16": ((RAMP * 16).astype(np.uint16), ("tif", "png")),
    "10 bits in 16": ((RAMP * 4).astype(np.uint16), ("tif", "png")),
    "16 bits": ((RAMP * 257).astype(np.uint16), ("tif", "png", "pgm")),
    "16 bits, big-endian": ((RAMP * 257).astype(">u2"), ("tif",)),
    "32 bits, 0…255": (RAMP.astype(np.int32), ("tif",)),
    "32 bits, 0…65535": ((RAMP * 257).astype(np.int32), ("tif",)),
    "floating 0…1": ((RAMP / 255).astype(np.float32), ("tif",)),
}


@pytest.mark.parametrize(
    ("kind", "suffix"), [(kind, suffix) for kind, (_, suffixes) in GREYS.items() for suffix in suffixes]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_any_depth_is_the_same_ramp(tmp_path, kind, suffix, channels):
    root = write(tmp_path, Image.fromarray(GREYS[kind][0]), f"a.{suffix}")
    images = read(root, channels)
    assert images.dtype == np.uint8
    assert len(np.unique(images)) == 63
    np.testing.assert_allclose(images, np.broadcast_to(RAMP, images.shape), atol=1.1)


@pytest.mark.parametrize(
    ("dtype", "white", "said"),
    [
        (np.uint16, 4095, "4095"),
        (np.int32, 100_000, "100000"),
        (np.float32, 255, "255"),
        (np.float32, 7, "7"),
    ],
)
def test_white_is_what_is_said_and_what_is_brighter_is_refused(tmp_path, dtype, white, said):
    root = write(tmp_path, Image.fromarray((RAMP / 255 * white).astype(dtype)))
    np.testing.assert_allclose(read(root, white=white)[0, 0], RAMP, atol=1)
    np.testing.assert_allclose(read(root, white=2 * white)[0, 0], RAMP / 2, atol=1)
    assert f"expected at most {0.9 * white:g}" in refused(root, white=0.9 * white)
    if dtype != np.uint16:
        assert "white=… says what white is" in refused(root)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"])
def test_colours_of_eight_bits_are_those_that_pillow_shows(tmp_path, mode):
    image = Image.fromarray(COLOUR).convert(mode)
    root = write(tmp_path, image, "a.png" if mode == "LA" else "a.tif")
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read(root, 3)[0], expected.transpose(2, 0, 1))
    grey = np.asarray(Image.fromarray(expected).convert("L"))
    np.testing.assert_array_equal(read(root, 1)[0, 0], grey)


HALF = np.where(np.arange(SIDE) < SIDE // 2, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("mode", ["La", "LA", "PA", "RGBA", "RGBa", "P", "L", "RGB", "1"])
def test_transparent_pixels_are_white_and_others_themselves(mode):
    black = Image.new("L", (SIDE, SIDE), 0)
    alpha = Image.fromarray(np.tile(HALF, (SIDE, 1)))
    if mode in ("P", "L", "RGB", "1"):  # one colour is called transparent
        image = Image.fromarray(np.tile(HALF, (SIDE, 1))).convert(mode)
        image = image.point(lambda x: 255 - x) if mode != "P" else image
        image.info["transparency"] = {"RGB": (255, 255, 255), "P": 0}.get(mode, 255)
        expected = np.full((SIDE, SIDE), 255)
        if mode != "P":
            expected[:, : SIDE // 2] = 0
        else:
            palette = np.asarray(image.convert("RGB").convert("L"))
            expected = np.where(np.asarray(image) == 0, 255, palette)
    else:
        image = Image.merge("LA", (black, alpha))
        image = image.convert(mode) if mode in ("La", "LA") else image.convert("RGBA").convert(mode)
        expected = np.where(np.tile(HALF, (SIDE, 1)) > 0, 0, 255)
    np.testing.assert_array_equal(np.asarray(on_white(image).convert("L")), expected)


def test_a_palette_with_a_transparent_colour_is_on_white(tmp_path):
    image = Image.fromarray((RAMP > 124).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    root = write(tmp_path, image, "a.png", transparency=0)
    pixels = read(root, 3)[0]
    assert (pixels[:, RAMP <= 124] == 255).all()
    assert (pixels[:, RAMP > 124] == np.asarray([200, 100, 0])[:, None]).all()


def test_lab_colours_are_right_or_refused_by_name(tmp_path):
    profiles = (ImageCms.createProfile(space) for space in ("sRGB", "LAB"))
    to_lab = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    root = write(tmp_path, ImageCms.applyTransform(Image.fromarray(COLOUR), to_lab))
    try:
        Image.new("LAB", (1, 1)).convert("RGB")
    except ValueError:  # before Pillow 12 or so
        assert "class/a.tif: ValueError: conversion from LAB" in refused(root)
        return
    assert np.abs(read(root, 3)[0].astype(int) - COLOUR.transpose(2, 0, 1)).mean() < 2


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        ((RAMP / 255 - 0.1).astype(np.float32), "mode F, and some are negative"),
        (np.where(RAMP > 8, RAMP, np.nan).astype(np.float32), "mode F, and some are negative or not finite"),
        (RAMP.astype(np.float32), "mode F up to 248; expected at most 1"),
        ((RAMP - 5).astype(np.int32), "mode I, and some are negative"),
        ((RAMP * 1000).astype(np.int32), "mode I up to 248000; expected at most 65535"),
    ],
)
def test_numbers_that_mean_nothing_known_are_refused_by_name(tmp_path, array, problem):
    assert f"class/a.tif: its pixels are numbers of {problem}" in " ".join(
        refused(write(tmp_path, Image.fromarray(array))).split()
    )


def test_deep_images_with_white_as_zero_or_a_transparent_number_are_refused(tmp_path):
    deep = Image.fromarray((RAMP * 257).astype(np.uint16))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    inverted = write(tmp_path, deep, tiffinfo=tags)
    with Image.open(inverted / "class" / "a.tif") as image:
        assert (image.mode, image.tag_v2[262]) == ("I;16", 0)
    assert "with 0 as white" in refused(inverted)


def deep_colour(path, values):
    """A TIFF file of 16 bits a channel, which Pillow reads and does not write."""
    path.parent.mkdir(exist_ok=True)
    data = np.asarray(values, "<u2").tobytes()
    entries = [
        (256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, SIDE), (279, 4, 1, len(data)),
    ]  # fmt: skip
    table = b"".join(
        np.asarray([tag, kind], "<u2").tobytes() + np.asarray([count, value], "<u4").tobytes()
        for tag, kind, count, value in entries
    )
    header = b"II*\0" + np.asarray([14 + len(data)], "<u4").tobytes() + np.asarray([16] * 3, "<u2").tobytes()
    size = np.asarray([len(entries)], "<u2").tobytes()
    path.write_bytes(header + data + size + table + bytes(4))
    return path.parent.parent


def test_deep_colour_is_read_and_refused_where_eight_bits_would_not_be_left(tmp_path):
    root = deep_colour(tmp_path / "class" / "a.tif", COLOUR.astype(int) * 257)
    np.testing.assert_array_equal(read(root, 3)[0], COLOUR.transpose(2, 0, 1))
    deep_colour(tmp_path / "class" / "a.tif", COLOUR.astype(int) * 16)
    assert "16 bits a channel and uses the lower ones alone" in refused(root)


def test_one_white_serves_all_images_and_classes_of_a_folder_even_those_left_out(tmp_path):
    for name, scale in (("bright", 16), ("dim", 2), ("dark", 1)):
        (tmp_path / name).mkdir()
        Image.fromarray((RAMP * scale).astype(np.uint16)).save(tmp_path / name / "a.png")
    whole = ImageFolder(tmp_path, SIDE, channels=1)
    highest = [248, 248 / 16, 248 / 8]  # bright, dark, dim, of 12 bits
    np.testing.assert_allclose(whole.pictures.images.max(axis=(1, 2, 3)), highest, atol=1)
    for part in whole.split([1 / 3] * 3, seed=1):
        place = whole.class_names.index(part.class_names[0])
        np.testing.assert_array_equal(part.pictures.images[0], whole.pictures.images[place])


def test_refused_images_are_listed_beside_those_that_are_read(tmp_path):
    root = write(tmp_path, Image.fromarray(RAMP.astype(np.uint8)), "b.tif")
    write(tmp_path, Image.fromarray(RAMP.astype(np.float32)))
    dataset = ImageFolder(root, SIDE, channels=1)
    with pytest.warns(BrokenImageWarning, match=r"1 images in .* class/a\.tif \(its pixels are numbers"):
        assert dataset.pictures.counts.tolist() == [1]
    assert dataset.skipped[0][0] == "class/a.tif"


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "webp"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_any_depth_are_turned_as_the_camera_was(tmp_path, suffix, deep, orientation):
    if deep and suffix in ("jpg", "webp"):
        pytest.skip(f"{suffix} has eight bits")
    corner = np.zeros((SIDE, SIDE), np.uint8)
    corner[: SIDE // 2, : SIDE // 4] = 255
    turned = [
        corner, corner[:, ::-1], corner[::-1, ::-1], corner[::-1], corner.T, corner[::-1].T,
        corner[::-1, ::-1].T, corner[:, ::-1].T,
    ]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = corner.astype(np.uint16) * 257 if deep else corner
    root = write(tmp_path, Image.fromarray(stored), f"a.{suffix}", exif=exif)
    found = read(root)[0, 0] > 127
    assert (found != (turned[orientation - 1] > 127)).mean() < 0.01
