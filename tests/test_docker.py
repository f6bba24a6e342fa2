"""`docker/`: the files are what they should be, and every command in them is run here, outside of any container."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests import videos
from tests.conftest import ROOT, _free_ports
from tests.runs import ledger

DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))
MANIFESTS = sorted(DOCKER.glob("ray*.yaml"))
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
"""In an image `python`, `ray` and `curation` are found first."""


def instructions(path: Path) -> list[tuple[str, str]]:
    """(name, rest) of a Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def of(path: Path, name: str) -> list[str]:
    return [rest for found, rest in instructions(path) if found == name]


def healthcheck(path: Path) -> list[str]:
    (check,) = of(path, "HEALTHCHECK")
    return json.loads(check.partition("CMD ")[2])


def compose() -> dict[str, Any]:
    """The compose file with the default of every variable."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DOCKER / "compose.yaml").read_text())
    return yaml.safe_load(text)


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((DOCKER / name).read_text())


def cluster_of(found: dict[str, Any]) -> dict[str, Any]:
    return found["spec"] if found["kind"] == "RayCluster" else found["spec"]["rayClusterSpec"]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


# What the files are


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_hadolint_finds_nothing(path):
    done = subprocess.run([BIN / "hadolint", "--config", DOCKER / "hadolint.yaml", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_is_pinned_and_runs_as_nobody_in_particular(path):
    assert of(path, "FROM") == of(IMAGES[0], "FROM") and re.fullmatch(
        r"[\w.:-]+:[\w.-]+@sha256:[0-9a-f]{64}", of(path, "FROM")[0]
    )
    assert of(path, "USER") == ["1000:1000"], "by number: Kubernetes can tell that it is not root"
    names = [name for name, _ in instructions(path)]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :]), "nothing in it is the user's own to change"
    assert "/src" in of(path, "RUN")[-1] and not re.search(r"models? fetch|\bcuration (run|models)", path.read_text())
    assert f"torch=={pinned('torch')}" in path.read_text() or "vllm" in of(path, "RUN")[-1]


def pinned(name: str) -> str:
    return next(m[1] for line in PROJECT["dependencies"] if (m := re.fullmatch(rf"{name}(?:\[.*\])?==(\S+)", line)))


def test_one_version_of_ray_everywhere():
    found = {cluster_of(manifest(path.name))["rayVersion"] for path in MANIFESTS}
    assert found == {version("ray")} == {pinned("ray")}


def test_the_compose_files_fit_the_schema():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *DOCKER.glob("compose*.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    services = compose()["services"]
    assert {name for name in services if services[name]["cap_drop"] == ["ALL"]} == {"head", "worker", "job"}
    assert services["head"]["ports"] == ["127.0.0.1:8265:8265"], "who reaches the dashboard runs code"
    assert not [v for s in services.values() for v in s["environment"].values() if "TOKEN:" in v], "the token is a secret's file"


TEMPLATE = {"type": "object", "required": ["spec"], "additionalProperties": False, "properties": {"spec": {}, "metadata": {}}}
GROUP = {
    "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
    "template": TEMPLATE,
}
WORKERS = {**GROUP, "groupName": {"type": "string"}, **{f"{n}eplicas": {"type": "integer"} for n in ("r", "minR", "maxR")}}
RAY_CLUSTER = {
    "rayVersion": {"type": "string"},
    "authOptions": {"type": "object", "required": ["mode"], "properties": {"mode": {"enum": ["disabled", "token"]}}},
    "headGroupSpec": {"type": "object", "required": [*GROUP], "properties": GROUP, "additionalProperties": False},
    "workerGroupSpecs": {
        "type": "array",
        "items": {"type": "object", "required": [*WORKERS], "properties": WORKERS, "additionalProperties": False},
    },
}
CLUSTER = {"type": "object", "required": [*RAY_CLUSTER], "properties": RAY_CLUSTER, "additionalProperties": False}
JOB = {
    "type": "object",
    "required": ["entrypoint", "rayClusterSpec"],
    "additionalProperties": False,
    "properties": {
        "entrypoint": {"type": "string"},
        "backoffLimit": {"type": "integer"},
        "shutdownAfterJobFinishes": {"type": "boolean"},
        "ttlSecondsAfterFinished": {"type": "integer"},
        "rayClusterSpec": CLUSTER,
    },
}
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}
"""KubeRay's own layer, as far as these manifests use it: no registry carries the CRDs. Point KUBERAY_CRDS at a checkout's
helm-chart/kuberay-operator/crds to hold them to those."""


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_a_manifest_fits_the_schemas(path):
    import kubernetes_validate

    found = manifest(path.name)
    assert found["apiVersion"] == "ray.io/v1"
    jsonschema.validate(found["spec"], SPECS[found["kind"]])
    for template in pods(cluster_of(found)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **template}
        kubernetes_validate.validate(pod, "1.33", strict=True)
        (container,) = template["spec"]["containers"]
        assert not {"command", "args", "lifecycle"} & {*container}, "a command that no test runs"
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        mounts, volumes = container["volumeMounts"], template["spec"]["volumes"]
        assert {m["name"] for m in mounts} == {v["name"] for v in volumes}
        home = next(e["value"] for e in container["env"] if e["name"] == "CURATION_HOME")
        assert any(home.startswith(m["mountPath"]) for m in mounts), "models go to a volume"
    kubernetes_validate.validate(manifest("volume.yaml"), "1.33", strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_a_manifest_fits_kuberays_own_definitions(path):
    if not (folder := os.environ.get("KUBERAY_CRDS")):
        pytest.skip("KUBERAY_CRDS names no folder with KubeRay's CRDs")
    found = manifest(path.name)
    crd = yaml.safe_load(Path(folder, f"ray.io_{found['kind'].lower()}s.yaml").read_text())
    schema = next(v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == "v1")
    jsonschema.Draft7Validator(closed(schema)).validate(found)


def closed(schema: Any) -> Any:
    """The same schema, refusing the fields that Kubernetes would drop without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and "apiVersion" not in schema["properties"]:
        made.setdefault("additionalProperties", False)
    return made


