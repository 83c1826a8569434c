"""Folders of anybody's images: what is read, in which order, and what is refused."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

import mltk
from mltk.data import BrokenImageWarning, ImageFolder
from mltk.errors import DataError, SettingError
from mltk.training.config import from_config, to_config

RED, BLUE = (255, 0, 0), (0, 0, 255)


def save(path, colour=RED, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Two classes of two images."""
    save(tmp_path / "blue" / "1.png", BLUE)
    save(tmp_path / "blue" / "2.png", BLUE)
    save(tmp_path / "red" / "a.png", RED)
    save(tmp_path / "red" / "b.PNG", RED)
    return tmp_path


def test_a_class_is_a_folder(root):
    dataset = ImageFolder(root, 4)
    assert dataset.class_names == ("blue", "red")
    assert dataset.pictures.counts.tolist() == [2, 2]
    assert dataset.pictures.images.dtype == np.uint8
    assert dataset.images.shape == (4, 3, 4, 4)
    for image, colour in zip(dataset.images, [BLUE, BLUE, RED, RED], strict=True):
        assert (image == np.asarray(colour)[:, None, None] / 255).all()
    assert dataset.skipped == ()
    assert from_config(to_config(dataset)) == dataset


def test_tasks_can_be_drawn(root):
    episode = ImageFolder(str(root), 4).tasks(2, 1, 1).sample(3, 0, mltk.backend("numpy"))
    assert episode.support_x.shape == (3, 2, 3, 4, 4)
    # The two images of a class are equal here, and those of different classes are not.
    assert (episode.support_x == episode.query_x).all()
    assert (episode.support_x[:, 0] != episode.support_x[:, 1]).any()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", suffix) for suffix in ("png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "ppm")]
    + [("L", "pgm"), ("L", "jpg"), ("1", "png"), ("1", "pbm"), ("P", "png"), ("P", "gif"), ("RGBA", "png")]
    + [("RGBA", "webp"), ("LA", "png"), ("CMYK", "jpg"), ("CMYK", "tif"), ("I;16", "png"), ("I;16", "tif")],
)
def test_formats_and_modes(tmp_path, mode, suffix):
    pixels = np.asarray([[0, 255]], dtype=np.uint8).repeat(16, axis=0).repeat(8, axis=1)
    image = Image.fromarray(pixels).convert("RGB")
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    (tmp_path / "class").mkdir()
    image.save(tmp_path / "class" / f"image.{suffix}")
    for channels in (1, 3):
        images = ImageFolder(tmp_path, 16, channels=channels).images
        assert images.shape == (1, channels, 16, 16)
        np.testing.assert_allclose(images[..., :8], 0, atol=0.02)
        np.testing.assert_allclose(images[..., 8:], 1, atol=0.02)


def test_more_than_eight_bits_are_scaled(tmp_path):
    (tmp_path / "class").mkdir()
    Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)).save(tmp_path / "class" / "image.png")
    assert (ImageFolder(tmp_path, 4).pictures.images == 100).all()


def test_grey_is_one_channel(root):
    assert ImageFolder(root, 4, channels=1).images.shape == (4, 1, 4, 4)


@pytest.mark.parametrize("size", [(30, 10), (10, 30)])
def test_the_square_in_the_middle_is_kept(tmp_path, size):
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2 - 5, size[1] // 2 - 5, size[0] // 2 + 5, size[1] // 2 + 5))
    (tmp_path / "class").mkdir()
    image.save(tmp_path / "class" / "image.png")
    assert (ImageFolder(tmp_path, 5).pictures.images[0] == np.asarray(BLUE)[:, None, None]).all()


def test_fine_stripes_become_grey(tmp_path):
    stripes = np.tile(np.asarray([0, 255], np.uint8), (64, 32))
    (tmp_path / "class").mkdir()
    Image.fromarray(stripes).save(tmp_path / "class" / "image.png")
    np.testing.assert_allclose(ImageFolder(tmp_path, 8, channels=1).images, 0.5, atol=0.02)


def test_images_are_turned_as_the_camera_was(tmp_path):
    image = Image.new("RGB", (8, 8), RED)
    image.paste(BLUE, (0, 0, 8, 4))  # blue on top
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned clockwise by 90°
    (tmp_path / "class").mkdir()
    image.save(tmp_path / "class" / "image.png", exif=turned)
    pixels = ImageFolder(tmp_path, 8).pictures.images[0]
    assert (pixels[:, :, 4:] == np.asarray(BLUE)[:, None, None]).all()
    assert (pixels[:, :, :4] == np.asarray(RED)[:, None, None]).all()


