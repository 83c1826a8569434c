"""Which classes the parts of Omniglot and CIFAR-100 hold, and how papers split them."""

from __future__ import annotations

BACKGROUND = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
"""The alphabets of Omniglot's background part, and how many characters each has: 964 in all."""

EVALUATION = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}
"""The alphabets of the evaluation part: 659 characters."""

SMALL1 = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
SMALL2 = ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog")

OMNIGLOT_PARTS: dict[str, dict[str, int]] = {
    "background": BACKGROUND,
    "evaluation": EVALUATION,
    "small1": {alphabet: BACKGROUND[alphabet] for alphabet in SMALL1},
    "small2": {alphabet: BACKGROUND[alphabet] for alphabet in SMALL2},
}
"""Alphabets and numbers of characters of each part; the small ones are minimal background sets (Lake,
Salakhutdinov & Tenenbaum 2015)."""

Classes = dict[str, dict[str, range]]
"""Part, alphabet, and the numbers of the characters in it, counted from 1."""

_VALIDATION = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
_FIRST = 236
"""So many classes of the evaluation part, alphabet by alphabet, were added to the training classes."""


def _whole(alphabets: dict[str, int], *, but: tuple[str, ...] = ()) -> dict[str, range]:
    """All characters of all alphabets, but for those of some."""
    return {name: range(1, count + 1) for name, count in alphabets.items() if name not in but}


def _cut(alphabets: dict[str, int], first: int) -> tuple[dict[str, range], dict[str, range]]:
    """The first so many characters, alphabet by alphabet, and the rest."""
    head: dict[str, range] = {}
    tail: dict[str, range] = {}
    for name, count in alphabets.items():
        here = min(first, count)
        first -= here
        if here:
            head[name] = range(1, here + 1)
        if here < count:
            tail[name] = range(here + 1, count + 1)
    return head, tail


def _omniglot_splits() -> dict[str, Classes]:
    train = _whole(BACKGROUND, but=_VALIDATION)
    validation = {name: range(1, BACKGROUND[name] + 1) for name in _VALIDATION}
    more, test = _cut(EVALUATION, _FIRST)
    return {
        "vinyals-train": {"background": train, "evaluation": more},
        "vinyals-validation": {"background": validation},
        "vinyals-test": {"evaluation": test},
        "background-train": {"background": train},
        "background-validation": {"background": validation},
    }


OMNIGLOT_SPLITS = _omniglot_splits()
"""Splits by name. Those of Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra (2016) have 1,028, 172 and
423 classes: for validation the characters of five background alphabets, for training those of the other 25
and the first 236 of the evaluation part, for testing the rest of it (Gurmukhi is cut in two). The
``background`` splits are the same two sets of alphabets, without the evaluation part."""

# fmt: off
CIFAR_FS: dict[str, tuple[str, ...]] = {
    "validation": (
        "beaver", "beetle", "butterfly", "camel", "cattle", "crab", "crocodile", "flatfish", "lamp",
        "maple_tree", "motorcycle", "otter", "sea", "shark", "television", "tractor",
    ),
    "test": (
        "baby", "bed", "bicycle", "chimpanzee", "fox", "leopard", "man", "pickup_truck", "plain", "poppy",
        "rocket", "rose", "snail", "sweet_pepper", "table", "telephone", "wardrobe", "whale", "woman",
        "worm",
    ),
}
# fmt: on
"""The classes of CIFAR-100 for validation and testing (Bertinetto, Henriques, Torr & Vedaldi 2019, CIFAR-FS);
all 64 others are for training."""
