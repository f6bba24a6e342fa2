"""How good a quality filter is on labelled clips that it was not trained on, and on undesirable ones made of them by unseen ways.

python benchmarks/quality_filter.py --input CLIPS --labels KEY_LABEL.csv --output FOLDER [--weights FILTER] [--sheet OUT.png]

Prints a table and a JSON line for the clips as they are and for those made of the desirable ones; the sheet shows every clip that
is rejected or should be. `quality_mini.csv` labels the 60 clips of panda70m-mini, by eye and blind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from curation.models.quality import QualityFilter
from curation.quality import report
from curation.quality.head import judged
from curation.quality.measured import AS_IT_IS, UNSEEN, measured
from curation.quality.sources import Shot, folds, labelled, shots
from curation.quality.train import strip
from curation.stages.score_quality import CLASSES, SMALL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=SMALL)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    found, became = shots(options.input, options.output, options.labels, None, None)
    shown = list(labelled(found))
    data = measured(shown, folds(shown, 1), options.output, seen=0)
    own = QualityFilter.load(options.weights)
    shares = judged(own, data)
    print(f"clips: {dict(became)}; rule: {own.rule}")
    for name, mask in (("as they are", data.kind == AS_IT_IS), ("made by unseen ways", data.kind == UNSEEN)):
        figures = report.report(shares[mask], data.label[mask], own.rule)
        print(f"{name}\n{report.table(figures)}")
        print(json.dumps({"set": name, **figures}))
    if options.sheet:
        as_it_is = data.kind == AS_IT_IS
        sheet(options.sheet, shown, data.key[as_it_is], data.label[as_it_is], shares[as_it_is], own)


def sheet(path: Path, shown: list[Shot], keys: np.ndarray, labels: np.ndarray, shares: np.ndarray, own: QualityFilter) -> None:
    by_key = {shot.key: shot for shot in shown}
    rows = []
    for key, label, row, given in zip(keys, labels, shares, report.reasons(shares, own.rule), strict=True):
        if given or label:
            row_of = strip(by_key[str(key)].pictures(), count=8)
            head = np.full((22, row_of.shape[1], 3), 255, np.uint8)
            verdict = f"rejected as {CLASSES[given]}" if given else "kept"
            text = f"{key}: {CLASSES[label]}, {verdict}; {' '.join(f'{share:.2f}' for share in row)}"
            cv2.putText(head, text, (4, 16), (30, 30, 30), cv2.FontFace("sans"), 14, 500)
            rows += [head, row_of]
    if rows:
        cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


if __name__ == "__main__":
    main()
