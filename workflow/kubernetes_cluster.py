"""A real Kubernetes of two nodes on this machine: Debian's, built from its source.

Etcd, the API server, its controllers, the scheduler, a registry and for each node a kubelet and
containerd run in mounts, processes and a network of their own (`in_namespaces`, test_kubernetes.py)
and go with them. Nothing is installed: what Debian's packages hold lies below the given folder.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

HOST = "10.88.0.1"  # this machine, as pods see it
REGISTRY = f"{HOST}:5000"
CGROUPS = Path("/sys/fs/cgroup")
PAUSE = ["/bin/sleep", "infinity"]  # what holds a pod's network
NODES = {"node-a": 10250, "node-b": 10350}  # with the ports of their kubelets
PACKAGES = (
    *("etcd-server", "containerd", "runc", "libseccomp2", "containernetworking-plugins"),
    *("docker-registry", "debootstrap", "rsync", "libxxhash0", "libpopt0"),
    *("golang-1.19-go", "golang-1.19-src"),
)
IMAGE = "python3,python3-venv,libgl1,libglib2.0-0"  # the last two for opencv-python
NEEDED = ("apt-get", "dpkg-deb", "ip", "make", "openssl", "wget")
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")

SOURCES = """\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} bookworm main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} bookworm main
"""
MIRROR = "http://deb.debian.org/debian"

KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: /{name}
failSwapOn: false
port: {port}
healthzPort: 0
nodeStatusUpdateFrequency: 2s
evictionHard: {{memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}}
"""

# May not take anything's memory last, which some machines do not let even root do.
CONTAINERD = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example.org/pause"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{debian}/usr/lib/cni"
    conf_dir = "{cluster}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{cluster}/hosts"
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/16", "rangeStart": "10.88.1.0"}]],
                "routes": [{"dst": "0.0.0.0/0", "gw": HOST}],
            },
        }
    ],
}


