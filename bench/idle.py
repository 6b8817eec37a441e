#!/usr/bin/env python3
"""idle.py - holds connections open that have said EHLO and then nothing (idle.sh runs it)

idle.py PORT CONNECTIONS. Prints "ready OPEN FAILED" once, then "lost" for each connection on which
the server spoke or hung up; runs until it is ended. Works in processes of PROCESS_CONNECTIONS, for
the limit of open files; an address of ours opens ADDRESS_CONNECTIONS, for the limit of ports.
"""
import os
import resource
import selectors
import socket
import sys

PROCESS_CONNECTIONS = 5000
ADDRESS_CONNECTIONS = 1000
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; else the port is taken before the peer is known


def source_address(number):
    network = number // ADDRESS_CONNECTIONS  # a /24 of its own, for limits per network
    return f"127.{1 + network // 250}.{network % 250 + 1}.1"


def greeted(number, port):
    """A connection that has got its 220 and the reply to EHLO; or OSError."""
    connection = socket.socket()
    try:
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.settimeout(10)
        connection.bind((source_address(number), 0))
        connection.connect(("127.0.0.1", port))
        if connection.recv(512)[:3] != b"220":
            raise OSError("no 220")
        connection.sendall(b"EHLO idle.example.org\r\n")
        reply = b"\r\n"
        while b"\r\n250 " not in reply or not reply.endswith(b"\r\n"):
            got = connection.recv(2048)
            if not got:
                raise OSError("closed")
            reply += got
        return connection
    except OSError:
        connection.close()
        raise


def hold(first, count, port, out):
    kept, failed = [], 0
    selector = selectors.DefaultSelector()
    for number in range(first, first + count):
        try:
            kept.append(greeted(number, port))
        except OSError as error:
            if failed == 0:
                print(f"connection {number}: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        selector.register(kept[-1], selectors.EVENT_READ)
    os.write(out, f"ready {len(kept)} {failed}\n".encode())
    while True:
        for key, _ in selector.select(1):
            selector.unregister(key.fileobj)
            os.write(out, b"lost\n")


def main():
    port, wanted = int(sys.argv[1]), int(sys.argv[2])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    out, into = os.pipe()
    children = 0
    for first in range(0, wanted, PROCESS_CONNECTIONS):
        if os.fork() == 0:
            os.close(out)
            hold(first, min(PROCESS_CONNECTIONS, wanted - first), port, into)
        children += 1
    os.close(into)
    total = failed = reports = 0
    for line in os.fdopen(out):
        words = line.split()
        if words[0] == "ready":
            total, failed, reports = total + int(words[1]), failed + int(words[2]), reports + 1
            if reports == children:
                print("ready", total, failed, flush=True)
        else:
            print("lost", flush=True)


if __name__ == "__main__":
    main()
