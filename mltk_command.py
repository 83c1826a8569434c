"""The command `mltk`: what must be settled before the library is imported, which takes a moment."""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    _open_standard_files()
    # Until the library is there Ctrl-C ends the process as it ends any other, without a traceback.
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mltk.cli import main as run

    with contextlib.suppress(ImportError):  # it says itself what is missing
        import mltk.cli.commands  # noqa: F401
    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # before there is a command to answer it
        sys.exit(128 + signal.SIGINT)
    finally:
        _give_up_what_cannot_be_written()


def _open_standard_files() -> None:
    """Let no file take the place of a closed standard one, or messages would be written into a checkpoint."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _give_up_what_cannot_be_written() -> None:
    """See that Python does not fail at its end for what a full or closed standard file did not take."""
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1 if file is sys.stdout else 2)
            os.close(nothing)


if __name__ == "__main__":
    main()
