"""Send a grid of short runs through a real SLURM cluster: kill the check of its data, interrupt it
while a run is at work, send it again, kill a run, look at them all.

    make test-slurm              Debian or Ubuntu, as root; some minutes
    make test-slurm-network      the same on two nodes that share no disk, only a network's folder

The cluster is on loopback; its keys, ports and state are below /run/slurm-trial. The packages
slurm-wlm and munge, on a network those of GlusterFS too, are installed where they are missing; a
machine that has a SLURM of its own is left alone.

On a network, what is written (build, .snakemake) lies in a folder that each node has mounted for
itself, and so has who sends the runs: see network_folder.py. There one run is also sent to both
nodes at once, which one of them has to refuse, as a node has to refuse to send the grid a second
time; and one node is lost with all that runs on it.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import network_folder
import yaml

from fer_utils import grid, locks, records

ROOT = Path(__file__).resolve().parent.parent
# Snakemake's plugin takes SLURM's variables from a job's environment: only this is found there.
USUAL = Path("/etc/slurm/slurm.conf")
CLUSTER = Path("/run/slurm-trial")
ASKING = CLUSTER / "asking"  # while Snakemake asks for the states of its jobs
GRID = ROOT / "build" / "smoke-grid"
SHARED = (ROOT / "build", ROOT / ".snakemake")  # what jobs and their sender write
PAPER, SEEDS = "yengikand2023", "0 1 2"
ASKED = [sys.executable, "tools/reproduce.py", "--smoke", "--paper", PAPER, "--seeds", SEEDS]
SEND = [*ASKED, "--no-book", "--profile", str(CLUSTER / "profile")]
PATIENCE = 3600  # seconds for the whole grid
LOST = 30  # seconds after which a node that says nothing is given up
sys.path.insert(0, str(ROOT / "tools"))

CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={socket}
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
ReturnToService=2
MinJobAge=86400
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PartitionName=short Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="store_true", help="two nodes, a folder on a network")
    parser.add_argument("--mounts", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Ignored where a script started this in its background, and then by what it starts, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() != 0:
        sys.exit("make test-slurm starts a cluster of its own, which takes root.")
    if USUAL.exists() and not (USUAL.is_symlink() and USUAL.readlink().parent == CLUSTER):
        sys.exit(f"{USUAL}: this machine has a SLURM of its own.")
    install(network_folder.missing() if options.network else [])
    if options.network:
        over_network()
    else:
        through_slurm({name: Path(mount) for name, mount in options.mounts.items()})


def over_network() -> None:
    """The trial with two nodes and a sender that share what they write over a network."""
    brick = ROOT / "build" / "network"
    shutil.rmtree(brick, ignore_errors=True)
    with network_folder.on_network(brick, free_port(), ["sender", "node1", "node2"]) as mounts:
        sender = network_folder.command("sender", mounts["sender"], SHARED)
        nodes = {name: str(mount) for name, mount in mounts.items() if name != "sender"}
        again = [*sender, sys.executable, __file__, "--mounts", json.dumps(nodes)]
        trial = subprocess.Popen(again)
        try:
            status = trial.wait()
        except BaseException:
            trial.terminate()
            trial.wait()
            raise
    if status:
        sys.exit(status)
    shutil.rmtree(brick)


def through_slurm(mounts: dict[str, Path]) -> None:
    """The trial.

    Args:
        mounts: of each node that has what is shared over a network; none for one node of this disk.
    """
    for folder in (GRID, CLUSTER, ROOT / "build" / "grid" / "data"):
        shutil.rmtree(folder, ignore_errors=True)
    daemons: list[subprocess.Popen] = []
    try:
        slurmds = start(daemons, mounts)
        if mounts:
            send_twice([*mounts])
        check({interrupt_grid(), *finish_grid(slurmds, mounts)})
    finally:
        end_jobs()
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        USUAL.unlink(missing_ok=True)
    shutil.rmtree(CLUSTER)
    print(
        f"{number_of_runs()} runs went through SLURM, which was interrupted; those that were cut "
        "off have the numbers of whole ones."
    )


def install(more: list[str]) -> None:
    """SLURM, where it is missing, and further packages of Debian."""
    there = all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged"))
    packages = [*([] if there else ["slurm-wlm", "munge"]), *more]
    if not packages:
        return
    names = " and ".join(packages)
    if not shutil.which("apt-get"):
        sys.exit(f"apt-get, which could bring them, is not here: install {names}.")
    print(f"Installing {names}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    words = ["install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(["apt-get", *words], check=True, env=environment, stdout=subprocess.DEVNULL)


def start(daemons: list[subprocess.Popen], mounts: dict[str, Path]) -> dict[str, subprocess.Popen]:
    """munged, slurmctld and a slurmd a node, told in `daemons` as they start; the slurmds."""
    for name in ("state", "profile"):
        (CLUSTER / name).mkdir(parents=True)
    CLUSTER.chmod(0o755)  # munged wants a folder that only its user can write to, open to all
    nodes = [*mounts] or [socket.gethostname().split(".")[0]]
    (CLUSTER / "slurm.conf").write_text(configuration(nodes))
    USUAL.unlink(missing_ok=True)  # a link that an earlier test left
    USUAL.symlink_to(CLUSTER / "slurm.conf")
    # No database of past jobs here, so their states come from the controller's memory.
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    profile |= {"slurm-status-command": "squeue", "slurm-no-account": True, "latency-wait": 20}
    profile |= {"slurm-init-seconds-before-status-checks": 5}
    profile |= {"default-resources": ["slurm_partition=short"]}
    (CLUSTER / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))

    key = CLUSTER / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munged = ["munged", "--foreground", f"--socket={CLUSTER}/munge.socket", f"--key-file={key}"]
    munged += [f"--{name}-file={CLUSTER}/munge.{name}" for name in ("pid", "log", "seed")]
    with (CLUSTER / "daemons.log").open("w") as log:
        daemons.append(subprocess.Popen(munged, stdout=log, stderr=log))
        wait("munged", (CLUSTER / "munge.socket").exists)
        daemons.append(subprocess.Popen(["slurmctld", "-D"], stdout=log, stderr=log))
        slurmds = {}
        for name in nodes:
            there = network_folder.command(name, mounts[name], SHARED) if mounts else []
            slurmds[name] = subprocess.Popen([*there, "slurmd", "-D"], stdout=log, stderr=log)
            daemons.append(slurmds[name])
    ready = ["idle"] * len(nodes)
    wait("cluster", lambda: told("sinfo", "--noheader", "--Node", "--format=%T").split() == ready)
    print(f"A SLURM cluster is up: {', '.join(nodes)}", flush=True)
    return slurmds


def configuration(nodes: list[str]) -> str:
    """slurm.conf; the nodes share this machine's cores and memory."""
    hardware = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout
    found = dict(word.split("=", 1) for word in hardware.split() if "=" in word)
    text = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        port=free_port(),
        folder=CLUSTER,
        socket=CLUSTER / "munge.socket",
    )
    share = {
        key: max(1, int(found[name]) // len(nodes))
        for key, name in (("cpus", "CPUs"), ("memory", "RealMemory"))
    }
    if len(nodes) > 1:
        text += f"SlurmdTimeout={LOST}\n"
    return text + "".join(NODE.format(name=name, port=free_port(), **share) for name in nodes)


def send_twice(nodes: list[str]) -> None:
    """One run to all nodes at once: one makes it, the others are told that it is being made."""
    place = GRID / "twice"
    train = [sys.executable, "tools/train.py", json.dumps(planned()[0]), "--build", str(place)]
    train += ["--results", str(place / "records")]
    place.mkdir(parents=True)
    sent: dict[str, subprocess.Popen] = {}
    try:
        for name in nodes:
            words = ["sbatch", "--wait", f"--nodelist={name}", f"--output={place}/{name}.txt"]
            sent[name] = subprocess.Popen([*words, "--wrap", shlex.join(train)], cwd=ROOT)
        statuses = {name: process.wait() for name, process in sent.items()}
    finally:
        for process in sent.values():
            process.terminate()
    said = {name: (place / f"{name}.txt").read_text() for name in nodes}
    refused = [name for name in nodes if "another process is at work in" in said[name]]
    made = [name for name in nodes if statuses[name] == 0]
    assert (len(made), len(refused)) == (1, len(nodes) - 1), f"made twice: {said}"
    print(f"A run sent to {' and '.join(nodes)} was made on {made[0]} alone", flush=True)
    shutil.rmtree(place)


@cache
def number_of_runs() -> int:
    """How many the grid has."""
    return len(grid.chosen(PAPER, seeds=SEEDS, smoke=True))


@cache
def planned() -> list[dict]:
    """The grid's runs."""
    return json.loads(told(*ASKED, "--dry-run", "--json"))


@contextmanager
def grid_sent(**more: str) -> Iterator[subprocess.Popen]:
    """The command that sends what is not made yet; interrupted, it is given once more."""
    process = subprocess.Popen(SEND, cwd=ROOT, env={**os.environ, **more})
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def interrupt_grid() -> Path:
    """Send the runs, kill the check of their data, and interrupt all while a run is at work; the
    folder of one that is half made.
    """
    checked, interrupted = False, False
    with grid_sent(PATH=f"{slow_squeue().parent}{os.pathsep}{os.environ['PATH']}") as process:
        for _ in while_it_works(process):
            checked = checked or kill_check()
            # Snakemake has no list of its jobs while it asks for their states.
            if not interrupted and ASKING.exists() and at_work():
                process.send_signal(signal.SIGINT)
                interrupted = True
    if not interrupted:
        sys.exit("No job was caught in the middle of its run.")
    if not checked:
        sys.exit("The check of the data was not caught at work.")
    assert process.returncode, "the command did not tell that it was interrupted"
    wait("end of the jobs that the interrupt cancelled", lambda: not queue("PD,R,S,CG"))
    print(f"Interrupted: jobs ended as {dict(Counter(queue('all')))}", flush=True)
    done, _ = made_runs()
    half_made = {path.parent for path in GRID.glob("*/*/work")} - set(done)
    assert half_made, "the interrupt found no run at work"
    return min(half_made)


def slow_squeue() -> Path:
    """As on a large cluster: it takes its time to answer, and lets us see that it is asked."""
    slow = CLUSTER / "bin" / "squeue"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\ntouch {ASKING}; sleep 3; rm {ASKING}\nexec {shutil.which("squeue")} "$@"\n'
    )
    slow.chmod(0o755)
    return slow


