"""Ports for servers that tests start."""

import socket


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    opened = [socket.socket() for _ in range(count)]
    try:
        for one in opened:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in opened]
    finally:
        for one in opened:
            one.close()
