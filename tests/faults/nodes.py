"""A cluster of `ray.cluster_utils` in a process of its own: a head for the driver's needs and two nodes for work. Prints its
address; a line of input kills a node, the end of the input ends it."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

MEMORY = 100_000_000

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY})
    workers = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(2)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(workers.pop(), allow_graceful=False)
    cluster.shutdown()
