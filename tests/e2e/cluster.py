"""Real daemons for tests: starts, kills and asks hero_codescalers_server through its socket, as any client would.

    with Cluster(3) as cluster:
        cluster.wire()
        cluster[0].put("key", b"value")
        eventually("node 2 shows key", lambda: cluster[1].get("key") == b"value")

Each daemon has a folder of its own (data, socket, log) below one temporary folder, which is removed at the end unless
something failed. Nothing here waits for a fixed time: eventually() waits for a condition, with a deadline."""

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HKV_BUILD_DIR") or REPOSITORY / "build")
SERVER = BUILD / "bin" / "hero_codescalers_server"

START_DEADLINE_S = 30
CALL_DEADLINE_S = 60
POLL_S = 0.02


class Failure(Exception):
    """A check that did not hold; the text says which."""


def timeout_s():
    """Deadline of eventually(): TIMEOUT seconds, 30 by default."""
    return float(os.environ.get("TIMEOUT") or 30)


def eventually(what, holds, deadline_s=None, explain=None):
    """Waits until holds() is true. `explain` adds what was seen last to the failure."""
    deadline = time.monotonic() + (deadline_s or timeout_s())
    while not holds():
        if time.monotonic() > deadline:
            seen = f"; last seen: {explain()}" if explain else ""
            raise Failure(f"not within {deadline_s or timeout_s():g} s: {what}{seen}")
        time.sleep(POLL_S)


