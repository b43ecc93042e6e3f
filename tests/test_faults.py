"""Whatever cuts a run off leaves no wrong number, and a restart gives those of an undisturbed run.

The writing of a checkpoint is cut off in test_checkpoints.py and test_loops.py.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_project
from tiny_project import PAPER, call, planned, start

from fer_utils import locks, records

pytestmark = pytest.mark.slow
SLOW = {"EPOCH_SECONDS": "0.5"}  # so that something can happen within an epoch


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny_project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def run(project):
    """The run of the published number: six epochs."""
    return next(found for found in planned(project) if found["rank"] == 0)


@pytest.fixture(scope="module")
def undisturbed(project, run, tmp_path_factory):
    """Its metrics when nothing happens."""
    place = Place(project, run, tmp_path_factory.mktemp("undisturbed"))
    place.train()
    return place.metrics()


class Place:
    """Where a run is made: its own grid and its own records, with the project's code."""

    def __init__(self, project: Path, run: dict, folder: Path):
        self.project, self.run = project, run
        self.build, self.results = folder / "grid", folder / "results"
        self.folder = self.build / PAPER / run["name"]
        self.words = (json.dumps(run), "--build", self.build, "--results", self.results)

    def start(self, **more) -> subprocess.Popen:
        return start(self.project, "train", *self.words, **more)

    def train(self) -> None:
        done = call(self.project, "train", *self.words)
        assert done.returncode == 0, done.stderr

    def epochs(self) -> int:
        """Whole epochs so far."""
        for state in self.build.glob("*/runs/*/state.json"):
            return json.loads(state.read_text())["epoch"]
        return 0

    def wait_for_epoch(self, number: int) -> None:
        deadline = time.monotonic() + 300
        while self.epochs() < number:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def metrics(self) -> dict:
        (record,) = records.read_all(PAPER, self.results)
        assert min(record.timings["training"], *record.history["seconds"]) >= 0
        return record.metrics

    def nothing_to_believe(self) -> bool:
        left = [self.folder / "done.json", *self.results.rglob("*.json")]
        return not any(path.exists() for path in left)

    def leftovers(self) -> set[str]:
        """Files of the grid that are not a finished run's."""
        expected = {"notebook.ipynb", "done.json", "epoch-0006.npy"}
        expected |= {"state.json", "versions.json", "devices.json"}
        return set(self.files()) - expected

    def files(self) -> list[str]:
        """Names of all files of the paper's runs; not the locks."""
        found = (path for path in (self.build / PAPER).rglob("*") if path.is_file())
        return sorted(path.name for path in found if path.name != locks.NAME)


@pytest.fixture
def place(project, run, tmp_path):
    return Place(project, run, tmp_path)


def processes_below(pid: int) -> list[tuple[int, str]]:
    """Children, their children and so on, with their command lines."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_text()
        found += [(int(child), command), *processes_below(int(child))]
    return found


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("victim", "how"),
    [
        ("ipykernel_launcher", signal.SIGKILL),
        ("papermill", signal.SIGKILL),
        ("train.py", signal.SIGKILL),
        ("train.py", signal.SIGTERM),  # what a scheduler sends when the time is up
    ],
)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_run_that_is_killed_goes_on_to_the_same_numbers(place, undisturbed, victim, how):
    process = place.start(**SLOW)
    place.wait_for_epoch(2)
    family = [(process.pid, "train.py"), *processes_below(process.pid)]
    (pid,) = (pid for pid, command in family if victim in command)
    os.kill(pid, how)
    assert process.wait(60) != 0
    deadline = time.monotonic() + 60
    while not all(gone(pid) for pid, _ in family):
        assert time.monotonic() < deadline, "something lives on"
        time.sleep(0.1)
    assert place.nothing_to_believe()
    before = place.epochs()
    assert 2 <= before < 6
    (state,) = place.build.glob("*/runs/*/state.json")
    state.with_name(".state.json.1.part").write_text('{"epoch"')  # a kill in the midst of a write

    place.train()
    assert place.metrics() == undisturbed
    assert place.leftovers() == set()


def test_a_full_disk_is_told_and_more_room_is_enough(place, undisturbed):
    place.build.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place.build], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        full = call(place.project, "train", *place.words)
        assert full.returncode != 0
        assert "failed: no space left on the disk of " in full.stderr
        assert place.nothing_to_believe()
        subprocess.run(["mount", "-o", "remount,size=50m", place.build], check=True)
        place.train()
        assert place.metrics() == undisturbed
        assert place.leftovers() == set()
    finally:
        subprocess.run(["umount", "-l", place.build], check=True)


CLOCK = """
import os, time
real = time.time
time.time = lambda: real() + float(open(os.environ["JUMP"]).read() or 0)
"""


def test_a_clock_that_jumps_moves_no_number(place, undisturbed, tmp_path):
    """Every Python of the run, papermill and kernel included, sees the clock go back and ahead."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    jump = tmp_path / "jump"
    jump.write_text("0")
    path = os.pathsep.join([str(tmp_path), str(place.project)])
    process = place.start(**SLOW, JUMP=str(jump), PYTHONPATH=path)
    place.wait_for_epoch(2)
    jump.write_text("-4e7")
    place.wait_for_epoch(4)
    jump.write_text("4e7")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert place.metrics() == undisturbed
    (record,) = records.read_all(PAPER, place.results)
    assert max(record.history["seconds"]) < 300
    assert place.leftovers() == set()


