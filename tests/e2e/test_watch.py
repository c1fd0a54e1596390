#!/usr/bin/env python3
"""Watches through the daemon: kv.watch on a newline connection and GET /events, from positions, over restarts, read slowly.

usage: test_watch.py SERVER"""

import base64
import json
import socket
import sys
import threading

from daemon import Daemon, check, equal, run

SERVER = sys.argv[1]
IS_FAKE = "fake" in SERVER  # a store in memory forgets everything when it ends
OTHER_EPOCH = "0123456789abcdef-7"


def put(connection, key, value=b"v"):
    return connection.result("kv.put", {"key": key, "value": base64.b64encode(value).decode()})["version"]


class Watch:
    """The events of one kv.watch, without those about syncs."""

    def __init__(self, **params):
        self.connection = daemon.connect()
        self.number = self.connection.result("kv.watch", params)["watch"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()

    def next(self):
        while (line := self.connection.line()) is not None:
            if not line["params"]["type"].startswith("SYNC_"):
                return line["params"]
        return None

    def until_progress(self):
        events = []
        while (event := self.next())["type"] != "PROGRESS":
            events.append(event)
        return events, event["position"]


def number(position):
    return int(position.split("-")[1])


def short(events):
    return [(event["type"], event.get("key")) for event in events]


def test_a_watch_goes_on_behind_a_position():
    with daemon.connect() as writing:
        with Watch(prefix="from/") as first:
            equal(first.until_progress()[0], [], "events of a watch from now before its position")
            put(writing, "from/a")
            position = first.next()["position"]
        for key in ("from/b", "other", "from/c"):
            put(writing, key)
        with Watch(**{"prefix": "from/", "from": position}) as second:
            events, end = second.until_progress()
            equal(short(events), [("PUT_LOCAL", "from/b"), ("PUT_LOCAL", "from/c")], "what came behind the position")
            equal([number(event["position"]) - number(position) for event in events], [1, 3], "their positions")
            equal(end, events[-1]["position"], "position when all was told")
            put(writing, "from/d")
            equal(second.next()["key"], "from/d", "and then live")


def test_a_list_is_followed_by_its_position_and_what_changes():
    with daemon.connect() as writing:
        for key in ("list/b", "list/a", "elsewhere"):
            put(writing, key)
        with Watch(prefix="list/", list=True) as watch:
            events, position = watch.until_progress()
            equal(short(events), [("LISTED", "list/a"), ("LISTED", "list/b")], "the list")
            check(all("position" not in event for event in events), "no position within the list")
            put(writing, "list/a")
            equal(number(watch.next()["position"]), number(position) + 1, "the change behind the list")


def test_a_position_that_the_log_does_not_have_is_an_overrun():
    with daemon.connect() as writing:
        put(writing, "lost/a")
        with Watch(**{"prefix": "lost/", "from": OTHER_EPOCH}) as watch:
            events, _ = watch.until_progress()
            equal(short(events), [("OVERRUN", None), ("PUT_LOCAL", "lost/a")], "what is still there")
            equal(number(events[0]["first_available"]), number(events[0]["position"]) + 1, "first change that is there")
        with Watch(**{"prefix": "lost/", "from": OTHER_EPOCH, "list": True}) as watch:
            events, _ = watch.until_progress()
            equal(short(events), [("OVERRUN", None), ("LISTED", "lost/a")], "a list instead")


def test_wrong_positions_are_refused_by_name():
    with daemon.connect() as connection:
        for wrong in ("", "7", "0123456789abcdef", "0123456789abcdef-", "0123456789ABCDEF-1", OTHER_EPOCH + "\0", 7, None):
            error = connection.error("kv.watch", {"from": wrong})
            equal(error["code"], -32602, f"code for from = {wrong!r}")
            check("from" in error["message"], f"{error['message']!r} names the parameter")


def test_a_client_that_reads_slowly_misses_nothing():
    count = 6000
    with Watch(prefix="slow/") as slow, daemon.connect() as writing:
        slow.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        _, position = slow.until_progress()
        key = "slow/" + "k" * 1000
        lines = b"".join(json.dumps({"jsonrpc": "2.0", "id": i, "method": "kv.put", "params": {"key": key, "value": "YQ=="}}).encode() +
                         b"\n" for i in range(100))
        for _ in range(count // 100):  # far more than the sockets and the daemon's buffers hold
            writing.send(lines)
            for _ in range(100):
                check("result" in writing.line(), "a write")
        positions = [number(slow.next()["position"]) - number(position) for _ in range(count)]
        equal(positions, list(range(1, count + 1)), "positions, in order and each once")


def test_over_kill_9_nothing_is_missed_or_repeated():
    if IS_FAKE:
        return
    seen, position = {}, None
    with daemon.connect() as connection:
        position = connection.result("kv.status")["position"]
    for round_number in range(3):
        written = []
        writing = daemon.connect()

        def write_on():
            try:
                for i in range(100000):
                    put(writing, f"kill/{round_number}-{i}")
                    written.append(f"kill/{round_number}-{i}")
            except (OSError, AssertionError):
                pass

        writer = threading.Thread(target=write_on)
        writer.start()
        with Watch(**{"prefix": "kill/", "from": position}) as watch:
            while len(seen) < 100 * (round_number + 1):
                position = note(seen, watch.next(), position)
            daemon.kill_and_start()
        writer.join()
        writing.close()
        with Watch(**{"prefix": "kill/", "from": position}) as watch:
            events, end = watch.until_progress()
            for event in events:
                position = note(seen, event, position)
            position = end
        check(set(written) <= set(seen), f"acknowledged and never told: {sorted(set(written) - set(seen))[:5]}")


def note(seen, event, before):
    if event["type"] == "PROGRESS":
        return event["position"]
    equal(event["type"], "PUT_LOCAL", f"type of {event}")
    check(event["key"] not in seen, f"{event['key']} is told twice")
    check(number(event["position"]) > number(before), f"{event['position']} comes behind {before}")
    seen[event["key"]] = event["position"]
    return event["position"]


class Stream:
    """An event stream of GET /events."""

    def __init__(self, query="", **headers):
        self.connection = daemon.connect()
        lines = [f"GET /events{query} HTTP/1.1", "Host: x", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        self.connection.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.status, self.headers, self.body = self.connection.http_reply()
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()

    def chunk(self):
        size = int(self.connection.stream.readline(), 16)
        data = self.connection.stream.read(size)
        self.connection.stream.readline()
        return data

    def next(self):
        """(id, event) of the next one that isn't about a sync; None at the end."""
        while True:
            while b"\n\n" not in self.buffer:
                data = self.chunk()
                if not data:
                    return None
                self.buffer += data
            text, self.buffer = self.buffer.split(b"\n\n", 1)
            fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if not line.startswith(b":"))
            event = json.loads(fields[b"data"]) if b"data" in fields else {"type": "SYNC_"}
            if not event["type"].startswith("SYNC_"):
                return fields[b"id"].decode() if b"id" in fields else None, event


def test_server_sent_events_resume_by_their_id():
    with daemon.connect() as writing:
        put(writing, "sse/\u00fc")
        with Stream("?prefix=sse%2F&list=1") as stream:
            equal((stream.status, stream.headers["content-type"]), (200, "text/event-stream"), "head of the reply")
            identity, event = stream.next()
            equal((identity, event["type"], event["key"]), (None, "LISTED", "sse/\u00fc"), "the list")
            identity, event = stream.next()
            equal((identity, event["type"]), (event["position"], "PROGRESS"), "its end")
            put(writing, "sse/a")
            identity, event = stream.next()
            equal((identity, event["type"], event["key"]), (event["position"], "PUT_LOCAL", "sse/a"), "a change")
        put(writing, "sse/b")
        with Stream("?prefix=sse/&from=" + OTHER_EPOCH, Last_Event_ID=identity) as stream:
            equal(stream.next()[1]["key"], "sse/b", "what came behind the last id, which is stronger than from")


def test_faults_of_an_event_stream_are_named():
    for query, part in (("?from=7", "position"), ("?list=yes", "list"), ("?prefix=%zz", "prefix"), ("?prefix=%00", "prefix")):
        with Stream(query) as stream:
            if IS_FAKE and "%00" in query:
                continue
            equal(stream.status, 400, f"status of {query}")
            check(part in stream.body.decode(), f"{stream.body} names {part}")


def test_event_streams_end_with_the_daemon():
    with Daemon(SERVER) as own:
        with own.connect() as connection:
            connection.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            equal(connection.http_reply()[0], 200, "status")
            equal(own.stop(), 0, "exit code")
            rest = connection.stream.read()
            check(rest.endswith(b"0\r\n\r\n"), f"the stream ends in order: {rest[-100:]}")


with Daemon(SERVER, "--anti-entropy-ms", "1000") as daemon:
    run(globals())