class Connection:
    """One newline-delimited JSON-RPC connection."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(CALL_DEADLINE_S)
        self.socket.connect(str(path))
        self.replies = self.socket.makefile("rb")

    def call(self, method, **params):
        """The result. ConnectionError when the daemon went away, Failure when it answered with an error."""
        self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        line = self.replies.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError(f"{method}: the daemon closed the connection")
        reply = json.loads(line)
        if "error" in reply:
            raise Failure(f"{method} {params.get('key', '')}: {reply['error'].get('message')}")
        return reply["result"]

    def put(self, key, value):
        return self.call("kv.put", key=key, value=base64.b64encode(value).decode())

    def get(self, key):
        value = self.call("kv.get", key=key)["value"]
        return None if value is None else base64.b64decode(value)

    def delete(self, key):
        return self.call("kv.delete", key=key)

    def pages(self, method, prefix):
        cursor = None
        while True:
            page = self.call(method, prefix=prefix, **({"cursor": cursor} if cursor else {}))
            yield page
            cursor = page["next"]
            if cursor is None:
                return

    def keys(self, prefix=""):
        return [key for page in self.pages("kv.list_keys", prefix) for key in page["keys"]]

    def items(self, prefix=""):
        """key -> value; values that a listing leaves out are read one by one."""
        found = {}
        for page in self.pages("kv.list", prefix):
            for entry in page["entries"]:
                value = entry["value"]
                found[entry["key"]] = self.get(entry["key"]) if value is None else base64.b64decode(value)
        return found

    def close(self):
        self.replies.close()
        self.socket.close()


class Daemon:
    """A node: one process, its folder, and a connection to it. After the first start it keeps its UDP port."""

    def __init__(self, name, folder, namespace_secret, anti_entropy_ms=1000):
        self.name = name
        self.folder = Path(folder)
        self.namespace_secret = namespace_secret
        self.anti_entropy_ms = anti_entropy_ms
        self.port = 0
        self.process = self.connection = None
        self.folder.mkdir(parents=True)

    @property
    def socket_path(self):
        return self.folder / "s" / "hero_codescalers" / "rpc.sock"

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HERO_")}
        environment["HERO_CODESCALERS_KVS_NAMESPACE_SECRET"] = self.namespace_secret
        command = [str(SERVER), "--data-dir", str(self.folder / "data"), "--socket-dir", str(self.folder / "s")]
        command += ["--bind-ipv4", "127.0.0.1", "--bind-ipv6", "", "--port", str(self.port)]
        command += ["--anti-entropy-ms", str(self.anti_entropy_ms), "--log-level", os.environ.get("HKV_LOG_LEVEL") or "info"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(f"{self.name} answers on its socket", self._connect, START_DEADLINE_S)
        info = self.connection.call("kv.info")
        self.port, self.endpoint_id = info["port_ipv4"], info["endpoint_id"]

    def _connect(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with status {self.process.returncode} while starting")
        try:
            self.connection = Connection(self.socket_path)
        except OSError:
            return False
        return True

    def connect(self):
        return Connection(self.socket_path)

    def address(self):
        return f"{self.endpoint_id}@127.0.0.1:{self.port}"

    def __getattr__(self, name):
        """put, get, delete, keys, items, call: on the daemon's own connection."""
        if name in ("put", "get", "delete", "keys", "items", "call"):
            return getattr(self.connection, name)
        raise AttributeError(name)

    def kill(self):
        """kill -9: no chance to tidy up. It must have run until then."""
        status = self.end()
        if status != -signal.SIGKILL:
            raise Failure(f"{self.name} ended by itself with status {status}")

    def end(self):
        """Whatever state it is in. Returns its status."""
        self.process.kill()
        return self._gone()

    def stop(self):
        """SIGTERM: must end by itself, with status 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.end()
            raise Failure(f"{self.name} did not end within {START_DEADLINE_S} s after SIGTERM") from None
        self._gone()
        if status != 0:
            raise Failure(f"{self.name} ended with status {status} after SIGTERM")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def _gone(self):
        status = self.process.wait()
        self.process = None
        if self.connection:
            self.connection.close()
            self.connection = None
        return status

    def state(self):
        """What must be equal on all nodes in the end."""
        status = self.connection.call("kv.status")
        return {name: status[name] for name in ("entries", "fingerprint", "visible_keys", "values_missing")}


class Cluster:
    """Several daemons that share one new namespace secret."""

    def __init__(self, count, anti_entropy_ms=1000):
        if not SERVER.exists():
            raise Failure(f"{SERVER} does not exist; run `make` first")
        self.folder = Path(tempfile.mkdtemp(prefix="hkv-e2e-"))
        secret = secrets.token_hex(32)
        self.daemons = [Daemon(f"node {i + 1}", self.folder / str(i + 1), secret, anti_entropy_ms) for i in range(count)]

    def __enter__(self):
        try:
            for daemon in self.daemons:
                daemon.start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        for daemon in self.daemons:
            if daemon.process:
                daemon.end()
        if error is None:
            shutil.rmtree(self.folder)
            return
        for daemon in self.daemons:
            lines = (daemon.folder / "log").read_text(errors="replace").splitlines() if (daemon.folder / "log").exists() else []
            print(f"-- {daemon.name}, last lines of its log:", *lines[-15:], sep="\n   ")
        print(f"-- stores and logs: {self.folder}")

    def __getitem__(self, index):
        return self.daemons[index]

    def __len__(self):
        return len(self.daemons)

    def wire(self):
        """A line: each node is told of the one before it. The rest they learn from each other."""
        for before, daemon in zip(self.daemons, self.daemons[1:]):
            daemon.call("kv.peer_add", peer=before.address())

    def states(self):
        return [daemon.state() for daemon in self.daemons]

    def are_equal(self):
        states = self.states()
        return states[0]["values_missing"] == 0 and all(state == states[0] for state in states)

    def wait_equal(self, what):
        eventually(f"{what}: all nodes hold the same", self.are_equal, explain=self.states)

    def wait_everywhere(self, key, value):
        for daemon in self.daemons:
            eventually(f"{daemon.name} shows {key} = {value!r}", lambda d=daemon: d.get(key) == value,
                       explain=lambda d=daemon: d.get(key))


class Report:
    """Runs named checks in order, one line each; the last line counts. The first failure ends the run."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, run):
        began = time.monotonic()
        run()
        self.passed += 1
        print(f"ok    {name}  ({time.monotonic() - began:.1f} s)", flush=True)

    def run(self, body):
        """Calls body(self); turns what it raises into a failure. Returns the exit status."""
        try:
            body(self)
        except (Failure, OSError) as error:
            self.failed += 1
            print(f"FAIL  {error}", flush=True)
        print(f"{self.passed} passed, {self.failed} failed, 0 skipped", flush=True)
        return 1 if self.failed else 0


def integer(name, default):
    """A whole number from the environment."""
    text = os.environ.get(name) or str(default)
    if not text.isdigit():
        sys.exit(f"{name}={text}: must be a whole number")
    return int(text)
