#!/usr/bin/env python3
"""The man pages name every flag, verb and environment variable that --help names, and none that there is not.

usage: test_man.py SERVER CLI SIMULATOR"""

import pathlib
import re
import subprocess
import sys

from daemon import check, equal, run

SERVER, CLI, SIMULATOR = sys.argv[1:4]
MAN = pathlib.Path(__file__).resolve().parents[2] / "man"


def help_of(*command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    equal((done.returncode, done.stderr), (0, ""), f"{command} --help")
    return done.stdout


def flags_in_help(text):
    return set(re.findall(r"^  --([a-z0-9-]+)", text, re.MULTILINE))


def flags_in_page(text):
    return set(re.findall(r"\bFl -([a-z0-9-]+)", text))


def variables_in_help(text):
    return {name for name in re.findall(r"\b[A-Z][A-Z_0-9]{3,}\b", text.split("environment (")[1].split("exit:")[0])} - {"SIGTERM", "SIGINT", "SIGHUP"}


def variables_in_page(text):
    return {name for line in re.findall(r"^\.It Ev (.*)$", text, re.MULTILINE) for name in line.split(" , ")}


def test_the_daemon():
    page, text = (MAN / "hero_codescalers_server.8").read_text(), help_of(SERVER)
    equal(flags_in_page(page), flags_in_help(text), "flags")
    equal(variables_in_page(page), variables_in_help(text), "environment")


def test_the_tool():
    page, text = (MAN / "hero_codescalers.1").read_text(), help_of(CLI)
    verbs = [line.split()[0] for line in text.split("verbs (")[1].split("flags of")[0].splitlines()[1:] if line.strip()]
    equal(re.findall(r"^\.It Cm (\w+)", page, re.MULTILINE), verbs, "verbs")
    common = flags_in_help(text)
    items = dict(re.findall(r"^\.It Cm (\w+)(.*)$", page, re.MULTILINE))
    for verb in verbs:
        equal(flags_in_page(items[verb]), flags_in_help(help_of(CLI, verb)) - common, f"flags of {verb}")
    check(common <= flags_in_page(page), f"common flags {common}")
    for code in re.findall(r"(\d) [a-z]", text.split("exit:")[1]):
        check(re.search(rf"^\.It {code}$", page, re.MULTILINE), f"exit status {code}")


def test_the_simulator():
    page, text = (MAN / "hkv_sim.1").read_text(), help_of(SIMULATOR)
    equal(flags_in_page(page), set(re.findall(r"--([a-z-]+)", text)), "flags")
    faults = re.search(r"--faults LIST(.*?)--fault-count", text, re.DOTALL).group(1).split("of:")[1]
    names = set(re.findall(r"[a-z-]+", faults))
    equal(set(re.findall(r"^\.Cm ([a-z-]+)", page, re.MULTILINE)) - {"all", "none"}, names, "faults")


run(globals())
