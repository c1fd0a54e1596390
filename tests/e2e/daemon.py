"""One daemon for tests of its interface: started on loopback with a folder of its own, asked through raw sockets, so that tests can
send what no client would.

    with Daemon(sys.argv[1]) as daemon:
        with daemon.connect() as connection:
            check(connection.call("kv.get", {"key": "a"})["result"]["value"] is None, "an absent key has no value")

run(tests) runs functions named test_*, prints what failed, and exits 0 or 1. Nothing waits for a fixed time."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

DEADLINE_S = 60


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def equal(seen, wanted, what):
    if seen != wanted:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {seen!r}")


def eventually(what, holds):
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.01)


def clean_environment(**more):
    """This environment without the variables that the programs read."""
    names = ("HERO_", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "WATCHDOG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    environment.update(more)
    return environment


class Connection:
    """A raw connection to the socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)  # with a time limit it would fail at once while the backlog is full
        self.socket.settimeout(DEADLINE_S)
        self.stream = self.socket.makefile("rb")
        self.next_id = 0
        self.events = []  # that came before a reply

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_json(self, value):
        self.send(json.dumps(value).encode() + b"\n")

    def line(self):
        """The next line, parsed; None at the end."""
        if self.events:
            return self.events.pop(0)
        line = self.stream.readline()
        return json.loads(line) if line else None

    def call(self, method, params=None):
        """The whole reply."""
        self.next_id += 1
        request = {"jsonrpc": "2.0", "id": self.next_id, "method": method}
        if params is not None:
            request["params"] = params
        self.send_json(request)
        events, self.events = self.events, []
        while (reply := self.line()) is not None and reply.get("method") == "kv.event":
            events.append(reply)
        self.events = events
        check(reply is not None, f"{method}: the connection was closed")
        equal(reply.get("id"), self.next_id, f"{method}: id of the reply")
        return reply

    def result(self, method, params=None):
        reply = self.call(method, params)
        check("result" in reply, f"{method} {params}: {reply.get('error')}")
        return reply["result"]

    def error(self, method, params=None):
        reply = self.call(method, params)
        check("error" in reply, f"{method} {params}: wanted an error, got {reply}")
        return reply["error"]

    def http(self, head, body=b""):
        """Sends a request; status, headers (lower-case names) and body of the reply. The connection stays usable."""
        self.send(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        return self.http_reply(head.startswith("HEAD"))

    def http_reply(self, is_head=False):
        status = int(self.stream.readline().split()[1])
        headers = {}
        while (line := self.stream.readline().strip()):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if status == 100:
            return self.http_reply(is_head)
        length = 0 if is_head else int(headers.get("content-length", 0))
        return status, headers, self.stream.read(length)


class Daemon:
    def __init__(self, program, *flags, environment=None, data_dir=True):
        self.folder = tempfile.mkdtemp(prefix="hcs-")
        self.log_path = os.path.join(self.folder, "log")
        self.path = os.path.join(self.folder, "s", "hero_codescalers", "rpc.sock")
        self.socket_dir = os.path.join(self.folder, "s")
        command = [program, "--socket-dir", self.socket_dir, "--port", "0", "--bind-ipv4", "127.0.0.1", "--bind-ipv6", "", *flags]
        if data_dir:
            command += ["--data-dir", os.path.join(self.folder, "data")]
        self.command, self.environment = command, environment or clean_environment()
        self.start()

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log, env=self.environment)

    def kill_and_start(self):
        equal(self.stop(signal.SIGKILL), -signal.SIGKILL, "killed")
        self.start()
        eventually("the daemon serves again", self.serves)

    def __enter__(self):
        try:
            eventually("the daemon serves", self.serves)
        except AssertionError:
            self.__exit__(None, None, None)
            raise
        return self

    def serves(self):
        check(self.process.poll() is None, f"the daemon ended at its start: {self.log()}")
        try:
            with self.connect() as connection:
                connection.result("server.info")
            return True
        except OSError:
            return False

    def __exit__(self, *error):
        """Every daemon that a test left running must still be able to shut down in order, and no other may have ended by itself."""
        try:
            code = self.process.poll()
            if code is None:
                code = self.stop()
            if code not in (0, -signal.SIGKILL):
                print(f"FAIL  the daemon ended with {code}; its log:\n{self.log()}", flush=True)
                sys.exit(1)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self):
        return Connection(self.path)

    def log(self):
        with open(self.log_path) as log:
            return log.read()

    def stop(self, number=signal.SIGTERM):
        """Exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def run(tests):
    """Runs every test_* of a module's names."""
    failed = 0
    for name, test in list(tests.items()):
        if not name.startswith("test_") or not callable(test):
            continue
        try:
            test()
            print(f"ok    {name}", flush=True)
        except Exception as error:
            failed += 1
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            print(f"FAIL  {name}: {error}", flush=True)
    sys.exit(1 if failed else 0)
