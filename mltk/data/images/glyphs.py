"""Drawn characters of invented alphabets: images for few-shot classification without any download."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from mltk.checks import Checked, Count, CountOrZero, Part, at_least
from mltk.data.images.alphabet import characters, styles
from mltk.data.images.hand import move, place
from mltk.data.images.pen import draw
from mltk.data.images.pictures import Pictures
from mltk.data.images.strokes import box, write
from mltk.data.images.tasks import ImageDataset
from mltk.data.keyed_random import Draws, subkeys
from mltk.errors import SettingError

CHUNK = 64
"""Drawings that are made at once: their intermediate arrays fit into the cache."""

OTHER = 1 << 32
"""What the seeds of a dataset and its held-out one differ by."""

PERSONS, CHARACTERS = 1, 2
"""Families of keys below an alphabet's; 0 is that of its roots."""

SMALLEST = 0.7
"""Characters smaller than this are not enlarged as others are."""

DRAWINGS = 100
"""The family of keys below a character's that its drawings have; smaller ones are for its plan."""


@dataclass(frozen=True)
class Glyphs(Checked, ImageDataset):
    """Handwritten characters of alphabets that do not exist, drawn by a program.

    The model is in the spirit of Lake, Salakhutdinov & Tenenbaum (2015), *Human-level concept learning
    through probabilistic program induction*: parts make strokes, strokes and relations a character, and motor
    noise a drawing. An *alphabet* has a style: a few parts (lines, arcs, loops, hooks, zigzags), a slant, a
    size, a pen. A *character* is one to four strokes, each such a part, joined to an earlier one at its
    ends or along it, bridging two places of it, or apart; of several plans the most legible is taken. A
    *drawing* follows that plan with errors in all its lengths, angles and joints, sheared, stretched, turned
    and shifted a little. Drawing ``i`` of every character of an alphabet is by the same person: these share a
    part of slant, proportions and pen.

    The dataset is a function of the settings, on every machine up to rounding; and what a drawing looks like
    does not depend on how many alphabets, characters or drawings there are. The images are drawn when
    first needed.

    Attributes:
        alphabets: How many alphabets; they are the groups.
        characters: Characters an alphabet.
        drawings: Drawings a character.
        difficulty: From 0 to 1: how unsteady the hand is, and how much a character resembles the one of its
            alphabet's four roots that it is a variant of (not at 0; at 1 in four choices of five).
        seed: Which alphabets.
        image_size: Side $s$ of the images ``(N, 1, s, s)``, ink = 1.

    Raises:
        SettingError: If a count is not a positive integer, the images are smaller than 8 pixels, the
            difficulty lies outside [0, 1], or the seed outside 0…2⁶³-1.

    Examples:
        >>> import mltk
        >>> glyphs = mltk.data.Glyphs(alphabets=2, characters=5, drawings=4)
        >>> glyphs.n_classes, glyphs.images.shape
        (10, (40, 1, 28, 28))
        >>> glyphs.tasks(ways=5, shots=1, queries=2).sample(3, 0, mltk.backend("numpy")).query_x.shape
        (3, 10, 1, 28, 28)
    """

    alphabets: Count = 20
    characters: Count = 20
    drawings: Count = 20
    _: KW_ONLY
    difficulty: Part = 0.5
    seed: CountOrZero = 0
    image_size: Annotated[int, at_least(8)] = 28
    names_identify: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed >= 1 << 63:
            raise SettingError(f"seed is {self.seed!r}; expected an integer of at most 2**63 - 1")

    def held_out(self) -> Glyphs:
        """As many characters of other alphabets, with the same settings but for the seed."""
        return replace(self, seed=self.seed ^ OTHER)

    def _load(self) -> Pictures:
        share, noise = 0.8 * self.difficulty, 0.25 + 1.5 * self.difficulty
        alphabets = subkeys(np.asarray([self.seed], np.uint64), np.arange(self.alphabets))
        style = styles(alphabets)
        alphabet, number = np.divmod(np.arange(self.alphabets * self.characters), self.characters)
        own = subkeys(subkeys(alphabets, CHARACTERS)[alphabet], number)
        keys = np.stack([alphabets[alphabet], own], axis=1)
        plan = characters(style, alphabet, number, keys=keys, share=share)
        low, high = box(write(plan).reshape(len(own), -1))
        larger = np.maximum(np.maximum((high - low).real, (high - low).imag), SMALLEST)
        aspect = np.sqrt(style.aspect)
        unit = (style.size * (aspect + 1j / aspect))[alphabet] / larger
        persons = subkeys(subkeys(alphabets, PERSONS)[:, None], np.arange(self.drawings))
        drawings = subkeys(subkeys(own, DRAWINGS)[:, None], np.arange(self.drawings))
        images = np.empty((alphabet.size * self.drawings, 1, self.image_size, self.image_size), np.uint8)
        for first in range(0, len(images), CHUNK):
            character, drawing = np.divmod(np.arange(first, min(first + CHUNK, len(images))), self.drawings)
            group = alphabet[character]
            person, draws = Draws(persons[group, drawing]), Draws(drawings[character, drawing])
            paths = write(move(plan.take(character), draws, noise))
            paths = place(paths, unit[character], person, draws, slant=style.slant[group], noise=noise)
            pen = style.pen[group] * np.exp(0.06 * draws.bell() + 0.1 * person.bell())
            ink = draw(self.image_size * paths, pen * (self.image_size / 28), self.image_size)
            images[first : first + CHUNK, 0] = np.rint(255 * ink)
        groups = [f"alphabet{number:02}" for number in range(1, self.alphabets + 1)]
        names = [f"{group}/character{n:02}" for group in groups for n in range(1, self.characters + 1)]
        counts = np.full(alphabet.size, self.drawings)
        return Pictures(images, counts, tuple(names), np.asarray(groups)[alphabet])
