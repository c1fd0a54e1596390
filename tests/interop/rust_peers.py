"""Builds the Rust peer (peer/) in its two version sets, and drives a running one.

    set       iroh     docs     blobs    gossip    manifest          versions
    0.97      0.97.0   0.97.0   0.99.1   0.97.0    peer/0.97.toml    peer/0.97.lock
    newest    1.4.1    0.101.0  0.103.1  0.101.0   peer/newest.toml  peer/newest.lock

A Cargo.lock names the registry of the machine it was made on. The repository names none: `*.lock` holds one package a
line (name, version, checksum, the names it depends on), and the build asks cargo how it calls its registry and writes
the Cargo.lock from that. `cargo build --locked` then proves that the template is complete.

Builds live outside the checkout, in HKV_INTEROP_CACHE or ~/.cache/hero_codescalers/interop, in one folder for each
version of template and manifest. From nothing, both sets take about six minutes on two cores.

    rust_peers.py build SET                 prints the program's path
    rust_peers.py template SET CARGO_LOCK   writes peer/SET.lock from a Cargo.lock that builds
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SETS = ("0.97", "newest")
PEER_DIR = Path(__file__).resolve().parent / "peer"
RUST_VERSION_MIN = (1, 91)


class InteropError(Exception):
    """Something that the person who started the suite must read; the text says what to do."""


# ---- Building ------------------------------------------------------------------------------------------------------


def cache_dir():
    named = os.environ.get("HKV_INTEROP_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hero_codescalers" / "interop"


def check_cargo():
    if not shutil.which("cargo"):
        raise InteropError("cargo is not on PATH; the Rust peers need Rust 1.91 or newer (rustup, or your distribution)")
    text = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(n) for n in re.search(r"(\d+)\.(\d+)", text).groups())
    if version < RUST_VERSION_MIN:
        raise InteropError(f"{text.strip()} is too old; the Rust peers need Rust 1.91 or newer")


def registry_source(cache):
    """How this machine's cargo names its registry in a lock file: asked of cargo, with a project of one dependency."""
    known = cache / "registry-source"
    if known.exists():
        return known.read_text()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        (Path(scratch) / "src").mkdir()
        (Path(scratch) / "src" / "lib.rs").touch()
        manifest = '[package]\nname = "scratch"\nversion = "0.1.0"\n\n[workspace]\n\n[dependencies]\ncfg-if = "1"\n'
        (Path(scratch) / "Cargo.toml").write_text(manifest)
        if subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=scratch).returncode != 0:
            raise InteropError("cargo cannot reach its registry (its message is above); the Rust peers are built from there")
        source = re.search(r'^source = "(.*)"$', (Path(scratch) / "Cargo.lock").read_text(), re.MULTILINE).group(1)
    known.write_text(source)
    return source


def lock_from_template(template, source):
    parts = ["version = 4\n"]
    for line in template.splitlines():
        name, version, checksum, *dependencies = line.split(" ")
        part = f'\n[[package]]\nname = "{name}"\nversion = "{version}"\n'
        if checksum != "-":
            part += f'source = "{source}"\nchecksum = "{checksum}"\n'
        if dependencies:
            names = "".join(f' "{dependency.replace("=", " ")}",\n' for dependency in dependencies)
            part += f"dependencies = [\n{names}]\n"
        parts.append(part)
    return "".join(parts)


def template_from_lock(lock):
    lines = []
    for block in lock.split("[[package]]\n")[1:]:
        field = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.MULTILINE))
        dependencies = re.findall(r'^ "(.*)",$', block, re.MULTILINE)
        words = [field["name"], field["version"], field.get("checksum", "-")]
        lines.append(" ".join(words + [dependency.replace(" ", "=") for dependency in dependencies]))
    return "\n".join(lines) + "\n"


def write_if_changed(path, text):
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def build(version_set, jobs=None):
    """Builds one set when needed and returns the program's path. Safe to run several times at once."""
    if version_set not in SETS:
        raise InteropError(f"no version set {version_set}; there are {', '.join(SETS)}")
    check_cargo()
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    manifest = (PEER_DIR / f"{version_set}.toml").read_text()
    template = (PEER_DIR / f"{version_set}.lock").read_text()
    key = hashlib.sha256((manifest + template).encode()).hexdigest()[:12]
    project = cache / f"{version_set}-{key}"
    project.mkdir(exist_ok=True)
    with open(project / ".build-lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_if_changed(project / "Cargo.toml", manifest)
        write_if_changed(project / "Cargo.lock", lock_from_template(template, registry_source(cache)))
        for source in (PEER_DIR / "src").glob("*.rs"):
            write_if_changed(project / "src" / source.name, source.read_text())
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(project / "target")]
        if jobs:
            command += ["--jobs", str(jobs)]
        if subprocess.run(command, cwd=project, stdin=subprocess.DEVNULL).returncode != 0:
            raise InteropError(f"the Rust peer of set {version_set} did not build; cargo's messages are above")
    return project / "target" / "release" / "interop-peer"


# ---- Driving -------------------------------------------------------------------------------------------------------


class PeerDied(InteropError):
    """The peer ended, or was killed, before it answered."""


class RustPeer:
    """One process of the peer. Commands are methods by name: peer.call("put", key="6100", value="62")."""

    def __init__(self, program, log_path):
        self.log_path = log_path
        self.log = open(log_path, "ab")
        self.process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.pid = self.process.pid

    def send(self, command, **parameters):
        """Sends a command without waiting for its answer; `answer` takes it."""
        try:
            self.process.stdin.write(json.dumps({"cmd": command, **parameters}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerDied(f"the Rust peer ended before {command}; its log is {self.log_path}") from None

    def answer(self, command, timeout_s=300):
        watchdog = threading.Timer(timeout_s, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise PeerDied(f"the Rust peer ended, or took over {timeout_s} s, in {command}; its log is {self.log_path}")
        reply = json.loads(line)
        if "error" in reply:
            raise InteropError(f"Rust peer: {reply['error']}")
        return reply

    def call(self, command, timeout_s=300, **parameters):
        self.send(command, **parameters)
        return self.answer(command, timeout_s)

    def kill(self):
        """kill -9: nothing is flushed."""
        self.process.kill()
        self._reap()

    def close(self):
        """Ends the process in order: its stores are closed first."""
        try:
            if self.process.poll() is None:
                self.call("stop", timeout_s=60)
                self.process.stdin.close()
                self.process.wait(timeout=30)
        except (InteropError, BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
        self._reap()

    def _reap(self):
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def series_key(prefix, number, key_len=0):
    """The user key that the peer's `put_many` writes for this number (the document key has a NUL after it)."""
    return f"{prefix}{number:08d}".ljust(key_len, "k")


def series_value(salt, number, value_len):
    """The value that the peer's `put_many` writes for this number."""
    unit = f"{salt}:{number};".encode()
    return (unit * (value_len // len(unit) + 1))[:value_len]


def memory_kb(pid, field):
    """VmHWM (peak) or VmRSS (now) of a process, in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise InteropError(f"process {pid} reports no {field}")


def wait_until(what, condition, deadline_s, interval_s=0.05):
    """Waits until `condition` returns something true, and returns that; past the deadline the error names `what`."""
    deadline = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise InteropError(f"not within {deadline_s} s: {what() if callable(what) else what}")
        time.sleep(interval_s)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "build":
        print(build(arguments[1]))
    elif len(arguments) == 3 and arguments[0] == "template":
        (PEER_DIR / f"{arguments[1]}.lock").write_text(template_from_lock(Path(arguments[2]).read_text()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InteropError as error:
        sys.exit(f"interop: {error}")
