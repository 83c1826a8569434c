"""Task families and datasets."""

from mltk.data.arrays import Arrays
from mltk.data.bandits import Bandits
from mltk.data.blobs import Blobs
from mltk.data.cifar_fs import CIFARFS
from mltk.data.fetch import data_home
from mltk.data.glyphs import Glyphs
from mltk.data.harmonic import Harmonic
from mltk.data.image_folder import BrokenImageWarning, ImageFolder, SmallClassWarning
from mltk.data.image_tasks import ImageTasks
from mltk.data.images import ImageDataset, Pictures
from mltk.data.jitter import Jitter
from mltk.data.linear_regression import LinearRegression
from mltk.data.navigation import Navigation
from mltk.data.omniglot import Omniglot
from mltk.data.prefetch import Prefetch
from mltk.data.sinusoid import Sinusoid
from mltk.data.source import TaskSource

__all__ = [
    "CIFARFS",
    "Arrays",
    "Bandits",
    "Blobs",
    "BrokenImageWarning",
    "Glyphs",
    "Harmonic",
    "ImageDataset",
    "ImageFolder",
    "ImageTasks",
    "Jitter",
    "LinearRegression",
    "Navigation",
    "Omniglot",
    "Pictures",
    "Prefetch",
    "Sinusoid",
    "SmallClassWarning",
    "TaskSource",
    "data_home",
]
