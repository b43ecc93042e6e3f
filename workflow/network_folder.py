"""A folder on a network as several machines have it, each with a mount, cache and locks of its own.

The machines are namespaces of this one, the network is loopback, the file system GlusterFS, whose
client runs in user space: what holds the folder is asked over a socket by each machine for itself.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 3  # for which a machine believes what it was told of a file; NFS begins with as many

SERVER = """\
volume kept
  type storage/posix
  option directory {brick}
end-volume
volume locked
  type features/locks
  subvolumes kept
end-volume
volume /folder
  type performance/io-threads
  subvolumes locked
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address 127.0.0.1
  option transport.socket.listen-port {port}
  option auth.addr./folder.allow 127.0.0.1
  subvolumes /folder
end-volume
"""
CLIENT = """\
volume client
  type protocol/client
  option transport-type tcp
  option remote-host 127.0.0.1
  option remote-port {port}
  option remote-subvolume /folder
end-volume
"""
# In namespaces of its own: the machine's name, and the folders of the network over ours.
MACHINE = """\
set -e
name=$1 mount=$2; shift 2
hostname "$name"
while [ "$1" != -- ]; do mkdir -p "$mount/$(basename "$1")" "$1"
  mount --bind "$mount/$(basename "$1")" "$1"; shift; done
shift
exec "$@"
"""


def missing() -> list[str]:
    """Debian's packages that have to be installed."""
    programs = {"glusterfsd": "glusterfs-server", "glusterfs": "glusterfs-client"}
    return [package for name, package in programs.items() if not shutil.which(name)]


@contextmanager
def on_network(brick: Path, port: int, machines: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Serve a folder and mount it for each machine.

    Args:
        brick: where it is kept, on a file system with extended attributes.
        port: of loopback.
        machines: their names.

    Yields:
        Where each machine's mount is.
    """
    if not Path("/dev/fuse").exists():
        sys.exit("A folder on a network takes /dev/fuse here, which this system does not have.")
    brick.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="network-") as made:
        folder = Path(made)
        (folder / "server.vol").write_text(SERVER.format(brick=brick, port=port))
        (folder / "client.vol").write_text(CLIENT.format(port=port))
        words = ["glusterfsd", "--no-daemon", f"--volfile={folder}/server.vol"]
        words += [f"--log-file={folder}/server.log", f"--pid-file={folder}/server.pid"]
        server = subprocess.Popen(words)
        mounts = {name: folder / name for name in machines}
        try:
            _wait(port)
            for mount in mounts.values():
                mount.mkdir()
                client = ["glusterfs", f"--volfile={folder}/client.vol"]
                client += [f"--log-file={mount}.log", f"--pid-file={mount}.pid", str(mount)]
                client += [f"--{what}-timeout={SECONDS}" for what in ("attribute", "entry")]
                subprocess.run(client, check=True)
            yield mounts
        finally:
            for mount in mounts.values():
                if f" {mount} " in Path("/proc/mounts").read_text():
                    subprocess.run(["umount", "--lazy", mount], check=True)
            server.terminate()
            server.wait()


def lose(mount: Path) -> None:
    """End a machine's mount, as it ends with the machine; its locks go once the server notices."""
    os.kill(int(Path(f"{mount}.pid").read_text()), signal.SIGKILL)


def _wait(port: int) -> None:
    """Until something listens."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            sys.exit("There is no server of the network's folder after a minute.")
        time.sleep(0.2)


def command(machine: str, mount: Path, folders: Iterable[Path]) -> list[str]:
    """What comes before a command to run it on a machine.

    Args:
        machine: its name.
        mount: where it has the network's folder.
        folders: of ours, which the machine has from there, each under its last name.
    """
    apart = ["unshare", "--mount", "--uts", "--propagation=private"]
    return [*apart, "sh", "-c", MACHINE, "sh", machine, str(mount), *map(str, folders), "--"]