class Programs:
    """What Debian has of Kubernetes and around it, below a folder.

    Args:
        folder: where it is left, 2 GB of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.debian = folder, folder / "debian"
        self.kubernetes = folder / "kubernetes"

    def get(self) -> None:
        """Fetch Debian's packages and build Kubernetes, unless that is done; ten minutes."""
        if not hierarchies():
            sys.exit("A real Kubernetes is tried with control groups of version 1 alone.")
        if (self.folder / "done").exists():
            return
        if os.uname().machine != "x86_64" or sys.version_info[:2] != (3, 11):
            sys.exit("A real Kubernetes is built and run on x86-64, for Python 3.11 alone.")
        if missing := [name for name in NEEDED if not shutil.which(name)]:
            sys.exit(f"For a real Kubernetes, install what brings {' and '.join(missing)}.")
        for folder in (self.debian, self.folder / "lists" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        print(f"Building Kubernetes from Debian's source in {self.folder}", flush=True)
        (self.folder / "sources.list").write_text(SOURCES.format(mirror=MIRROR))
        self.apt("update", "-qq")
        self.apt("download", "-qq", *PACKAGES)
        self.apt("source", "-qq", "--download-only", "kubernetes")
        for package in self.folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, self.debian], check=True)
        if not all((self.kubernetes / name).exists() for name in PROGRAMS):
            self.build()
        self.base()
        (self.folder / "done").touch()

    def apt(self, *words: str) -> None:
        """Apt with lists and sources of its own."""
        places = {
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::Status": "/dev/null",  # what is installed here tells nothing
            "Dir::Cache": self.folder,
            "APT::Sandbox::User": "root",
        }
        options = [word for key, value in places.items() for word in ("-o", f"{key}={value}")]
        subprocess.run(["apt-get", *options, *words], cwd=self.folder, check=True)

    def build(self) -> None:
        """Kubernetes' own makefile, where Go of that time looks for its packages."""
        source = self.folder / "go" / "src" / "k8s.io" / "kubernetes"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        (archive,) = self.folder.glob("kubernetes_*.orig.tar.gz")
        words = ["tar", "-xf", archive, "-C", source, "--strip-components", "1"]
        subprocess.run(words, check=True)
        version = re.search(r"really([\d.]+)\.orig", archive.name)[1]
        words = " ".join(f"cmd/{name}" for name in PROGRAMS)
        environment = {
            **self.environment,
            "PATH": f"{self.debian}/usr/lib/go-1.19/bin:{self.environment['PATH']}",
            "GOROOT": f"{self.debian}/usr/lib/go-1.19",
            "GOPATH": str(self.folder / "go"),
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
            "KUBE_GIT_VERSION": f"v{version}",
            "KUBE_GIT_MAJOR": version.split(".")[0],
            "KUBE_GIT_MINOR": version.split(".")[1],
            "KUBE_GIT_COMMIT": "debian",
            "KUBE_GIT_TREE_STATE": "archive",
        }
        with (self.folder / "build.log").open("w") as log:
            made = subprocess.run(
                ["make", f"WHAT={words}"], cwd=source, env=environment, stdout=log, stderr=log
            )
        if made.returncode:
            sys.exit(f"Kubernetes was not built; see {log.name}")
        self.kubernetes.mkdir(exist_ok=True)
        for name in PROGRAMS:
            shutil.copy(source / "_output" / "bin" / name, self.kubernetes)
        shutil.rmtree(self.folder / "go")

    def base(self) -> None:
        """A small Debian with Python, for the image."""
        root = self.folder / "base"
        shutil.rmtree(root, ignore_errors=True)
        words = ["--variant=minbase", f"--include={IMAGE}", "bookworm", root, MIRROR]
        environment = self.environment | {"DEBOOTSTRAP_DIR": f"{self.debian}/usr/share/debootstrap"}
        command = [self.debian / "usr/sbin/debootstrap", *words]
        with (self.folder / "debootstrap.log").open("w") as log:
            subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)
        words = ["chroot", root, "python3", "-m", "venv", "/opt/companion"]
        subprocess.run(words, check=True)
        subprocess.run(["tar", "-C", root, "-cf", self.folder / "base.tar", "."], check=True)
        shutil.rmtree(root)

    @cached_property
    def environment(self) -> dict[str, str]:
        """With which programs of Debian's packages find each other."""
        places = ("usr/sbin", "usr/bin", "sbin", "bin")
        own = ":".join(f"{self.debian}/{place}" for place in places)
        libraries = f"{self.debian}/usr/lib/x86_64-linux-gnu:{self.debian}/lib/x86_64-linux-gnu"
        path = f"{own}:{os.environ['PATH']}:/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": libraries}


class Pod:
    """A pod that was seen in the cluster, as it was last."""

    def __init__(self, cluster: "Cluster", told: dict) -> None:
        self.cluster, self.uid = cluster, told["metadata"]["uid"]
        self.job = told["metadata"]["labels"]["job-name"]
        self.node = ""
        (container,) = told["spec"]["containers"]
        words = container["args"][-1]
        self.rule = re.search(r"--allowed-rules (\w+)", words)[1]
        self.name = re.search(r"--target-jobs \S*[:,]name=([\w.-]+)|$", words)[1]  # of a run
        self.running, self.gone = False, False

    def see(self, told: dict) -> None:
        self.node = told["spec"].get("nodeName", "")
        states = [s["state"] for s in told["status"].get("containerStatuses", [])]
        self.running = any("running" in state for state in states)

    @property
    def folder(self) -> Path:
        """Has its volumes that are nobody else's."""
        pods = self.cluster.folder / self.node / "kubelet" / "pods"
        return pods / self.uid / "volumes" / "kubernetes.io~empty-dir"

    def kill(self) -> None:
        """What lack of memory does to it: its processes end, and its node sees that."""
        for group in (CGROUPS / "memory" / self.node).glob(f"kubepods/**/pod{self.uid}/*"):
            for process in processes_of(group):
                words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
                if words[:2] != PAUSE:
                    os.kill(process, signal.SIGKILL)

    def remove(self) -> None:
        """Its node is lost."""
        self.cluster.lose(self.node)


