# Runs in the node as long as the test does. Asks zebra ten times a second which VNIs it has, over its vty socket (a vtysh
# each time would take the node's whole time), and writes a line for each that it takes for a layer-2 one, once it is over,
# and for each daemon whose process number changes.
import json
import os
import socket
import sys
import time


def ask(vty, command):
    vty.sendall(command + b"\0")
    answer = b""
    # The answer ends with three zeros and the status.
    while answer[-4:-1] != b"\0\0\0":
        part = vty.recv(65536)
        if not part:
            raise OSError("zebra has hung up")
        answer += part
    return answer[:-4]


def connect():
    vty = socket.socket(socket.AF_UNIX)
    vty.connect("/run/frr/zebra.vty")
    ask(vty, b"enable")
    return vty


def pid(daemon):
    try:
        with open(f"/run/frr/{daemon}.pid") as file:
            return file.read().strip()
    except OSError:
        return "none"


def say(words):
    print(words, flush=True)


vty, polls, layer_2, pids = None, 0, {}, {}
while os.path.exists("/run/soak.watch"):
    for daemon in ("zebra", "bgpd"):
        number = pid(daemon)
        if pids.setdefault(daemon, number) != number:
            say(f"RESTARTED {time.time():.1f} {daemon}: {pids[daemon]}, then {number}")
            pids[daemon] = number
    try:
        vty = vty or connect()
        vnis = json.loads(ask(vty, b"show evpn vni json") or b"{}")
    except (OSError, ValueError) as error:
        say(f"DEAF {time.time():.1f} {error!r}")
        vty, vnis = None, {}
        time.sleep(0.5)
    now = time.time()
    for vni, seen in vnis.items():
        if seen.get("type") == "L2":
            layer_2.setdefault(vni, now)
    for vni in [vni for vni in layer_2 if vnis.get(vni, {}).get("type") != "L2"]:
        since = layer_2.pop(vni)
        say(f"L2 {since:.1f} VNI {vni}, for {now - since:.1f}s")
    polls += 1
    if polls % 100 == 0:
        say(f"POLLS {polls}")
    time.sleep(0.1)
