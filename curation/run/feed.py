"""Units as a Ray Dataset: one row and one block each, read as the lanes ask for them, so that a run of a million units streams.

Ray's own sources make a block of many rows, which goes through a lane as one, or as many read tasks as there are blocks.
"""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

AHEAD = 16
"""Units, beyond two for each worker, that may wait before a lane: Ray's own limits are bytes, and a planned unit is small."""
REMEMBERED = 1000
"""Blocks of each lane whose statistics are kept: Ray keeps those of all."""

STALLED = 4 * 3600.0
"""Seconds without a finished unit after which Ray ends the run: a unit may be long, and a machine may be slow."""
Loads = Callable[[], Iterator[tuple[str, bytes]]]


class Units(Datasource):
    """One read task that gives a block for each unit as it comes to it."""

    def __init__(self, loads: Loads, count: int, schema: pa.Schema):
        super().__init__()
        self.loads, self.count, self.schema = loads, count, schema

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        loads, schema = self.loads, self.schema

        def read() -> Iterator[pa.Table]:
            for unit, data in loads():
                row = {"unit": unit, "data": data, "counts": None, "error": "", "again": False}
                yield pa.Table.from_pylist([row], schema=schema)

        return [ReadTask(read, BlockMetadata(num_rows=self.count, size_bytes=None, input_files=None, exec_stats=None))]


class _Ahead(BackpressurePolicy):
    """Holds a lane whose output waits for the next one."""

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        if not op.output_dependencies:
            return None
        workers = op.output_dependencies[0].get_max_concurrency_limit() or 0
        return 0 if self._topology[op].total_enqueued_output_blocks() >= AHEAD + 2 * min(workers, 1000) else 1


class _Forget(ExecutionCallback):
    """Lets the driver's memory not grow with the units by more than Ray's own 4 kB."""

    def before_execution_starts(self, executor: Any) -> None:
        for op in executor._topology:
            if hasattr(op, "_output_blocks_stats"):
                op._output_blocks_stats = deque(maxlen=REMEMBERED)


def dataset_of(loads: Loads, count: int, schema: pa.Schema) -> Any:
    """The units that `loads` gives, each as one row of `schema`, and Ray set up so that each stays a block of its own."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # after the import, which sets it up
    warnings.filterwarnings("ignore", module=r"ray\.data")  # it counts blocks before they are read
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.target_max_block_size = 1
    context.use_legacy_dataset_ids = False  # those wait for an actor of Ray's to start
    context.execution_no_progress_timeout_s = STALLED
    context.output_backpressure_guard_release_interval_s = 1.0  # without it the source runs ahead while workers load
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, _Ahead])
    context.custom_execution_callback_classes = [_Forget]
    units = Units(loads, count, schema)
    return ray.data.read_datasource(
        units, override_num_blocks=1, concurrency=1, num_cpus=0
    )  # other than the lanes': not inside their workers
