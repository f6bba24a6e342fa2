"""The command `curation` with the stage `sabotage`: `python -m tests.faults.drive run …`."""

from __future__ import annotations

from curation import cli, recipe

recipe.STAGES["sabotage"] = "tests.faults.sabotage:Sabotage"

if __name__ == "__main__":
    cli.main()
