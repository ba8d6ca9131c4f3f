"""Several Ray nodes on one machine."""

from clusters.local.cluster import DEFAULT_NODES, NODE, LocalCluster, Node, running_cluster

__all__ = ["DEFAULT_NODES", "NODE", "LocalCluster", "Node", "running_cluster"]
