"""Free ports of this machine's own address."""

from __future__ import annotations

import random
import socket
from itertools import islice

LOOPBACK = "127.0.0.1"
# From 32768 (Linux) and 49152 (IANA) on, a system takes ports for the connections that its programs make: what is free
# there now need not be when a server has started.
CANDIDATES = range(20_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different.

    Raises:
        OSError: There are not as many.
    """
    shuffled = random.SystemRandom().sample(CANDIDATES, len(CANDIDATES))
    found = list(islice(filter(is_free, shuffled), count))
    if len(found) == count:
        return found
    raise OSError(f"of the ports from {CANDIDATES[0]} to {CANDIDATES[-1]} not even {count} are free")


def port_pair() -> int:
    """A port that is free together with the next, as an endpoint needs them: REST and gRPC.

    Raises:
        OSError: There is none.
    """
    (port,) = free_ports(1)
    return port if is_free(port + 1) else port_pair()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now; a number that is no port is not free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
        return True
