#!/usr/bin/env python3
"""The command line tool against a running daemon: what it prints, its exit codes, values of all sizes, finding the socket.

usage: test_cli.py SERVER CLI"""

import base64
import json
import os
import random
import subprocess
import sys
import tempfile

from daemon import Daemon, check, clean_environment, equal, eventually, run

SERVER, CLI = sys.argv[1:3]
IS_FAKE = "fake" in SERVER  # a store in memory has no folder


def cli(*arguments, stdin=b"", environment=None, socket_dir=True):
    """Exit code, output (bytes) and error text."""
    where = ["--socket-dir", daemon.socket_dir] if socket_dir else []
    done = subprocess.run([CLI, *arguments[:1], *where, *arguments[1:]], input=stdin, capture_output=True, timeout=60,
                          env=environment or clean_environment())
    return done.returncode, done.stdout, done.stderr.decode()


def ok(*arguments, stdin=b""):
    code, output, error = cli(*arguments, stdin=stdin)
    equal(code, 0, f"{arguments}: exit code ({error})")
    equal(error, "", f"{arguments}: stderr")
    return output


def test_put_get_del():
    first = ok("put", "greeting", "hello").decode().strip()
    equal(ok("get", "greeting"), b"hello", "the value, byte by byte")
    second = ok("put", "greeting", stdin=b"from\0stdin\n").decode().strip()
    check(first != second and second.count("-") == 1, f"versions {first}, {second}")
    equal(ok("get", "greeting"), b"from\0stdin\n", "the value from stdin")
    ok("put", "greeting", "--", "--dashes")
    equal(ok("get", "greeting"), b"--dashes", "a value behind --")
    ok("put", "empty", "")
    equal(ok("get", "empty"), b"", "an empty value")
    ok("del", "greeting")
    code, output, error = cli("get", "greeting")
    equal((code, output), (3, b""), "an absent key")
    check("absent" in error, error)


def test_values_of_all_sizes():
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, 65536, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 3 << 20, (3 << 20) + 1, (10 << 20) + 3):
            value = random.Random(size).randbytes(size)
            source, target = folder + "/source", folder + "/target"
            with open(source, "wb") as file:
                file.write(value)
            ok("put", "sized/file", "--file", source)
            ok("put", "sized/stdin", stdin=value)
            for key in ("sized/file", "sized/stdin"):
                check(ok("get", key) == value, f"{key} of {size} bytes to stdout")
                ok("get", key, "--output", target)
                with open(target, "rb") as file:
                    check(file.read() == value, f"{key} of {size} bytes to a file")
                reply = json.loads(ok("get", key, "--json"))
                check(base64.b64decode(reply["value"]) == value, f"{key} of {size} bytes as JSON")
                equal(sorted(reply), ["author", "stamp_us", "value", "version"], "members")
        equal(sorted(os.listdir(folder)), ["source", "target"], "files left behind")
        code, _, error = cli("put", "sized/huge", stdin=bytes(21 << 20))
        equal(code, 1, "a value above max_value_bytes")
        check("max_value_bytes" in error, error)


def test_a_value_of_any_size_shows_when_it_expires():
    for size in (1, 4 << 20):
        ok("put", "expires", "--ttl-ms", "1000000", stdin=bytes(size))
        reply = json.loads(ok("get", "expires", "--json"))
        check(reply.get("expires_us", 0) > reply["stamp_us"], f"{size} bytes")


def test_conditions():
    version = ok("put", "cond", "1", "--if-absent").decode().strip()
    equal(cli("put", "cond", "2", "--if-absent")[0], 1, "no longer absent")
    version = ok("put", "cond", "2", "--if-version", version).decode().strip()
    equal(cli("put", "cond", "3", "--if-version", "1-" + "0" * 64)[0], 1, "another version")
    big = bytes(4 << 20)
    equal(cli("put", "cond", "--if-absent", stdin=big)[0], 1, "no longer absent, as a stream")
    version = ok("put", "cond", "--if-version", version, "--ttl-ms", "1000000", stdin=big).decode().strip()
    equal(cli("del", "cond", "--if-version", "1-" + "0" * 64)[0], 1, "another version")
    ok("del", "cond", f"--if-version={version}")


