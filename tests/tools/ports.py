"""Ports for servers that tests start."""

import random
import socket

#: Below those that Linux gives to connections, which would take a port between the look and the server's start, and
#: above those that Ray gives to its workers.
_PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    opened: list[socket.socket] = []
    try:
        for port in random.sample(_PORTS, len(_PORTS)):
            one = socket.socket()
            try:
                one.bind(("", port))
            except OSError:
                one.close()
                continue
            opened.append(one)
            if len(opened) == count:
                break
        return [one.getsockname()[1] for one in opened]
    finally:
        for one in opened:
            one.close()
