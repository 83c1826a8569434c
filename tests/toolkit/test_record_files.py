"""Files that are no records, or damaged, or may not be written: each is named, and stays as it is."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rows_to_write import ROW, several

from mltk.errors import RunError, SettingError
from mltk.toolkit import Records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


def foreign(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def made(path, rows=200):
    with Records(path) as records:
        records.add(several(rows, trace={"why": "x" * 100}))
    return path.read_bytes()


def newer(path):
    made(path)
    foreign(path, "PRAGMA user_version = 2")


def other_table(path):
    made(path)
    foreign(path, "ALTER TABLE records ADD COLUMN more TEXT")


def no_table(path):
    made(path)
    foreign(path, "DROP TABLE records")


def with_trigger(path):
    made(path)
    foreign(path, "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END")


def cut_short(path):
    path.write_bytes(made(path)[: 5 * 4096])


def overwritten(path):
    content = bytearray(made(path))
    content[4096 * 3 : 4096 * 5] = random.Random(0).randbytes(4096 * 2)
    path.write_bytes(content)


WRONG = {
    "empty": (lambda path: path.write_bytes(b""), "is empty or of another application"),
    "of one byte": (lambda path: path.write_bytes(b"x"), "is empty or of another application"),
    "a text": (lambda path: path.write_text("run,source,seed\n" * 500), "is no file of records"),
    "noise": (lambda path: path.write_bytes(random.Random(1).randbytes(9000)), "is no file of records"),
    "another application's": (
        lambda path: foreign(path, "CREATE TABLE records (x)"), "is empty or of another application"
    ),
    "another application's with a number": (
        lambda path: foreign(path, "PRAGMA application_id = 7", "CREATE TABLE t (x)"), "another application"
    ),
    "of a newer format": (newer, "has format 2, of another mltk; expected 1"),
    "with another table": (other_table, "its table is not the one"),
    "without its table": (no_table, "its table is not the one"),
    "with a trigger": (with_trigger, "its table is not the one"),
    "cut short": (cut_short, "is damaged"),
    "overwritten": (overwritten, "is damaged"),
    "a header alone": (lambda path: path.write_bytes(made(path)[:100]), "is damaged|is no file of records"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_is_something_else_is_named_and_stays_as_it_is(kind, path, tmp_path):
    make, said = WRONG[kind]
    make(path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=said) as found:
        Records(path)
    assert str(path) in str(found.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("number", [0, 7, int.from_bytes(b"mltk")])
def test_what_a_killed_process_of_another_kind_left_in_its_log_stays_there(number, path, tmp_path):
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    for text in ("PRAGMA journal_mode = WAL", f"PRAGMA application_id = {number}", "CREATE TABLE t (x)"):
        connection.execute(text)
    log = path.with_name(f"{path.name}-wal")
    shutil.copy(other, path)
    shutil.copy(f"{other}-wal", log)
    connection.close()
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(RunError, match=r"another application|has format 0"):
        Records(path)
    assert (path.read_bytes(), log.read_bytes()) == before


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", ".", "missing/records.sqlite"):
        with pytest.raises(RunError, match=r"no plain file|cannot be opened"):
            Records(tmp_path / name)
    for path in ("", 3, b"x"):
        with pytest.raises(SettingError, match="path is"):
            Records(path)


def test_damage_is_an_error_of_mltk_or_leaves_rows_that_can_be_read(path):
    whole, chance, read = made(path, rows=30), random.Random(0), 0
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            # Half of it in the header of the file or of a page, where it hurts.
            place = chance.choice(
                [chance.randrange(len(whole)), 4096 * chance.randrange(3) + chance.randrange(99)]
            )
            content[place] = chance.randrange(256)
        path.write_bytes(content)
        with suppress(RunError), Records(path) as records:
            assert len(records.rows()) == 30
            read += 1
    assert 0 < read < 60


def test_names_with_signs_of_addresses_are_files(tmp_path):
    for name in ("a?mode=memory", "b#c", "d%20e", "ü ∂.sqlite"):
        with Records(tmp_path / name) as records:
            records.add([ROW])
        with Records(str(tmp_path / name)) as records:
            assert records.rows() == [ROW]
        assert (tmp_path / name).exists()


AS_NOBODY = """
import os, sys
folder = sys.argv[1]
import mltk, sqlite3, mltk.toolkit.records, mltk_backends
os.setgid(65534), os.setuid(65534)
records = mltk.Records(f"{folder}/records.sqlite")
print(len(records.rows()), records.sql("SELECT count(*) FROM records"))
try:
    records.add([mltk.toolkit.Row("b", "blobs", 0, 0, "ridge", "accuracy", 0.5)])
except mltk.toolkit.record_file.RunError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
def test_what_may_only_be_read_is_read(tmp_path, folder_mode):
    folder = Path("/tmp") / f"mltk-{os.getpid()}-{folder_mode}"
    folder.mkdir(mode=0o755)
    try:
        made(folder / "records.sqlite", rows=3)
        (folder / "records.sqlite").chmod(0o444)
        folder.chmod(folder_mode)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(folder)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.splitlines()[0] == "3 [(3,)]", done.stderr
        assert "records.sqlite cannot be written: it is read-only" in done.stdout
    finally:
        folder.chmod(0o755)
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


FULL_DISK = """
import resource, signal, sys
import mltk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
row = lambda n: mltk.toolkit.Row("a", "blobs", 0, n, "ridge", "accuracy", 0.5, trace={"x": "y" * 500})
with mltk.Records(sys.argv[1]) as records:
    records.add(map(row, range(100)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        records.add(map(row, range(1000)))
    except mltk.toolkit.record_file.RunError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(len(records.rows()), records.add(map(row, range(200))))
"""


def test_a_full_disk_loses_nothing(path):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said, after = done.stdout.splitlines()
    assert f"{path} cannot be " in said
    assert after == "100 100"
