"""Several nodes that share no folder: input and output are in S3. One of them is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from curation import ledger
from curation.storage import Storage
from tests.faults.conftest import CLIPS, Ground

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def nodes(s3: str) -> Iterator[object]:
    """A head for the driver's own needs and two nodes for work; they know the way to the bucket from their environment."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100_000_000})
    cluster.workers = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_is_killed(ground: Ground, s3: str, nodes: object) -> None:
    for file in ground.source.iterdir():
        Storage.at(f"{s3}/in").write(file.name, file.read_bytes())
    ground.recipe(clips=2, workers=2)
    out = f"{s3}/run"
    run = ground.begin("--address", nodes.address, source=f"{s3}/in/{ground.table.name}", out=out)
    deadline = time.monotonic() + 120
    while not ledger.files(Storage.at(out)):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    nodes.remove_node(nodes.workers[0], allow_graceful=False)
    assert run.wait(200) == 0
    ground.judge("node_killed", out)
    storage = Storage.at(out)
    same = {name: storage.read(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")} == ground.whole
    assert same and len(list(ledger.rows(storage))) == CLIPS and storage.folders("units") == []