def finish_grid(slurmds: dict[str, subprocess.Popen], mounts: dict[str, Path]) -> set[Path]:
    """Send the runs again, kill one that is at work, lose a node where there are two, and wait for
    the end; the folders of the runs that were cut off.
    """
    before, (done, _) = Counter(queue("all")), made_runs()
    killed, lost, refused = None, None, False
    with grid_sent() as process:
        for _ in while_it_works(process):
            finished = len(list(GRID.glob("*/*/done.json")))
            if mounts and not refused and finished > len(done):
                refused = send_again_from(*next(iter(mounts.items())))
            if killed is None and finished >= len(done) + 2:
                killed = kill_one()
            elif mounts and lost is None and finished >= 2 * number_of_runs() // 3:
                lost = lose_one(slurmds, mounts)
    if process.returncode:
        sys.exit(f"The workflow ended with status {process.returncode}.")
    if killed is None or (mounts and lost is None):
        sys.exit("No job was caught in the middle of its run.")
    states = Counter(queue("all")) - before
    assert states["COMPLETED"] == number_of_runs() - len(done), f"jobs ended as {dict(states)}"
    # SLURM itself sends the job of a lost node again, under its number.
    assert sum(states.values()) == number_of_runs() - len(done) + 1, f"jobs ended as {dict(states)}"
    return {killed, lost} - {None}


