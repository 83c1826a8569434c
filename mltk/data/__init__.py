"""Task families and datasets."""

from mltk.data.arrays import Arrays
from mltk.data.families.bandits import Bandits
from mltk.data.families.blobs import Blobs
from mltk.data.families.harmonic import Harmonic
from mltk.data.families.linear_regression import LinearRegression
from mltk.data.families.navigation import Navigation
from mltk.data.families.sinusoid import Sinusoid
from mltk.data.files.fetch import data_home
from mltk.data.images.cifar_fs import CIFARFS
from mltk.data.images.class_part import ClassPart
from mltk.data.images.folder import BrokenImageWarning, ImageFolder, SmallClassWarning
from mltk.data.images.glyphs import Glyphs
from mltk.data.images.jitter import Jitter
from mltk.data.images.omniglot import Omniglot
from mltk.data.images.pictures import Pictures
from mltk.data.images.tasks import ImageDataset, ImageTasks
from mltk.data.mixture import Mixture
from mltk.data.prefetch import Prefetch
from mltk.data.retrying import Retrying
from mltk.data.source import TaskSource

__all__ = [
    "CIFARFS",
    "Arrays",
    "Bandits",
    "Blobs",
    "BrokenImageWarning",
    "ClassPart",
    "Glyphs",
    "Harmonic",
    "ImageDataset",
    "ImageFolder",
    "ImageTasks",
    "Jitter",
    "LinearRegression",
    "Mixture",
    "Navigation",
    "Omniglot",
    "Pictures",
    "Prefetch",
    "Retrying",
    "Sinusoid",
    "SmallClassWarning",
    "TaskSource",
    "data_home",
]
