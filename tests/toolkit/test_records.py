"""Records: rows are there once and whole, whoever writes them, and no other file is touched."""

import json
import math
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_to_write import ROW, several, write

import mltk
from mltk.errors import MissingLibraryError, RunError, SettingError
from mltk.toolkit import Records, Row


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.sqlite"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
whole = st.integers(0, 2**63 - 1)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
numbers = st.dictionaries(texts, st.floats(), max_size=3)
any_row = st.builds(
    Row, texts, texts, whole, whole, texts, texts, st.floats(), numbers, numbers,
    st.dictionaries(texts, plain_values, max_size=3),
)  # fmt: skip


def bits(number):
    """What tells all floats apart but the two zeros, and those that are not finite, which are one."""
    return (number or 0.0).hex() if math.isfinite(number) else "nan"


def in_bits(row):
    of = [{name: bits(one) for name, one in found.items()} for found in (row.measures, row.costs)]
    exact = json.dumps(row.trace, sort_keys=True)  # tells 1 from 1.0 and from true
    return row.run, row.source, row.seed, row.episode, row.learner, row.metric, bits(row.outcome), *of, exact


@given(st.lists(any_row, max_size=4))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_rows_come_back_as_they_were(rows):
    unique = {}
    for row in rows:
        unique.setdefault((row.run, row.source, row.seed, row.episode, row.learner), row)
    with Records() as records:
        assert records.add(unique.values()) == len(unique)
        found = records.rows()
    assert sorted(map(in_bits, found), key=repr) == sorted(map(in_bits, unique.values()), key=repr)


def test_null_is_what_is_no_finite_number():
    with Records() as records:
        extreme = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
        records.add(
            replace(ROW, episode=n, outcome=x, measures={"x": x}, trace={"x": [x]})
            for n, x in enumerate(extreme)
        )
        told = records.sql(
            "SELECT outcome, json_extract(measures, '$.x'), trace FROM records ORDER BY episode"
        )
        assert told[:3] == [(None, None, '{"x":[null]}')] * 3
        assert [outcome for outcome, _, _ in told[3:]] == extreme[3:] == [x for _, x, _ in told[3:]]
        found = records.rows()
    assert all(math.isnan(row.outcome) and math.isnan(row.measures["x"]) for row in found[:3])
    assert found[0].trace == {"x": [None]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", ""), ("run", 3), ("source", "\ud800"), ("learner", b"ridge"), ("seed", -1), ("seed", 2**63),
        ("episode", 1.0), ("episode", True), ("metric", None), ("outcome", "0.5"), ("outcome", 1j),
        ("outcome", 10**400), ("outcome", True), ("measures", [1.0]), ("measures", {1: 1.0}),
        ("measures", {"x": None}), ("costs", {"x": "1"}), ("trace", {"x": {1, 2}}), ("trace", [1]),
        ("trace", {"x": "\ud800"}),
    ],
)  # fmt: skip
def test_what_no_row_can_be_is_refused_by_name(name, value):
    with pytest.raises(SettingError, match=name):
        replace(ROW, **{name: value})


def test_a_trace_that_could_not_be_read_again_is_refused():
    deep = []
    for _ in range(70):
        deep = [deep]
    endless = {}
    endless["x"] = endless
    for trace in ({"x": deep}, endless):
        with pytest.raises(SettingError, match="trace cannot be kept"):
            replace(ROW, trace=trace)


KEY = ("run", "source", "seed", "episode", "learner")


def test_a_row_is_there_once_for_each_key(path):
    others = [replace(ROW, **{name: "other" if isinstance(getattr(ROW, name), str) else 9}) for name in KEY]
    with Records(path) as records:
        assert records.add([ROW, *others, ROW]) == 1 + len(KEY)
        assert records.add([*others, ROW]) == 0
    with Records(path) as records:
        assert records.add([ROW, replace(ROW, episode=2)]) == 1
        assert len(records.rows()) == 2 + len(KEY)


