"""Ends of streams for the lab.

  traffic.py serve ADDRESS                 TCP on 5001: gives as many bytes as it is asked for, and says how many it got; UDP on 5002: echoes
  traffic.py fetch ADDRESS BYTES [FROM]    gets so many bytes and sends as many
  traffic.py echo ADDRESS COUNT [FROM]     so many numbered UDP packets, each waited for
  traffic.py listen ADDRESS FILE           UDP on 5003: writes how many numbers came, the highest, and how many were missing, until nothing comes for 5 s
  traffic.py stream ADDRESS RATE SECONDS STOP   numbered UDP packets, for so long at least and until the file STOP is there; STOP.sent says how many
"""
import os
import socket
import sys
import threading
import time


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def exactly(connection, count):
    got = 0
    while got < count:
        data = connection.recv(min(count - got, 65536))
        if not data:
            raise SystemExit("ended after %d of %d bytes" % (got, count))
        got += len(data)


def give(connection):
    with connection:
        count = int(connection.recv(16))
        connection.sendall(b"x" * count)
        exactly(connection, count)
        connection.sendall(b"ok")


def serve(address):
    tcp = socket.socket(family(address), socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, 5001))
    tcp.listen(16)
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    udp.bind((address, 5002))

    def echo_all():
        while True:
            data, peer = udp.recvfrom(65536)
            udp.sendto(data, peer)

    threading.Thread(target=echo_all, daemon=True).start()
    while True:
        threading.Thread(target=give, args=(tcp.accept()[0],), daemon=True).start()


def fetch(address, count, source=None):
    connection = socket.create_connection((address, 5001), 20, (source, 0) if source else None)
    connection.settimeout(60)
    connection.sendall(count.encode().ljust(16))
    exactly(connection, int(count))
    connection.sendall(b"y" * int(count))
    if connection.recv(2) != b"ok":
        raise SystemExit("not all bytes arrived")


def echo(address, count, source=None):
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    if source:
        udp.bind((source, 0))
    udp.settimeout(10)
    for number in range(int(count)):
        data = b"%d" % number
        udp.sendto(data, (address, 5002))
        try:
            back = udp.recv(64)
        except socket.timeout:
            raise SystemExit("packet %d of %s did not come back within 10 s%s" % (number, count, later(udp, data)))
        if back != data:
            raise SystemExit("%r came back for packet %d of %s" % (back, number, count))


def later(udp, data):
    """Whether what did not come in time was late or lost."""
    begin = time.monotonic()
    udp.settimeout(30)
    try:
        back = udp.recv(64)
    except socket.timeout:
        return ", nor within 30 s more"
    return ", but %.1f s later" % (time.monotonic() - begin) if back == data else ", but %r" % back


def listen(address, path):
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    udp.bind((address, 5003))
    udp.settimeout(120)
    seen = set()
    try:
        while True:
            seen.add(int(udp.recv(64)))
            udp.settimeout(5)
    except socket.timeout:
        pass
    highest = max(seen, default=-1)
    with open(path, "w") as file:
        file.write("%d %d %d\n" % (len(seen), highest, highest + 1 - len(seen)))


def stream(address, rate, seconds, stop):
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    rate, begin, number = int(rate), time.monotonic(), 0
    while number < rate * int(seconds) or number % rate or not os.path.exists(stop):
        wait = begin + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        udp.sendto(b"%d" % number, (address, 5003))
        number += 1
    with open(stop + ".sent", "w") as file:
        file.write("%d\n" % number)


{"serve": serve, "fetch": fetch, "echo": echo, "listen": listen, "stream": stream}[sys.argv[1]](*sys.argv[2:])
