"""Conventions: what mltk answers where mathematics has several answers, or none.

A case with one of these is there to show a difference, and no verdict rests on it.
"""

AT_ZERO = "the slope of a ReLU at zero is 0, as in Torch; a half and 1 are subgradients, too"

FIRST = "of equal pixels in a window the first has the slope 1 and the others 0, as in Torch"

NO_DIRECTION = "the cosine of a vector of zero is 0, and so is its slope; Torch's slope there depends on an ε"

SHORT = (
    "a vector of any length but zero has a direction; libraries take short ones for zero, Torch below "
    "1e-8 in `cosine_similarity` and below 1e-12 in `normalize`"
)

NO_QUOTIENT = "(start - end) / inner_lr is 0/0 for a step size of zero; its limit is the sum of the gradients"
