"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015)."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from mltk.checks import Count, check_choice, check_fields
from mltk.data.files.archives import read_members
from mltk.data.files.cache import Layout, read_cache, write_cache
from mltk.data.files.fetch import absent, data_home, fetch, find, present
from mltk.data.images.area_average import CHUNK, area_average
from mltk.data.images.pictures import Pictures
from mltk.data.images.splits import OMNIGLOT_PARTS, OMNIGLOT_SPLITS, Classes
from mltk.data.images.tasks import ImageDataset
from mltk.errors import DataError, SettingError
from mltk.installation import needed_for
from mltk.outside import reading

SIDE = 105
"""Pixels along a side of an original drawing."""

DRAWERS = 20
"""Drawings of each character, by so many people."""

LAYOUT: Layout = {
    "images": ("u1", (None, DRAWERS, (SIDE**2 + 7) // 8)),
    "alphabet": ("U", (None,)),
    "character": ("U", (None,)),
}

HELD_OUT = {
    "vinyals-train": "vinyals-test",
    "vinyals-validation": "vinyals-test",
    "vinyals-test": "vinyals-train",
    "background-train": "background-validation",
    "background-validation": "background-train",
}
"""Which split evaluates what was trained on another."""


@dataclass(frozen=True)
class Omniglot(ImageDataset):
    """Handwritten characters, as grey images in which ink is 1 and paper 0.

    Omniglot (Lake, Salakhutdinov & Tenenbaum 2015, *Human-level concept learning through probabilistic
    program induction*) has 20 drawings of each character; drawing ``i`` of all characters of an alphabet is
    by the same person. Originals are 105 × 105 black and white; other sizes are made by area averaging, which
    keeps the amount of ink. A class is a character, named ``"Latin/character01"``; its group is the alphabet.

    The drawings are read from the folder of datasets (``$MLTK_DATA``): from ``omniglot-<part>.npz``
    if it is there, otherwise from the official archive, after which that file is written. They are read when
    first used, not when the dataset is made.

    Attributes:
        part: ``"background"`` (964 characters), ``"evaluation"`` (659), or a minimal background set of five
            alphabets each: ``"small1"`` (136), ``"small2"`` (156).
        image_size: Side $s$ of the images ``(N, 1, s, s)``.
        alphabets: Only these alphabets of the part; ``None`` for all.
        split: A set of classes by name, which may span both big parts; ``part`` and ``alphabets`` then keep
            their defaults. Of Vinyals et al. (2016): ``"vinyals-train"`` (1,028 classes),
            ``"vinyals-validation"`` (172), ``"vinyals-test"`` (423). Without the evaluation part:
            ``"background-train"`` (792 classes of 25 alphabets), ``"background-validation"`` (the 172 again,
            of the other 5).
        download: Fetch what is missing, when the dataset is made. No attribute, only an argument.

    Raises:
        SettingError: If a part, alphabet or split does not exist, or ``split`` comes with one of the others.
        DataError: If drawings cannot be had (``AbsentDataError``) or their files are damaged: when first
            used, with ``download`` at once.
    """

    part: str = "background"
    image_size: Count = 28
    _: KW_ONLY
    alphabets: tuple[str, ...] | None = None
    split: str | None = None
    download: InitVar[bool] = False

    def __post_init__(self, download: bool) -> None:
        check_fields(self)
        check_choice("part", self.part, OMNIGLOT_PARTS)
        if self.split is not None:
            check_choice("split", self.split, OMNIGLOT_SPLITS)
            if self.part != "background" or self.alphabets is not None:
                raise SettingError(
                    f"split={self.split!r} comes with part={self.part!r} and alphabets={self.alphabets!r}; "
                    "expected their defaults, because the split says which classes of which parts"
                )
        if self.alphabets is not None:
            object.__setattr__(self, "alphabets", _checked(self.alphabets, self.part))
        if download:
            for part in self._classes:
                if present(f"omniglot-{part}") is None:
                    fetch(f"omniglot-{part}")

    def held_out(self) -> Omniglot:
        """Classes that this dataset does not hold, for evaluation, at the same size.

        Of some alphabets of a part, the part's other alphabets; of a small part, the background part without
        its alphabets; of the whole background part, the evaluation part, and the other way round. Of the
        training and validation split of Vinyals et al., the test split, and of that the training split; each
        background split has the other.
        """
        if self.split is not None:
            return Omniglot(image_size=self.image_size, split=HELD_OUT[self.split])
        held = OMNIGLOT_PARTS[self.part] if self.alphabets is None else self.alphabets
        whole = len(held) == len(OMNIGLOT_PARTS[self.part])
        if whole and self.part in ("background", "evaluation"):
            other = "background" if self.part == "evaluation" else "evaluation"
            return Omniglot(other, self.image_size)
        part = "background" if whole else self.part
        others = tuple(name for name in OMNIGLOT_PARTS[part] if name not in held)
        return Omniglot(part, self.image_size, alphabets=others)

    @property
    def _classes(self) -> Classes:
        """The characters of each alphabet of each part."""
        if self.split is not None:
            return OMNIGLOT_SPLITS[self.split]
        alphabets = OMNIGLOT_PARTS[self.part]
        chosen = alphabets if self.alphabets is None else self.alphabets
        return {self.part: {name: range(1, alphabets[name] + 1) for name in chosen}}

    def _load(self) -> Pictures:
        chosen = [_choose(part, classes) for part, classes in self._classes.items()]
        drawings = Drawings(*(np.concatenate(arrays) for arrays in zip(*chosen, strict=True)))
        characters = zip(drawings.alphabet, drawings.character, strict=True)
        return Pictures(
            images=_images(drawings.images, self.image_size),
            counts=np.full(len(drawings.alphabet), DRAWERS),
            names=tuple(f"{alphabet}/{character}" for alphabet, character in characters),
            groups=drawings.alphabet,
        )


class Drawings(NamedTuple):
    """Characters in the form of the cache, in the order of their numbers in Omniglot.

    Attributes:
        images: ``(classes, 20, 1379)`` uint8: the 105 × 105 bits of each drawing, packed; 1 is ink.
        alphabet: ``(classes,)`` strings.
        character: ``(classes,)`` strings, ``"character01"`` and so on.
    """

    images: np.ndarray
    alphabet: np.ndarray
    character: np.ndarray


def read_archive(path: Path) -> Drawings:
    """Read the official archive of a part.

    Its files are ``images_background/Latin/character01/0683_01.png``: the number of the character among all
    of Omniglot's and the number of the drawer.

    Args:
        path: The zip archive.

    Raises:
        DataError: If the archive is damaged or refused, holds something that is not a drawing, or a
            character's drawings are not those of drawers 1 to 20.
    """
    found: dict[int, tuple[str, str]] = {}
    drawn: dict[int, dict[int, np.ndarray]] = {}
    for name, content in read_members(path):
        *_, alphabet, character, file = ("", "", *PurePosixPath(name).parts)
        if not file.endswith(".png") or file.startswith("."):
            continue
        numbers = re.fullmatch(r"([0-9]{4})_([0-9]{2})\.png", file)
        if not numbers or not alphabet or not re.fullmatch("character[0-9]{2}", character):
            raise DataError(f"{path}: {name!r} is not named like alphabet/character01/0001_01.png")
        number, drawer = int(numbers[1]), int(numbers[2])
        if found.setdefault(number, (alphabet, character)) != (alphabet, character):
            raise DataError(f"{path}: {name!r} has the number of {'/'.join(found[number])}")
        drawn.setdefault(number, {})[drawer] = np.packbits(decode_drawing(content, f"{path}: {name!r}"))
    order = sorted(found)
    for number in order:
        if sorted(drawn[number]) != list(range(1, DRAWERS + 1)):
            raise DataError(
                f"{path}: {'/'.join(found[number])} has {len(drawn[number])} drawings, of drawers "
                f"{sorted(drawn[number])}; expected those of drawers 1 to {DRAWERS}"
            )
    if not order:
        raise DataError(f"{path} holds no drawings; expected files like alphabet/character01/0001_01.png")
    return Drawings(
        images=np.stack([np.stack([drawn[n][i + 1] for i in range(DRAWERS)]) for n in order]),
        alphabet=np.asarray([found[n][0] for n in order]),
        character=np.asarray([found[n][1] for n in order]),
    )


def decode_drawing(content: bytes, name: str) -> np.ndarray:
    """The ink of a drawing, booleans ``(105, 105)``; in the files, ink is black.

    Args:
        content: A PNG file.
        name: What to call it in an error.

    Raises:
        DataError: If it is no PNG file of 105 × 105 pixels.
    """
    with needed_for("images"):
        from PIL import Image

    with (
        reading(name, DataError, damaged="is no readable PNG file"),
        Image.open(io.BytesIO(content), formats=["PNG"]) as image,
    ):
        if image.size != (SIDE, SIDE):
            raise DataError(f"{name} has {image.size} pixels; expected {SIDE} × {SIDE}")
        return np.asarray(image.convert("L")) < 128


def prepare(ink: np.ndarray, image_size: int) -> np.ndarray:
    """Drawings as a learner sees them: ``(..., 105, 105)`` booleans to ``(..., 1, s, s)`` float32."""
    return area_average(ink, image_size)[..., None, :, :]


def _checked(alphabets: object, part: str) -> tuple[str, ...]:
    """A selection of alphabets, in the order of the table."""
    known = OMNIGLOT_PARTS[part]
    if not isinstance(alphabets, tuple | list) or not alphabets:
        raise SettingError(
            f"alphabets is {alphabets!r}; expected a tuple of names, not empty, or None for all"
        )
    for alphabet in alphabets:
        if alphabet not in known:
            raise SettingError(
                f"alphabets has {alphabet!r}, which is not in the part {part!r}; "
                f"expected some of {', '.join(known)}"
            )
    return tuple(name for name in known if name in alphabets)


def _drawings(part: str) -> Drawings:
    """All drawings of a part, from the cache or from the archive."""
    cache = data_home() / f"omniglot-{part}.npz"
    if cache.is_file():
        return _read_cache(cache, cache.stat().st_mtime_ns)
    if find(f"omniglot-{part}") is None:
        raise absent(f"omniglot-{part}")
    archive = fetch(f"omniglot-{part}")  # it is here: this verifies its checksum
    return _unpack(archive, cache, archive.stat().st_mtime_ns)


# Parts are kept packed, 26 MB for the background part; so datasets of one part share one reading of the file.
@lru_cache(maxsize=4)
def _read_cache(path: Path, _changed: int) -> Drawings:
    drawings = Drawings(**read_cache(path, LAYOUT))
    if len({len(array) for array in drawings}) != 1:
        raise DataError(
            f"{path} is damaged: its arrays differ in length; delete it, so that it is made again"
        )
    return drawings


@lru_cache(maxsize=4)
def _unpack(archive: Path, cache: Path, _changed: int) -> Drawings:
    drawings = read_archive(archive)
    write_cache(cache, drawings._asdict())
    return drawings


def _choose(part: str, classes: Mapping[str, range]) -> Drawings:
    """The wanted characters of a part, in the order of the part."""
    drawings = _drawings(part)
    wanted = {(name, f"character{n:02}") for name, numbers in classes.items() for n in numbers}
    keys = list(zip(drawings.alphabet.tolist(), drawings.character.tolist(), strict=True))
    missing = sorted(wanted.difference(keys))
    if missing:
        raise DataError(
            f"the part {part!r} of Omniglot in {data_home()} has not {len(missing)} of its characters, "
            f"such as {'/'.join(missing[0])}; delete its files and get them again"
        )
    rows = [row for row, key in enumerate(keys) if key in wanted]
    return Drawings(*(array[rows] for array in drawings))


_shared: WeakValueDictionary[tuple[bytes, int], np.ndarray] = WeakValueDictionary()


def _images(packed: np.ndarray, image_size: int) -> np.ndarray:
    """The images ``(N, 1, s, s)`` of packed drawings; equal ones in use elsewhere are shared, read-only."""
    key = (hashlib.blake2b(packed.tobytes()).digest(), image_size)
    images = _shared.get(key)
    if images is None:
        flat = packed.reshape(-1, packed.shape[-1])
        images = np.empty((len(flat), 1, image_size, image_size), np.float32)
        for start in range(0, len(flat), CHUNK):
            bits = np.unpackbits(flat[start : start + CHUNK], axis=1, count=SIDE**2)
            images[start : start + CHUNK] = prepare(bits.reshape(-1, SIDE, SIDE), image_size)
        images.flags.writeable = False
        _shared[key] = images
    return images
