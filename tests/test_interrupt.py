"""Ctrl-C at the very beginning."""

import subprocess
import sys

PRESSED_WHILE_IMPORTING = """\
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "workflows.terminal":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.{handler})
sys.meta_path.insert(0, Finder())
sys.argv = ["ionsieve", "--help"]
from workflows.entry import main
main()
"""


def pressed(handler: str) -> subprocess.CompletedProcess[str]:
    code = PRESSED_WHILE_IMPORTING.format(handler=handler)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_interrupted_while_importing():
    done = pressed("default_int_handler")
    assert (done.returncode, done.stderr) == (3, "interrupted before anything was begun\n")


def test_an_ignored_interrupt_stays_ignored():
    done = pressed("SIG_IGN")
    assert done.returncode == 0, done.stderr
    assert "one YAML file in" in done.stdout