def test_the_same_run_twice_at_once_is_refused(place, undisturbed):
    process = place.start(**SLOW)
    place.wait_for_epoch(1)
    os.kill(process.pid, signal.SIGSTOP)  # it must not have ended before the second looks
    try:
        second = call(place.project, "train", *place.words)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert second.returncode != 0
    assert "another process is at work in" in second.stderr
    assert process.wait(300) == 0
    assert place.metrics() == undisturbed


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_two_workflows_at_once_are_one_too_many(project, run, tmp_path):
    words = ("--seeds", "9", "--table", "Table 1", "--no-book")
    dry = call(project, "reproduce", *words, "--dry-run", "--json")
    alone = [Place(project, made, tmp_path / made["name"]) for made in json.loads(dry.stdout)]
    assert len(alone) == 2
    for place in alone:
        place.train()
    # In the project's own folder, beside what other tests leave there.
    shutil.rmtree(project / "build" / "grid" / PAPER, ignore_errors=True)
    first = start(project, "reproduce", *words, **SLOW)
    lock = project / "build" / "grid.lock"
    while not lock.exists() or not lock.read_text().startswith(f"{first.pid} on "):
        assert first.poll() is None
        time.sleep(0.05)
    second = call(project, "reproduce", "--seeds", "9", "--no-book")
    assert second.returncode != 0
    assert second.stderr.splitlines() == [
        f"Another make reproduce is at work in this folder (process {first.pid}): wait until it "
        "has finished, or stop it."
    ]
    # Stopped like a service is, it takes its jobs along; the same command then finishes.
    here = Place(project, run, project / "build")
    here.wait_for_epoch(1)
    family = processes_below(first.pid)
    first.terminate()
    first.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while not all(gone(pid) for pid, _ in family):
        assert time.monotonic() < deadline, "something lives on"
        time.sleep(0.1)
    again = call(project, "reproduce", *words)
    assert again.returncode == 0, again.stdout + again.stderr

    kept = [found for found in records.read_all(PAPER, project / "results") if found.seed == 9]
    assert len(kept) == 2
    undisturbed = [place.metrics() for place in alone]
    assert all(found.metrics in undisturbed for found in kept)
    assert kept[0].metrics != kept[1].metrics
    assert here.files() == sorted(name for place in alone for name in place.files())


# With a job, and at SIGTERM it waits for that, as the real one.
SNAKEMAKE = """
import signal, subprocess
signal.signal(signal.SIGTERM, lambda *_: None)
subprocess.run(["sleep", "600"])
"""


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL])
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
def test_what_a_closed_terminal_or_a_kill_leaves_at_work_can_be_stopped(tmp_path, how):
    """A kill leaves Snakemake with the lock, and who comes next is told how to end it."""
    project = tiny_project.make(tmp_path / "project")
    (project / "snakemake.py").write_text(SNAKEMAKE)
    chapter = project / "notebooks" / f"{PAPER}.ipynb"
    shutil.copy(chapter, chapter.with_name("second.ipynb"))  # one alone needs no Snakemake
    first = start(project, "build_book")
    try:
        deadline = time.monotonic() + 300
        while "sleep" not in str(at_work_in(project)):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        first.send_signal(how)
        first.wait(60)
        if how == signal.SIGKILL:
            second = call(project, "build_book")
            command = re.search(r"by process \d+; this stops it: (.+)\):", second.stderr)
            assert command, second.stderr
            subprocess.run(["bash", "-c", command[1]], check=True)
        deadline = time.monotonic() + 60
        while at_work_in(project):
            assert time.monotonic() < deadline, at_work_in(project)
            time.sleep(0.1)
    finally:
        for pid in at_work_in(project):
            os.kill(pid, signal.SIGKILL)
        first.communicate()


def at_work_in(folder: Path) -> dict[int, str]:
    """Processes whose folder it is, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if Path(os.readlink(process / "cwd")) == folder:
                found[int(process.name)] = (process / "cmdline").read_text()
    return found


def test_a_time_budget_stops_after_a_whole_epoch_and_brings_home_what_is_there(
    project, run, undisturbed, tmp_path
):
    asked = ("--seeds", "0", "--table", "table1-jaffe", "--only", run["name"])
    home = ("--pack", tmp_path / "home.tar.gz", "--checkpoints")
    # How long a kernel takes to start is not the question. The first budget with room for an epoch
    # has none for all six: the one before, 24 seconds less, had room for none.
    for minutes in (0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2):
        shutil.rmtree(project / "build" / "grid" / PAPER, ignore_errors=True)
        cut = call(project, "within", "--minutes", minutes, *asked, *home, EPOCH_SECONDS="10")
        assert cut.returncode == 0, cut.stderr
        assert "1 left; the same command goes on." in cut.stdout
        if "stopped after a whole epoch, before " in cut.stdout:
            break
    else:
        pytest.fail(f"never stopped after a whole epoch: {cut.stdout}")
    with tarfile.open(tmp_path / "home.tar.gz") as packed:
        names = [Path(name) for name in packed.getnames()]
    assert "state.json" in {name.name for name in names}
    assert not any(name.is_relative_to("results") for name in names)

    rest = call(project, "within", "--minutes", "5", *asked, *home)
    assert rest.returncode == 0, rest.stderr
    assert "left" not in rest.stdout
    with tarfile.open(tmp_path / "home.tar.gz") as packed:
        packed.extractall(tmp_path / "at-home", filter="data")
    (record,) = records.read_all(PAPER, tmp_path / "at-home" / "results")
    assert record.metrics == undisturbed
    seen = tmp_path / "at-home" / "results" / PAPER / "seen" / f"{record.run}.json"
    assert json.loads(seen.read_text()) == record.seed
