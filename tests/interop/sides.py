"""The two ends of a scenario, with one interface.

    RustSide      a Rust peer
    DaemonSide    our daemon, driven as any client drives it: JSON-RPC and /value/<key> on its Unix socket

Keys are user keys and values are user values: a RustSide writes and reads our native format (design: the document key is
the user key and a NUL; content that begins with the mark says what it is). A side is started on a port of its own and can
be killed and started again. Where a method takes another side, it is the peer to talk to.
"""

import base64
import ctypes
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from rust_peers import InteropError, RustPeer, series_key, series_value, wait_until

MARK = bytes.fromhex("f1686b76")
TOMBSTONE = MARK + b"\x00"
EMPTY_VALUE = MARK + b"\x01"
EXPIRING = MARK + b"\x02"
ESCAPED = MARK + b"\x03"

# Contents up to this length are compared as bytes in the shown maps; longer ones by their length there, and as files
# where a scenario writes them.
SHOWN_VALUE_BYTES_MAX = 64 * 1024

START_DEADLINE_S = 30
REQUEST_WINDOW = 64
# How often a Rust peer dials again while a scenario waits: upstream dials once and does not retry.
RUST_DIAL_INTERVAL_S = 1.0


def content_of(value):
    """Our native content for a value."""
    if not value:
        return EMPTY_VALUE
    return ESCAPED + value if value.startswith(MARK) else value


def value_of(content):
    """What our native content shows: a value, or None for a tombstone."""
    if content in (b"", TOMBSTONE):
        return None
    if content == EMPTY_VALUE:
        return b""
    return content[len(ESCAPED) :] if content.startswith(ESCAPED) else content


def free_udp_port():
    """One that the system gives to nobody who asks for any: it must be free again when a killed side starts anew."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def die_with_parent():
    """In the child: a suite that is killed leaves no daemon behind. (A Rust peer ends with its standard input.)"""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class RustSide:
    def __init__(self, program, folder, namespace_secret, ticket=None):
        self.program = program
        self.folder = Path(folder)
        self.identity = {"secret": os.urandom(32).hex(), "author_secret": os.urandom(32).hex()}
        self.document = {"ticket": ticket} if ticket else {"namespace_secret": namespace_secret}
        self.port = free_udp_port()
        self.peer = None
        self.last_dial = 0.0
        self.start()

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.peer = RustPeer(self.program, self.folder / "peer.log")
        self.info = self.peer.call("start", dir=str(self.folder), port=self.port, **self.identity, **self.document)
        self.last_dial = 0.0

    def address(self):
        return f"{self.info['endpoint_id']}@{self.info['addr']}"

    def close(self):
        self.peer.close()

    def kill(self):
        self.peer.kill()

    def ticket(self, mode):
        return self.info[f"{mode}_ticket"]

    # -- writing

    def put(self, key, value):
        self.peer.call("put", key=document_key(key), value=content_of(value).hex())

    def put_file(self, key, path):
        if Path(path).stat().st_size == 0:
            return self.put(key, b"")
        self.peer.call("put", key=document_key(key), path=str(path))

    def put_many(self, prefix, count, value_len, salt, first=0):
        self.peer.call("put_many", prefix=prefix, first=first, count=count, value_len=value_len, salt=salt, callers=16)

    def delete(self, key):
        self.peer.call("put", key=document_key(key), value=TOMBSTONE.hex())

    def delete_upstream(self, key_bytes):
        """Upstream's own del: removes this author's entries at and below these bytes of the document key."""
        self.peer.call("del", key=key_bytes.hex())

    def flush(self):
        self.peer.call("flush")

    # -- syncing

    def dial(self, other):
        """Called again and again while a scenario waits."""
        if time.monotonic() - self.last_dial < RUST_DIAL_INTERVAL_S:
            return
        self.peer.call("sync", peer=other.address(), timeout_ms=5000)
        self.last_dial = time.monotonic()

    def begin_dial(self, other):
        """Starts one dial without waiting for it; `end_dial` takes the answer."""
        self.peer.send("sync", peer=other.address(), timeout_ms=5000)

    def end_dial(self):
        self.peer.answer("sync")
        self.last_dial = time.monotonic()

    def fetch_missing(self, other):
        """Tells the peer to fetch what it lacks; true when nothing is missing any more."""
        return self.peer.call("fetch", peer=other.address())["missing"] == 0

    # -- reading

    def summary(self):
        summary = self.peer.call("summary")
        return summary["count"], summary["fingerprint"]

    def values_missing(self):
        return self.peer.call("summary")["missing"]

    def entry_count(self):
        return self.peer.call("summary")["count"]

    def received_count(self):
        """Cheap enough to ask without a pause."""
        return self.peer.call("counters")["entries_received"]

    def rows(self, **key):
        """Every entry, or those of `key`, as (author, document key, stamp, hash, length, content or None)."""
        rows = self.peer.call("entries", content_len_max=SHOWN_VALUE_BYTES_MAX, **key)["entries"]
        for author, key, stamp, content_hash, length, *content in rows:
            yield author, bytes.fromhex(key), stamp, content_hash, length, bytes.fromhex(content[0]) if content else None

    def history(self, key):
        """This key's entries as a set of (author, stamp, hash, length)."""
        return {(author, stamp, h, length) for author, _, stamp, h, length, _ in self.rows(key=document_key(key))}

    def histories(self, _keys=None):
        """Of every user key."""
        found = {}
        for author, key, stamp, content_hash, length, _ in self.rows():
            if user_key(key) is not None:
                found.setdefault(user_key(key), set()).add((author, stamp, content_hash, length))
        return found

    def shown(self):
        """The visible map: user key to value, or to the length of a long value."""
        winners = {}
        for author, key, stamp, _, length, content in self.rows():
            name = user_key(key)
            if name is None:
                continue
            if length > 0 and content is None and length <= SHOWN_VALUE_BYTES_MAX:
                raise InteropError(f"Rust peer: the content of {name} is missing")
            shown = value_of(content if content is not None else b"") if length <= SHOWN_VALUE_BYTES_MAX else length
            winners[name] = max(winners.get(name, (0, "", None)), (stamp, author, shown), key=lambda w: w[:2])
        return {name: shown for name, (_, _, shown) in winners.items() if shown is not None}

    def get_file(self, key, path):
        """Writes the key's value to a file."""
        rows = [(stamp, author, h, content) for author, _, stamp, h, _, content in self.rows(key=document_key(key))]
        _, _, content_hash, content = max(rows, key=lambda row: row[:2])
        if content is None:
            self.peer.call("read", hash=content_hash, path=str(path))
        else:
            Path(path).write_bytes(value_of(content))


