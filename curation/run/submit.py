"""`curation submit`: the same run as a job on a Ray cluster that is already there."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
from pathlib import Path

from curation import recipe as recipes
from curation.inputs.files import is_url
from curation.run.engine import EngineError

NAMES = ("sample", "panda70m")


def submit(
    path: str,
    input_name: str,
    out: str,
    *,
    address: str,
    videos: str | None = None,
    limit: int | None = None,
    python: str = sys.executable,
) -> int:
    """Submit, follow the logs, return the job's exit status (1 when the job did not get as far as one).

    The recipe travels with the job. Input and output are paths on the cluster, seen by all its nodes; the cluster has `curation`
    installed, and `python` is its interpreter there. Raises `EngineError` when the cluster does not answer.
    """
    from ray.job_submission import JobSubmissionClient

    chosen = recipes.find(path)
    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"no Ray dashboard at {address}: {' '.join(str(error).split())[:200]}") from error
    options = ["--videos", _there(videos)] if videos else []
    options += ["--limit", str(limit)] if limit else []
    command = [python, "-m", "curation.cli", "run", "recipe.yaml", "--input", _there(input_name), "--output", _there(out)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "recipe.yaml").write_text(chosen.path.read_text(encoding="utf-8"), encoding="utf-8")
        variables = {k: v for k in ("CURATION_HOME", "PANDA70M_ROOT") if (v := os.environ.get(k))}
        job = client.submit_job(
            entrypoint=shlex.join([*command, *options]), runtime_env={"working_dir": folder, "env_vars": variables}
        )
    print(f"job {job}", flush=True)
    asyncio.run(_follow(client, job))
    info = client.get_job_info(job)
    if info.status != "SUCCEEDED" and info.driver_exit_code is None:
        print(f"job {job} {info.status}: {info.message}", file=sys.stderr)
    return info.driver_exit_code if info.driver_exit_code is not None else int(info.status != "SUCCEEDED")


async def _follow(client: object, job: str) -> None:
    async for lines in client.tail_job_logs(job):  # type: ignore[attr-defined]
        print(lines, end="", flush=True)


def _there(name: str) -> str:
    return name if name in NAMES or is_url(name) else str(Path(name).absolute())