def test_lists_page_through_everything():
    keys = [f"page/{i:04}" for i in range(1234)]
    requests = b"".join(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "kv.put", "params": {"key": key, "value": "YQ=="}}).encode() + b"\n"
                        for key in keys)
    with daemon.connect() as connection:
        connection.send(requests)
        for _ in keys:
            connection.line()
    equal(ok("keys", "page/").decode().split(), keys, "keys")
    equal([json.loads(line) for line in ok("keys", "page/", "--json").splitlines()], keys, "keys as JSON")
    equal(ok("keys", "page/", "--limit", "1100").decode().split(), keys[:1100], "--limit over a page")
    equal([json.loads(line)["key"] for line in ok("ls", "page/", "--json").splitlines()], keys, "ls as JSON")
    equal(len(ok("ls", "page/", "--limit", "3").splitlines()), 3, "ls --limit")
    equal(ok("keys", "none/"), b"", "no keys")


def test_what_is_printed_is_harmless_to_a_terminal():
    ok("put", "nasty\x1b[31m\nkey", "\x1b]0;title\x07\u00fc")
    for verb in ("keys", "ls"):
        output = ok(verb, "nasty")
        check(b"\x1b" not in output and b"\x07" not in output and output.count(b"\n") == 1, f"{output}")
        check(b"\\x1b" in output, f"{output}")
    check("\u00fc".encode() in ok("ls", "nasty"), "text stays readable")


def test_watch():
    process = subprocess.Popen([CLI, "watch", "--socket-dir", daemon.socket_dir, "seen/", "--json", "--count", "2"], stdout=subprocess.PIPE,
                               env=clean_environment())
    try:
        progress = json.loads(process.stdout.readline())  # the watch has begun
        equal(progress["type"], "PROGRESS", "first event")
        ok("put", "seen/a", "x")
        ok("del", "seen/a")
        ok("put", "seen/b", "x")
        events = [json.loads(line) for line in process.stdout.readlines()]
        equal(process.wait(60), 0, "exit code")
        events = [(event["type"], event["key"]) for event in events if "key" in event]
        equal(events, [("PUT_LOCAL", "seen/a"), ("DELETE_LOCAL", "seen/a")], "events")
    finally:
        process.kill()


def key_lines(output):
    return [line.decode().split() for line in output.splitlines() if b"positions/" in line]


def test_watch_goes_on_behind_a_position():
    ok("put", "positions/a", "x")
    (listed,) = key_lines(ok("watch", "positions/", "--list", "--count", "1"))
    equal(listed[:2], ["LISTED", "positions/a"], "what is there")
    check("position" not in listed, f"{listed}")
    start = json.loads(ok("status", "--json"))["position"]
    ok("put", "positions/b", "x")
    ok("put", "positions/c", "x")
    (line,) = key_lines(ok("watch", "positions/", "--from", start, "--count", "1"))
    equal((line[:2], line[-2]), (["PUT_LOCAL", "positions/b"], "position"), "the change behind the position")
    (line,) = key_lines(ok("watch", "positions/", "--from", line[-1], "--count", "1"))
    equal(line[:2], ["PUT_LOCAL", "positions/c"], "the change behind that")
    code, _, error = cli("watch", "--from", "yesterday")
    check(code != 0 and "position" in error, f"{code} {error}")


def test_history_info_status_ticket():
    ok("put", "old", "1")
    ok("put", "old", "2")
    check("(shown)" in ok("history", "old").decode(), "history")
    equal(json.loads(ok("history", "old", "--json").splitlines()[0])["kind"], "value", "history as JSON")
    equal(cli("history", "never")[0], 3, "history of nothing")
    info = json.loads(ok("info", "--json"))
    check(info["namespace_id"] in ok("info").decode(), "info")
    status = json.loads(ok("status", "--json"))
    equal(status["healthy"], True, "healthy alone")
    check("healthy" in ok("status").decode(), "status")
    ok("status", "--wait-converged", "--timeout-ms", "5000")
    check(ok("ticket", "read").startswith(b"doc"), "ticket")
    check("no peers" in ok("peers").decode(), "peers")
    check("no peers" in ok("sync").decode(), "sync")
    equal(json.loads(ok("sync", "--json")), {"ok": True, "peers": []}, "sync as JSON")
    ok("join", ok("ticket", "write").decode().strip())