def send_again_from(node: str, mount: Path) -> bool:
    """The grid is at work already, which a node is told, too."""
    there = network_folder.command(node, mount, SHARED)
    second = subprocess.run([*there, *SEND], cwd=ROOT, capture_output=True, text=True)
    refused = r"Another make reproduce is at work in this folder \(process \d+ on sender\)"
    assert second.returncode, second.stdout
    assert re.search(refused, second.stderr), second.stderr
    print(f"{node} does not send the grid a second time", flush=True)
    return True


def while_it_works(process: subprocess.Popen) -> Iterator[None]:
    """Often enough to catch a job; not for ever."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        if time.monotonic() > deadline:
            sys.exit(f"The grid did not finish within {PATIENCE} seconds.")
        yield
        time.sleep(0.2)


def end_jobs() -> None:
    """What a failed test has left would outlive its cluster."""
    told("scancel", "--partition=short")
    deadline = time.monotonic() + 20
    while told("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.5)


def kill_check() -> bool:
    """SIGKILL to the job that checks the data, as if its node were lost; whether it ran."""
    for line in told("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines():
        job, _, comment = line.partition(" ")
        if comment.startswith("rule_data"):
            subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
            print(f"Killed job {job}: {comment}", flush=True)
            return True
    return False


def kill_one() -> Path | None:
    """SIGKILL to every process of a job whose chapter is being executed; the folder of its run."""
    found = at_work()
    if found is None:
        return None
    job, _, folder = found
    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
    print(f"Killed job {job}: {folder.name}", flush=True)
    return folder


def lose_one(slurmds: dict[str, subprocess.Popen], mounts: dict[str, Path]) -> Path | None:
    """SIGKILL to all of a node whose job executes a chapter; the folder of its run."""
    found = at_work()
    if found is None:
        return None
    job, node, folder = found
    there = os.readlink(f"/proc/{slurmds[node].pid}/ns/uts")
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is the kernel's own
            if os.readlink(entry / "ns" / "uts") == there:
                os.kill(int(entry.name), signal.SIGKILL)
    network_folder.lose(mounts[node])
    print(f"Lost {node} with job {job}: {folder.name}", flush=True)
    return folder


def at_work() -> tuple[str, str, Path] | None:
    """A job whose chapter is being executed, its node, and the folder of its run."""
    logs = [log for log in GRID.glob("*/*/running.log") if "Executing Cell" in text_of(log)]
    jobs = told("squeue", "--noheader", "--states=R", "--format=%i %N") if logs else ""
    found = [line.split() for line in jobs.splitlines()]
    return next(
        ((*job, log.parent) for job in found for log in logs if belongs(log.parent, *job)), None
    )


def text_of(log: Path) -> str:
    """Nothing where its run has just ended."""
    with suppress(FileNotFoundError):
        return log.read_text()
    return ""


def belongs(folder: Path, job: str, node: str) -> bool:
    """Whether a job of the cluster, at work on a node, executes the run of a folder."""
    pids = told("scontrol", "listpids", job, node).split()
    for pid in filter(str.isdigit, pids):
        try:
            command = Path("/proc", pid, "cmdline").read_text()
        except OSError:
            continue
        if folder.name in command and "papermill" in command:
            return True
    return False


def check(cut_off: set[Path]) -> None:
    """Every run has its record, those cut off that of an undisturbed run; nothing is left over."""
    done, kept = made_runs()
    assert len(done) == number_of_runs(), f"{len(done)} runs of {number_of_runs()} have finished"
    for folder in done:
        left = {path.name for path in folder.iterdir()} - {locks.NAME}
        assert left == {"notebook.ipynb", "done.json"}, f"left in {folder}: {sorted(left)}"

    again = GRID / "undisturbed"
    names = {folder.name: done[folder]["run"] for folder in cut_off}
    for run in (run for run in planned() if run["name"] in names):
        command = [sys.executable, "tools/train.py", json.dumps(run), "--build", again]
        subprocess.run([*command, "--results", again / "records"], cwd=ROOT, check=True)
        name = names[run["name"]]
        whole = records.read(again / "records" / PAPER / f"{name}.json")
        assert kept[name].metrics == whole.metrics, f"{name}: other numbers than undisturbed"


def made_runs() -> tuple[dict[Path, dict], dict[str, records.RunRecord]]:
    """What done.json says in each folder that has one, and the records by name: the same runs."""
    done = {path.parent: json.loads(path.read_text()) for path in GRID.glob("*/*/done.json")}
    kept = {run.run: run for run in records.read_all(PAPER, GRID / "records")}
    assert {told["run"] for told in done.values()} == set(kept), "runs and records differ"
    return done, kept


def queue(states: str) -> list[str]:
    """The states of the cluster's jobs that are in one of these."""
    command = ["squeue", "--noheader", f"--states={states}", "--format=%T"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def told(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def wait(what: str, there) -> None:
    deadline = time.monotonic() + 60
    while not there():
        if time.monotonic() > deadline:
            sys.exit(f"There is no {what} after a minute; see {CLUSTER}/*.log")
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