class Cluster:
    """Two nodes and the API in front of them, with the names of the stand-in's.

    Args:
        folder: for all that it writes.
        programs: what runs.
        claims: folders that are the persistent volumes.
    """

    def __init__(self, folder: Path, programs: Programs, claims: dict[str, Path]) -> None:
        self.folder, self.programs, self.claims = folder, programs, claims
        self.processes: dict[str, subprocess.Popen] = {}
        self.seen: dict[str, Pod] = {}
        self.refused: list[str] = []
        self.ended = threading.Event()
        self.certificate = folder / "certificates" / "apiserver.crt"

    def start(self, image: list[Path], environment: dict[str, str]) -> None:
        """All of it, with two nodes that take jobs.

        Args:
            image: layers above the small Debian.
            environment: that the image gives each pod.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in ("cni", "hosts/registry.example.org"):
            (self.folder / folder).mkdir(parents=True)
        self.network()
        self.control()
        self.registry(image, environment)
        for name, port in NODES.items():
            self.add_node(name, port)
        self.wait("nodes", lambda: len(self.ready()) == len(NODES))
        for name, folder in self.claims.items():
            self.volume(name, folder)
        for name in NODES:  # as the documentation says a node is told that it has one
            gpu = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
            self.ask("PATCH", f"/api/v1/nodes/{name}/status", gpu)
        threading.Thread(target=self.watch, daemon=True).start()

    def network(self) -> None:
        for command in (
            "mount --make-rshared /",
            "mount -t tmpfs tmpfs /run",
            "ip link set lo up",
            "ip link add pods type bridge",
            f"ip addr add {HOST}/16 dev pods",
            "ip link set pods up",
            "ip route add default dev pods",
        ):
            subprocess.run(command.split(), check=True)
        Path("/run/netns").mkdir()
        network = NETWORK["plugins"][0]
        network["ipam"]["dataDir"] = str(self.folder / "addresses")
        (self.folder / "cni" / "pods.conflist").write_text(json.dumps(NETWORK))
        (self.folder / "hosts/registry.example.org/hosts.toml").write_text(
            f'[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
        )

    def control(self) -> None:
        """The API server with what it keeps, its controllers and the scheduler."""
        folder = self.folder
        subprocess.run(["openssl", "genrsa", "-out", folder / "key"], check=True, stderr=-3)
        (folder / "tokens").write_text('secret,admin,admin,"system:masters"\n')
        (folder / "kubeconfig").write_text(self.kubeconfig())
        self.run("etcd", "etcd", f"--data-dir={folder}/etcd")
        self.run(
            "kube-apiserver",
            self.programs.kubernetes / "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--advertise-address={HOST}",
            f"--cert-dir={folder}/certificates",
            f"--token-auth-file={folder}/tokens",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder}/key",
            f"--service-account-key-file={folder}/key",
            "--kubelet-preferred-address-types=InternalIP",
            "--default-not-ready-toleration-seconds=10",
            "--default-unreachable-toleration-seconds=10",
        )
        self.wait("API server", lambda: self.ask("GET", "/readyz") == "ok")
        known = [f"--kubeconfig={folder}/kubeconfig", "--leader-elect=false"]
        self.run(
            "kube-controller-manager",
            self.programs.kubernetes / "kube-controller-manager",
            *known,
            f"--service-account-private-key-file={folder}/key",
            f"--root-ca-file={self.certificate}",
            f"--cert-dir={folder}/controllers",
            "--node-monitor-grace-period=20s",
        )
        words = [*known, f"--cert-dir={folder}/scheduler"]
        self.run("kube-scheduler", self.programs.kubernetes / "kube-scheduler", *words)

    def registry(self, image: list[Path], environment: dict[str, str]) -> None:
        """A registry with the image, and with the one that every pod has besides."""
        kept = {"filesystem": {"rootdirectory": str(self.folder / "registry")}}
        told = {"version": 0.1, "storage": kept, "http": {"addr": REGISTRY}}
        (self.folder / "registry.yml").write_text(json.dumps(told))
        self.run("registry", "docker-registry", "serve", self.folder / "registry.yml")
        self.wait("registry", lambda: answer("GET", f"http://{REGISTRY}/v2/") is not None)
        base = self.programs.folder / "base.tar"
        variables = [f"{name}={value}" for name, value in environment.items()]
        push("companion", [base, *image], {"Env": variables})
        push("pause", [base], {"Entrypoint": PAUSE})

    def add_node(self, name: str, port: int) -> None:
        folder = self.folder / name
        folder.mkdir()
        for hierarchy in hierarchies():
            (hierarchy / name).mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new one
                if (hierarchy / file).exists():
                    (hierarchy / name / file).write_text((hierarchy / file).read_text())
        words = {"folder": folder, "cluster": self.folder, "debian": self.programs.debian}
        (folder / "containerd.toml").write_text(CONTAINERD.format(**words))
        (folder / "kubelet.yaml").write_text(KUBELET.format(name=name, port=port))
        words = ["containerd", "--config", folder / "containerd.toml"]
        self.run(f"{name}/containerd", *words)
        self.wait(f"{name}'s containerd", (folder / "containerd.sock").exists)
        self.run(
            f"{name}/kubelet",
            self.programs.kubernetes / "kubelet",
            f"--kubeconfig={self.folder}/kubeconfig",
            f"--config={folder}/kubelet.yaml",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{folder}/containerd.sock",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/certificates",
            f"--hostname-override={name}",
            f"--node-ip={HOST}",
        )

    def volume(self, name: str, folder: Path) -> None:
        """A folder of this machine, claimed under a name; both nodes have it."""
        there = {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1G"},
            "hostPath": {"path": str(folder)},
        }
        claim = {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1G"}},
            "storageClassName": "",
            "volumeName": name,
        }
        named = {"apiVersion": "v1", "metadata": {"name": name}}
        self.ask("POST", "/api/v1/persistentvolumes", {**named, "spec": there})
        path = "/api/v1/namespaces/default/persistentvolumeclaims"
        self.ask("POST", path, {**named, "spec": claim})

    def kubeconfig(self) -> str:
        here = {"server": f"https://{HOST}:6443", "certificate-authority": str(self.certificate)}
        context = {"context": {"cluster": "here", "user": "me"}, "name": "here"}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"cluster": here, "name": "here"}],
                "contexts": [context],
                "users": [{"name": "me", "user": {"token": "secret"}}],
            }
        )

    def run(self, name: str, *command: str | Path) -> None:
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            self.processes[name] = subprocess.Popen(
                list(map(str, command)), env=self.programs.environment, stdout=file, stderr=file
            )

    def wait(self, what: str, there: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not there():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    sys.exit(f"{name} has ended; see {self.folder}/{name}.log")
            if time.monotonic() > deadline:
                sys.exit(f"There is no {what} after {seconds} seconds; see {self.folder}/*.log")
            time.sleep(0.5)

    def ask(self, method: str, path: str, body: dict | list | None = None) -> dict | str | None:
        """The API's answer; None where it has none."""
        kind = "application/json-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": "Bearer secret", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        told = None
        if self.certificate.exists():  # the API server makes it when it starts
            context = ssl.create_default_context(cafile=self.certificate)
            told = answer(method, f"https://{HOST}:6443{path}", data, headers, context)
        if told is None:
            return None
        return json.loads(told[1]) if told[1].startswith(b"{") else told[1].decode()

    def items(self, kind: str) -> list[dict]:
        return (self.ask("GET", kind) or {}).get("items", [])

    def ready(self) -> list[str]:
        """Nodes that take pods."""
        return [
            node["metadata"]["name"]
            for node in self.items("/api/v1/nodes")
            for state in node["status"]["conditions"]
            if state["type"] == "Ready" and state["status"] == "True"
        ]

    def watch(self) -> None:
        while not self.ended.wait(0.5):
            found = self.pods_of()
            for told in found:
                uid = told["metadata"]["uid"]
                self.seen.setdefault(uid, Pod(self, told)).see(told)
            there = {told["metadata"]["uid"] for told in found}
            for pod in self.pods:
                pod.running &= pod.uid in there

    @property
    def pods(self) -> list[Pod]:
        """All that were ever seen."""
        return [*self.seen.values()]

    def pods_of(self, node: str | None = None) -> list[dict]:
        """As the API tells them now, of one node or all."""
        asked = "labelSelector=job-name" + (f"&fieldSelector=spec.nodeName={node}" if node else "")
        return self.items(f"/api/v1/namespaces/default/pods?{asked}")

    @property
    def jobs(self) -> list[str]:
        found = self.items("/apis/batch/v1/namespaces/default/jobs")
        return [job["metadata"]["name"] for job in found]

    @property
    def secrets(self) -> list[str]:
        """But for those of Kubernetes' own."""
        found = self.items("/api/v1/namespaces/default/secrets")
        return [s["metadata"]["name"] for s in found if s["type"] == "Opaque"]

    def lose(self, node: str) -> None:
        """All that runs there ends at once; then, as a provider does, it is taken off the list."""
        for name in (f"{node}/kubelet", f"{node}/containerd"):
            process = self.processes.pop(name)
            process.kill()
            process.wait()
        own = str(self.folder / node).encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if own in (process / "cmdline").read_bytes():  # containerd's, one a pod
                    os.kill(int(process.name), signal.SIGKILL)
        for process in processes_of(CGROUPS / "memory" / node):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.wait("loss of a node", lambda: node not in self.ready())
        self.wait("new place for its pods", lambda: all(map(is_leaving, self.pods_of(node))))
        time.sleep(15)  # in which nobody confirms that they have gone
        self.ask("DELETE", f"/api/v1/nodes/{node}")

    def end(self) -> None:
        """What runs ends; the rest goes with the namespaces."""
        self.ended.set()
        for process in self.processes.values():
            process.kill()
        for node in NODES:
            for process in processes_of(CGROUPS / "memory" / node):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def is_leaving(pod: dict) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def remove_cgroups() -> None:
    """What a cluster leaves outside its folder."""
    for node in NODES:
        for hierarchy in CGROUPS.iterdir():
            for folder, _, _ in os.walk(hierarchy / node, topdown=False):
                os.rmdir(folder)


