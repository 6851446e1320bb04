"""Which processes are taken for alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pixano_cli.inference_store import process
from pixano_cli.inference_store.process import host, is_alive, started


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])


def test_this_process_is_alive() -> None:
    since = started(os.getpid())
    assert is_alive(os.getpid())
    assert is_alive(os.getpid(), since)
    assert since is None or " " not in since


def test_killed_process_is_dead_before_its_parent_asks(sleeper: subprocess.Popen[bytes]) -> None:
    since = started(sleeper.pid)
    assert is_alive(sleeper.pid, since)
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(sleeper.pid, since)
    assert not is_alive(sleeper.pid)
    sleeper.wait()
    assert not is_alive(sleeper.pid, since)
    assert not is_alive(sleeper.pid)
    assert started(sleeper.pid) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say")
class TestWhereTheSystemSaysWhen:
    def test_another_process_with_the_number_of_a_dead_one(
        self, sleeper: subprocess.Popen[bytes]
    ) -> None:
        """Such are those of the last boot."""
        mine = started(os.getpid())
        assert mine is not None
        assert mine != started(sleeper.pid)
        assert not is_alive(sleeper.pid, mine)
        boot, _, ticks = mine.partition(":")
        assert not is_alive(os.getpid(), f"other-{boot}:{ticks}")
        sleeper.kill()
        sleeper.wait()

    def test_start_is_the_one_that_others_read(self) -> None:
        since = started(os.getpid())
        assert since is not None
        ticks = int(since.rpartition(":")[2]) / os.sysconf("SC_CLK_TCK")
        start = psutil.Process().create_time() - psutil.boot_time()
        assert abs(ticks - start) < 2

    def test_name_with_spaces_and_brackets(self, tmp_path: Path) -> None:
        program = tmp_path / ") Z 1 (x"
        program.symlink_to("/bin/sleep")
        sleeping = subprocess.Popen([program, "100"])
        try:
            assert is_alive(sleeping.pid, started(sleeping.pid))
        finally:
            sleeping.kill()
            sleeping.wait()


def test_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_status", lambda _: None)
    assert started(os.getpid()) is None
    assert is_alive(os.getpid())
    assert is_alive(os.getpid(), "any")
    assert not is_alive(2**22 + 1)


def test_host_is_the_same_in_a_child() -> None:
    script = "from pixano_cli.inference_store.process import host; print(host(), end='')"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout == host()
    assert os.uname().nodename in host()