def test_clocks_are_shown():
    status = json.loads(ok("status", "--json"))
    equal((status["clock_why"], status["identity_why"]), ("", ""), "nothing wrong with clock and identity")
    if not status["refused"]:
        return  # a real store has none; the made-up one says what it would look like
    check(f"3 of author {'a' * 16} from peer {'b' * 16}, up to 1200 s ahead" in ok("status").decode(), "refused entries")
    peer = "f" * 64 + "@127.0.0.1:9"
    ok("peer", "add", peer)
    check("clock 1.235 s behind" in ok("peers").decode(), "skew")
    ok("peer", "rm", peer)


def test_call():
    equal(json.loads(ok("call", "kv.get", '{"key": "never"}'))["value"], None, "call")
    equal(json.loads(ok("call", "kv.get", '["never"]', "--json"))["value"], None, "by position")
    equal(json.loads(ok("call", "server.info"))["name"], "hero_codescalers_server", "without parameters")
    code, _, error = cli("call", "no.such", "--json")
    equal((code, json.loads(error)["error"]["code"]), (1, -32601), "an error as JSON")


def test_wrong_usage():
    for arguments in ((), ("frobnicate",), ("get",), ("get", "a", "b"), ("get", "a", "--nonsense"), ("put", "a", "b", "--file", "c"),
                      ("put", "a", "b", "--ttl-ms", "0"), ("put", "a", "b", "--ttl-ms", "x"), ("put", "a", "b", "--ttl-ms"),
                      ("peer", "add"), ("peer", "other", "x"), ("ticket", "other"), ("completion", "tcsh"), ("call", "health", "{"),
                      ("get", "a", "--json=1"), ("keys", "--limit", "0"), ("get", "a", "--json", "--output", "x"), ("get", b"\xff")):
        code, output, error = cli(*arguments) if arguments else cli(socket_dir=False)
        equal((code, output), (2, b""), f"{arguments}")
        equal(len(error.strip().splitlines()), 1, f"{arguments}: one sentence, not {error!r}")
    check("error" in json.loads(cli("get", "--json")[2]), "wrong usage as JSON")


def test_failures_are_one_sentence():
    for arguments in (("peer", "add", "nobody"), ("join", "nothing"), ("get", ""), ("put", "k" * 1025, "x"), ("put", "a", "--file", "/nowhere/x")):
        code, output, error = cli(*arguments)
        equal((code, output), (1, b""), f"{arguments}")
        equal(len(error.strip().splitlines()), 1, f"{arguments}: one sentence, not {error!r}")
        check(len(error) > 30, f"{arguments}: {error!r}")


def test_a_daemon_without_a_place_says_why():
    """Whether or not the refused connection was closed before the tool wrote to it."""
    connections = []
    try:
        while len(connections) < 256:
            connections.append(daemon.connect())
            connections[-1].result("server.info")
        for _ in range(5):
            for arguments, stdin in ((("get", "a"), b""), (("put", "a", "b"), b""), (("put", "a"), bytes(1 << 20)), (("put", "a"), bytes(3 << 20))):
                code, output, error = cli(*arguments, stdin=stdin)
                equal((code, output), (1, b""), f"{arguments}")
                check("256 connections" in error and error.count("\n") == 1, f"{arguments}, {len(stdin)} bytes: {error!r}")
    finally:
        for connection in connections:
            connection.close()
    eventually("connections are free again", lambda: cli("get", "a")[0] == 3)


def test_lost_output_is_a_failure():
    ok("put", "lost/a", "x")
    for arguments in (("get", "lost/a"), ("keys", "lost/"), ("watch", "lost/", "--list"), ("call", "kv.watch", '{"prefix": "lost/", "list": true}')):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CLI, arguments[0], "--socket-dir", daemon.socket_dir, *arguments[1:]], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=60, env=clean_environment())
        equal(done.returncode, 1, f"{arguments}: exit code")
        check("cannot write" in done.stderr, f"{arguments}: {done.stderr!r}")


