"""Ports that servers of this machine get: free now, and still free when the server has started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kfp_lifecycle.serving import ports
from kfp_lifecycle.serving.ports import free_ports, is_free


def test_a_port_that_somebody_listens_to_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_ports(2)
    monkeypatch.setattr(ports, "CANDIDATES", [taken, free])
    with socket.create_server(("127.0.0.1", taken)):
        assert not is_free(taken)
        assert free_ports(1) == [free]
        with pytest.raises(OSError, match="not even 2 are free"):
            free_ports(2)
    assert sorted(free_ports(2)) == sorted([taken, free])


def test_a_connection_of_another_program_does_not_take_it() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(free_ports(100)) < first, "from there on the system chooses ports for connections"


@pytest.mark.parametrize("number", [-1, 65536, 10**9])
def test_a_number_that_is_no_port_is_not_free(number: int) -> None:
    assert not is_free(number)
