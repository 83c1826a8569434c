"""``python -m mltk.benchmark``: the commands without the rest of the command line."""

import sys

from mltk.benchmark import app
from mltk.errors import MissingLibraryError, MltkError

try:
    app()
except MltkError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2 if isinstance(error, MissingLibraryError) else 1)