def test_finding_the_socket():
    with tempfile.TemporaryDirectory() as folder:
        code, _, error = cli("info", environment=clean_environment(HERO_SOCKET_DIR=folder), socket_dir=False)
        equal(code, 5, "no daemon")
        check(folder in error and "hero_codescalers_server" in error, error)
        for variables in ({"HERO_SOCKET_DIR": daemon.socket_dir}, {"HERO_SOCKET_DIR": daemon.socket_dir, "XDG_RUNTIME_DIR": folder}):
            equal(cli("info", environment=clean_environment(**variables), socket_dir=False)[0], 0, f"{variables}")
        os.symlink(daemon.socket_dir, folder + "/hero")
        equal(cli("info", environment=clean_environment(XDG_RUNTIME_DIR=folder, HERO_SOCKET_DIR=""), socket_dir=False)[0], 0, "XDG_RUNTIME_DIR")
        os.makedirs(folder + "/home/hero/var")
        os.symlink(daemon.socket_dir, folder + "/home/hero/var/sockets")
        home = clean_environment(HOME=folder + "/home", XDG_RUNTIME_DIR=folder + "/nothing")
        equal(cli("info", environment=home, socket_dir=False)[0], 0, "the next place when one has no daemon")


def test_help_and_completions():
    text = cli("--help", socket_dir=False)[1].decode()
    verbs = [line.split()[0] for line in text.split("verbs (")[1].split("flags of")[0].splitlines()[1:] if line.strip()]
    check({"put", "get", "del", "ls", "keys", "watch", "history", "status", "info", "peers", "peer", "sync", "ticket", "join", "call"} <= set(verbs), f"{verbs}")
    completion = {shell: ok("completion", shell).decode() for shell in ("bash", "zsh", "fish")}
    for verb in verbs:
        check(verb in ok(verb, "--help").decode(), f"{verb} --help")
        for shell, script in completion.items():
            check(verb in script, f"{verb} in the completion for {shell}")
    for words, last, completed in (("status --w", 2, "--wait-converged"), ("put --file /et", 3, "/etc"), ("verify --data-dir /et", 3, "/etc")):
        script = completion["bash"] + f'\nCOMP_WORDS=(hero_codescalers {words}); COMP_CWORD={last}; _hero_codescalers; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        equal((done.stdout.strip(), done.stderr), (completed, ""), f"completion of {words} in bash")


def test_verify():
    ok("put", "verified", stdin=bytes(100000))
    check("nothing is damaged" in ok("verify").decode(), "a sound store")
    result = json.loads(ok("verify", "--json"))
    equal((result["sound"], result["values"]["bad"]), (True, 0), "a sound store as JSON")
    if IS_FAKE:
        return
    with Daemon(SERVER) as other:
        with other.connect() as connection:
            connection.result("kv.put", {"key": "k", "value": base64.b64encode(bytes(100000)).decode()})
            folder = connection.result("kv.info")["data_dir"]
        code, _, error = cli("verify", "--data-dir", folder, socket_dir=False)
        equal(code, 1, "the store of a running daemon")
        check("--data-dir" in error, error)
        other.stop()
        equal(cli("verify", "--data-dir", folder, socket_dir=False)[0], 0, "a stopped store")
        (name,) = os.listdir(folder + "/blobs")
        with open(folder + "/blobs/" + name, "r+b") as file:
            file.seek(5000)
            file.write(b"x")
        code, output, error = cli("verify", "--data-dir", folder, socket_dir=False)
        equal((code, error), (1, ""), "a damaged store")
        check(b"1 bad" in output and b"100000 bytes" in output, output)
        result = json.loads(cli("verify", "--data-dir", folder, "--json", socket_dir=False)[1])
        equal((result["sound"], result["values"]["bad"]), (False, 1), "a damaged store as JSON")
    equal(cli("verify", "--data-dir", "/nonexistent", socket_dir=False)[0], 1, "no store")


with Daemon(SERVER, "--max-value-bytes", str(20 << 20)) as daemon:
    run(globals())
