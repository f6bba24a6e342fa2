"""`curation submit`: the same run as a job on a Ray cluster that is already there."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curation import recipe as recipes
from curation.inputs.files import is_url, read_text
from curation.run.engine import EngineError

NAMES = ("sample", "panda70m")
SENT = (
    *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("HF_ENDPOINT", "CURATION_HOME", "PANDA70M_ROOT"),
)
"""Variables that go along where they are set: places, no secrets."""
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
LOOK = 0.5
"""Seconds between two looks at a job that has closed its log, or whose log was lost."""
TRIES = 20
"""Looks at a cluster that does not answer, after which its job is left alone."""
NOT_KNOWN = 4
"""Exit status when the cluster is out of reach: not all is done, as far as can be seen from here."""
INTERRUPTED = 130
NO_COMMAND = 127
"""What a shell ends with that does not find the command."""


def submit(
    path: str,
    input_name: str,
    out: str,
    *,
    address: str,
    videos: str | None = None,
    limit: int | None = None,
    python: str | None = None,
    working_dir: str | None = None,
    env: Iterable[str] = (),
) -> int:
    """Submit, follow the logs, return the job's exit status (1 when the job did not get as far as one).

    Input and output are URLs, or paths on the cluster that all its nodes see; the cluster has `curation` installed, and `python`
    is its interpreter there. The recipe, read here, travels with the job; so does what lies in `working_dir`, and an input in it
    is named by its place there: a table or weights, for videos belong where all nodes see them.

    Of the environment `SENT` goes along, and what `env` names: "NAME", or "NAME=VALUE". Ray keeps these values with the job: all
    its processes have them, whoever may ask the cluster for its jobs can read them (the web page hides them, the API does not;
    with token authentication that is who has the token), and Ray writes them into a log on each node (`runtime_env_agent.log`).
    Credentials are better given to the cluster's nodes, as `docker/` does, and therefore not sent unless they are named. Neither
    a value nor the token of `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` reaches the job's command, metadata or own log.

    Raises `EngineError` when the cluster does not answer, does not take the token, or has a job at work on this output.
    """
    for name in filter(None, (path, input_name, out, videos)):
        if is_url(name) and urlsplit(name).password:
            where = name.rpartition("@")[2]
            raise EngineError(f"the URL of {where} holds a password, which the job's page would show: give it by the environment")
    variables = _variables(env)
    with tempfile.TemporaryDirectory(prefix="curation-") as folder:
        own = _packed(path, Path(folder), working_dir)
        client = _client(address)
        command = [python or _python(address), "-m", "curation.cli", "run", own]
        command += ["--input", _there(input_name, working_dir), "--output", _there(out)]
        command += ["--videos", _there(videos, working_dir)] if videos else []
        command += ["--limit", str(limit)] if limit else []
        job = _start(client, _there(out), command, {"working_dir": folder, "env_vars": variables})
    print(f"job {job}", flush=True)
    return _followed(client, job)


def _variables(env: Iterable[str]) -> dict[str, str]:
    found = {name: os.environ[name] for name in SENT if os.environ.get(name)}
    for word in env:
        name, given, value = word.partition("=")
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise EngineError(f"--env takes NAME, of this environment, or NAME=VALUE; not {name!r}")
        if not given and name not in os.environ:
            raise EngineError(f"--env {name}: there is no such variable here")
        found[name] = value if given else os.environ[name]
    return found


def _client(address: str) -> Any:
    """Raises `EngineError`. A token that is given is used, as with `ray.init`, also where RAY_AUTH_MODE does not ask for it."""
    if any(os.environ.get(name) for name in TOKENS):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported
    address = address if is_url(address) or address == "auto" else f"http://{address}"
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # or Ray would take RAY_ADDRESS before the address it is given
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # they tell of packages and sockets
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        refused = "refuses the token" if "failed" in str(error) else "asks for a token"
        raise EngineError(f"the Ray dashboard at {address} {refused}: set {' or '.join(TOKENS)}") from error
    except Exception as error:  # requests and Ray's own, of many kinds
        raise EngineError(f"no Ray dashboard at {address}: {' '.join(str(error).split())[:200]}") from error


def _python(address: str) -> str:
    """This interpreter where the cluster is on this machine, else the one that a container finds first."""
    host = urlsplit(address if is_url(address) else f"http://{address}").hostname
    return sys.executable if host in ("127.0.0.1", "localhost", "::1") or address == "auto" else "python"


def _packed(name: str, folder: Path, working_dir: str | None) -> str:
    """Lay into a folder what travels; the recipe's name there. `auto` is decided there, not here."""
    if working_dir is not None:
        if not Path(working_dir).is_dir():
            raise EngineError(f"--working-dir {working_dir}: no such folder")
        for entry in Path(working_dir).absolute().iterdir():
            if entry.name != ".git":
                (folder / entry.name).symlink_to(entry)
    if name == "auto":
        return name
    own = folder / "recipe.yaml"
    while own.exists():
        own = own.with_name(f"_{own.name}")
    if not is_url(name):
        own.write_text(recipes.find(name).path.read_text(encoding="utf-8"), encoding="utf-8")
        return own.name
    try:
        own.write_text(read_text(name), encoding="utf-8")
    except (OSError, ImportError, ValueError) as error:
        raise recipes.RecipeError(
            f"{name}: cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"
        ) from error
    try:
        recipes.load(own)
    except recipes.RecipeError as error:
        raise recipes.RecipeError(str(error).replace(str(own), name)) from error
    return own.name


