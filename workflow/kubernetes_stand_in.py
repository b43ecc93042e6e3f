"""A stand-in for Kubernetes' API server: as much of it as Snakemake's executor plugin calls.

It refuses a job that a real server or the test would not have, and runs the pod of every other one
as a process of this machine. Nothing here pulls an image or holds a pod to what it asked for.
"""

import base64
import json
import re
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Places = dict[str, tuple[Path, str]]

# "$1" becomes the root, with this machine's folders in it and, up to "--", others in their places.
# The mounts are this process's own and go with it.
CONTAINER = """
cd "$1" && shift
for folder in /*; do
  if [ -L "$folder" ]; then cp -P "$folder" .
  elif [ -d "$folder" ]; then mkdir -p ".$folder" && mount --rbind "$folder" ".$folder"; fi
done
mount -t tmpfs tmpfs ./tmp
while [ "$1" != -- ]; do
  mkdir -p ".$2" && mount --bind "$1" ".$2" && mount -o "remount,bind,$3" ".$2" && shift 3
done
shift && exec chroot . sh -c 'cd "$0" && exec "$@"' "$@"
"""


def contained(root: Path, places: Places, working_dir: str, command: list) -> list[str]:
    """A command in mounts and processes of its own: whoever kills it kills all that it started.

    Args:
        root: an empty folder, or one to be made.
        places: other folders that the command finds, each with "ro" or "rw".
        working_dir: of the command.
        command: sees this machine's files beside them, but for /tmp.
    """
    root.mkdir(parents=True, exist_ok=True)
    words = [word for path, (folder, mode) in places.items() for word in (folder, path, mode)]
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words = [*own, "sh", "-ec", CONTAINER, "sh", root, *words, "--", working_dir, *command]
    return list(map(str, words))


class Refused(Exception):
    """An answer that is an error: its status, and why."""


class Pod:
    """The one pod of a job, and the process that it is here."""

    def __init__(self, job: dict, folder: Path) -> None:
        self.folder, self.job = folder, job["metadata"]["name"]
        self.container = job["spec"]["template"]["spec"]["containers"][0]
        told = self.container["args"][-1]
        self.rule = re.search(r"--allowed-rules (\w+)", told)[1]
        self.name = re.search(r"--target-jobs \S*[:,]name=([\w.-]+)|$", told)[1]  # of a run
        self.exit_code: int | None = None
        self.process: subprocess.Popen | None = None
        self.gone = False

    def run(self, places: Places, environment: dict, slots: threading.Semaphore) -> None:
        command = self.container["command"] + self.container["args"]
        words = contained(self.folder / "root", places, self.container["workingDir"], command)
        with slots, (self.folder / "log").open("w") as log:
            if not self.gone:
                self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
                status = self.process.wait()
                self.exit_code = status if status >= 0 else 128 - status

    @property
    def running(self) -> bool:
        return self.process is not None and self.exit_code is None

    def kill(self) -> None:
        """What lack of memory does to it."""
        if self.running:
            self.process.kill()

    def remove(self) -> None:
        """What the loss of its node, or who deletes it, does to it."""
        self.gone = True
        self.kill()


