"""The files that mltk can download: where they come from, and how to tell that they are the right ones."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.checks import did_you_mean
from mltk.errors import SettingError


@dataclass(frozen=True)
class RemoteFile:
    """A file that somebody publishes.

    Attributes:
        name: What it is called in ``mltk data get``.
        url: Where it is published.
        md5: Its checksum, 32 hexadecimal digits; ``None`` if the project does not know it.
        size: Its length in bytes, of which no more is downloaded; ``None`` if the project does not know it.
        purpose: What uses it.
        cache: The file in the data folder that mltk makes from it and reads instead of it, if any.
    """

    name: str
    url: str
    md5: str | None
    size: int | None
    purpose: str
    cache: str | None = None

    @property
    def filename(self) -> str:
        """What it is called in the data folder: the last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


_OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python"


def _omniglot(part: str, filename: str, md5: str, size: int) -> RemoteFile:
    return RemoteFile(
        name=f"omniglot-{part}",
        url=f"{_OMNIGLOT}/{filename}",
        md5=md5,
        size=size,
        purpose="data.Omniglot",
        cache=f"omniglot-{part}.npz",
    )


FILES = {
    file.name: file
    for file in (
        _omniglot("background", "images_background.zip", "68d2efa1b9178cc56df9314c21c6e718", 9_464_212),
        _omniglot("evaluation", "images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811", 6_462_886),
        _omniglot("small1", "images_background_small1.zip", "e704a628b5459e08445c13499850abc4", 1_319_022),
        _omniglot("small2", "images_background_small2.zip", "b75a71a51d3b13f821f212756fe481fd", 1_580_917),
        RemoteFile(
            name="omniglot-runs",
            url=f"{_OMNIGLOT}/one-shot-classification/all_runs.zip",
            md5="e8996daecdf12afeeb4a53a179f06b19",
            size=None,
            purpose="omniglot-challenge",
        ),
        RemoteFile(
            name="cifar-100",
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            md5="03b5dce01913d631647c71ecec9e9cb8",
            size=168_513_733,
            purpose="data.CIFARFS",
            cache="cifar-fs.npz",
        ),
    )
}
"""The files by name."""

SHORT_NAMES = {"omniglot": "omniglot-background"}
"""Other names that `look_up` understands."""


def look_up(name: str) -> RemoteFile:
    """The file of a name.

    Raises:
        SettingError: If there is none.
    """
    found = FILES.get(SHORT_NAMES.get(name, name))
    if found is None:
        hint = did_you_mean(name, [*FILES, *SHORT_NAMES])
        raise SettingError(f"name is {name!r}; expected one of {', '.join(FILES)}{hint}")
    return found