def test_the_first_outcome_stays_and_another_is_warned_of(path):
    with Records(path) as records:
        records.add([ROW, replace(ROW, episode=1, outcome=math.nan)])
        same = [replace(ROW, outcome=0.5 + 1e-9, costs={"s": 2.0}), replace(ROW, episode=1, outcome=math.nan)]
        assert records.add(same) == 0
        with pytest.warns(UserWarning, match="keeps rows of ridge in 'first' that were added again"):
            assert records.add([replace(ROW, outcome=0.75), replace(ROW, episode=1)]) == 0
        with warnings.catch_warnings(record=True) as said:  # once, however often it happens
            warnings.simplefilter("default")
            for outcome in (0.1, 0.2):
                records.add([replace(ROW, outcome=outcome)])
        assert len(said) == 1
        assert records.rows()[0] == ROW


def test_all_rows_are_added_or_none(path):
    with Records(path) as records:
        with pytest.raises(SettingError, match="rows holds 3"):
            records.add([ROW, 3])
        # Whatever fails in the middle, such as a disk: here the table itself stops at the third row.
        ((connection, _),) = records._open.values()
        connection.execute("PRAGMA max_page_count = 6")
        with pytest.raises(RunError, match=r"records.sqlite cannot be written: the disk is full"):
            records.add(several(3000))
        assert records.rows() == []
        connection.execute("PRAGMA max_page_count = 100000")
        assert records.add(several(3)) == 3


def test_rows_are_those_asked_for_in_order():
    runs = ["a", "a/training", "ab", "a/b/c", "A"]
    with Records() as records:
        records.add(replace(ROW, run=run, episode=n, source=f"s{n % 2}") for n, run in enumerate(runs))
        records.add([replace(ROW, run="z", learner="maml")])
        assert [row.run for row in records.rows(run="a")] == ["a", "a/b/c", "a/training"]
        assert [row.run for row in records.rows(run="a", source="s0")] == ["a"]
        assert [row.run for row in records.rows(learner="maml")] == ["z"]
        assert records.rows(run="a'; DROP TABLE records; --") == []


def test_plain_sql_reads_and_changes_nothing(path, tmp_path):
    with Records(path) as records:
        records.add(several(4, measures={"hardness": 2.0}))
        query = (
            "SELECT sum(outcome), max(json_extract(measures, '$.hardness')) FROM records WHERE episode > ?"
        )
        assert records.sql(query, (0,)) == [(1.5, 2.0)]
        assert records.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) "
                           "SELECT max(i) FROM n") == [(3,)]  # fmt: skip
        changing = [
            "DELETE FROM records", "DROP TABLE records", "UPDATE records SET outcome = 1", "VACUUM",
            f"ATTACH '{tmp_path / 'other'}' AS other", "PRAGMA journal_mode = DELETE", "BEGIN", "COMMIT",
            "CREATE TABLE x (y)", "SELECT 1; SELECT 2", "SELECT", "", "SELECT nothing FROM records",
            "INSERT INTO records VALUES ('a', 'b', 0, 0, 'c', 'd', 1, '', '', '')",
        ]  # fmt: skip
        for query in changing[:11] + changing[12:]:
            with pytest.raises(SettingError, match="query is"):
                records.sql(query)
        from mltk.toolkit.records import INSERT, KEPT

        with pytest.raises(SettingError, match="query is"):  # one that is prepared already
            records.sql(INSERT, several(5)[4].to_values())
        assert records.sql(KEPT, ("first", "blobs", 0, 0, "ridge")) == [(0.5,)]
        for parameters in ((), (1, 2), [object()], (2**64,), {"x": 1}):
            with pytest.raises(SettingError, match="query is"):
                records.sql("SELECT ?", parameters)
        assert records.add([ROW]) == 0
        assert len(records.rows()) == 4
    assert not (tmp_path / "other").exists()


def test_pandas_gets_measures_as_columns():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with Records() as records:
        assert list(records.to_pandas().columns) == [*KEY, "metric", "outcome", "trace"]
        records.add([replace(ROW, measures={"outcome": 1.0}, costs={"seconds": 2.0}), *several(2, run="a")])
        frame = records.to_pandas()
    assert frame["outcome"].tolist() == [0.5] * 3
    assert frame["measures.outcome"].dropna().tolist() == [1.0]
    assert pandas.isna(frame["costs.seconds"]).tolist() == [True, True, False]


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with Records() as records, pytest.raises(MissingLibraryError, match=r"pip install .?pandas"):
        records.to_pandas()


def test_what_is_closed_says_so(path):
    for records in (Records(), Records(path)):
        records.close()
        records.close()
        with pytest.raises(RunError, match="was closed"):
            records.rows()


