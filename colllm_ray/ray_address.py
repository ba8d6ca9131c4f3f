"""Addresses of Ray clusters, looked at before Ray does: it waits long where nothing answers."""

from __future__ import annotations

import socket

from colllm_ray.errors import ColllmError

AUTO, LOCAL = "auto", "local"  # what Ray calls the cluster of this machine, and one that is to be started
CONNECT_S = 10.0
ANSWER_S = 30.0  # a head node that is busy
WANTED = "give HOST:PORT of the head node, as `ray start` printed it (the port is 6379 by default), or `auto`"


def reachable_cluster(address: str) -> str:
    """HOST:PORT of the cluster that `address` names, where one listens.

    Raises ColllmError that says what is wrong with the address, or that nothing of Ray listens there.
    """
    import grpc  # not before the address is known to be right: with Ray it takes seconds
    from ray._private.gcs_utils import create_gcs_channel

    host, port = host_and_port(_found(address) if address == AUTO else address)
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        reason = "nothing answers" if isinstance(error, TimeoutError) else error.strerror or error
        raise ColllmError(f"{address}: there is no Ray cluster at {host}:{port}: {reason}; {WANTED}") from error
    channel = create_gcs_channel(f"{host}:{port}")
    try:
        grpc.channel_ready_future(channel).result(ANSWER_S)
    except grpc.FutureTimeoutError as error:
        raise ColllmError(f"{address}: what listens at {host}:{port} is no Ray cluster; {WANTED}") from error
    finally:
        channel.close()
    return f"{host}:{port}"


def _found(address: str) -> str:
    """The cluster of this machine, by what Ray has left here."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found: str | None = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        raise ColllmError(f"{address}: no Ray cluster runs on this machine; {WANTED}") from error
    assert found is not None, "Ray raises where it finds none"
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """What the address of a cluster names. Raises ColllmError where it is none."""
    scheme, separator, _ = address.partition("://")
    if separator:
        what = {
            "http": "of a dashboard, which takes jobs (`ray job submit`)",
            "https": "of a dashboard, which takes jobs (`ray job submit`)",
            "ray": "of Ray Client, which cannot run this",
        }.get(scheme, "of no Ray cluster")
        raise ColllmError(f"{address}: is an address {what}; {WANTED}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ColllmError(f"{address}: is no address of a Ray cluster; {WANTED}")
    return host.strip("[]"), int(port)
