#!/usr/bin/env python3
"""The daemon's socket as a hostile or careless client sees it: JSON-RPC 2.0 by newline and by HTTP, large values, limits, starting
and stopping.

usage: test_rpc.py SERVER"""

import base64
import grp
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile

from daemon import Daemon, clean_environment, check, equal, eventually, run

SERVER = sys.argv[1]
REQUEST_MAX = 4 << 20


def request(method, identity=1, **params):
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}


def put(connection, key, value):
    return connection.result("kv.put", {"key": key, "value": base64.b64encode(value).decode()})["version"]


def get(connection, key):
    value = connection.result("kv.get", {"key": key})["value"]
    return None if value is None else base64.b64decode(value)


# ---------------------------------------------------------------------------------------------- JSON-RPC 2.0, both ways

ENVELOPES = [
    # what is sent, the code of the error, the id of the reply
    (b"{", -32700, None),
    (b"nonsense", -32700, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"health"', -32700, None),
    (b'\xff\xfe', -32700, None),
    (b'"text"', -32600, None),
    (b"1", -32600, None),
    (b"null", -32600, None),
    (b"[]", -32600, None),
    (b"{}", -32600, None),
    (b'{"jsonrpc":"2.0","method":1,"params":"bar"}', -32600, None),
    (b'{"jsonrpc":"1.0","id":5,"method":"health"}', -32600, 5),
    (b'{"id":5,"method":"health"}', -32600, 5),
    (b'{"jsonrpc":"2.0","id":{},"method":"health"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":[],"method":"health"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":true,"method":"health"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":"a","method":"health","params":1}', -32600, "a"),
    (b'{"jsonrpc":"2.0","id":"a","method":"health","params":null}', -32600, "a"),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"health"}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.get","params":{"key":"a","key":"b"}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.list","params":{"limit":99999999999999999999}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.list","params":{"limit":1e400}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.list","params":{"limit":NaN}}', -32700, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.list","params":{"limit\\u0000":1}}', -32600, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.list","params":{"prefix":"\\ud800"}}', -32700, None),
    (b'{"jsonrpc":"2.0\\u0000","id":1,"method":"health"}', -32600, 1),
    (b'{"jsonrpc":"2.0","id":1,"method":"no.such"}', -32601, 1),
    (b'{"jsonrpc":"2.0","id":1,"method":"health\\u0000"}', -32601, 1),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"no.such"}', -32601, 1.5),
    (b'{"jsonrpc":"2.0","id":null,"method":"no.such"}', -32601, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.get","params":{"key":"a\\u0000b"}}', -32002, 1),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.get","params":{"key":""}}', -32002, 1),
    (b'{"jsonrpc":"2.0","id":1,"method":"kv.put","params":{"key":"' + b"k" * 1025 + b'","value":""}}', -32002, 1),
    (b"[" * 33 + b"]" * 33, -32600, None),
    (b'{"a":' * 33 + b"1" + b"}" * 33, -32600, None),
    (b"[" + b"0," * 70000 + b"0]", -32600, None),
    (b"[" + b",".join([b'{"jsonrpc":"2.0","method":"health"}'] * 1001) + b"]", -32600, None),
]


def test_envelopes_by_newline():
    with daemon.connect() as connection:
        for sent, code, identity in ENVELOPES:
            connection.send(sent + b"\n")
            reply = connection.line()
            equal((reply["error"]["code"], reply["id"], reply["jsonrpc"]), (code, identity, "2.0"), f"{sent[:80]}")


def test_envelopes_by_http():
    with daemon.connect() as connection:
        for sent, code, identity in ENVELOPES:
            status, headers, body = connection.http(f"POST /rpc HTTP/1.1\nHost: x\nContent-Length: {len(sent)}\n", sent)
            reply = json.loads(body)
            equal((status, reply["error"]["code"], reply["id"]), (200, code, identity), f"{sent[:80]}")
            equal(headers["content-type"], "application/json", "content type")


def test_a_long_name_is_quoted_up_to_a_whole_character():
    with daemon.connect() as connection:
        for method, params in (("a" + "\u00fc" * 100, None), ("kv.get", {"key": "a", "a" + "\u00fc" * 100: 1})):
            message = connection.error(method, params)["message"]
            check("a" + "\u00fc" * 31 + "?'" in message, message)


