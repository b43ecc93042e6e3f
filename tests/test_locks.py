"""The locks of `fer_utils.locks` and the tools, as a network file system grants them."""

import errno
import fcntl
import os
import socket
import stat
import threading

import pytest

from fer_utils import locks


@pytest.fixture
def nfs(monkeypatch):
    """`flock` as on a client of NFS, which tells no other machine of a folder: it locks nothing."""
    real = fcntl.flock

    def flock(file, operation):
        number = file if isinstance(file, int) else file.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            return
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(number, operation)

    monkeypatch.setattr("fcntl.flock", flock)


def test_the_second_of_two_machines_waits(nfs, tmp_path, capfd):
    entered = threading.Event()

    def second():
        with locks.alone_in(tmp_path, "Waiting for the first."):
            entered.set()

    other = threading.Thread(target=second)
    with locks.alone_in(tmp_path):
        other.start()
        while "Waiting for the first." not in capfd.readouterr().out:
            assert not entered.is_set()
        assert not entered.wait(0.2)
    other.join(30)
    assert entered.is_set()


def test_a_run_is_made_on_one_machine_only(nfs, tool, tmp_path):
    train, refused = tool("train"), "another process is at work in"
    with train.alone(tmp_path), pytest.raises(tool("execute").Failed, match=refused):
        train.alone(tmp_path).__enter__()
    with train.alone(tmp_path):  # the lock went with the first
        train.clear(tmp_path)  # and is nothing that was left over
        with pytest.raises(tool("execute").Failed, match=refused):
            train.alone(tmp_path).__enter__()


def test_a_grid_on_another_machine_is_told_with_its_name(nfs, tool, monkeypatch, tmp_path):
    jobs, path = tool("jobs"), tmp_path / "grid.lock"
    with monkeypatch.context() as there:
        there.setattr("socket.gethostname", lambda: "node7")
        elsewhere = jobs.locked(path, "make reproduce")
        elsewhere.__enter__()
    with pytest.raises(jobs.Busy, match=rf"\(process {os.getpid()} on node7\)"):
        jobs.locked(path, "make reproduce").__enter__()
    elsewhere.__exit__(None, None, None)
    with jobs.locked(path, "make reproduce"):
        assert path.read_text() == f"{os.getpid()} on {socket.gethostname()}"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_in_a_sentence(tool, monkeypatch, tmp_path, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="grants no locks") as raised, locks.alone_in(tmp_path):
        pytest.fail("two could be here")
    told = tool("train").sentence(raised.value)
    assert told.startswith("its file system grants no locks")
    assert told.endswith(f": {tmp_path / locks.NAME}")
