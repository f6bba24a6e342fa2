"""Does a test notice? Eight errors of a training loop, each made in a scratch copy on which the trainer's fast tests run.

    python benchmarks/mutations.py [--only warm-up]

One JSON line an error: the test that fails first, which must not be none. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOOP = "curation/trainer/train.py"
MUTATIONS = {
    "all layers trained in every stage": ("        freeze(self.model, knobs.layers)\n", '        freeze(self.model, "all")\n'),
    "no clipping": ("self.knobs.max_norm)", "1e9)"),
    "no warm-up": (" * min(1.0, (step + 1) / max(1, self.knobs.warmup))", ""),
    "nothing dropped, no self-conditioning": (
        "torch.tensor([knobs.drop_text, knobs.drop_images, knobs.self_conditioning])",
        "torch.zeros(3)",
    ),
    "no time shift": ("shift = knobs.shift or flow.resolution_shift(self.model.tokens(x0.shape))", "shift = 1.0"),
    "no averaging": ("[local(value) for value in self.trained.values()], 1 - decay)", "averages, 1 - decay)"),
    "betas and decay dropped": (
        "lr=knobs.lr, betas=betas, fused=fused)",
        'lr=knobs.lr, fused=fused)\n    for group in optimizer.param_groups:\n        group["weight_decay"] = 0.01',
    ),
    "accumulation not divided": ("loss = self.loss(batch).sum() / clips", "loss = self.loss(batch).mean()"),
}
"""What of `train.py` becomes what. `new_layers_first` of the review has become `layers` of two chained recipes."""
TESTS = ["tests/trainer/test_update.py", "tests/trainer/test_train.py"]


def mutated(text: str, name: str) -> str:
    """The loop with one error. Raises `ValueError` when the text has moved on."""
    old, new = MUTATIONS[name]
    if text.count(old) != 1:
        raise ValueError(f"{name}: {old!r} stands {text.count(old)} times in {LOOP}")
    return text.replace(old, new)


def failing(name: str) -> list[str]:
    """The test that fails first on a copy with this error."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for part in ("curation", "tests", "workflows"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / LOOP).write_text(mutated((ROOT / LOOP).read_text(), name))
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--tb=no", "-x", *TESTS]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(MUTATIONS))
    chosen = parser.parse_args()
    survivors = 0
    for name in [chosen.only] if chosen.only else MUTATIONS:
        found = failing(name)
        survivors += not found
        print(json.dumps({"error": name, "caught": bool(found), "by": [test.partition("::")[2] for test in found]}), flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
