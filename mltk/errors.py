"""What mltk raises: every error names the argument, what was found and what was expected.

What it warns of stands here too.
"""


class MltkError(Exception):
    """The base of every error that mltk raises on purpose."""


class ShapeError(MltkError, ValueError):
    """An array has the wrong number of axes or the wrong extent along one."""


class DtypeError(MltkError, TypeError):
    """An array has the wrong kind of dtype, such as integer images."""


class ArrayError(MltkError, TypeError):
    """Something is not an array of a library that has a backend, or cannot be converted to one."""


class MismatchError(MltkError, ValueError):
    """One call mixes backends, devices or dtypes."""


class LabelError(MltkError, ValueError):
    """A label lies outside ``0..ways-1``, or a class has no support example."""


class NotFiniteError(MltkError, ValueError):
    """An array holds NaN or infinity."""


class SettingError(MltkError, ValueError):
    """A hyperparameter, option or name is not one that exists or makes sense."""


class TreeError(MltkError, ValueError):
    """Two trees that should have the same structure do not, or a tree is malformed."""


class BackendError(MltkError, ImportError):
    """A backend does not exist or its library is not installed."""


class MissingLibraryError(BackendError):
    """A library is not installed that a backend, or another part of mltk, needs."""


class UnsupportedError(MltkError, TypeError):
    """An engine was asked for something that it cannot do."""


class RegulariserWarning(UserWarning):
    """A regulariser is below what rounding errors of the system amount to, and a larger one was taken."""


class DivergedError(MltkError, ArithmeticError):
    """Training met a loss that is NaN or infinite."""


class RunError(MltkError, RuntimeError):
    """A run folder or checkpoint is missing, damaged or belongs to another run."""


class UnknownClassError(RunError):
    """A configuration names a class that is not mltk's own."""


class RunInUseError(RunError):
    """Another training is in a run folder."""


class DataError(MltkError, RuntimeError):
    """The files of a dataset cannot be had or used."""


class AbsentDataError(DataError):
    """A dataset's file is not in the data folder, and nobody asked to download it."""


class DownloadError(DataError):
    """A file cannot be downloaded: no connection, or the server does not give it."""


class ChecksumError(DataError):
    """A file is not the one that it should be."""


class StorageError(DataError):
    """The data folder cannot be read or written, or the disk is full."""


class ArchiveError(DataError):
    """An archive is damaged, or holds what no dataset needs: links, paths out of it, a bomb."""
