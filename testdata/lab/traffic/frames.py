"""Sends frames and prints what comes out: frames.py IN OUT SECONDS FRAME...

A FRAME is hexadecimal; `paged:` before it has the kernel keep all but 14 bytes of it in pages, outside of the packet's linear part
(packet_alloc_skb, net/packet/af_packet.c: for more than a page, with a vnet header that says so). ARP requests on OUT are answered.
"""
import select
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL = 3
MAC = bytes.fromhex("020000000233")


def packet_socket(link):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    raw.bind((link, ETH_P_ALL))
    return raw


def arp_reply(frame):
    sender, asked = frame[22:32], frame[38:42]
    return frame[6:12] + MAC + frame[12:20] + b"\0\2" + MAC + asked + sender


sender, receiver = packet_socket(sys.argv[1]), packet_socket(sys.argv[2])
paged = packet_socket(sys.argv[1])
paged.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
for frame in sys.argv[4:]:
    if frame.startswith("paged:"):
        paged.send(struct.pack("=BBHHHH", 0, 0, 14, 0, 0, 0) + bytes.fromhex(frame[6:]))
    else:
        sender.send(bytes.fromhex(frame))
end = time.monotonic() + float(sys.argv[3])
while True:
    ready, _, _ = select.select([receiver], [], [], max(0, end - time.monotonic()))
    if not ready:
        break
    frame, address = receiver.recvfrom(65536)
    if address[2] == socket.PACKET_OUTGOING:
        continue
    print(frame.hex())
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1":
        receiver.send(arp_reply(frame))
