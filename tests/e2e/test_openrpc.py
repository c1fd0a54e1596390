#!/usr/bin/env python3
"""Holds a running daemon against openrpc.json: every method in it is served, every parameter keeps its rules, and every result has
the described shape and nothing more. (That every served method is described: tests/unit/server/test_methods.c.)

usage: test_openrpc.py SERVER"""

import base64
import json
import pathlib
import re
import sys

from daemon import Daemon, check, equal, run

DOCUMENT = json.loads((pathlib.Path(__file__).resolve().parents[2] / "openrpc.json").read_text())
METHODS = {method["name"]: method for method in DOCUMENT["methods"]}
KEY = "shape/key"
PEER = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6@127.0.0.1:9"


def resolve(part):
    while "$ref" in part:
        found = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "null": lambda value: value is None,
}
KNOWN_WORDS = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "pattern", "minimum", "maximum",
               "minLength", "maxItems", "oneOf", "description"}


def faults(schema, value, path="result"):
    """Where a value differs from a schema: the words of JSON Schema that openrpc.json uses."""
    schema = resolve(schema)
    check(set(schema) <= KNOWN_WORDS, f"openrpc.json uses words this test does not know: {set(schema) - KNOWN_WORDS}")
    if "oneOf" in schema:
        fitting = [each for each in schema["oneOf"] if not faults(each, value, path)]
        return [] if len(fitting) == 1 else [f"{path}: {len(fitting)} of oneOf fit {value!r}"]
    if "const" in schema and value != schema["const"]:
        return [f"{path}: {value!r} is not {schema['const']!r}"]
    if "type" in schema and not TYPES[schema["type"]](value):
        return [f"{path}: {value!r} is no {schema['type']}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: {value!r} does not match {schema['pattern']}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{path}: {value} is below {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"{path}: {value} is above {schema['maximum']}")
    if "minLength" in schema and len(value) < schema["minLength"]:
        found.append(f"{path}: {value!r} is too short")
    if "properties" in schema:
        found += [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, member in value.items():
            if name in schema["properties"]:
                found += faults(schema["properties"][name], member, f"{path}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{path}.{name} is not described")
    for index, member in enumerate(value if "items" in schema else []):
        found += faults(schema["items"], member, f"{path}[{index}]")
    return found


def examples(connection):
    """Parameters with which each method succeeds; several where the results differ."""
    value = base64.b64encode(b"value").decode()
    version = connection.result("kv.put", {"key": KEY, "value": value})["version"]
    connection.result("kv.put", {"key": "shape/expires", "value": value, "ttl_ms": 3600000})
    connection.result("kv.put", {"key": "shape/long", "value": base64.b64encode(bytes(2 << 20)).decode()})
    connection.result("kv.peer_add", {"peer": PEER})
    ticket = connection.result("kv.ticket", {"mode": "write"})["ticket"]
    return {
        "kv.put": [{"key": KEY, "value": value, "if_version": version}, {"key": "shape/new", "value": "", "if_version": None},
                   {"key": KEY, "value": value, "ttl_ms": 3600000}, ["shape/by-position", value]],
        "kv.get": [{"key": "shape/new"}, {"key": "shape/absent"}, {"key": "shape/expires"}, ["shape/new"]],
        "kv.delete": [{"key": "shape/new"}, {"key": "shape/never"}, {"key": "shape/never", "if_version": None}],
        "kv.list": [{}, {"prefix": "shape/"}, {"prefix": "shape/", "limit": 1}, {"prefix": "none/"}],
        "kv.list_keys": [{}, {"prefix": "shape/", "limit": 1}],
        "kv.history": [{"key": KEY}, {"key": "shape/never-written"}, {"key": "shape/new"}],
        "kv.watch": [{}, {"prefix": "shape/"}, {"from": "0123456789abcdef-7"}, {"prefix": "shape/", "list": True}],
        "kv.info": [{}, None, []],
        "kv.status": [{}],
        "kv.peers": [{}],
        "kv.peer_add": [{"peer": PEER}],
        "kv.peer_remove": [{"peer": PEER}],
        "kv.sync_once": [{"timeout_ms": 1}, {}],
        "kv.wait_converged": [{"timeout_ms": 1}, {"timeout_ms": 1, "peers": [PEER]}],
        "kv.verify": [{}, None],
        "kv.ticket": [{"mode": "read"}, {"mode": "write"}],
        "kv.join": [{"ticket": ticket}, {"ticket": ticket, "format": "auto"}],
        "health": [{}, None],
        "server.info": [{}],
        "rpc.discover": [{}],
    }


def wrong_values(schema):
    """Values that a parameter of this schema must refuse."""
    schema = resolve(schema)
    if "oneOf" in schema:
        return [{}, [], 7, True, "", "no version"]
    wrong = [value for value in ({}, [], 7, True, None, "text", 1.5) if not TYPES[schema["type"]](value)]
    if schema["type"] == "array":
        wrong += [[1], [None], [["a"]]]
    if "enum" in schema:
        wrong += ["", "other"]
    if "minimum" in schema:
        wrong.append(schema["minimum"] - 1)
    if "maximum" in schema:
        wrong.append(schema["maximum"] + 1)
    if schema.get("description", "").startswith("RFC 4648"):
        wrong += ["a", "ab", "abc", "ab==", "abc_", "YQ=", "YR==", "YWI", "YQ==YQ==", "Y Q=", "====", "\n"]
    return wrong


def test_the_document_is_what_the_daemon_serves():
    with daemon.connect() as connection:
        equal(connection.result("rpc.discover"), DOCUMENT, "rpc.discover")


def test_every_result_has_its_shape():
    with daemon.connect() as connection:
        cases = examples(connection)
        equal(sorted(cases), sorted(METHODS), "methods with examples in this test")
        for name, calls in cases.items():
            for params in calls:
                if name == "kv.watch":
                    with daemon.connect() as watching:
                        result = watching.result(name, params)
                else:
                    result = connection.result(name, params)
                equal(faults(METHODS[name]["result"]["schema"], result), [], f"{name} {params}")


def test_every_error_has_its_shape():
    known = {error["code"]: error["data"] for error in DOCUMENT["components"]["errors"].values()}
    with daemon.connect() as connection:
        for method, params in (("kv.get", {"key": ""}), ("kv.get", {"key": "a\0b"}), ("kv.get", {}), ("no.such", {}),
                               ("kv.put", {"key": KEY, "value": "", "if_version": "1-" + "0" * 64}),
                               ("kv.peer_add", {"peer": "nobody"}), ("kv.join", {"ticket": "nothing"}),
                               ("kv.list", {"cursor": "\x01"})):
            error = connection.error(method, params)
            check(error["code"] in known, f"{method}: code {error['code']} is not in openrpc.json")
            data = dict(error["data"])
            data.pop("param", None)
            equal(data, known[error["code"]], f"{method}: data of {error['code']}")
            check(len(error["message"]) > 10, f"{method}: the message says nothing: {error['message']!r}")
            equal(sorted(set(error) - {"code", "message", "data"}), [], f"{method}: members of the error")


def test_unknown_parameters_are_refused():
    with daemon.connect() as connection:
        for name, method in METHODS.items():
            for params in ({"nonsense": 1}, [None] * (len(method["params"]) + 1)):
                error = connection.error(name, params)
                equal(error["code"], -32602, f"{name} {params}")
            check("nonsense" in connection.error(name, {"nonsense": 1})["message"], f"{name}: the message names the parameter")


def test_wrong_parameters_are_refused_by_name():
    with daemon.connect() as connection:
        cases = examples(connection)
        for name, method in METHODS.items():
            good = next((dict(case) for case in cases[name] if isinstance(case, dict)), {})
            for param in method["params"]:
                for value in wrong_values(param["schema"]):
                    error = connection.error(name, {**good, param["name"]: value})
                    equal(error["code"], -32602, f"{name} {param['name']}={value!r} ({error['message']})")
                    check(f"'{param['name']}'" in error["message"], f"{name}: {error['message']!r} does not name {param['name']}")
                    equal(error["data"].get("param"), param["name"], f"{name}: data.param")
                if param["required"]:
                    without = {key: value for key, value in good.items() if key != param["name"]}
                    error = connection.error(name, without)
                    equal(error["code"], -32602, f"{name} without {param['name']}")
                    check(param["name"] in error["message"], f"{name}: {error['message']!r} does not name {param['name']}")


def test_events_have_their_shape():
    event_schema = {"$ref": "#/components/schemas/Event"}
    with daemon.connect() as watching, daemon.connect() as writing:
        number = watching.result("kv.watch", {"prefix": "event/"})["watch"]
        written = writing.result("kv.put", {"key": "event/a", "value": "YQ=="})["version"]
        deleted = writing.result("kv.delete", {"key": "event/a"})["version"]
        seen = []
        while len(seen) < 2:
            event = watching.line()
            equal((event["jsonrpc"], event["method"], sorted(event)), ("2.0", "kv.event", ["jsonrpc", "method", "params"]), "envelope")
            equal(faults(event_schema, event["params"], "event"), [], "event")
            equal(event["params"]["watch"], number, "number of the watch")
            if "key" in event["params"]:
                seen.append((event["params"]["type"], event["params"]["key"], event["params"]["version"]))
        equal(seen, [("PUT_LOCAL", "event/a", written), ("DELETE_LOCAL", "event/a", deleted)], "events")


with Daemon(sys.argv[1], "--anti-entropy-ms", "1000") as daemon:
    run(globals())