def test_ids_come_back_as_they_were():
    with daemon.connect() as connection:
        for identity in (0, -1, 2**53, "text", "", "\u00fc\u0000\u2028", 1.5, None):
            connection.send_json(request("health", identity))
            reply = connection.line()
            check("result" in reply, f"{reply}")
            equal(reply["id"], identity, "id")


def test_notifications_are_not_answered():
    with daemon.connect() as connection:
        for sent in ('{"jsonrpc":"2.0","method":"kv.put","params":{"key":"quiet","value":"YQ=="}}',
                     '{"jsonrpc":"2.0","method":"no.such"}', '{"jsonrpc":"2.0","method":"kv.get","params":{"kez":1}}',
                     '[{"jsonrpc":"2.0","method":"health"},{"jsonrpc":"2.0","method":"health"}]'):
            connection.send(sent.encode() + b"\n")
        equal(get(connection, "quiet"), b"a", "what a notification wrote")
        status, _, body = connection_http("POST /rpc HTTP/1.1\nHost: x\nContent-Length: 35\n", b'{"jsonrpc":"2.0","method":"health"}')
        equal((status, body), (204, b""), "a notification by HTTP")


def connection_http(head, body=b""):
    with daemon.connect() as connection:
        return connection.http(head, body)


def test_batches():
    with daemon.connect() as connection:
        connection.send_json([request("kv.put", 1, key="batch", value="YQ=="), request("kv.get", "two", key="batch"), 1, {},
                              {"jsonrpc": "2.0", "method": "kv.delete", "params": {"key": "batch"}},
                              request("kv.get", 3, key="batch"), request("kv.watch", 4)])
        replies = connection.line()
        equal([reply["id"] for reply in replies], [1, "two", None, None, 3, 4], "ids, in order, notifications left out")
        equal(replies[1]["result"]["value"], "YQ==", "what an earlier call of the batch wrote")
        equal(replies[4]["result"]["value"], None, "what an earlier notification of the batch deleted")
        equal([replies[i]["error"]["code"] for i in (2, 3, 5)], [-32600] * 3, "errors")


def test_a_batch_with_too_long_replies_is_cut():
    with daemon.connect() as connection:
        put(connection, "batch/long", bytes(3_000_000))
        connection.send_json([request("kv.get", i, key="batch/long") for i in range(10)])
        replies = connection.line()
        equal(len(replies), 10, "replies")
        refused = [reply for reply in replies if "error" in reply]
        check(0 < len(refused) < 8, f"{len(refused)} of 10 replies of 4 MiB are refused")
        equal({reply["error"]["data"]["name"] for reply in refused}, {"HKV_E_LIMIT"}, "why")


# ---------------------------------------------------------------------------------------------- the newline connection

