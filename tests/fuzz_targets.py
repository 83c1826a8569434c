"""Each kind of file that comes from outside: a right one, its reader, and how its values can be damaged."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import mutations as m
import numpy as np
from PIL import Image

import mltk
from mltk.data.files.archives import read_members
from mltk.data.files.cache import read_cache
from mltk.data.files.partial_files import read_entity
from mltk.data.images import cifar_fs, omniglot
from mltk.data.images.splits import CIFAR_FS
from mltk.errors import ArchiveError, BackendError, DataError, RunError, SettingError
from mltk.evaluation import read_runs
from mltk.messages import MessageError, from_line, to_line
from mltk.oracle import vectors
from mltk.oracle.candidate.request import Outcome, pack_outcome, unpack_outcome
from mltk.training.run_folder import RunFolder

URL = "https://example.org/file.zip"


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: What to call it.
        file: Its name in the folder.
        prepare: Writes a right one, and what else is needed, into a folder.
        read: The reader; it is given the file.
        errors: What the reader may raise.
        structured: Damage that keeps to the form of the file.
        unnamed: What the errors call a thing that has no file.
    """

    name: str
    file: str
    prepare: Callable[[Path], None]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    structured: tuple[Callable, ...] = ()
    unnamed: str | None = None


def _image(format, mode="RGB", size=12, **how):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(target, format, **how)
    return target.getvalue()


def _drawing(seed):
    target = io.BytesIO()
    ink = np.random.default_rng(seed).random((105, 105)) < 0.03
    Image.fromarray(~ink).convert("1").save(target, "PNG")
    return target.getvalue()


def _zip(files):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def _tar(files):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


PLAIN = {"folder/one.txt": b"one", "folder/noise": np.random.default_rng(0).bytes(900), "empty": b""}


def _cache(path):
    rng = np.random.default_rng(0)
    np.savez_compressed(
        path / "cache.npz",
        images=rng.integers(0, 9, (2, 20, 1379), dtype=np.uint8),
        alphabet=np.asarray(["Greek"] * 2),
        character=np.asarray(["character01", "character02"]),
    )


def _cifar_cache(path):
    rng = np.random.default_rng(0)
    np.savez_compressed(
        path / cifar_fs.CACHE,
        train_images=rng.integers(0, 9, (4, 3, 32, 32), dtype=np.uint8),
        train_counts=np.asarray([1, 3]),
        train_names=np.asarray(["apple", "pear"]),
        train_superclasses=np.asarray(["fruit", "fruit"]),
    )


def _cifar_archive(path):
    names = sorted({*sum(CIFAR_FS.values(), ()), *(f"class{n}" for n in range(64))})
    coarse = [f"super{n}" for n in range(20)]
    records = np.zeros((100, 2 + 3072), np.uint8)
    records[:, 0], records[:, 1], records[:, 2] = np.arange(100) % 20, np.arange(100), np.arange(100)
    files = {
        "c/fine_label_names.txt": "\n".join(names).encode(),
        "c/coarse_label_names.txt": "\n".join(coarse).encode(),
        "c/train.bin": records.tobytes(),
        "c/test.bin": records[:1].tobytes(),
    }
    (path / "cifar.tgz").write_bytes(gzip.compress(_tar(files), 1, mtime=0))


def _drawings(path):
    drawing = _drawing(0)
    files = {f"images/Greek/character01/0001_{n:02}.png": drawing for n in range(1, 21)}
    (path / "images.zip").write_bytes(_zip(files))


def _runs(path):
    files = {}
    for run in ("run01", "run02"):
        for number in (1, 2):
            files[f"{run}/training/class0{number}.png"] = _drawing(number)
            files[f"{run}/test/item0{number}.png"] = _drawing(number + 2)
        lines = [f"{run}/test/item0{n}.png {run}/training/class0{3 - n}.png" for n in (1, 2)]
        files[f"{run}/class_labels.txt"] = "\n".join(lines).encode()
    (path / "runs.zip").write_bytes(_zip(files))


def _run(path, model=None):
    learner = mltk.algorithms.MAML(
        model or mltk.models.mlp([1, 4, 1]), "mse", inner_steps=2, learn_lr="tensor"
    )
    tasks = mltk.data.Sinusoid(shots=2, queries=2)
    mltk.train(learner, tasks, backend=mltk.backend("numpy"), steps=4, log_every=1, out=path, progress=False)
    for extra in path.glob("*.svg"):
        extra.unlink()


def _run_with_statistics(path):
    layers = [mltk.ops.Linear(1, 4), mltk.ops.BatchNorm(4, spatial_axes=0, statistics="population")]
    _run(path, mltk.models.Sequential((*layers, mltk.ops.Linear(4, 1))))


def _load_run(file):
    saved = mltk.load_run(file.parent)
    return {"params": saved.run.meta_params, "steps": saved.run.steps, "history": saved.run.history}


def _read_metrics(file):
    lines = RunFolder(file.parent).read_metrics()
    assert all(abs(float(line[name])) < np.inf for line in lines for name in ("step", "loss", "seconds"))
    return lines


def _notes(path):
    (path / "file.zip.part").write_bytes(bytes(10))
    notes = {"url": URL, "etag": '"1"', "modified": "Sat, 01 Jan 2022 00:00:00 GMT", "total": 200}
    (path / "file.zip.part.json").write_text(json.dumps(notes))


