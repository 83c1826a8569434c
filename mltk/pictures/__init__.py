"""What people look at, as SVG."""

from mltk.pictures.confidence_sequence import confidence_sequence, confidence_sequence_figure
from mltk.pictures.confused_classes import confused_classes, confused_classes_figure
from mltk.pictures.critical_difference import critical_difference, critical_difference_figure
from mltk.pictures.curves import learning_curve, learning_curve_figure
from mltk.pictures.episode import episode_figure, episode_picture
from mltk.pictures.errors_by_shots import errors_by_shots, errors_by_shots_figure
from mltk.pictures.figure import plain_style, save
from mltk.pictures.hardness import accuracy_by_hardness, accuracy_by_hardness_figure
from mltk.pictures.navigation import navigation_figure, navigation_picture
from mltk.pictures.regression import fits, fits_figure
from mltk.pictures.reliability import reliability_figure, reliability_picture
from mltk.pictures.transfer_matrix import transfer_matrix, transfer_matrix_figure

__all__ = [
    "accuracy_by_hardness",
    "accuracy_by_hardness_figure",
    "confidence_sequence",
    "confidence_sequence_figure",
    "confused_classes",
    "confused_classes_figure",
    "critical_difference",
    "critical_difference_figure",
    "episode_figure",
    "episode_picture",
    "errors_by_shots",
    "errors_by_shots_figure",
    "fits",
    "fits_figure",
    "learning_curve",
    "learning_curve_figure",
    "navigation_figure",
    "navigation_picture",
    "plain_style",
    "reliability_figure",
    "reliability_picture",
    "save",
    "transfer_matrix",
    "transfer_matrix_figure",
]
