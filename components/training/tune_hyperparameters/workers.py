"""Worker pool of the search: a process for each core; one that is killed is replaced, and its work done again."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Generic, TypeVar

from threadpoolctl import threadpool_limits

from kfp_lifecycle.runtime.child_process import work_for_another

Task = TypeVar("Task")
Result = TypeVar("Result")

# A task whose process dies is tried once more: whoever killed the first may have meant another.
ATTEMPTS = 2


@dataclass(frozen=True)
class Died:
    """What is known of a task whose processes were killed."""

    exit_code: int

    def __str__(self) -> str:
        how = signal.Signals(-self.exit_code).name if self.exit_code < 0 else f"exit code {self.exit_code}"
        return f"its process ended with {how}, {ATTEMPTS} times; the system's log says whether memory was short"


class _Worker(Generic[Task]):
    """One process, and the task that it has."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.number: int | None = None


class Workers(Generic[Task, Result]):
    """Runs numbered tasks in processes of their own.

    They are started from nothing: a fork of a process whose OpenMP threads have worked waits for them for ever.
    """

    def __init__(self, cores: int, most: int, prepare: Callable[[], None] | None = None) -> None:
        """Start the processes, which wait until they are told what to do.

        Args:
            cores: Cores there are; each process uses its share of them.
            most: Processes at the most.
            prepare: What each does at once, to be pickled: import what the work will need.
        """
        self._work: Callable[[Task], Result] | None = None
        self._prepare = prepare
        self._threads = max(1, cores // min(cores, most))
        self._context = multiprocessing.get_context("spawn")
        self._life, self._their_life = self._context.Pipe()
        self._waiting: deque[int] = deque()
        self._tasks: dict[int, Task] = {}
        self._attempts: dict[int, int] = {}
        self._workers: list[_Worker[Task]] = []
        for _ in range(min(cores, most)):
            self._start()

    def begin(self, work: Callable[[Task], Result]) -> None:
        """Tell every process what to do with a task.

        Args:
            work: To be pickled. It must not raise: what fails belongs into its result.
        """
        self._work = work
        for worker in self._workers:
            self._hand_over(worker)

    def __enter__(self) -> Workers[Task, Result]:
        """The workers themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._life.close()
        self._their_life.close()

    @property
    def processes(self) -> list[int]:
        """The processes' ids."""
        return [worker.process.pid or 0 for worker in self._workers]

    def submit(self, number: int, task: Task) -> None:
        """Add a task; tasks start in the order in which they were added."""
        self._tasks[number] = task
        self._waiting.append(number)
        self._assign()

    def results(self, seconds: float | None) -> dict[int, Result | Died]:
        """Wait until a task ends.

        Args:
            seconds: How long at the most; None without end.

        Returns:
            What ended since the last call, by number; nothing when the time is up.
        """
        ended: dict[int, Result | Died] = {}
        busy = {worker.pipe: worker for worker in self._workers if worker.number is not None}
        for pipe in wait(list(busy), seconds):
            worker = busy[pipe]  # type: ignore[index]
            number = worker.number
            assert number is not None
            try:
                ended[number] = worker.pipe.recv()
                worker.number = None
            except (EOFError, OSError):
                self._replace(worker, number, ended)
        self._assign()
        return ended

    def _replace(self, worker: _Worker[Task], number: int, ended: dict[int, Result | Died]) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        self._hand_over(self._start())
        self._attempts[number] = self._attempts.get(number, 0) + 1
        if self._attempts[number] < ATTEMPTS:
            self._waiting.appendleft(number)
        else:
            ended[number] = Died(worker.process.exitcode or 0)

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.number is None and self._waiting:
                worker.number = self._waiting.popleft()
                # One that was killed while it waited is found when its answer is waited for.
                with contextlib.suppress(BrokenPipeError):
                    worker.pipe.send(self._tasks[worker.number])

    def _start(self) -> _Worker[Task]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._their_life, self._threads, self._prepare), daemon=True
        )
        process.start()
        theirs.close()
        worker: _Worker[Task] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _hand_over(self, worker: _Worker[Task]) -> None:
        # One that was killed since is found when its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            worker.pipe.send(self._work)


def _serve(pipe: Connection, life: Connection, threads: int, prepare: Callable[[], None] | None) -> None:
    """Take the work, then answer each task with its result, until the other end is closed."""
    work_for_another(life, threads)
    if prepare is not None:
        prepare()
    with contextlib.suppress(EOFError, BrokenPipeError):
        work = pipe.recv()
        # For the libraries that came with the work; those that come later heed the variable.
        with threadpool_limits(threads):
            while True:
                pipe.send(work(pipe.recv()))