def _there(name: str, working_dir: str | None = None) -> str:
    """How the job names a file: as here, but paths whole, and those that travel with it by their place in the folder."""
    if name in NAMES or is_url(name):
        return name
    here = Path(os.path.abspath(name))  # noqa: PTH100 without `..`, and links as they are
    root = working_dir and Path(os.path.abspath(working_dir))  # noqa: PTH100
    return str(here.relative_to(root)) if root and here.is_relative_to(root) else str(here)


def _start(client: Any, out: str, command: list[str], runtime_env: dict[str, Any]) -> str:
    """The job's id. It is made of the output and of how many jobs wrote it before: of two that are submitted in the same moment
    Ray refuses one. Raises `EngineError`."""
    address = os.environ["RAY_API_SERVER_ADDRESS"]
    stem = f"curation-{hashlib.sha256(out.rstrip('/').encode()).hexdigest()[:12]}-"
    before = {j.submission_id: j.status for j in client.list_jobs() if (j.submission_id or "").startswith(stem)}
    job = f"{stem}{max((int(name.removeprefix(stem)) for name in before), default=0) + 1}"
    running = next((name for name, status in before.items() if not status.is_terminal()), "")
    try:
        if not running:
            return client.submit_job(
                entrypoint=shlex.join(command), submission_id=job, runtime_env=runtime_env, metadata={"output": out}
            )
    except (RuntimeError, ValueError, OSError) as error:
        if "already exists" not in str(error):
            raise EngineError(f"{address} did not take the job: {' '.join(str(error).split())[-300:]}") from error
        running = job
    raise EngineError(f"job {running} is at work on {out}: {_hints(running)}")


def _hints(job: str) -> str:
    address = os.environ["RAY_API_SERVER_ADDRESS"]
    return f"`ray job logs --follow {job} --address {address}` follows it, `ray job stop {job} --address {address}` stops it"


def _followed(client: Any, job: str) -> int:
    """Print the job's log until it has ended; its exit status. Ctrl-C asks whether it should go on."""
    printed = [0]
    while True:
        try:
            with suppress(Exception):  # a log that breaks off is told again
                asyncio.run(_print_log(client, job, printed))
            info = _ended(client, job)
        except KeyboardInterrupt:
            if _goes_on(job):
                print(f"job {job} goes on: {_hints(job)}", file=sys.stderr)
                return INTERRUPTED
            client.stop_job(job)
            continue
        except Exception as error:  # requests' and Ray's own, of many kinds: the network, or the cluster
            said = " ".join(str(error).split())[:200] or type(error).__name__
            print(f"job {job} is out of reach, and perhaps goes on ({said}): {_hints(job)}", file=sys.stderr)
            return NOT_KNOWN
        if info is None:
            continue
        if info.status == "STOPPED":
            print(f"job {job} was stopped; the same command does the rest", file=sys.stderr)
            return INTERRUPTED
        if info.status != "SUCCEEDED" and info.driver_exit_code in (None, NO_COMMAND):
            why = info.message if info.driver_exit_code is None else "this --python is not there, or it is none"
            print(f"job {job} {info.status}: {why}", file=sys.stderr)
        return info.driver_exit_code if info.driver_exit_code is not None else int(info.status != "SUCCEEDED")


async def _print_log(client: Any, job: str, printed: list[int]) -> None:
    """What was not printed yet; Ray tells a log from its beginning."""
    told = 0
    async for lines in client.tail_job_logs(job):
        new = lines[max(0, printed[0] - told) :]
        told += len(lines)
        printed[0] = max(printed[0], told)
        print(new, end="", flush=True)


def _ended(client: Any, job: str) -> Any | None:
    """What is known of a job that has ended; None when it has not, though its log has."""
    for attempt in range(TRIES):
        try:
            info = client.get_job_info(job)
        except Exception:
            if attempt == TRIES - 1:
                raise
        else:
            if info.status.is_terminal():
                return info
        time.sleep(LOOK)
    return None


def _goes_on(job: str) -> bool:
    """Ask, where somebody is there to answer; else it goes on."""
    if not sys.stdin.isatty():
        return True
    try:
        print(f"\nshould job {job} go on? [Y/n] ", end="", file=sys.stderr, flush=True)
        return not input().strip().lower().startswith("n")
    except (EOFError, KeyboardInterrupt):
        return True