# The commands


def test_every_kind_of_command_is_known_here():
    """Another one needs a test that runs it."""
    runs = {re.split(r"[\s&]+", part)[0] for path in IMAGES for run in of(path, "RUN") for part in run.split("&& ")}
    assert runs == {"apt-get", "rm", "useradd", "install", "pip"}
    assert not [path for path in IMAGES if of(path, "ENTRYPOINT")]
    services = compose()["services"]
    assert {name: [*s.get("entrypoint", ())] for name, s in services.items()} == {
        "head": [],
        "worker": [],
        "job": ["curation", "submit", "--address", "http://head:8265"],
    }
    assert {name: s["healthcheck"] for name, s in services.items() if "healthcheck" in s} == {"job": {"disable": True}}
    for path in MANIFESTS:
        for template in pods(cluster_of(manifest(path.name))):
            assert "initContainers" not in template["spec"]


def parts(path: Path, program: str) -> list[list[str]]:
    found = [shlex.split(part) for run in of(path, "RUN") for part in run.split("&& ")]
    return [words for words in found if words[0] == program]


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_the_packages_of_the_system_are_there(path, tmp_path):
    """On a Debian of which nothing is known to be installed."""
    if "bookworm" not in Path("/etc/os-release").read_text() or not list(Path("/var/lib/apt/lists").glob("*Packages*")):
        pytest.skip("apt of Debian 12 with its lists")
    update, install = parts(path, "apt-get")
    assert update == ["apt-get", "update"]
    (tmp_path / "status").touch()
    empty = ("--simulate", "--option", f"Dir::State::status={tmp_path}/status")
    done = subprocess.run([*install, *empty], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_the_user_and_its_folders_are_made(path, tmp_path):
    """In a root of its own; the names of its owner are looked up there by number."""
    if os.geteuid():
        pytest.skip("needs to be root")
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs"):
        shutil.copy(f"/etc/{name}", tmp_path / "etc") if name == "login.defs" else (tmp_path / "etc" / name).touch()
    (useradd,), (install,) = parts(path, "useradd"), parts(path, "install")
    subprocess.run([*useradd, "--prefix", str(tmp_path)], check=True, capture_output=True)
    user = (tmp_path / "etc/passwd").read_text().split(":")
    assert user[0] == "curation" and ":".join(user[2:4]) == of(path, "USER")[0]
    swapped = [
        re.sub(r"=curation$", f"={user[2]}", w) if w.startswith("--") else w.replace("/", f"{tmp_path}/", 1) for w in install
    ]
    subprocess.run([install[0], *swapped[1:]], check=True)
    assert {(tmp_path / folder).stat().st_uid for folder in ("data", "store")} == {int(user[2])}
    assert json.loads(of(path, "VOLUME")[0]) == ["/data", "/store"]


def context(path: Path, to: Path) -> None:
    """What COPY brings into an image, of what its .dockerignore lets through."""
    rules = [line for line in Path(f"{path}.dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for *sources, folder in map(str.split, of(path, "COPY")):
        for source in (ROOT / name for name in sources):
            for file in [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]:
                relative = str(file.relative_to(ROOT))
                allowed = any(fnmatch(relative, rule[1:]) for rule in rules if rule.startswith("!"))
                if allowed and "__pycache__" not in relative:
                    place = to / folder.lstrip("/") / (file.name if source.is_file() else file.relative_to(source))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, place)


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_what_is_copied_into_an_image_can_be_installed(path, tmp_path):
    context(path, tmp_path)
    files = {str(p.relative_to(tmp_path / "src")) for p in (tmp_path / "src").rglob("*") if p.is_file()}
    assert {"pyproject.toml", "curation/store/store.yaml", "workflows/embedded.yaml"} <= files
    assert not [name for name in files if name.startswith((".", "tests", "runs", "data"))]
    pip = next(words for words in parts(path, "pip") if any("/src[" in w for w in words))
    extras = re.search(r"\[(.*)\]", next(w for w in pip if "/src[" in w))
    assert extras and set(extras[1].split(",")) <= {*PROJECT["optional-dependencies"]}
    words = [word.replace("/src", str(tmp_path / "src"), 1) for word in pip[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--no-deps", "--target", tmp_path / "site"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import curation, sys; from curation import recipe; print(curation.__file__, recipe.find('embedded').path)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "site"}
    )
    assert done.stdout.count("site/curation/") == 2, done.stdout + done.stderr


class Place:
    """The cluster of the compose file, on this machine: ports that are free, a folder in place of /data."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self.gcs, self.client, self.dashboard, *self.agents = _free_ports(5)
        (folder / "ray_token").write_text("a-token-of-this-test-" * 2)
        given = compose()["services"]["head"]["environment"]
        named = {key: value.replace("/run/secrets", str(folder)) for key, value in given.items()}
        image = dict(word.split("=", 1) for word in shlex.split(of(IMAGES[0], "ENV")[0]))
        image.pop("CURATION_HOME")  # the models that this machine has
        self.environment = {**os.environ, **image, **named, **environment, "PATH": PATH, "NO_PROXY": "127.0.0.1"}

    def here(self, words: list[str]) -> list[str]:
        swaps = [
            ("head:6379", f"127.0.0.1:{self.gcs}"),
            ("head:8265", f"127.0.0.1:{self.dashboard}"),
            ("--port=6379", f"--port={self.gcs}"),
            ("0.0.0.0", "127.0.0.1"),
            ("/data/", f"{self.folder}/data/"),
        ]
        for old, new in swaps:
            words = [word.replace(old, new) for word in words]
        return words

    def run(self, words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **more}
        return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=self.folder, timeout=300)

    @contextmanager
    def node(self, service: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        agent = self.agents[0 if service == "head" else 1]
        words = self.here(compose()["services"][service]["command"])
        words += [f"--dashboard-agent-listen-port={agent}", "--object-store-memory=200000000", *more]
        with (self.folder / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment, start_new_session=True)
        try:
            deadline = time.monotonic() + 90
            while not self.healthy(service):
                assert process.poll() is None and time.monotonic() < deadline, (self.folder / f"{service}.log").read_text()
                time.sleep(1)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # asked to end, a node drains for half a minute
            process.wait(30)

    def healthy(self, service: str) -> bool:
        """What Docker asks."""
        agent = self.agents[0 if service == "head" else 1]
        return not self.run([word.replace("52365", str(agent)) for word in healthcheck(IMAGES[0])]).returncode

    def entrypoint(self, name: str, bucket: str = "s3://bucket") -> subprocess.CompletedProcess[str]:
        """A RayJob's, as KubeRay submits it: a line for a shell."""
        words = self.here(shlex.split(manifest(name)["spec"]["entrypoint"].replace("s3://bucket", bucket)))
        return self.run(["ray", "job", "submit", "--address", f"http://127.0.0.1:{self.dashboard}", "--", *words])


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_commands_of_the_compose_file_and_the_manifests(tmp_path_factory, s3, s3_server):
    import fsspec

    folder = tmp_path_factory.mktemp("p")
    (folder / "data" / "videos").mkdir(parents=True)
    videos.write([videos.picture(n) for n in range(40)], folder / "data" / "videos" / "a.mp4")
    (folder / "data" / "videos" / "a.txt").write_text("A man talks.")
    fsspec.filesystem("s3").put(str(folder / "data" / "videos"), f"{s3}/videos", recursive=True)
    for path in IMAGES:
        assert healthcheck(path) == healthcheck(IMAGES[0])
        head = ["ray", "start", "--head", "--block", "--port=6379", "--dashboard-host=0.0.0.0"]
        assert json.loads(of(path, "CMD")[0]) == head == compose()["services"]["head"]["command"][:6]
    secret = {name: s3_server.environment[name] for name in s3_names()}
    place = Place(folder, secret)
    head, worker = ("--include-dashboard=true", f"--dashboard-port={place.dashboard}"), ("--num-cpus=2",)
    head += (f"--ray-client-server-port={place.client}", f"--temp-dir={folder / 't'}")
    assert not place.healthy("head"), "nothing is there yet"
    with place.node("head", *head), place.node("worker", *worker):
        kubernetes(place)
        commands(place, s3)
    assert not place.healthy("worker") and not place.healthy("head")


def s3_names() -> list[str]:
    """The variables of the secret, as the manifest says them."""
    return re.findall(r"\b(AWS_\w+)=", (DOCKER / "rayjob-s3.yaml").read_text())


def kubernetes(place: Place) -> None:
    """What KubeRay makes `ray start` of, and what it asks."""
    for path in MANIFESTS:
        cluster = cluster_of(manifest(path.name))
        given = [f"--{name}={value}" for name, value in cluster["headGroupSpec"]["rayStartParams"].items()]
        assert {*given} == {*compose()["services"]["head"]["command"][5:]}, "what has just been run"
        assert not any(group["rayStartParams"] for group in cluster["workerGroupSpecs"])
        for template in pods(cluster):
            for probe in ("readinessProbe", "livenessProbe"):
                ask = template["spec"]["containers"][0][probe]["httpGet"]
                assert ask["port"] == 52365
                for agent in place.agents:
                    urllib.request.urlopen(f"http://127.0.0.1:{agent}{ask['path']}", timeout=5).close()


def commands(place: Place, bucket: str) -> None:
    data = place.folder / "data"
    job = compose()["services"]["job"]
    without = place.run(place.here([*job["entrypoint"], *job["command"]]), RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN_PATH="")
    assert without.returncode == 2 and "asks for a token" in without.stderr, without.stdout + without.stderr
    done = place.run([*place.here([*job["entrypoint"], *job["command"]]), "--limit", "1"])
    assert done.returncode == 0 and "planned 1 = " in done.stdout, done.stdout + done.stderr
    (said,) = re.findall(r"run --rm job (.*)", (DOCKER / "compose.yaml").read_text())
    made = [f"INPUT={data}/videos", f"OUTPUT={data}/made", f"ADDRESS=http://127.0.0.1:{place.dashboard}", "RECIPE=embedded"]
    tries = {
        "out": lambda: place.run(place.here([*job["entrypoint"], *shlex.split(said)])),
        "made": lambda: place.run(["make", "-C", str(ROOT), "-o", ".venv/.base", f"BIN={BIN}", "submit", *made]),
        "rayjob": lambda: place.entrypoint("rayjob.yaml"),
    }
    for name, attempt in tries.items():
        out = data / ("out" if name == "rayjob" else name)
        shutil.rmtree(out, ignore_errors=True)
        done = attempt()
        assert done.returncode == 0 and "planned 1 = " in done.stdout, name + done.stdout + done.stderr
        assert place.run(["curation", "verify", str(out)]).returncode == 0
        assert ledger(out)
    done = place.entrypoint("rayjob-s3.yaml", bucket)
    assert done.returncode == 0 and "planned 1 = " in done.stdout, done.stdout + done.stderr
    done = place.run(["curation", "verify", f"{bucket}/out"])
    assert done.returncode == 0 and ledger(f"{bucket}/out"), done.stdout + done.stderr
