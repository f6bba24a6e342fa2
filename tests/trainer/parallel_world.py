"""Several processes, forked from one that has imported everything: python -m tests.trainer.parallel_world FOLDER 2

Trains by FOLDER/NAME.yaml into FOLDER/NAME for each NAME of `WORLDS[2]`; what each process says is in FOLDER/NAME-RANK.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from curation.trainer import checkpoint
from curation.trainer import config as configs
from curation.trainer.batch import Batch
from curation.trainer.conditions import Parts
from curation.trainer.distributed import joined, local
from curation.trainer.errors import Stopped
from curation.trainer.train import Trainer
from tests.trainer import steps

WORLDS: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "replicas": {"parallel": {"shard": 1}},
        "shards": {"save_every": 100},
        "context": {"parallel": {"context": 2}},
        "half": {"precision": "bf16", "parallel": {"context": 2}},
    },
    4: {
        "both": {"parallel": {"replicate": 2}},
        "context4": {"parallel": {"context": 4}},
        "all": {"parallel": {"replicate": 2, "context": 2}},
    },
}
"""By number of processes and recipe: knobs of its section `training`."""
STOPPED = "shards"
"""SIGTERM ends this one in its second step of three; only the last process gets it."""


def trained(file: Path, out: Path, parts: int, kill: bool = False) -> dict[str, Any]:
    """Train by a recipe; the log, and how many bytes of state this process holds."""
    config = configs.load(file)
    with joined(config.training.parallel) as process:
        trainer = Trainer(config, Parts(config, process.device), out, process)

        def data(first: int) -> Iterator[tuple[list[Batch], int]]:
            coming = steps.steps(first, process.data_rank, process.data_world, parts)
            for step, one in enumerate(coming, first):
                if kill and step == 1 and process.rank == process.world - 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield one

        def spoiled(model: torch.nn.Module, given: Any, velocity: torch.Tensor) -> torch.Tensor:
            """In the second step, of the last process alone."""
            return velocity * torch.nan if trainer.step == 1 and process.rank == process.world - 1 else velocity

        trainer.model.register_forward_hook(spoiled)
        said = ""
        try:
            trainer.run(data)
        except Stopped as stopped:
            said = str(stopped)
        tensors = trainer._state().tensors()
        kinds = ("model", "average", "exp_avg", "exp_avg_sq")
        held = {kind: sum(local(tensor).nbytes for tensor in tensors[kind].values()) for kind in kinds}
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] if process.leads else []
        return {"said": said, "held": held, "steps": checkpoint.steps(out), "lines": lines}


def work(rank: int, world: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo")
    for name in WORLDS[world]:
        found = trained(folder / f"{name}.yaml", folder / name, parts=2, kill=name == STOPPED)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def main(folder: Path, world: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(world):
        if (child := os.fork()) == 0:
            try:
                work(rank, world, port, folder)
            except BaseException:  # noqa: BLE001 it is said, and the process ends
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        children.append(child)
    status = 0
    for _ in children:
        _, code = os.wait()
        if code and not status:
            status = 1
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
    return status


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