def test_requests_are_answered_in_order():
    with daemon.connect() as connection:
        count = 300
        lines = []
        for i in range(count):
            lines.append(request("kv.put", ["p", i][1] * 2, key="order", value=base64.b64encode(str(i).encode()).decode()))
            lines.append(request("kv.get", i * 2 + 1, key="order"))
        lines.append(request("kv.list_keys", "end", prefix="order"))
        connection.send(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        for i in range(count):
            equal(connection.line()["id"], 2 * i, "id of a put")
            reply = connection.line()
            equal(reply["id"], 2 * i + 1, "id of a get")
            equal(base64.b64decode(reply["result"]["value"]), str(i).encode(), "a get sees the put before it")
        equal(connection.line()["result"]["keys"], ["order"], "keys")


def test_pieces_blank_lines_and_carriage_returns():
    with daemon.connect() as connection:
        line = json.dumps(request("health")).encode()
        for i in range(len(line)):
            connection.send(line[i:i + 1])
        connection.send(b"\r\n\r\n   \n\n" + line + b"\n")
        for _ in range(2):
            check("result" in connection.line(), "a reply")


def test_a_last_line_without_newline_counts():
    with daemon.connect() as connection:
        connection.send(json.dumps(request("health")).encode())
        connection.socket.shutdown(socket.SHUT_WR)
        check("result" in connection.line(), "a reply")
        equal(connection.line(), None, "the connection ends")


def test_a_request_of_4_MiB_is_taken_and_a_longer_one_ends_the_connection():
    with daemon.connect() as connection:
        head, tail = b'{"jsonrpc":"2.0","id":1,"method":"kv.put","params":{"key":"long","value":"', b'"}}'
        chars = (REQUEST_MAX - len(head) - len(tail)) // 4 * 4
        connection.send((head + b"A" * chars + tail).ljust(REQUEST_MAX) + b"\n")
        check("result" in connection.line(), "a request of 4 MiB")
        try:
            connection.send(b" " * (REQUEST_MAX + 1) + b"\n" + json.dumps(request("health")).encode() + b"\n")
        except OSError:
            pass  # closed while we were sending
        reply = connection.line()
        equal((reply["error"]["code"], reply["id"]), (-32600, None), "a longer one")
        try:
            equal(connection.line(), None, "then the connection ends")
        except OSError:
            pass


def test_random_bytes_do_not_disturb():
    generator = random.Random(int(os.environ.get("HKV_SEED", "7")))
    for _ in range(200):
        with daemon.connect() as connection:
            try:
                connection.send(bytes(generator.choices(b'{}[]",:\\\n\r 019aAPGET/\x00\xff', k=generator.randrange(1, 400))))
            except OSError:
                pass
    with daemon.connect() as connection:
        check("result" in connection.call("health"), "the daemon still answers")


def test_a_client_that_does_not_read_holds_up_only_itself():
    with daemon.connect() as writer:
        put(writer, "slow", bytes(1 << 20))
    with daemon.connect() as slow, daemon.connect() as other:
        line = json.dumps(request("kv.get", key="slow")).encode() + b"\n"
        slow.socket.setblocking(False)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += slow.socket.send(line * 100)
        except BlockingIOError:
            pass
        check(sent < 64 << 20, "a client that reads nothing is not read from without end")
        check("result" in other.call("health"), "another client is served")
        check(resident_bytes(daemon.process.pid) < 400 << 20, "memory stays bounded")


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_connections_are_limited():
    connections = []
    try:
        refused = None
        for _ in range(300):
            connection = daemon.connect()
            connections.append(connection)
            try:
                connection.send_json(request("health"))
            except OSError:
                pass  # it was refused at once; the reason can still be read
            reply = connection.line()
            if reply is None or "error" in reply:
                refused = reply
                break
        check(refused is not None, "the 300th connection is refused")
        check(200 < len(connections) <= 257, f"after {len(connections)} connections")
        check("256" in refused["error"]["message"], f"the reason names the limit: {refused}")
    finally:
        for connection in connections:
            connection.close()
    eventually("connections are free again", can_connect)


def can_connect():
    try:
        with daemon.connect() as connection:
            return "result" in connection.call("health")
    except (OSError, AssertionError):
        return False


def test_many_clients_at_once():
    connections = [daemon.connect() for _ in range(50)]
    for i, connection in enumerate(connections):
        connection.send(b"".join(json.dumps(request("kv.put", j, key=f"many/{i}/{j}", value="YQ==")).encode() + b"\n" for j in range(20)))
    for connection in connections:
        for j in range(20):
            equal(connection.line()["id"], j, "order")
        connection.close()
    with daemon.connect() as connection:
        equal(len(connection.result("kv.list_keys", {"prefix": "many/"})["keys"]), 1000, "keys written")


# ---------------------------------------------------------------------------------------------- watches

def test_watches_see_their_prefix_only():
    with daemon.connect() as watching, daemon.connect() as writing:
        first = watching.result("kv.watch", {"prefix": "w/a"})["watch"]
        second = watching.result("kv.watch", {"prefix": "w/"})["watch"]
        for key in ("w/b", "w/a1", "x"):
            put(writing, key, b"1")
        put(writing, "w/end", b"1")
        seen = []
        while ("w/end", second) not in seen:
            params = watching.line()["params"]
            if "key" in params:
                seen.append((params["key"], params["watch"]))
        equal([key for key, watch in seen if watch == first], ["w/a1"], "the narrow watch")
        equal([key for key, watch in seen if watch == second], ["w/b", "w/a1", "w/end"], "the wide watch")


def test_watches_are_limited_and_end_with_the_connection():
    with daemon.connect() as connection:
        for _ in range(64):
            connection.result("kv.watch")
        equal(connection.error("kv.watch")["data"]["name"], "HKV_E_LIMIT", "the 65th watch")
    with daemon.connect() as connection:
        put(connection, "after-watches", b"1")


def test_watch_over_http_is_refused():
    body = json.dumps(request("kv.watch")).encode()
    _, _, reply = connection_http(f"POST /rpc HTTP/1.1\nHost: x\nContent-Length: {len(body)}\n", body)
    check("/events" in json.loads(reply)["error"]["message"], f"{reply}")


# ---------------------------------------------------------------------------------------------- values as streams

def test_values_of_all_sizes_by_http():
    with daemon.connect() as connection, daemon.connect() as rpc:
        for size in (0, 1, 1000, 16384, 16385, 65536, (3 << 20), (3 << 20) + 1, (17 << 20) + 5):
            value = random.Random(size).randbytes(size)
            key = f"value/{size}"
            status, headers, body = connection.http(f"PUT /value/{key} HTTP/1.1\nHost: x\nContent-Length: {size}\n", value)
            equal(status, 200, f"PUT of {size}: {body}")
            version = json.loads(body)["version"]
            status, headers, body = connection.http(f"GET /value/{key} HTTP/1.1\nHost: x\n")
            check(status == 200 and body == value, f"GET of {size}")
            equal(headers["etag"], f'"{version}"', "ETag")
            status, headers, _ = connection.http(f"HEAD /value/{key} HTTP/1.1\nHost: x\n")
            equal((status, int(headers["content-length"])), (200, size), "HEAD")
            if size <= 3 << 20:
                equal(get(rpc, key), value, f"kv.get of {size}")
            else:
                error = rpc.error("kv.get", {"key": key})
                equal((error["code"], error["data"]["name"]), (-32080, "USE_VALUE_PATH"), f"kv.get of {size}")
                check("/value/" in error["message"], "it names /value/")


def test_chunked_upload():
    value = random.Random(1).randbytes(5 << 20)
    with daemon.connect() as connection:
        connection.send(b"PUT /value/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        for at in range(0, len(value), 100_000):
            piece = value[at:at + 100_000]
            connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.send(b"0\r\n\r\n")
        equal(connection.http_reply()[0], 200, "status")
        equal(connection.http("GET /value/chunked HTTP/1.1\nHost: x\n")[2], value, "value")


def test_an_upload_that_breaks_off_stores_nothing():
    with daemon.connect() as connection:
        put(connection, "broken", b"before")
        broken = daemon.log().count("PUT /value: ")
        for head in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
            with daemon.connect() as upload:
                upload.send(f"PUT /value/broken HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
                upload.send(b"400000\r\n" + bytes(0x400000) + b"\r\n")  # more than buffers hold: it has begun when this returns
            broken += 1
            eventually("the store gave the upload up", lambda: daemon.log().count("PUT /value: ") == broken)
        equal(get(connection, "broken"), b"before", "the value")


def test_keys_in_paths():
    with daemon.connect() as connection, daemon.connect() as rpc:
        for path, key in (("plain", "plain"), ("a/b/c", "a/b/c"), ("%2fslash", "/slash"), ("per%25cent", "per%cent"), ("a+b", "a+b"),
                          ("%C3%BC", "\u00fc"), ("q%3Fx", "q?x"), ("sp%20ace", "sp ace"), ("//", "//")):
            status, _, body = connection.http(f"PUT /value/{path} HTTP/1.1\nHost: x\nContent-Length: 1\n", b"v")
            equal(status, 200, f"{path}: {body}")
            equal(get(rpc, key), b"v", f"{path} is {key!r}")
            rpc.result("kv.delete", {"key": key})
        for path, status in (("", 400), ("a%00b", 400), ("%zz", 400), ("%", 400), ("a%2", 400), ("%ff", 400), ("k" * 1025, 400), ("absent", 404)):
            got, _, body = connection.http(f"GET /value/{path} HTTP/1.1\nHost: x\n")
            equal(got, status, f"GET {path}")
            check(json.loads(body)["error"]["message"], f"GET {path} says why")


def test_conditional_uploads():
    with daemon.connect() as connection:
        def upload(query="", headers="", body=b"x"):
            return connection.http(f"PUT /value/cond{query} HTTP/1.1\nHost: x\nContent-Length: {len(body)}\n{headers}", body)
        status, _, body = upload("?if_version=null")
        equal(status, 200, "absent")
        version = json.loads(body)["version"]
        equal(upload("?if_version=null")[0], 412, "no longer absent")
        equal(upload(headers="If-None-Match: *\n")[0], 412, "no longer absent, by header")
        status, _, body = upload(headers=f'If-Match: "{version}"\n')
        equal(status, 200, "at its version")
        equal(upload(f"?if_version={version}")[0], 412, "no longer at that version")
        equal(upload(f"?if_version={json.loads(body)['version']}&ttl_ms=100000")[0], 200, "at the new version")
        check(int(connection.http("HEAD /value/cond HTTP/1.1\nHost: x\n")[1]["hero-expires-us"]) > 0, "it expires")
        for query, headers in (("?if_version=x", ""), ("?ttl_ms=0", ""), ("?ttl_ms=-1", ""), ("?ttl_ms=1x", ""),
                               ("", "If-Match: *\n"), ("", 'If-None-Match: "1"\n'), (f"?if_version={version}", "If-None-Match: *\n")):
            equal(upload(query, headers)[0], 400, f"{query} {headers}")


def test_arguments_that_there_are_not_change_nothing():
    """A key with a ? that was not encoded would otherwise be another key, and a misspelt condition none."""
    with daemon.connect() as connection:
        for line, part in (("PUT /value/arg?ttl=5", "'ttl'"), ("PUT /value/arg?if-version=null", "'if-version'"), ("PUT /value/arg?%ff=1", "'%ff'"),
                           ("PUT /value/arg?ttl_ms", "ttl_ms"), ("PUT /value/arg?ttl_ms=5&ttl_ms=6", "twice"), ("PUT /value/arg?x", "'x'"),
                           ("GET /value/arg?x", "%3F"), ("HEAD /value/arg?x", ""), ("GET /value/arg?ttl_ms=5", "ttl_ms"),
                           ("GET /events?form=0123456789abcdef-7", "'form'"), ("GET /events?prefix", "prefix")):
            status, _, body = connection.http(f"{line} HTTP/1.1\nHost: x\nContent-Length: 1\n", b"x")
            equal(status, 400, line)
            check(part in (json.loads(body)["error"]["message"] if body else ""), f"{line}: {body}")
        equal(connection.http("GET /value/arg HTTP/1.1\nHost: x\n")[0], 404, "nothing is stored")


def test_a_part_of_a_value_does_not_replace_it():
    with daemon.connect() as connection:
        status, _, body = connection.http("PUT /value/part HTTP/1.1\nHost: x\nContent-Range: bytes 5-9/10\nContent-Length: 5\n", b"world")
        equal(status, 400, "a part")
        check("Content-Range" in json.loads(body)["error"]["message"], f"{body}")
        equal(connection.http("GET /value/part HTTP/1.1\nHost: x\n")[0], 404, "nothing is stored")


def test_a_value_that_is_too_large_is_refused():
    with daemon.connect() as connection:
        status, _, body = connection.http(f"PUT /value/huge HTTP/1.1\nHost: x\nContent-Length: {(20 << 20) + 1}\n", bytes((20 << 20) + 1))
        equal((status, json.loads(body)["error"]["data"]["name"]), (413, "HKV_E_VALUE_TOO_LARGE"), "status")
        equal(connection.http("GET /value/huge HTTP/1.1\nHost: x\n")[0], 404, "nothing is stored")


def test_downloads_that_are_not_read_and_broken_off():
    with daemon.connect() as writer:
        writer.http(f"PUT /value/big HTTP/1.1\nHost: x\nContent-Length: {16 << 20}\n", bytes(16 << 20))
    downloads = [daemon.connect() for _ in range(16)]
    for download in downloads:
        download.send(b"GET /value/big HTTP/1.1\r\nHost: x\r\n\r\n")
        download.socket.recv(1000)
    with daemon.connect() as one_more:
        status, _, body = one_more.http("GET /value/big HTTP/1.1\nHost: x\n")
        equal(status, 503, "the 17th transfer at once")
        check("result" in daemon.connect().call("health"), "calls are served meanwhile")
    for download in downloads:
        download.close()
    eventually("transfers are free again", lambda: connection_http("GET /value/big HTTP/1.1\nHost: x\n")[0] == 200)


def test_paths_and_methods_that_there_are_not():
    with daemon.connect() as connection:
        for line, status in (("GET /", 404), ("GET /rpc", 405), ("HEAD /rpc", 405), ("POST /events", 405), ("POST /value/a", 405), ("DELETE /value/a", 405), ("GET /valu", 404), ("GET /rpc/x", 404)):
            got, headers, _ = connection.http(f"{line} HTTP/1.1\nHost: x\nContent-Length: 0\n")
            equal((got, "allow" in headers), (status, status == 405), line)
        status, _, _ = connection.http(f"POST /rpc HTTP/1.1\nHost: x\nContent-Length: {REQUEST_MAX + 1}\n", b" " * (REQUEST_MAX + 1))
        equal(status, 413, "a request that is too long")


# ---------------------------------------------------------------------------------------------- starting and stopping

def start_failing(*flags, environment=None):
    """Exit code and output of a daemon that must not start."""
    done = subprocess.run([SERVER, *flags], capture_output=True, text=True, timeout=60, env=environment or clean_environment())
    return done.returncode, done.stderr


def test_the_socket_is_private():
    mode = os.stat(daemon.path).st_mode
    check(stat.S_ISSOCK(mode), "it is a socket")
    equal(stat.S_IMODE(mode), 0o600, "its mode")


def test_shutdown_in_order():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Daemon(SERVER) as own:
            with own.connect() as connection, own.connect() as watching, own.connect() as upload, own.connect() as waiting:
                watching.result("kv.watch")
                put(connection, "a", b"1")
                upload.send(b"PUT /value/b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
                waiting.send(b"G")
                equal(own.stop(number), 0, f"exit code after {number.name}")
                check(not os.path.exists(own.path), "the socket is removed")
                check("stopped" in own.log(), own.log())


def test_a_shutdown_ends_what_waits_behind_a_waiting_call():
    """A store keeps kv.wait_converged waiting until it closes; what comes behind it finds no store any more."""
    peer = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a@127.0.0.1:9"
    behind = [request("kv.put", 2, key="a", value=""), request("kv.get", 3, key="a"), request("kv.list", 4), [request("kv.list", 5)],
              request("kv.status", 6), request("kv.watch", 7), request("kv.put", 8, key="long", value="A" * 100_000)]
    with Daemon(SERVER) as own, own.connect() as connection, own.connect() as other:
        other.result("kv.peer_add", {"peer": peer})
        connection.send_json(request("kv.wait_converged", 1, timeout_ms=600_000))
        connection.send(b"".join(json.dumps(each).encode() + b"\n" for each in behind))
        other.result("health")
        equal(own.stop(), 0, f"exit code, {own.log()}")
        replies = [json.loads(line) for line in connection.stream]
        equal(len([each for each in replies if isinstance(each, list) or "id" in each]), 1 + len(behind), f"replies: {replies}")


def test_more_signals_do_not_cut_a_shutdown_short():
    """timeout(1) sends two of them, and so do shells to a group."""
    for _ in range(3):
        with Daemon(SERVER) as own:
            while own.process.poll() is None:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    own.process.send_signal(number)
            equal(own.process.returncode, 0, "exit code")
            check(not os.path.exists(own.path), "the socket is removed")


def test_a_stale_socket_is_replaced_and_a_living_one_is_not():
    with Daemon(SERVER) as own:
        code, output = start_failing("--data-dir", own.folder + "/other", "--socket-dir", own.socket_dir)
        equal(code, 1, "a second daemon on the socket of a living one")
        check("another daemon" in output and own.path in output, output)
        equal(own.stop(signal.SIGKILL), -signal.SIGKILL, "killed")
        check(os.path.exists(own.path), "its socket stays")
        environment = clean_environment()
        with open(own.log_path, "w") as log:
            own.process = subprocess.Popen([SERVER, "--data-dir", own.folder + "/data", "--socket-dir", own.socket_dir, "--port", "0",
                                            "--bind-ipv4", "127.0.0.1", "--bind-ipv6", ""], stderr=log, env=environment)
        eventually("the next daemon serves", own.serves)


def test_faults_of_the_configuration_are_named():
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")

        def with_config(text):
            with open(config, "w") as file:
                file.write(text)
            return start_failing("--config", config)

        for (code, output), part in (
                (start_failing("--nonsense"), "--nonsense"), (start_failing("word"), "word"), (start_failing("--port"), "--port"),
                (start_failing("--port", "65536"), "--port"), (start_failing("--port", "x"), "--port"),
                (start_failing("--anti-entropy-ms", "99"), "--anti-entropy-ms"), (start_failing("--log-level", "loud"), "--log-level"),
                (start_failing("--log-json=1"), "--log-json"), (start_failing("--data-dir", ""), "--data-dir"),
                (start_failing("--socket-dir="), "--socket-dir"), (start_failing("--seed", ""), "--seed"),
                (with_config('{"data_dir": ""}'), "data_dir"), (with_config('{"trusted": [""]}'), "trusted"),
                (with_config('{"port": 1.5}'), "whole number"), (start_failing("--name", "a", "--name", "b"), "--name"),
                (start_failing("--namespace-secret-file", folder + "/none"), folder + "/none"),
                (start_failing("--config", folder + "/none"), folder + "/none"),
                (with_config("{"), config), (with_config("[]"), config), (with_config('{"seed": "a"}'), "seed"),
                (with_config('{"nonsense": 1}'), "nonsense"), (with_config('{"port": "1"}'), "port"),
                (with_config('{"log_json": 1}'), "log_json"), (with_config('{"config": "x"}'), "config"),
                (with_config('{"port": 1, "port": 2}'), "port")):
            equal(code, 2, f"exit code ({output})")
            check(part in output, f"{output!r} does not name {part}")
        code, output = start_failing("--data-dir", folder + "/d", "--socket-dir", folder + "/" + "s" * 100)
        equal(code, 1, "a path too long for a socket")
        check("107" in output and "--socket-dir" in output, output)
        open(folder + "/file", "w").close()
        code, output = start_failing("--data-dir", folder + "/d", "--socket-dir", folder + "/file")
        equal(code, 1, "a file where the folder should be")
        check(folder + "/file" in output, output)


def test_help_and_version():
    for flag, part in (("--help", "HERO_CODESCALERS_KVS_NAMESPACE_SECRET"), ("--version", "0.")):
        done = subprocess.run([SERVER, flag], capture_output=True, text=True, timeout=60)
        equal(done.returncode, 0, flag)
        check(part in done.stdout, done.stdout)


def test_readiness_is_notified():
    with tempfile.TemporaryDirectory() as folder:
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(folder + "/notify")
        notify.settimeout(60)
        environment = clean_environment(NOTIFY_SOCKET=folder + "/notify", WATCHDOG_USEC="20000")
        with Daemon(SERVER, environment=environment) as own:
            equal(notify.recv(100), b"READY=1", "first")
            equal(notify.recv(100), b"WATCHDOG=1", "then")
            equal(own.stop(), 0, "exit code")
            states = {b"WATCHDOG=1"}
            while b"STOPPING=1" not in states:
                states.add(notify.recv(100))
        notify.close()


def test_hangup_adds_the_seeds_of_the_file():
    peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6"
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w") as file:
            file.write("{}")
        with Daemon(SERVER, "--config", config) as own, own.connect() as connection:
            equal(connection.result("kv.peers"), {"peers": []}, "at first")
            with open(config, "w") as file:
                json.dump({"seed": [peer + "@127.0.0.1:9"]}, file)
            own.process.send_signal(signal.SIGHUP)
            eventually("the seed is known",
                       lambda: [each["endpoint_id"] for each in connection.result("kv.peers")["peers"]] == [peer])
            with open(config, "w") as file:
                file.write("nonsense")
            own.process.send_signal(signal.SIGHUP)
            eventually("a broken file is reported", lambda: "--config" in own.log())
            check("result" in connection.call("health"), "and changes nothing")


def test_hangup_adds_no_seeds_when_a_stronger_source_names_them():
    given = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    of_file = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w") as file:
            json.dump({"seed": [of_file + "@127.0.0.1:9"]}, file)
        for flags, variables in ((["--seed", given + "@127.0.0.1:9"], {}), ([], {"HERO_CODESCALERS_KVS_SEEDS": given + "@127.0.0.1:9"})):
            with Daemon(SERVER, "--config", config, *flags, environment=clean_environment(**variables)) as own, own.connect() as connection:
                own.process.send_signal(signal.SIGHUP)
                eventually("the signal is answered", lambda: "SIGHUP: " in own.log())
                peers = [each["endpoint_id"] for each in connection.result("kv.peers")["peers"]]
                check(of_file not in peers, f"{flags} {variables}: {own.log()}")


def test_a_group_may_have_the_socket():
    group = grp.getgrgid(os.getgid()).gr_name
    with Daemon(SERVER, "--socket-group", group) as own:
        status = os.stat(own.path)
        equal((stat.S_IMODE(status.st_mode), status.st_gid), (0o660, os.getgid()), "mode and group")
    with tempfile.TemporaryDirectory() as folder:
        code, output = start_failing("--data-dir", folder + "/d", "--socket-dir", folder, "--socket-group", "no-such-group")
        equal(code, 1, "a group that there is not")
        check("no-such-group" in output, output)
        check(not os.path.exists(folder + "/hero_codescalers/rpc.sock"), "no socket is left behind")


def test_secrets_and_directories_from_the_environment():
    with daemon.connect() as connection:
        if connection.result("kv.info")["data_dir"] == "/nowhere":
            return  # the store in memory has no secrets
    raw = bytes(range(32))
    forms = (raw.hex(), raw.hex().upper(), base64.b32encode(raw).decode().rstrip("="), base64.b32encode(raw).decode().rstrip("=").lower())
    seen = set()
    with tempfile.TemporaryDirectory() as folder:
        for number, form in enumerate(forms):
            data = os.path.join(folder, str(number))
            environment = clean_environment(HERO_CODESCALERS_KVS_NAMESPACE_SECRET=form, HERO_CODESCALERS_KVS_AUTHOR_SECRET=form,
                                            HERO_CODESCALERS_KVS_DATA_DIR=data, HERO_CODESCALERS_KVS_SEEDS="")
            with Daemon(SERVER, data_dir=False, environment=environment) as own, own.connect() as connection:
                info = connection.result("kv.info")
                equal(info["data_dir"], data, "data directory")
                seen.add((info["namespace_id"], info["author_id"]))
            with open(os.path.join(data, "keys", "namespace.secret")) as file:
                equal(file.read(), raw.hex() + "\n", "the stored secret")
        equal(len(seen), 1, "namespaces and authors of one secret in four spellings")
        for name in ("NAMESPACE", "AUTHOR"):
            environment = clean_environment(**{f"HERO_CODESCALERS_KVS_{name}_SECRET": "11" * 32})
            code, output = start_failing("--data-dir", folder + "/0", "--socket-dir", folder, environment=environment)
            equal(code, 1, f"another {name} secret than the stored one")
            check("keys/" in output and "11" * 32 not in output, output)


def test_sources_of_the_configuration():
    """A flag is stronger than a variable, which is stronger than the file; an empty variable is unset."""
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w") as file:
            json.dump({"socket_dir": folder + "/file", "data_dir": folder + "/data-file", "log_json": True, "port": 0, "bind_ipv6": ""}, file)
        for flags, variables, expected in (
                (["--socket-dir", folder + "/flag"], {"HERO_SOCKET_DIR": folder + "/variable"}, "flag"),
                ([], {"HERO_SOCKET_DIR": folder + "/variable"}, "variable"), ([], {"HERO_SOCKET_DIR": ""}, "file")):
            process = subprocess.Popen([SERVER, "--config", config, "--bind-ipv4", "127.0.0.1", *flags], stderr=subprocess.PIPE, text=True,
                                       env=clean_environment(**variables))
            try:
                path = os.path.join(folder, expected, "hero_codescalers", "rpc.sock")
                serving = next(json.loads(line)["message"] for line in process.stderr if "serving" in line)
                equal(serving, f"serving on {path}", f"{flags} {variables}")
            finally:
                process.terminate()
                process.communicate(timeout=60)


with Daemon(SERVER, "--max-value-bytes", str(20 << 20), "--log-level", "info,server=debug") as daemon:
    run(globals())
