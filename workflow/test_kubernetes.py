"""Send short runs through the Kubernetes profile, take two pods away in the middle, check them all.

    make test-kubernetes        Linux, as root; some minutes; fetches packages into build/kubernetes
    make test-kubernetes-real   x86-64 besides, with apt-get, Python 3.11 and control groups of
                                version 1; ten minutes after another ten to build it; 16 GB below
                                build/kubernetes meanwhile

The profile as it is shipped, by the commands in its first lines, goes through Snakemake's own
plugins for Kubernetes and S3, with moto for the bucket. First against a stand-in for the API server
that checks each job and runs its pod as a process of this machine; then against a Kubernetes of two
nodes with an image that they pull, a network, a scheduler, a claimed volume and limits. There one
node is lost with all that runs on it, and its pods get others on the other node.

The runs are three of the tests' small paper on made pictures, one of which starts from another and
one from what is prepared before; then a chapter of the book in its smoke profile, as if on a GPU.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path

import kubernetes_cluster
from kubernetes_stand_in import Cluster, Pod, contained
from test_slurm import free_port

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "kubernetes"
PROJECT, VOLUME, PODS, SENDER, VENV, IMAGE, WHEELS = (
    FOLDER / n for n in ("project", "volume", "pods", "sender", "venv", "image", "wheels")
)
PROFILE = ROOT / "workflow" / "profiles" / "kubernetes" / "config.yaml"
TINY, CHAPTER = "tiny2026", "yengikand2023"
MEMORY = {"data": "4000M", "prepare": "3000M"}  # of the rules; a training says its own
PATIENCE = 1800  # seconds for a grid
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# What the image gives a pod, which sees the project's folder only in what is sent with its job.
INSIDE = {
    "PATH": f"{IMAGE}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/tmp",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": str(WHEELS),
    "EPOCH_SECONDS": "2",
}
# The same of a real one, and what is in it besides a small Debian.
INSIDE_IMAGE = INSIDE | {
    "PATH": "/opt/companion/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "PIP_FIND_LINKS": "/wheels",
}
LAYER = FOLDER / "layer.tar"
PROJECT_VENV = ".venv"
PROGRAMS = kubernetes_cluster.Programs(FOLDER / "programs")
READ_ONLY = {str(ROOT): (ROOT, "ro")}


def main() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        sys.exit("make test-kubernetes mounts folders for its pods, which takes Linux and root.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    plugins, environment, command = instructions()
    install(plugins)
    if "--in-namespaces" in sys.argv:
        sys.exit("\n".join(trial(real_cluster(command), environment, command)) or None)
    before = surroundings()
    remove_what_was_tried()
    make_project()
    if "--real" in sys.argv:
        failures = in_namespaces()
    else:
        training = {"memory": "500M"}  # as tests/tiny_project.py says
        cluster = stand_in(training)
        failures = trial(cluster, environment, command, training)
    if surroundings() != before or str(FOLDER) in Path("/proc/mounts").read_text():
        failures.append("Something is left behind outside build/.")
    if failures:
        sys.exit("\n".join(failures))
    remove_what_was_tried()


def stand_in(training: dict[str, str]) -> Cluster:
    """A cluster that takes only jobs that ask for what they have to; see `wrong`."""
    room = len(os.sched_getaffinity(0))
    asked = partial(wrong, training=training)
    return Cluster(PODS, INSIDE, READ_ONLY, {"companion": VOLUME}, room, asked)


def real_cluster(command: list[str]) -> kubernetes_cluster.Cluster:
    """A cluster whose nodes have no four cores, in namespaces of its own."""
    place = command.index("--default-storage-prefix")
    command[place:place] = ["--set-threads", "prepare=1"]  # as the profile says
    cluster = kubernetes_cluster.Cluster(PODS, PROGRAMS, {"companion": VOLUME})
    cluster.start([LAYER], INSIDE_IMAGE)
    return cluster


def in_namespaces() -> list[str]:
    """This test with a real cluster, which goes with its mounts, processes and network."""
    PROGRAMS.get()
    # What `make setup` has installed is the image's, but for the project itself.
    moved = f"s,^{PROJECT_VENV},opt/companion,;s,^{WHEELS.relative_to(ROOT)},wheels,"
    site = Path(sysconfig.get_path("purelib")).relative_to(ROOT)
    kernels = f"{PROJECT_VENV}/share/jupyter/kernels"
    words = ["tar", "-C", ROOT, "--exclude=__editable__*", "--transform", moved, "-cf", LAYER]
    subprocess.run([*words, site, kernels, WHEELS.relative_to(ROOT)], check=True)
    own = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    again = [sys.executable, __file__, "--real", "--in-namespaces"]
    try:
        # A shell, since somebody has to wait for the processes that lose their parents.
        status = subprocess.run([*own, "sh", "-c", '"$@"; exit $?', "sh", *again]).returncode
    finally:
        LAYER.unlink()
        kubernetes_cluster.remove_cgroups()
    return ["See above."] if status else []


def trial(
    cluster: Cluster | kubernetes_cluster.Cluster,
    environment: dict[str, str],
    command: list[str],
    training: dict[str, str] | None = None,
) -> list[str]:
    """Both grids on a cluster; what is not as it has to be, a sentence each.

    Args:
        cluster: one that runs; ended here.
        environment, command: of Snakemake, as the profile tells them.
        training: what a training has to ask for, changed here as grids change.
    """
    real = isinstance(cluster, kubernetes_cluster.Cluster)
    host, port = (kubernetes_cluster.HOST if real else "127.0.0.1"), str(free_port())
    bucket = f"http://{host}:{port}"
    (FOLDER / "kubeconfig").write_text(cluster.kubeconfig())
    words = [VENV / "bin/python", "-m", "moto.server", "--host", host, "--port", port]
    with (FOLDER / "moto.log").open("w") as log:
        moto = subprocess.Popen(words, stdout=log, stderr=log)
    environment |= {"KUBECONFIG": f"{FOLDER}/kubeconfig", "PYTHONPATH": "/project"}
    environment |= {"SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": bucket}
    try:
        # What those begin from comes by itself.
        words = [f"paper={TINY}", "seeds=0", "only=jaffe-other jaffe-blurred"]
        lost, killed = send(cluster, [*command, *words], environment, 2)
        if training:
            training |= {"memory": "3000M", "nvidia.com/gpu": "1"}
        words = [f"paper={CHAPTER}", "seeds=0", "only=synthetic-epochs1", "smoke=true", "gpu=1"]
        send(cluster, [*command, *words], environment, 0)
        failures = check(cluster, lost, killed, bucket, environment)
    finally:
        cluster.end()
        moto.terminate()
        moto.wait()
    if not failures:
        where = "on a Kubernetes of two nodes" if real else "against a stand-in for Kubernetes"
        told = "the two runs that were cut off have the numbers of whole ones."
        print(f"{len(cluster.pods)} pods ran {where}; {told}", flush=True)
    return failures


def remove_what_was_tried() -> None:
    for folder in (PROJECT, VOLUME, PODS, SENDER):
        shutil.rmtree(folder, ignore_errors=True)


def surroundings() -> list[str]:
    return sorted({*os.listdir("/"), *os.listdir(ROOT)} - {"build"})


def make_project() -> None:
    """The small paper and a chapter in a folder with git, and the volume with the data."""
    from tiny_project import BLURRED, make

    make(PROJECT, BLURRED)
    for name in (f"notebooks/{CHAPTER}.ipynb", f"data_manifests/published/{CHAPTER}.yaml"):
        shutil.copy(ROOT / name, PROJECT / name)
    VOLUME.mkdir()
    (PROJECT / "data").rename(VOLUME / "data")
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", "-C", PROJECT, *words], check=True)


def instructions() -> tuple[list[str], dict[str, str], list[str]]:
    """The packages, the environment and Snakemake's words that the profile's first lines tell."""
    told = "\n".join(re.findall(r"^#   (.+)$", PROFILE.read_text(), re.M)).replace("\\\n", " ")
    plugins, environment, command = [], {**INSIDE, "PATH": f"{VENV}/bin:{INSIDE['PATH']}"}, []
    for line in told.splitlines():
        match shlex.split(line):
            case ["pip", "install", *words]:
                plugins = words
            case ["export", *words]:
                environment |= dict(word.split("=", 1) for word in words)
            case ["snakemake", *words]:
                command = [word for word in words if not word.startswith(("paper=", "gpu="))]
    return plugins, environment, command


def install(plugins: list[str]) -> None:
    """Two venvs above the project's, one with the plugins and moto; and what pods fetch."""
    wanted = [*plugins, "moto[s3]", "flask", "flask-cors"]
    lines = (ROOT / "requirements.lock").read_text().splitlines(keepends=True)
    # The plugins are to find what is locked, but boto3 wants python-dateutil below 3.
    lock = "".join(line for line in lines if not line.startswith("python-dateutil"))
    project = sysconfig.get_path("purelib")
    done, asked = FOLDER / "installed.txt", f"{project}\n{wanted}\n{lock}"
    if done.exists() and done.read_text() == asked:
        return
    print(f"Installing {', '.join(wanted)} into {VENV.relative_to(ROOT)}", flush=True)
    (FOLDER / "constraints.txt").write_text(lock)
    shutil.rmtree(WHEELS, ignore_errors=True)
    for venv in (VENV, IMAGE):
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    pip = [VENV / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    locked = ["--constraint", FOLDER / "constraints.txt"]
    subprocess.run([*pip, "install", *locked, *wanted], check=True)
    subprocess.run([*pip, "download", "--dest", WHEELS, "snakemake-storage-plugin-s3"], check=True)
    for own in FOLDER.glob("*/lib/python*/site-packages"):
        (own / "project.pth").write_text(project)
    done.write_text(asked)


def wrong(job: dict, training: dict[str, str]) -> list[str]:
    """What a job lacks for the rule that it is for; `training` is what one has to ask for."""
    pod, spec = Pod(job, PODS), job["spec"]["template"]["spec"]
    asked = training if pod.rule == "train" else {"memory": MEMORY[pod.rule]}
    cores = 4 if pod.rule == "prepare" else 1
    expected = {"requests": {"cpu": f"{950 * cores}m", **asked}}
    if pod.rule == "train":
        expected["limits"] = {"cpu": "1000m", **asked}
    found = []
    if pod.container["resources"] != expected:
        found.append(f"{pod.rule} asks for {pod.container['resources']}, not {expected}.")
    if pod.container["image"] != "registry.example.org/companion":
        found.append(f"{pod.rule} has the image {pod.container['image']}.")
    claims = {
        v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in spec["volumes"]
    }
    mounts = {m["mountPath"]: claims[m["name"]] for m in pod.container["volumeMounts"]}
    if mounts.get("/companion") != "companion":
        found.append(f"{pod.rule} does not have the volume companion at /companion.")
    return found


def here(*command: str | Path) -> list[str]:
    """A command in the project's folder on a machine that has the volume."""
    places = {**READ_ONLY, "/project": (PROJECT, "rw"), "/companion": (VOLUME, "rw")}
    return contained(SENDER, places, "/project", [VENV / "bin/python", *command])


def send(cluster: Cluster, words: list[str], environment: dict, losses: int) -> list[Pod]:
    """Run Snakemake to its end, and take away one pod with its node, the next one alone."""
    print(f"Sending {' '.join(words[words.index('--config') + 1 :])}", flush=True)
    begun, taken, log = time.monotonic(), [], FOLDER / f"snakemake-{len(cluster.pods)}.log"
    with log.open("w") as file:
        command = here("-m", "snakemake", *words)
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        while process.poll() is None:
            time.sleep(0.5)
            for pod in cluster.pods:
                names = [lost.name for lost in taken]
                if len(taken) < losses and pod.name not in names and in_the_middle(pod):
                    pod.kill() if taken else pod.remove()
                    taken.append(pod)
            if time.monotonic() - begun > PATIENCE:
                sys.exit(f"The grid did not finish within {PATIENCE} seconds; see {log}")
    finally:
        process.kill()
    if process.returncode or cluster.refused:
        told = f"Snakemake ended with status {process.returncode}; see {log} and {PODS}"
        sys.exit("\n".join([*cluster.refused, told]))
    if len(taken) < losses:
        sys.exit("No pod was caught in the middle of its training.")
    return taken


def in_the_middle(pod: Pod) -> bool:
    """Whether a pod's training has whole epochs behind it and before it."""
    logs = (pod.folder / "workdir").glob(f".snakemake/storage/*/*/*/*/*/*/{pod.name}/running.log")
    told = [re.findall(r"epoch (\d)/6", log.read_text(errors="replace")) for log in logs]
    return pod.running and any(epochs and epochs[-1] in "34" for epochs in told)


def check(cluster: Cluster, lost: Pod, killed: Pod, bucket: str, environment: dict) -> list[str]:
    """What is not as it has to be, a sentence each."""
    from fer_utils import records

    found = []
    rules = Counter(pod.rule for pod in cluster.pods)
    real = isinstance(cluster, kubernetes_cluster.Cluster)
    expected = Counter({"data": 2, "prepare": 1, "train": 6})
    # A lost node takes others along, and a real cluster gives their jobs new pods.
    if rules != expected and not (real and rules > expected):
        found.append(
            f"There were pods for {dict(rules)}; of six trainings two are second attempts."
        )
    if any(pod.running for pod in cluster.pods) or cluster.secrets:
        found.append("A pod or a secret is left in the cluster.")
    # Where a pod is gone and no other comes, the plugin asks its user to look at the job.
    if [*cluster.jobs] != ([] if real else [lost.job]):
        found.append(f"The jobs {[*cluster.jobs]} are left in the cluster.")
    if (VOLUME / "cache" / "calls.txt").read_text() != "0 prepare\n1 prepare\n":
        found.append("What was prepared was not found in the cache on the volume.")

    names = {pod.name for pod in cluster.pods if pod.rule == "train"}
    listed = urllib.request.urlopen(f"{bucket}/bucket?list-type=2").read().decode()
    keys = re.findall("<Key>(companion/build/[^/]+/[^/]+/[^/]+/[^/]+)</Key>", listed)
    files = {f"{name}/{file}" for name in names for file in ("done.json", "notebook.ipynb")}
    if {"/".join(key.split("/")[-2:]) for key in keys} != files:
        found.append(f"The bucket has {keys}.")
    kept = {
        run.run: run
        for paper in (TINY, CHAPTER)
        for run in records.read_all(paper, VOLUME / "results")
    }
    if Counter(run.paper for run in kept.values()) != {TINY: 3, CHAPTER: 1}:
        found.append(f"The volume has the records {sorted(kept)}.")
    left = [str(path) for path in PROJECT.glob("build/*grid/*")]
    if left:
        found.append(f"Files came past the bucket: {left}.")

    command = here("tools/reproduce.py", "--dry-run", "--json", "--paper", TINY, "--seeds", "0")
    asked = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    for run in json.loads(asked):
        if run["name"] in (lost.name, killed.name):
            alone = f"/companion/{run['name']}"
            words = ["--build", f"{alone}/build", "--results", alone]
            again = here("tools/train.py", json.dumps(run), *words)
            subprocess.run(again, env=environment, stdout=subprocess.DEVNULL, check=True)
            (whole,) = records.read_all(TINY, VOLUME / run["name"])
            own = kept[whole.run]
            if own.metrics != whole.metrics:
                found.append(f"{run['name']} has other numbers than an undisturbed run.")
            if own.timings["this_call"] >= own.timings["training"]:
                found.append(f"{run['name']} began again instead of going on.")
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