def _read_notes(file):
    entity = read_entity(file.with_name("file.zip.part"), URL, 1000)
    if entity is not None:  # of use for a request, and for nothing larger than the file
        import requests

        headers = {"If-Range": entity.validator} if entity.validator else {}
        requests.Request("GET", entity.url, headers=headers).prepare()
        assert entity.total is None or 0 <= entity.total <= 1000
        assert not entity.contradicts(entity)
    return entity and vars(entity)


def _vectors(path):
    shutil.copy(str(resources.files("mltk.oracle") / "vectors" / "idbd.json"), path / "vectors.json")


def _message(path):
    outcome = Outcome({"loss": np.asarray(0.5), "gradients": {"w": np.arange(3.0)}}, None, ("params.w",))
    (path / "line").write_bytes(to_line({"id": 1, **pack_outcome(outcome)}))


def _read_message(file):
    outcome = unpack_outcome(from_line(file.read_bytes()))
    return {"outputs": outcome.outputs, "problem": outcome.problem, "changed": outcome.changed}


def _pictures(format, mode="RGB", **how):
    def prepare(path):
        folder = path / "root" / "class"
        folder.mkdir(parents=True)
        (folder / "good.png").write_bytes(_image("PNG"))
        (folder / f"image.{format.lower()}").write_bytes(_image(format, mode, **how))

    return prepare


def _read_pictures(file):
    """What can be read of a folder; what cannot is left out, and named."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        folder = mltk.data.ImageFolder(file.parents[1], 12)
        pictures = folder.pictures
    if folder.skipped:
        said = [str(warning.message) for warning in caught]
        assert any(file.name in text for text in said)
        raise DataError(f"{file}: {folder.skipped[0][1]}")
    return {"images": pictures.images, "counts": pictures.counts}


IN_ARCHIVES = (m.change_member, m.change_members)
IN_ARRAYS = (m.change_header, m.change_header, m.change_numbers, m.change_member, m.change_members)
IN_TEXT = (m.change_value, m.change_value, m.change_value, m.change_lines)
OF_RUNS = (RunError, BackendError, SettingError)

TARGETS = [
    Target("cache", "cache.npz", _cache, lambda f: read_cache(f, omniglot.LAYOUT), (DataError,), IN_ARRAYS),
    Target(
        "CIFAR-FS",
        cifar_fs.CACHE,
        _cifar_cache,
        lambda f: dict(mltk.data.CIFARFS().pictures._asdict()),
        (DataError,),
        IN_ARRAYS,
    ),
    Target("checkpoint", "checkpoint.npz", _run_with_statistics, _load_run, OF_RUNS, IN_ARRAYS),
    Target("configuration", "config.toml", _run, _load_run, OF_RUNS, IN_TEXT),
    Target("metrics", "metrics.jsonl", _run, _read_metrics, (RunError,), IN_TEXT),
    Target("notes of a part", "file.zip.part.json", _notes, _read_notes, (), IN_TEXT),
    Target(
        "vectors",
        "vectors.json",
        _vectors,
        lambda f: [vars(case) for case in vectors.read(f.read_bytes(), str(f))],
        (vectors.VectorError,),
        IN_TEXT,
    ),
    Target("message", "line", _message, _read_message, (MessageError,), IN_TEXT, unnamed="the "),
    Target(
        "zip",
        "archive.zip",
        lambda path: (path / "archive.zip").write_bytes(_zip(PLAIN)),
        lambda f: list(read_members(f)),
        (ArchiveError,),
        IN_ARCHIVES,
    ),
    Target(
        "tar",
        "archive.tar",
        lambda path: (path / "archive.tar").write_bytes(_tar(PLAIN)),
        lambda f: list(read_members(f)),
        (ArchiveError,),
    ),
    Target(
        "tar.gz",
        "archive.tgz",
        lambda path: (path / "archive.tgz").write_bytes(gzip.compress(_tar(PLAIN), mtime=0)),
        lambda f: list(read_members(f)),
        (ArchiveError,),
    ),
    Target(
        "drawings",
        "images.zip",
        _drawings,
        lambda f: omniglot.read_archive(f)._asdict(),
        (DataError,),
        IN_ARCHIVES,
    ),
    Target("runs", "runs.zip", _runs, lambda f: read_runs(f)._asdict(), (DataError,), IN_ARCHIVES),
    Target("CIFAR-100", "cifar.tgz", _cifar_archive, cifar_fs.read_archive, (DataError,)),
    *(
        Target(
            f"image {name}",
            f"root/class/image.{form.lower()}",
            _pictures(form, mode, **how),
            _read_pictures,
            (DataError,),
        )
        for name, form, mode, how in [
            ("PNG", "PNG", "RGBA", {}),
            ("PNG with a palette", "PNG", "P", {}),
            ("JPEG", "JPEG", "RGB", {}),
            ("GIF", "GIF", "P", {}),
            ("BMP", "BMP", "RGB", {}),
            ("PPM", "PPM", "RGB", {}),
            ("TIFF", "TIFF", "RGB", {"compression": "tiff_lzw"}),
            ("deep TIFF", "TIFF", "I;16", {}),
            ("WebP", "WEBP", "RGB", {}),
        ]
    ),
]
"""All kinds."""