def document_key(key):
    return key.encode().hex() + "00"


def user_key(document_key_bytes):
    """The user key of a document key; None for our system records and for foreign keys."""
    body = document_key_bytes[:-1]
    return body.decode() if document_key_bytes.endswith(b"\0") and body and b"\0" not in body else None


class DaemonSide:
    def __init__(self, program, folder, namespace_secret):
        self.program = program
        self.folder = Path(folder)
        self.namespace_secret = namespace_secret
        self.port = free_udp_port()
        self.socket_dir = self.folder / "s"
        self.socket_path = self.socket_dir / "hero_codescalers" / "rpc.sock"
        self.connection = None
        self.process = None
        self.dialled = set()
        self.start()

    def start(self):
        self.socket_dir.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HERO_")}
        environment["HERO_CODESCALERS_KVS_NAMESPACE_SECRET"] = self.namespace_secret
        environment["HERO_CODESCALERS_KVS_DATA_DIR"] = str(self.folder / "data")
        command = [str(self.program), "--socket-dir", str(self.socket_dir), "--port", str(self.port)]
        command += ["--bind-ipv4", "127.0.0.1", "--bind-ipv6", ""]
        self.log = open(self.folder / "daemon.log", "ab")
        self.process = subprocess.Popen(
            command + ["--anti-entropy-ms", "1000", "--log-level", "info,sync=debug"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=die_with_parent,
        )
        try:
            what = f"{self.program.name} answers on its socket; its log is {self.folder}/daemon.log"
            wait_until(what, self._connect, START_DEADLINE_S)
            self.info = self.call("kv.info")
            if self.info["port_ipv4"] != self.port:
                raise InteropError(f"another process has taken UDP port {self.port} of 127.0.0.1")
        except InteropError:
            self.process.kill()
            raise

    def _connect(self):
        if self.process.poll() is not None:
            raise InteropError(f"{self.program.name} ended with {self.process.returncode}; see {self.folder}/daemon.log")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self.socket_path))
        except OSError:
            connection.close()
            return False
        connection.settimeout(120)
        self.connection = connection
        self.replies = connection.makefile("rb")
        return True

    def sessions_ended_well(self, dialled_by_us):
        """How many of the sessions that this side dialled, or accepted, its log says did not fail."""
        how = "with" if dialled_by_us else "from"
        return len(re.findall(rf"session {how} [0-9a-f]+: (?:equal|moved)", (self.folder / "daemon.log").read_text()))

    def call(self, method, **params):
        return next(self.call_many(method, [params]))

    def call_many(self, method, many_params):
        """Yields the results in order. A window of requests goes out before its answers are read, so that the daemon can
        commit writes in groups."""
        many_params = iter(many_params)
        while window := list(itertools.islice(many_params, REQUEST_WINDOW)):
            requests = [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params} for number, params in enumerate(window)
            ]
            try:
                self.connection.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
                lines = [self.replies.readline() for _ in requests]
            except OSError as error:
                raise InteropError(f"{method}: {error}; see {self.folder}/daemon.log") from None
            if not all(lines):
                raise InteropError(f"{method}: the daemon closed the connection; see {self.folder}/daemon.log")
            for reply in sorted(map(json.loads, lines), key=lambda reply: reply["id"]):
                if "error" in reply:
                    raise InteropError(f"{method}: {reply['error'].get('message')}")
                yield reply["result"]

    def _http(self, method, key, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(120)
        connection.sock.connect(str(self.socket_path))
        connection.request(method, "/value/" + quote(key, safe=""), body=body)
        response = connection.getresponse()
        if response.status not in (200, 201, 204):
            text = response.read(500).decode(errors="replace")
            raise InteropError(f"{method} /value/{key}: status {response.status}: {text}")
        return response

    def address(self):
        return f"{self.info['endpoint_id']}@127.0.0.1:{self.port}"

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=START_DEADLINE_S)
            status = self.process.returncode
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self._hang_up()
        if status != 0:
            raise InteropError(f"the daemon ended with {status} after SIGTERM; see {self.folder}/daemon.log")

    def kill(self):
        """kill -9. It must have run until then."""
        self.process.kill()
        status = self.process.wait()
        self._hang_up()
        self.dialled.clear()
        if status != -signal.SIGKILL:
            raise InteropError(f"the daemon ended by itself with {status}; see {self.folder}/daemon.log")

    def _hang_up(self):
        self.replies.close()
        self.connection.close()
        self.log.close()

    def ticket(self, mode):
        return self.call("kv.ticket", mode=mode)["ticket"]

    # -- writing

    def put(self, key, value):
        self.call("kv.put", key=key, value=base64.b64encode(value).decode())

    def put_file(self, key, path):
        with open(path, "rb") as body:
            self._http("PUT", key, body).read()

    def put_many(self, prefix, count, value_len, salt, first=0):
        many_params = (
            {"key": series_key(prefix, n), "value": base64.b64encode(series_value(salt, n, value_len)).decode()}
            for n in range(first, first + count)
        )
        for _ in self.call_many("kv.put", many_params):
            pass

    def delete(self, key):
        self.call("kv.delete", key=key)

    def flush(self):
        """Nothing to do: what is acknowledged is durable."""

    # -- syncing

    def dial(self, other):
        """Names the peer once; from then on the daemon syncs by itself at every interval."""
        if other.address() not in self.dialled:
            self.call("kv.peer_add", peer=other.address())
            self.dialled.add(other.address())

    begin_dial = dial

    def end_dial(self):
        pass

    def fetch_missing(self, _other):
        """The daemon fetches by itself; true when nothing is missing any more."""
        return self.values_missing() == 0

    # -- reading

    def summary(self):
        status = self.call("kv.status")
        return status["entries"], status["fingerprint"]

    def values_missing(self):
        return self.call("kv.status")["values_missing"]

    def entry_count(self):
        return self.call("kv.status")["entries"]

    received_count = entry_count

    def history(self, key):
        return self.histories([key])[key]

    def histories(self, keys):
        """Of these user keys."""
        results = self.call_many("kv.history", ({"key": key} for key in keys))
        return {
            key: {(entry["author"], entry["stamp_us"], entry["hash"], entry["length"]) for entry in result["history"]}
            for key, result in zip(keys, results)
        }

    def shown(self):
        shown = {}
        cursor = {}
        while True:
            page = self.call("kv.list", **cursor)
            for entry in page["entries"]:
                value = entry["value"]
                value = base64.b64decode(value) if value is not None else None
                long = value is None or len(value) > SHOWN_VALUE_BYTES_MAX
                shown[entry["key"]] = (entry["length"] if value is None else len(value)) if long else value
            if page["next"] is None:
                return shown
            cursor = {"cursor": page["next"]}

    def get_file(self, key, path):
        response = self._http("GET", key)
        with open(path, "wb") as file:
            shutil.copyfileobj(response, file)
