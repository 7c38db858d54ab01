"""Many training runs, each in a process of its own, here or on a cluster: `petseg sweep`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import typer
from filelock import FileLock, Timeout
from tqdm import tqdm

from petseg_utils.apps.cli.options import on_screen
from petseg_utils.data.pictures import load_splits
from petseg_utils.study import PetsegError, Study
from petseg_utils.training.recipes import recipe_of
from petseg_utils.training.train import CUT, what_lacks

PAUSE = 0.2  # seconds between two checks of the processes
GRACE = 20.0  # seconds that a training run gets to end by itself when told to
LONGEST = 7 * 24 * 60  # minutes on Slurm, unless SBATCH_TIMELIMIT sets another limit; submitit's default is five


class Run(NamedTuple):
    """One training run."""

    model: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}, seed {self.seed}"


class Process(Protocol):
    """A training run that was started."""

    def poll(self) -> int | None:
        """Return its exit code, or None as long as it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self, timeout: float) -> object:
        """Wait for it to end; raises `subprocess.TimeoutExpired`."""

    def kill(self) -> None:
        """Kill it."""


def run_sweep(
    study: Study,
    models: Iterable[str],
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    study_option: str | None = None,
) -> list[Run]:
    """Train all outdated or missing runs of some models and seeds, and first what they start from; report on each.

    Parameters
    ----------
    cluster : str, optional
        ``"slurm"`` or ``"local"``: submit the runs with submitit, which with ``"local"`` runs them on this machine.
    study_option : str, optional
        The study as given on the command line, for the command line of each training run.

    Returns
    -------
    list of Run
        Those that failed, and those that were not started because a run that they depend on failed.

    Raises
    ------
    PetsegError
        If another sweep of the study is running, or a model does not exist.
    """
    logs = study.runs_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(logs / ".sweep.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise PetsegError(f"Another petseg sweep of study {study.name} is running: wait for it to end.") from None
    try:
        splits = load_splits(study)  # decoded here once, instead of by several training runs at the same time
        wanted = [Run(model, seed) for seed in dict.fromkeys(seeds) for model in dict.fromkeys(models)]
        lacking: dict[Run, str] = {}
        for run in wanted:
            if run not in lacking and not _add(run, study, splits, lacking):
                typer.echo(f"{run}: is current")
        start = _here(jobs) if cluster is None else _on_cluster(cluster, logs)
        option = ["--study", study_option] if study_option else []

        def begin(run: Run) -> Process:
            resume = ["--resume"] if lacking[run] == CUT else []
            command = [sys.executable, "-m", "petseg_utils", "train", run.model, "--seed", str(run.seed)]
            return start([*command, *option, *resume], _log(logs, run))

        return _run_all(list(lacking), study, begin, logs, jobs)
    finally:
        lock.release()


def _add(run: Run, study: Study, splits: dict, lacking: dict[Run, str]) -> bool:
    """Note a run, after what it starts from, unless it is current; return whether it is not."""
    lacks = what_lacks(run.model, study, run.seed, splits)
    if lacks is None:
        return False
    for base in bases(run, study):
        if base not in lacking:
            _add(base, study, splits, lacking)
    lacking[run] = lacks
    return True


def bases(run: Run, study: Study) -> list[Run]:
    """Return the runs whose weights a run starts from, or learns from."""
    recipe = recipe_of(run.model)
    before = [Run(recipe.starts_from(study), run.seed)] if recipe.starts_from else []
    return before + ([Run(recipe.teacher, seed) for seed in study.seeds] if recipe.teacher else [])


def _run_all(waiting: list[Run], study: Study, begin: Callable[[Run], Process], logs: Path, jobs: int) -> list[Run]:
    """Run all, a few at a time, each once its bases are done; end the running ones if interrupted."""
    running: dict[Run, tuple[Process, float]] = {}
    failed: list[Run] = []
    bar = tqdm(total=len(waiting), unit="run", disable=len(waiting) < 2)
    try:
        while waiting or running:
            for run in list(waiting):
                before = bases(run, study)
                if lost := [base for base in before if base in failed]:
                    waiting.remove(run)
                    failed.append(run)
                    bar.update()
                    tqdm.write(f"{run}: not started, because {lost[0]} failed", file=sys.stderr)
                elif len(running) < jobs and not any(base in running or base in waiting for base in before):
                    waiting.remove(run)
                    running[run] = begin(run), time.monotonic()
            bar.set_postfix_str("; ".join(map(str, running)))
            time.sleep(PAUSE)
            for run, (process, began) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[run]
                bar.update()
                log = _log(logs, run)
                said = f"{run}: {'trained' if code == 0 else 'failed'} after {time.monotonic() - began:.0f} s"
                if code == 0:
                    tqdm.write(f"{said}; log: {on_screen(log)}", file=sys.stdout)
                else:
                    failed.append(run)
                    tqdm.write(f"{said}: {_last_line(log)}; log: {on_screen(log)}", file=sys.stderr)
    finally:
        bar.close()
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
                continue
            process.kill()
    return failed


def _log(logs: Path, run: Run) -> Path:
    return logs / f"{run.model}-seed{run.seed}.log"


def _last_line(log: Path) -> str:
    """Return the last line of a training run's log, which says why it failed."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it is empty")


def _here(jobs: int) -> Callable[[list[str], Path], Process]:
    """Return a function that starts processes on this machine; they share its cores."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} | dict(os.environ)

    def start(command: list[str], log: Path) -> Process:
        with log.open("wb") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=threads)

    return start


def _on_cluster(cluster: str, logs: Path) -> Callable[[list[str], Path], Process]:
    """Return a function that starts processes by submitit."""
    if cluster not in ("slurm", "local"):
        raise PetsegError(f"Unknown cluster {cluster!r}: use slurm or local.")
    try:
        import submitit
    except ModuleNotFoundError:
        raise PetsegError("--cluster needs submitit, which is not installed: pip install '.[slurm]'") from None
    executor = submitit.AutoExecutor(folder=logs / "submitit", cluster=cluster)
    executor.update_parameters(name="petseg", timeout_min=LONGEST)

    class Submitted:
        """A submitit job with the methods of `Process`."""

        def __init__(self, command: list[str], log: Path):
            self.job = executor.submit(run_logged, command, log)

        def poll(self) -> int | None:
            if not self.job.done():
                return None
            try:
                return self.job.result()
            except Exception:  # cancelled, out of memory or out of time: submitit has an exception for each
                return 1

        def terminate(self) -> None:
            self.job.cancel()

        kill = terminate

        def wait(self, timeout: float) -> None:
            until = time.monotonic() + timeout
            # Its result is not read, since submitit waits long for a cancelled job's; and its state is asked for here,
            # since submitit itself asks only once a minute.
            while not self.job.done(force_check=True):
                if time.monotonic() > until:
                    raise subprocess.TimeoutExpired("submitit", timeout)
                time.sleep(1.0)

    return Submitted


def run_logged(command: list[str], log: Path) -> int:
    """Run a command with its output going to a file; return its exit code.  On a cluster, this is the job."""
    with log.open("wb") as file:
        return subprocess.run(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL).returncode