# Several at a time


@pytest.mark.parametrize(("start", "count"), [("fork", 3), ("spawn", 1)])
def test_processes_write_what_their_parent_has_opened(path, start, count):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} here")
    context = multiprocessing.get_context(start)
    with Records(path) as records:
        records.add([ROW])
        children = [context.Process(target=write, args=(records, f"l{n}", 5)) for n in range(count)]
        for child in children:
            child.start()
        write(records, "parent", 5)
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * count
        assert len(records.rows()) == 1 + 15 * (count + 1)
        assert len(records.rows(learner="l0")) == 15


def test_threads_write_together(path):
    for records in (Records(path), Records()):
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda n: write(records, f"l{n % 3}", 10), range(6)))  # noqa: B023
        assert sum(found) == len(records.rows()) == 3 * 10 * 3
        records.close()


def test_what_is_in_memory_stays_in_its_process(monkeypatch):
    with Records() as records:
        with pytest.raises(SettingError, match="in memory cannot be sent"):
            pickle.dumps(records)
        here = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: here + 1)
        with pytest.raises(RunError, match="of another process"):
            records.add([ROW])
        monkeypatch.undo()
        assert records.add([ROW]) == 1


def test_who_comes_first_makes_the_file(path):
    """Several open a file that is not there yet: none makes another's rows disappear."""
    found, start = [], threading.Barrier(6)

    def begin(n):
        start.wait()
        with Records(path) as records:
            found.append(records.add(several(2, learner=f"l{n}")))

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 6
    with Records(path) as records:
        assert len(records.rows()) == 12
    assert [each.name for each in path.parent.iterdir()] == [path.name]


WRITERS = """
import os, sys
import mltk

def write(n):
    with mltk.Records(sys.argv[1]) as records, open(f"{sys.argv[2]}/log{n}", "ab", buffering=0) as log:
        for seed in range(10**9):
            rows = [
                mltk.toolkit.Row(
                    f"r{n}", "blobs", seed, i, "ridge", "accuracy", seed + i / 8, {"i": i}, {}, {"x": "y" * i}
                )
                for i in range(seed % 7 + 1)
            ]
            records.add(rows)
            log.write(b"%d\\n" % seed)

for n in range(int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        write(n)
    print(child, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_every_committed_row_is_there_once_and_none_half_when_writers_are_killed(path, tmp_path):
    """Two of four are killed while the others write, and later these, in two rounds at a time."""
    chance, writers = random.Random(0), 4
    for round_ in range(2):
        (tmp_path / f"logs{round_}").mkdir()
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, str(path.with_suffix(f".{n}")), str(tmp_path / f"logs{n}"), "4"],
            stdout=subprocess.PIPE,
        )
        for n in range(2)
    ]
    rounds = [[int(each.stdout.readline()) for _ in range(writers)] for each in starting]
    try:
        for n in range(2):
            logs = [tmp_path / f"logs{n}" / f"log{writer}" for writer in range(writers)]
            while not all(log.exists() and log.stat().st_size for log in logs):
                time.sleep(0.02)
        for order in zip(*rounds, strict=True):
            for child in order:
                time.sleep(chance.uniform(0.02, 0.2))
                os.kill(child, signal.SIGKILL)
    finally:
        for each in starting:
            each.stdout.close()
            each.wait()
    for n in range(2):
        check_what_was_kept(path.with_suffix(f".{n}"), tmp_path / f"logs{n}")


def check_what_was_kept(path, logs):
    found = {}
    with Records(path) as records:
        for row in records.rows():
            assert (row.outcome, row.measures) == (row.seed + row.episode / 8, {"i": row.episode})
            assert row.trace == {"x": "y" * row.episode}
            found.setdefault(row.run, {}).setdefault(row.seed, []).append(row.episode)
    assert len(found) == 4
    for run, episodes in found.items():
        committed = (logs / f"log{run[1:]}").read_bytes().splitlines()
        # The last addition may have been committed, and not logged: it is there whole.
        assert len(episodes) - len(committed) in (0, 1)
        assert episodes == {seed: list(range(seed % 7 + 1)) for seed in range(len(episodes))}


def test_the_name_is_there_without_its_library_being_loaded():
    code = "import sys, mltk; mltk.Records; print('sqlite3' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert mltk.Records is Records
