"""Sampling the next episodes while the current one is used."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread, current_thread
from types import TracebackType
from typing import Any, Self

import numpy as np

from mltk.checks import check_count
from mltk.contracts import Backend
from mltk.data.source import TaskSource, generator
from mltk.episode import Episode


class Prefetch(Iterator[Episode]):
    """Episodes of a task source, sampled in a thread of their own, a few ahead.

    They are the same, in the same order, as ``tasks.sample(n_tasks, rng, backend)`` would give, and after
    each of them ``rng`` is in the state that it would be in: that the thread is ahead cannot be seen, so a
    checkpoint between two episodes is right. An exception in the source is raised where its episode would
    have come, with the traceback of where it happened.

    Use it in a ``with`` statement. The thread ends with the block, after the last episode or an error,
    by `close`, and when nothing refers to the iterator any more.

    It pays where sampling takes long and training leaves a core free, or computes on another device. Handing
    over an episode is dearer than sampling a sinusoid. Where the system has no threads, each episode is
    sampled when it is asked for.

    Examples:
        >>> import mltk
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> with mltk.data.Prefetch(tasks, 4, 0, backend, count=3) as episodes:
        ...     [episode.support_x.shape for episode in episodes]
        [(4, 5, 1), (4, 5, 1), (4, 5, 1)]
    """

    def __init__(
        self,
        tasks: TaskSource,
        n_tasks: int,
        rng: int | np.random.Generator,
        backend: Backend,
        *,
        depth: int = 2,
        count: int | None = None,
    ) -> None:
        """Start to sample.

        Args:
            tasks: The source. The thread alone should use it, unless its ``sample`` may run twice at once.
            n_tasks: Tasks an episode.
            rng: A seed or a generator.
            backend: Where the arrays go.
            depth: How many episodes may wait, each in memory.
            count: How many episodes there are; ``None`` for no end.

        Raises:
            SettingError: If ``n_tasks`` or ``depth`` is no positive integer, ``count`` no integer of at least
                0, or ``rng`` neither a seed nor a generator.
        """
        self._rng = generator(rng, n_tasks)
        check_count("depth", depth)
        if count is not None:
            check_count("count", count, at_least=0)
        # The thread must not know the iterator, or it would never be garbage.
        work = _Work(tasks, n_tasks, copy.deepcopy(self._rng), backend, Queue(depth), Event())
        self._queue, self._left = work.queue, count
        thread = Thread(target=_sample, args=(work, count), name="mltk-prefetch", daemon=True)
        self._without_thread: _Work | None = None
        self._stop = weakref.finalize(self, _stop, work, thread)
        try:
            thread.start()
        except RuntimeError:  # a system without threads, as in a browser
            self._without_thread = work

    def __next__(self) -> Episode:
        """The next episode.

        Raises:
            StopIteration: After ``count`` episodes, an error, or `close`.
        """
        if self._left == 0 or not self._stop.alive:
            self.close()
            raise StopIteration
        if self._without_thread is not None:
            _sample(self._without_thread, 1)
        item, state = self._queue.get()
        self._rng.bit_generator.state = state
        if isinstance(item, BaseException):
            self.close()
            raise item
        if self._left is not None:
            self._left -= 1
        return item

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._stop()

    def __enter__(self) -> Self:
        """The iterator itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread."""
        self.close()


@dataclass(frozen=True)
class _Work:
    """What the thread knows."""

    tasks: TaskSource
    n_tasks: int
    rng: np.random.Generator
    backend: Backend
    queue: Queue[tuple[Episode | BaseException, Any]]
    stopped: Event


def _sample(work: _Work, count: int | None) -> None:
    """Put episodes into the queue, each with the state of the generator after it, until told to stop."""
    item: Episode | BaseException
    while count != 0 and not work.stopped.is_set():
        try:
            item = work.tasks.sample(work.n_tasks, work.rng, work.backend)
        except BaseException as error:
            item, count = error, 1
        work.queue.put((item, work.rng.bit_generator.state))
        count = None if count is None else count - 1


def _stop(work: _Work, thread: Thread) -> None:
    """End the thread. It may wait for room in the queue: room for one is enough, then it sees the event."""
    work.stopped.set()
    try:
        while True:
            work.queue.get_nowait()
    except Empty:
        pass
    if thread is not current_thread() and thread.ident is not None:
        thread.join()
