"""Several Ray nodes on this machine: python -m clusters.local up | status | down"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from clusters.local.cluster import LocalCluster
from colllm_ray.errors import ColllmError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m clusters.local", description=__doc__)
    made.add_argument("command", choices=["up", "status", "down"])
    made.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / f"colllm-cluster-{os.getuid()}",
        help="for logs and the token (default: %(default)s)",
    )
    made.add_argument("--as-hosts", action="store_true", help="each node in a network of its own; needs root")
    return made


def main() -> None:
    options = parser().parse_args()
    try:
        if options.command == "up":
            LocalCluster.up(options.folder, as_hosts=options.as_hosts)
        cluster = LocalCluster.at(options.folder)
        if options.command == "down":
            cluster.down()
            return
    except ColllmError as error:
        sys.exit(f"error: {error}")
    for name, runs in cluster.nodes.items():
        print(f"# {name}: {'runs' if runs else 'is gone'} at {cluster.host(name).address}")
    for variable, value in cluster.environment.items():
        print(f"export {variable}={value}")


if __name__ == "__main__":
    main()