def test_what_is_transparent_is_white(tmp_path):
    (tmp_path / "class").mkdir()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "class" / "image.png")
    assert (ImageFolder(tmp_path, 4).pictures.images == 255).all()


def test_order_is_by_name_and_hidden_or_other_files_are_no_images(root):
    save(root / "red" / ".hidden.png", BLUE)
    save(root / "red" / ".folder" / "image.png", BLUE)
    save(root / ".class" / "image.png", BLUE)
    save(root / "image.png", BLUE)
    (root / "red" / "notes.txt").write_text("no image")
    save(root / "red" / "A.png", (1, 1, 1))
    save(root / "red" / "inside" / "z.png", (2, 2, 2))
    images, counts, names, _ = ImageFolder(root, 4).pictures
    assert names == ("blue", "red")
    assert counts.tolist() == [2, 4]
    assert images[2:, 0, 0, 0].tolist() == [1, 255, 255, 2]


def test_links_lead_to_files_and_classes_but_never_round(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere / "image.png", (3, 3, 3))
    (root / "linked").symlink_to(elsewhere)
    (root / "again").symlink_to(root)
    (root / "above").symlink_to(root.parent)
    (root / "itself").symlink_to(root / "itself")
    (root / "red" / "back").symlink_to(root)
    (root / "red" / "c.png").symlink_to(elsewhere / "image.png")
    images, counts, names, _ = ImageFolder(root, 4).pictures
    assert names == ("blue", "linked", "red")
    assert counts.tolist() == [2, 1, 3]
    assert images[[2, 5], 0, 0, 0].tolist() == [3, 3]


def test_broken_images_are_reported_by_name_and_left_out(root):
    whole = (root / "red" / "a.png").read_bytes()
    (root / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "red" / "empty.jpg").write_bytes(b"")
    (root / "red" / "text.gif").write_text("no image")
    (root / "red" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "red" / "folder.png").mkdir()
    dataset = ImageFolder(root, 4)
    with pytest.warns(BrokenImageWarning, match=r"4 images in .*red/cut\.png .*red/gone\.png"):
        assert dataset.pictures.counts.tolist() == [2, 2]
    assert [path for path, _ in dataset.skipped] == [
        "red/cut.png", "red/empty.jpg", "red/gone.png", "red/text.gif"
    ]  # fmt: skip
    assert all(reason for _, reason in dataset.skipped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(dataset.images) == 4  # nothing is read twice


def test_pipes_are_no_images_and_nobody_waits_for_them(root):
    os.mkfifo(root / "red" / "pipe.png")
    dataset = ImageFolder(root, 4)
    with pytest.warns(BrokenImageWarning, match=r"red/pipe\.png"):
        assert dataset.pictures.counts.tolist() == [2, 2]


def test_huge_images_are_left_out(root, monkeypatch):
    save(root / "red" / "huge.png", BLUE, size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,600 are a warning of Pillow, 2,000 an error
    dataset = ImageFolder(root, 4)
    with pytest.warns(BrokenImageWarning, match=r"huge\.png.*decompression bomb"):
        assert dataset.pictures.counts.tolist() == [2, 2]


@pytest.mark.parametrize("other", ["EPS", "ICNS", "TGA"])
def test_formats_that_are_not_listed_are_not_read_by_another_name(root, other):
    Image.new("RGB", (16, 16), RED).save(root / "red" / "other.png", other)
    dataset = ImageFolder(root, 4)
    with pytest.warns(BrokenImageWarning, match=r"other\.png \(UnidentifiedImageError"):
        assert len(dataset.images) == 4


def test_a_class_left_without_images_is_an_error(root):
    (root / "green").mkdir()
    with pytest.raises(DataError, match=r"'green' in .* has no images; expected files that end with \.bmp"):
        _ = ImageFolder(root, 4).images
    (root / "green" / "broken.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'green' in .* has no images but for 1 that cannot be read"):
        _ = ImageFolder(root, 4).images


def test_roots_that_are_no_folders_of_classes_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "flat" / "image.png")
    for folder in ("empty", "flat"):
        with pytest.raises(DataError, match=f"{folder} has no folders in it; expected one folder a class"):
            _ = ImageFolder(tmp_path / folder, 4).images
    with pytest.raises(DataError, match=r"image\.png, which is a file"):
        _ = ImageFolder(tmp_path / "flat" / "image.png", 4).images
    with pytest.raises(DataError, match="nowhere, which cannot be read: No such file"):
        _ = ImageFolder(tmp_path / "nowhere", 4).images


def test_no_classes_are_held_out():
    with pytest.raises(SettingError, match="all classes of images are in this dataset"):
        ImageFolder("images", 4).held_out()