def hierarchies() -> list[Path]:
    """Control groups of version 1, the one that Kubernetes of this age knows best."""
    found = [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]
    return [path for path in found if (path / "cgroup.procs").exists() and path.name != "unified"]


def processes_of(group: Path) -> Iterator[int]:
    """Of a control group and those below it, as this process numbers them."""
    for folder, _, _ in os.walk(group):
        for word in (Path(folder) / "cgroup.procs").read_text().split():
            if word != "0":
                yield int(word)


def answer(
    method: str,
    url: str,
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[dict, bytes] | None:
    """Headers and content; None where there is no good answer."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, context=context) as told:
            return dict(told.headers), told.read()
    except (urllib.error.URLError, ConnectionError):
        return None


def push(name: str, layers: list[Path], configuration: dict) -> None:
    """An image of these archives, as `latest`."""
    blobs = [push_blob(name, layer) for layer in layers]
    files = {"type": "layers", "diff_ids": [blob["digest"] for blob in blobs]}
    whole = {"architecture": "amd64", "os": "linux", "config": configuration, "rootfs": files}
    kind = "application/vnd.oci.image"
    told = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {
            "mediaType": f"{kind}.config.v1+json",
            **push_blob(name, json.dumps(whole).encode()),
        },
        "layers": [{"mediaType": f"{kind}.layer.v1.tar", **blob} for blob in blobs],
    }
    headers = {"Content-Type": told["mediaType"]}
    url = f"http://{REGISTRY}/v2/{name}/manifests/latest"
    if not answer("PUT", url, json.dumps(told).encode(), headers):
        sys.exit(f"The registry refused the image {name}.")


def push_blob(name: str, content: Path | bytes) -> dict:
    if isinstance(content, bytes):
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
    else:
        with content.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), content.stat().st_size
    blobs = f"http://{REGISTRY}/v2/{name}/blobs"
    begun = answer("POST", f"{blobs}/uploads/", b"")
    if begun is None:
        sys.exit(f"The registry takes nothing for {name}.")
    place = begun[0]["Location"]
    url = f"{place}{'&' if '?' in place else '?'}digest=sha256:{digest}"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    if isinstance(content, bytes):
        answer("PUT", url, content, headers)
    else:
        with content.open("rb") as file:
            answer("PUT", url, file, headers)
    return {"digest": f"sha256:{digest}", "size": size}