class Cluster(ThreadingHTTPServer):
    """A node with room for some pods at once, and the API in front of it.

    Args:
        folder: for the pods.
        environment: that the image gives each.
        places: that each finds beside its volumes, see `contained`.
        claims: folders that are the persistent volumes.
        room: pods that run at once; others wait.
        wrong: what else is wrong with a job.
    """

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        places: Places,
        claims: dict[str, Path],
        room: int,
        wrong: Callable[[dict], list[str]],
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.environment, self.places = folder, environment, places
        self.claims, self.slots, self.wrong = claims, threading.Semaphore(room), wrong
        self.secrets: dict[str, dict[str, str]] = {}
        self.jobs: dict[str, Pod] = {}
        self.pods: list[Pod] = []  # of all jobs, deleted ones too
        self.refused: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self) -> None:
        for pod in self.pods:
            pod.remove()
        self.shutdown()

    def kubeconfig(self) -> str:
        here = {"cluster": {"server": f"http://127.0.0.1:{self.server_port}"}, "name": "here"}
        context = {"context": {"cluster": "here", "user": "me"}, "name": "here"}
        told = {"clusters": [here], "contexts": [context], "users": [{"name": "me", "user": {}}]}
        return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "here", **told})

    def answer(self, method: str, kind: str, name: str, query: dict, body: dict) -> dict | str:
        match method, kind:
            case "POST", "secrets":
                told = {key: base64.b64decode(value) for key, value in body["data"].items()}
                self.secrets[body["metadata"]["name"]] = {k: v.decode() for k, v in told.items()}
            case "DELETE", "secrets" if name in self.secrets:
                del self.secrets[name]
            case "POST", "jobs":
                self.create(body)
            case "GET", "jobs" if name.removesuffix("/status") in self.jobs:
                code = self.jobs[name.removesuffix("/status")].exit_code
                status = {"failed": int(code not in (None, 0)), "succeeded": int(code == 0)}
                return {"metadata": {"name": name}, "status": status}
            case "DELETE", "jobs" if name in self.jobs:
                self.jobs.pop(name).remove()
            case "GET", "pods" if not name:
                job = query["labelSelector"][0].removeprefix("job-name=")
                pod = self.jobs.get(job)
                there = pod is not None and pod.process is not None and not pod.gone
                return {"kind": "PodList", "items": [described(job, pod)] if there else []}
            case "GET", "pods" if name.endswith("/log"):
                if "previous" in query:  # as a kubelet says of a container that never restarted
                    raise Refused(400, f"previous terminated container in pod {name} not found")
                return (self.jobs[name.removesuffix("/log")].folder / "log").read_text()
            case "DELETE", "pods" if name in self.jobs:
                self.jobs[name].remove()
            case _:
                raise Refused(404, f"{kind} {name!r} not found")
        return body

    def create(self, job: dict) -> None:
        name = job["metadata"]["name"]
        if found := [*self.malformed(job), *self.wrong(job)]:
            self.refused += [f"{name}: {told}" for told in found]
            raise Refused(422, "; ".join(found))
        pod = self.jobs[name] = Pod(job, self.folder / name)
        self.pods.append(pod)
        volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
        places = dict(self.places)
        for mount in pod.container["volumeMounts"]:
            claim = volumes[mount["name"]].get("persistentVolumeClaim")
            folder = self.claims[claim["claimName"]] if claim else pod.folder / mount["name"]
            folder.mkdir(parents=True, exist_ok=True)
            places[mount["mountPath"]] = folder, "rw"
        environment = dict(self.environment)
        for variable in pod.container.get("env", []):
            key = variable["valueFrom"]["secretKeyRef"]
            environment[variable["name"]] = self.secrets[key["name"]][key["key"]]
        threading.Thread(target=pod.run, args=(places, environment, self.slots)).start()

    def malformed(self, job: dict) -> list[str]:
        """Why a real server would not take a job, or not start its pod."""
        name, spec = job["metadata"]["name"], job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        volumes = {v["name"]: v.get("persistentVolumeClaim") for v in spec["volumes"]}
        found = []
        if not re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) or name in self.jobs:
            found.append("no new name of at most 63 small letters, digits and hyphens")
        if spec["restartPolicy"] not in ("Never", "OnFailure"):
            found.append(f"restart policy {spec['restartPolicy']}")
        if not container.get("image"):
            found.append("no image")
        if any(mount["name"] not in volumes for mount in container["volumeMounts"]) or any(
            claim and claim["claimName"] not in self.claims for claim in volumes.values()
        ):
            found.append("a volume that there is not")
        asked, limits = (container["resources"].get(kind, {}) for kind in ("requests", "limits"))
        if any(asked.get(key) != limits.get(key) for key in {*asked, *limits} if "/" in key):
            found.append("Limit must be set for non overcommitable resources")
        return found


def described(name: str, pod: Pod) -> dict:
    ended = {"terminated": {"exitCode": pod.exit_code}} if pod.exit_code is not None else {}
    status = {"name": "snakemake", "image": pod.container["image"], "imageID": "", "state": ended}
    status |= {"ready": pod.running, "restartCount": 0}
    return {"metadata": {"name": name}, "status": {"containerStatuses": [status]}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        address = urlsplit(self.path)
        path = re.fullmatch(r"/(?:api|apis/batch)/v1/namespaces/default/(\w+)/?(.*)", address.path)
        try:
            kind, name = path.groups() if path else ("", address.path)
            code = 200
            told = self.server.answer(self.command, kind, name, parse_qs(address.query), body)
        except Refused as refused:
            code, why = refused.args
            told = {"kind": "Status", "status": "Failure", "message": why, "code": code}
        content = (told if isinstance(told, str) else json.dumps(told)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = handle_any

    def log_message(self, *_) -> None:
        pass
