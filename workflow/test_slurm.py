"""Send a grid of short runs through a real SLURM cluster, kill one in the middle and the check of
its data before, look at them all.

    make test-slurm        Debian or Ubuntu, as root; some minutes

The cluster is one node on loopback; its keys, ports and state are below build/slurm-cluster. The
packages slurm-wlm and munge are installed where they are missing; a machine that has a SLURM of its
own is left alone.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
# Snakemake's plugin takes SLURM's variables from a job's environment: only this is found there.
USUAL = Path("/etc/slurm/slurm.conf")
CLUSTER = ROOT / "build" / "slurm-cluster"
GRID = ROOT / "build" / "smoke-grid"
RUNS = 12
PATIENCE = 3600  # seconds for the whole grid
sys.path.insert(0, str(ROOT / "tools"))

CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
SlurmdPort={node_port}
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
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("make test-slurm starts a cluster of its own, which takes root.")
    install()
    if USUAL.exists() and not (USUAL.is_symlink() and USUAL.readlink().parent == CLUSTER):
        sys.exit(f"{USUAL}: this machine has a SLURM of its own.")
    for folder in (GRID, CLUSTER, ROOT / "build" / "grid" / "data"):
        shutil.rmtree(folder, ignore_errors=True)
    # munged wants a way to its socket that everyone may go, which this folder may not have.
    with tempfile.TemporaryDirectory(prefix="munge-") as open_to_all:
        Path(open_to_all).chmod(0o755)
        daemons: list[subprocess.Popen] = []
        try:
            start(daemons, Path(open_to_all) / "socket")
            killed = send_grid()
            check(killed)
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait()
            USUAL.unlink(missing_ok=True)
    shutil.rmtree(CLUSTER)
    print(
        f"{RUNS} runs went through SLURM; the one that was killed has the numbers of a whole one."
    )


def install() -> None:
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    if not shutil.which("apt-get"):
        sys.exit("SLURM is not here and apt-get cannot bring it: install slurm-wlm and munge.")
    print("Installing slurm-wlm and munge", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    words = ["install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge"]
    subprocess.run(["apt-get", *words], check=True, env=environment, stdout=subprocess.DEVNULL)


def start(daemons: list[subprocess.Popen], socket_path: Path) -> None:
    """munged, slurmctld and slurmd, told in `daemons` as they start, and a node that takes jobs."""
    for name in ("state", "spool", "profile"):
        (CLUSTER / name).mkdir(parents=True)
    CLUSTER.chmod(0o755)  # munged wants a folder that only its user can write to
    hardware = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout
    found = dict(word.split("=", 1) for word in hardware.split() if "=" in word)
    configuration = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        port=free_port(),
        node_port=free_port(),
        folder=CLUSTER,
        socket=socket_path,
        cpus=found["CPUs"],
        memory=found["RealMemory"],
    )
    (CLUSTER / "slurm.conf").write_text(configuration)
    USUAL.unlink(missing_ok=True)  # a link that an earlier test left
    USUAL.symlink_to(CLUSTER / "slurm.conf")
    # No database of past jobs here, so their states come from the controller's memory.
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    profile |= {"slurm-status-command": "squeue", "slurm-no-account": True, "latency-wait": 20}
    profile |= {"slurm-init-seconds-before-status-checks": 5}
    (CLUSTER / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))

    key = CLUSTER / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munged = ["munged", "--foreground", f"--socket={socket_path}", f"--key-file={key}"]
    munged += [f"--{name}-file={CLUSTER}/munge.{name}" for name in ("pid", "log", "seed")]
    with (CLUSTER / "daemons.log").open("w") as log:
        daemons.append(subprocess.Popen(munged, stdout=log, stderr=log))
        wait("munged", socket_path.exists)
        for name in ("slurmctld", "slurmd"):
            daemons.append(subprocess.Popen([name, "-D"], stdout=log, stderr=log))
    wait("a node of the cluster", lambda: "idle" in told("sinfo", "--noheader", "--format=%T"))
    print("A SLURM cluster of one node is up", flush=True)


def send_grid() -> Path:
    """Send the runs, kill the check of their data and one that is training, wait for the end; the
    folder of the killed one.
    """
    command = [sys.executable, "tools/reproduce.py", "--smoke", "--paper", "yengikand2023"]
    command += ["--seeds", "0 1 2", "--no-book", "--profile", str(CLUSTER / "profile")]
    process = subprocess.Popen(command, cwd=ROOT)
    begun, checked, victim = time.monotonic(), False, None
    while process.poll() is None:
        time.sleep(0.2 if not checked else 1)
        if time.monotonic() - begun > PATIENCE:
            process.terminate()
            process.wait()
            sys.exit(f"The grid did not finish within {PATIENCE} seconds.")
        checked = checked or kill_check()
        if victim is None and len(list(GRID.glob("*/*/done.json"))) >= 2:
            victim = kill_one()
    if process.returncode:
        sys.exit(f"The workflow ended with status {process.returncode}.")
    if not checked:
        sys.exit("The check of the data was not caught at work.")
    if victim is None:
        sys.exit("No job was caught in the middle of its run.")
    return victim


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
    """SIGKILL to every process of a job whose chapter is being executed."""
    for line in told("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines():
        job, _, _ = line.partition(" ")
        for log in GRID.glob("*/*/running.log"):
            if "Executing Cell" in log.read_text() and belongs(log.parent, job):
                subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
                print(f"Killed job {job}: {log.parent.name}", flush=True)
                return log.parent
    return None


def belongs(folder: Path, job: str) -> bool:
    """Whether a job of the cluster executes the run of a folder."""
    pids = told("scontrol", "listpids", job).split()
    for pid in filter(str.isdigit, pids):
        try:
            command = Path("/proc", pid, "cmdline").read_text()
        except OSError:
            continue
        if folder.name in command and "papermill" in command:
            return True
    return False


def check(killed: Path) -> None:
    """Every run has its record, the killed one that of an undisturbed run; nothing is left over."""
    from fer_utils import records

    done = {path.parent: json.loads(path.read_text()) for path in GRID.glob("*/*/done.json")}
    kept = {run.run: run for run in records.read_all("yengikand2023", GRID / "records")}
    assert len(done) == RUNS, f"{len(done)} runs have finished, not {RUNS}"
    assert {told["run"] for told in done.values()} == set(kept), "runs and records differ"
    states = Counter(told("squeue", "--noheader", "--states=all", "--format=%T").split())
    # Beside the runs there is the check of the data; it was killed once, and so was one run.
    assert states["COMPLETED"] == RUNS + 1, f"jobs ended as {dict(states)}"
    assert sum(states.values()) == RUNS + 3, f"jobs ended as {dict(states)}"
    for folder in done:
        left = {path.name for path in folder.iterdir()}
        assert left == {"notebook.ipynb", "done.json"}, f"left in {folder}: {sorted(left)}"

    again = GRID / "undisturbed"
    asked = json.loads(told(sys.executable, "tools/reproduce.py", "--dry-run", "--json", "--smoke"))
    (run,) = (run for run in asked if run["name"] == killed.name)
    command = [sys.executable, "tools/train.py", json.dumps(run), "--build", again]
    subprocess.run([*command, "--results", again / "records"], cwd=ROOT, check=True)
    name = done[killed]["run"]
    whole = records.read(again / "records" / "yengikand2023" / f"{name}.json")
    assert kept[name].metrics == whole.metrics, f"{name}: other numbers than an undisturbed run"


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
    main()
