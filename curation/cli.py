"""The command `curation`: one call each, no logic. Errors a user can mend are one line and exit status 2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

HELP = "Video-caption collections in, training data for subject-personalised video generation out."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)

RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="a YAML file, a name in workflows/, or auto")]
Input = Annotated[str, typer.Option("--input", help="sample, panda70m, a CSV or table, a folder, or shards; path or URL")]
Output = Annotated[str, typer.Option("--output", help="the run directory: plan/, shards/, recipe.yaml, run.json; path or URL")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="a run directory, path or URL")]
Videos = Annotated[
    str | None,
    typer.Option(
        help="where the videos of a CSV or table lie, which names nothing outside",
        show_default="Panda-70M: videos/ beside the CSV",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="plan only the first N clips")]
Local = Annotated[bool, typer.Option("--local", help="run in this process, without Ray: the same bytes")]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help='rows of the ledger of which this is true: "desirable > 0.5 AND faces > 0"')
]
Format = Literal["msrvtt", "opens2v", "diffsynth", "energon", "parquet", "huggingface"]
Mode = Annotated[Literal["subject", "face"], typer.Option(help="clips with one subject, or with one that has a face")]
Address = Annotated[str | None, typer.Option(help="of a running Ray cluster", show_default="$RAY_ADDRESS, else start one here")]


@app.command()
def plan(recipe: RecipePath, input: Input, output: Output, videos: Videos = None, limit: Limit = None) -> None:
    """List every clip, name its entities, cut units. Opens no video."""
    from curation.run import run as runs

    runs.make_plan(recipe, input, output, videos=videos, limit=limit)


@app.command()
def run(
    recipe: RecipePath,
    input: Input,
    output: Output,
    videos: Videos = None,
    limit: Limit = None,
    local: Local = False,
    address: Address = None,
) -> None:
    """Plan if needed, then run what is not done yet. Exit status 3: too many clips failed; 4: not all is done, our side broke."""
    from curation.run import run as runs

    raise typer.Exit(runs.run(recipe, input, output, videos=videos, limit=limit, local=local, address=address))


@app.command()
def retry(out: Out, local: Local = False, address: Address = None) -> None:
    """Run the failed clips again, and what is not done, and nothing else."""
    from curation.run import run as runs

    raise typer.Exit(runs.retry(out, local=local, address=address))


@app.command()
def submit(
    recipe: RecipePath,
    input: Input,
    output: Output,
    videos: Videos = None,
    limit: Limit = None,
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="the dashboard")] = "http://127.0.0.1:8265",
    python: Annotated[
        str | None, typer.Option(help="the interpreter there that has curation", show_default="python; this one on this machine")
    ] = None,
    working_dir: Annotated[str | None, typer.Option(help="send this folder along: small files that the job needs")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="send this variable along, too")] = None,
) -> None:
    """The same run as a job on a running Ray cluster: logs followed, exit status passed on; Ctrl-C asks whether it should go on.

    The token of a cluster that asks for one stands in RAY_AUTH_TOKEN, or in the file RAY_AUTH_TOKEN_PATH.
    """
    from curation.run import submit as submits

    where = {"address": address, "python": python, "working_dir": working_dir}
    raise typer.Exit(submits.submit(recipe, input, output, videos=videos, limit=limit, env=env or (), **where))  # type: ignore[arg-type]


@app.command()
def verify(
    out: Out,
    sample: Annotated[int | None, typer.Option(min=1, help="check so many shards only, always the same")] = None,
    address: Annotated[str | None, typer.Option(help="of a running Ray cluster, to check there")] = None,
) -> None:
    """Decode and cross-check everything in a run directory, on all cores or on a cluster. Exit status 1: problems were found;
    damaged shards are noted, and `run` makes them anew."""
    from curation import console, storage
    from curation.shards import repair, verify

    check = None
    if address:
        from curation.run.check import OnCluster

        check = OnCluster(address)
    place, damage, problems = storage.Storage.at(out), verify.Damage(), 0
    with console.counting("verify", None) as count:
        for problem in verify.verify(place, count.add, sample, check=check, damage=damage):
            print(problem, flush=True)
            problems += 1
    print(f"{out}: {problems} problems" if problems else f"{out}: no problem found")
    if damage.files or damage.groups:
        try:
            with place.claim():
                repair.note(place, damage.files, damage.groups)
            print(f"{len(damage.files)} damaged ledgers or shards are noted: the command that made them makes them anew")
        except storage.StorageError as error:  # a run is at work, or nothing may be written: what was found is said all the same
            console.say(f"curation: nothing is noted for a run to make anew: {error}")
    raise typer.Exit(bool(problems))


@app.command()
def forget(
    out: Out,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="of clips, or of shots of them")] = None,
    file: Annotated[Path | None, typer.Option(help="a key a line; those that are not in the run are kept out of it, too")] = None,
    decisions: Annotated[bool, typer.Option("--decisions", help="those that decisions.csv (`curation view`) drops, too")] = False,
) -> None:
    """Take clips out of shards, ledgers, plan and caches for good, whole: with all shots of them. Their keys stay, so that no run
    and no retry brings them back; what was made from the shards elsewhere (a trained model, a copy, an export; sidecars in a run
    of their own: forget there, too) is not reached."""
    from curation.run import run as runs

    found = runs.forget(out, keys or [], file, decisions)
    print(f"{found.clips} clips forgotten: {found.ledgers} ledgers and {found.parts} parts of the plan were rewritten")


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="a run directory or a shard, path or URL")],
    key: Annotated[str | None, typer.Argument(help="one clip")] = None,
    extract: Annotated[Path | None, typer.Option(help="write the members into this folder")] = None,
    where: Where = None,
) -> None:
    """A summary, and of few clips a table; with KEY one clip's metadata; with --where the clips it is true of; with --extract
    their members as files."""
    from curation.look import inspect

    inspect.inspect(path, key, extract, where)


@app.command()
def report(
    out: Out,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="of one worker, to say what the rest would cost")] = None,
    pictures: Annotated[bool, typer.Option(help="a dozen samples as pictures")] = True,
) -> None:
    """Writes OUT/report.html, one page that needs no network, and OUT/report.json: what became of every clip, the scores with the
    recipe's bounds, words, entities, times and costs. Every run writes it at its end."""
    from curation.look import report

    print(report.write(out, price_per_hour, pictures))


@app.command()
def export(
    out: Out,
    format: Annotated[Format, typer.Option(help="whose layout")],
    output: Annotated[str, typer.Option(help="a folder that is not there yet, or empty")],
    where: Where = None,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="without those that decisions.csv (`curation view`) drops")
    ] = False,
) -> None:
    """Kept samples in the layouts of others: MSRVTT-Personalization, OpenS2V, DiffSynth-Studio, Megatron-Energon, Parquet with
    files, the Hugging Face Hub. What cannot be said there is left out, and told of."""
    from curation.look.export import export

    print(export.export(out, format, output, where, decisions))


@app.command()
def view(
    out: Out,
    against: Annotated[str | None, typer.Option(metavar="OTHER", help="another run, to see what moved and why")] = None,
    host: Annotated[str, typer.Option(help="an address of this machine; there is no password")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 0,
) -> None:
    """A page to browse the run: search, filter, sort; a clip with masks, cut-outs, scores and why; keep or drop it, by keyboard,
    in OUT/decisions.csv (`forget --decisions`). Nothing else is written."""
    from curation.look import view as views

    views.view(out, against, host, port)


@app.command()
def cutout(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="a photo")],
    word: Annotated[str, typer.Argument(metavar="WORD", help="what of it is to be cut out")],
    output: Annotated[Path, typer.Option(help="the reference, NAME.png with alpha")],
    recipe: Annotated[str, typer.Option(help="whose segment_entities cuts it out")] = "embedded",
    every: Annotated[bool, typer.Option("--all", help="each that the word might mean: NAME-1.png, NAME-2.png …")] = False,
) -> None:
    """A reference out of a photo of yours, for `sample --reference WORD=NAME.png`."""
    from curation.look import cutout as cutouts

    for file in cutouts.cutout(picture, word, output, recipe, every):
        print(file)


@app.command(name="train-filter")
def train_filter(
    input: Annotated[str, typer.Option("--input", help="clips: all that `run` takes")],
    output: Annotated[Path, typer.Option(help="model/, report.json, confusion.png, examples.png, and what has been made so far")],
    labels: Annotated[
        Path | None, typer.Option(help="a CSV of key and label, by hand", show_default="Panda-70M's, else desirable")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="fine-tune this VideoMAE, a folder", show_default="the small filter")] = None,
    videos: Videos = None,
    limit: Annotated[int | None, typer.Option(min=1, help="take only the first N clips")] = None,
) -> None:
    """Train a quality filter on your own clips: the undesirable ones are made of them. Goes on where it was stopped."""
    from curation.quality.train import train

    train(input, output, labels, init, videos, limit)


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="a training recipe: a YAML file or a name in workflows/")],
    shards: Annotated[list[str], typer.Option(help="a run, a folder of shards or an index; PATH=WEIGHT mixes several of them")],
    output: Annotated[Path, typer.Option(help="checkpoints/, samples/, log.jsonl, tensorboard/")],
    sidecars: Annotated[
        list[str] | None,
        typer.Option(help="what `run encode-latents` wrote of those shards: read instead of encoded in each step"),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="train with Ray Train on that cluster; else in this process, or torchrun's")
    ] = None,
) -> None:
    """Train on finished shards; goes on from the newest checkpoint in the output."""
    from curation.trainer import run as runs

    runs.train(config, shards, output, address, sidecars or [])


@app.command(name="train-codec")
def train_codec(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="a codec's recipe: a YAML file or a name in workflows/")],
    shards: Annotated[list[str], typer.Option(help="a run, a folder of shards or an index; PATH=WEIGHT mixes several of them")],
    output: Annotated[Path, typer.Option(help="model/ for `encoders.codec_weights`, samples/, log.jsonl, state.pt")],
) -> None:
    """Train V1's autoencoder, MAGVIT, on finished shards, in this process or torchrun's; goes on where it was stopped."""
    from curation.trainer import codec_train

    codec_train.train(config, shards, output)


@app.command()
def sample(
    output: Annotated[
        Path,
        typer.Option(help="one video, NAME.mp4, with a contact sheet NAME.png; a folder for those of a list, grid or benchmark"),
    ],
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="a training recipe: a YAML file or a name in workflows/")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="a training run's output, a checkpoint or a safetensors file")] = None,
    prompt: Annotated[str | None, typer.Option(help="what is to be seen")] = None,
    reference: Annotated[list[str] | None, typer.Option(help="WORD=PICTURE: the picture shows this word of the prompt")] = None,
    scene: Annotated[str | None, typer.Option(help="a picture of the background: [WORD=]PICTURE")] = None,
    shards: Annotated[str | None, typer.Option(help="take prompt and references from a clip of these shards")] = None,
    key: Annotated[str | None, typer.Option(help="the clip", show_default="the first")] = None,
    prompts: Annotated[Path | None, typer.Option(help="a YAML file of prompts with pictures, as validation.prompts")] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="NAME.png: the prompt with each of a word's pictures, and without; two words: rows, columns"),
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="MSRVTT-Personalization's folders, or `benchmark build`'s: KEY.mp4 of each clip")
    ] = None,
    mode: Annotated[Literal["subject", "face"], typer.Option(help="of the benchmark")] = "subject",
    references: Annotated[Literal["single", "all"], typer.Option(help="of the benchmark's: the middle one, or all")] = "single",
    background: Annotated[bool, typer.Option("--background", help="of the benchmark: the clip's background, too")] = False,
    baseline: Annotated[str | None, typer.Option(help="not a recipe's model but this one, of a benchmark: ip-adapter")] = None,
    frames: Annotated[int | None, typer.Option(min=1, show_default="the recipe's first bucket's")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="pixels", show_default="the recipe's first bucket's")] = None,
    fps: Annotated[float | None, typer.Option(min=1, help="of the files", show_default="the recipe's")] = None,
    batch: Annotated[int, typer.Option(min=1, help="videos made at once")] = 1,
    sheets: Annotated[bool, typer.Option("--sheets", help="a contact sheet of each, in the folder's sheets/")] = False,
    seed: Annotated[int, typer.Option(help="another number, other videos")] = 0,
    address: Annotated[
        str | None, typer.Option(help="of a running Ray cluster: on each of its GPUs; else in this process, or torchrun's")
    ] = None,
) -> None:
    """Make videos from a prompt and pictures bound to its words: one, a list or a grid of them, or all of a benchmark.

    A folder is gone on with: what is there is not made again, and what was made otherwise is refused."""
    from curation.trainer import make

    asked = make.Asked(frames=frames, size=size, fps=fps, seed=seed, batch=batch, sheets=sheets, address=address)
    if benchmark or baseline:
        from curation.benchmark import sample as benchmarks

        benchmarks.sample(config, checkpoint, output, benchmark, mode, references, background, baseline, asked)
    else:
        wanted = make.one(prompt, reference or [], scene, shards, key)
        make.sample(config, checkpoint, output, wanted, asked, prompts, grid)


@app.command()
def evaluate(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS", help="a folder of KEY.mp4, or KEY.png of what makes pictures")],
    benchmark: Annotated[Path, typer.Option(help="what `benchmark build` has made, or MSRVTT-Personalization's folders")],
    mode: Mode,
    references: Annotated[Literal["single", "all"], typer.Option(help="what the videos were made from")] = "single",
    background: Annotated[bool, typer.Option("--background", help="and from the background")] = False,
    profile: Annotated[
        Literal["papers", "cpu", "open"], typer.Option(help="whose metrics; cpu: others, by what package registries carry")
    ] = "papers",
    output: Annotated[
        Path | None, typer.Option(help="scores.parquet, summary.json, summary.html", show_default="VIDEOS-scores/…")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="only so many of each video count", show_default="all")] = None,
    local: Local = False,
    address: Address = None,
) -> None:
    """Score videos against a benchmark: a row a video and metric, means with intervals, the papers' own rows beside. Goes on
    where it was stopped. Exit status 4: videos ended their workers."""
    from curation.benchmark import evaluate as evaluating

    how = {"references": references, "background": background, "profile": profile, "output": output, "frames": frames}
    told = evaluating.evaluate(videos, benchmark, mode, **how, local=local, address=address)  # type: ignore[arg-type]
    raise typer.Exit(4 if told["worker_died"] else 0)


benchmark = typer.Typer(
    help="MSRVTT-Personalization's layout, made of one's own videos; and a study by eye.", no_args_is_help=True
)
app.add_typer(benchmark, name="benchmark")


@benchmark.command()
def build(
    input: Input,
    output: Annotated[Path, typer.Option(help="run/, msrvtt_personalization_data/, clips.csv, benchmark.json")],
    videos: Videos = None,
    recipe: Annotated[str, typer.Option(help="a YAML file, a name in workflows/, or auto")] = "auto",
    per_video: Annotated[Literal["1", "all"], typer.Option(help="clips of each video; the papers take one")] = "1",
    train: Annotated[
        list[str] | None, typer.Option(help="a training run's directory: clips whose source it has seen are left out")
    ] = None,
    limit: Limit = None,
    local: Local = False,
    address: Address = None,
) -> None:
    """Make a benchmark of raw videos with captions. Does what is not done yet; clips that the viewer's decisions.csv of
    OUTPUT/run drops are left out. Exit status as `run`."""
    from curation.benchmark import build as building

    how = {"videos": videos, "recipe": recipe, "per_video": per_video, "train": train or (), "limit": limit}
    raise typer.Exit(building.build(input, output, **how, local=local, address=address))  # type: ignore[arg-type]


@benchmark.command()
def prepare(
    annotation: Annotated[Path, typer.Argument(metavar="ANNOTATION", help="the folder in MP's zip: KEY.vid_info.json …")],
    videos: Annotated[Path, typer.Option(help="MSR-VTT's videos, video0.mp4 …")],
    output: Annotated[Path, typer.Option(help="msrvtt_personalization_data/ comes into it; what is there is not made again")],
) -> None:
    """MSRVTT-Personalization as it is released, to its clips' folders; without backgrounds, which MP's own script paints."""
    from curation.benchmark import released

    released.prepare(annotation, videos, output)


@benchmark.command()
def study(
    methods: Annotated[
        list[str], typer.Argument(metavar="VIDEOS", help="folders with KEY.mp4 of the clips, two or more; NAME=FOLDER")
    ],
    of: Annotated[Path, typer.Option("--benchmark", help="whose clips they are of")],
    output: Annotated[Path, typer.Option(help="the page, in a folder of its own that raters get whole: FOLDER/NAME.html")],
    key: Annotated[Path, typer.Option(help="a file, outside of that folder, for what is whose")],
    mode: Annotated[Literal["subject", "face"], typer.Option(help="of the benchmark")] = "subject",
    references: Annotated[
        Literal["single", "all"], typer.Option(help="that the videos were made from, and raters see")
    ] = "single",
    background: Annotated[bool, typer.Option("--background", help="the background, too")] = False,
    samples: Annotated[int, typer.Option(min=1, help="clips at most, drawn by the seed")] = 200,
    seed: Annotated[int, typer.Option(help="decides clips, order, sides and names")] = 0,
) -> None:
    """A page on which people say, blind, whose video is the most faithful and whose the best; it saves votes as a CSV."""
    from curation.benchmark import study as studies

    print(studies.make(methods, of, output, key, mode, references, background, samples, seed))


@benchmark.command()
def votes(
    files: Annotated[list[Path], typer.Argument(metavar="CSV", help="what raters' pages saved")],
    key: Annotated[Path, typer.Option(help="what `benchmark study` wrote there")],
) -> None:
    """The papers' percentages of a study, with bootstrap intervals over clips."""
    from curation.benchmark import votes as counting

    print(counting.table(counting.count(files, key)))


shards = typer.Typer(help="Shards of others.", no_args_is_help=True)
app.add_typer(shards, name="shards")


@shards.command()
def index(
    sources: Annotated[list[str], typer.Argument(metavar="TARS", help="tars, or folders of them; paths or URLs")],
    output: Annotated[str, typer.Option(help="a folder for the index: `train --shards` takes it as it takes a run")],
) -> None:
    """Walk WebDataset tars that have no ledgers, once, and write down where each sample lies and how long and large its video is.
    Goes on where it was stopped."""
    from curation.console import say
    from curation.shards import index as indices

    told = indices.make(sources, output, say)
    say(f"{told.pop('kept', 0):,} samples can be trained on" + "".join(f", {count:,} {why}" for why, count in told.most_common()))


@app.command()
def weights(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="a training run's output, or one of its checkpoints")],
    output: Annotated[Path, typer.Option(help="the file, NAME.safetensors")],
) -> None:
    """Write a checkpoint's averaged weights as one safetensors file; takes one process, and one tensor's memory at a time."""
    from curation.trainer import checkpoint as checkpoints

    checkpoints.export(checkpoint, output)


models = typer.Typer(help="What the store has and needs, with licences; fetch it.", invoke_without_command=True)
app.add_typer(models, name="models")


@models.callback()
def list_models(context: typer.Context) -> None:
    """The store's table: name, present or not, size, licence, source."""
    from curation import console

    if context.invoked_subcommand is None:
        console.models_table()


@models.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="names from `curation models`")] = None,
    recipe: Annotated[str | None, typer.Option(help="fetch what this recipe needs")] = None,
) -> None:
    """Fetch models by name, or all that a recipe needs."""
    from curation import console
    from curation import recipe as recipes
    from curation.store import store

    store.fetch([*(names or []), *(recipes.find(recipe).models() if recipe else ())], console.say)


def main() -> None:
    """Entry point: errors with a known cause become one line on standard error."""
    from curation import faults, recipe, storage
    from curation.benchmark.errors import BenchmarkError
    from curation.inputs.files import InputError
    from curation.run import ending, engine, lanes, plan
    from curation.shards.forget import ForgetError
    from curation.store import store
    from curation.trainer.errors import Stopped, TrainerError

    known = (
        BenchmarkError,
        ForgetError,
        InputError,
        TrainerError,
        recipe.RecipeError,
        plan.PlanError,
        engine.EngineError,
        lanes.PlacementError,
        storage.StorageError,
        store.StoreError,
    )
    try:
        app()
    except Stopped as told_once:
        sys.exit(_complain(str(told_once), 143))  # 128 + SIGTERM, as shells have it
    except known as error:
        sys.exit(_complain(str(error), 2))
    except ending.Interrupted as told:
        sys.exit(_complain(str(told), told.status))
    except engine.BrokenError as error:
        sys.exit(_complain(str(error), 1))
    except faults.StageBug as error:
        sys.exit(_complain(f"a stage broke its contract: {error}", 1))
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("curation"):
            raise
        extras = "the trainer needs pip install 'curation[train]', the papers' models 'curation[paper,vllm]'"
        sys.exit(_complain(f"{error.name} is not installed: {extras}", 2))
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'disk'}: {error.strerror or error}", 1))


def _complain(text: str, status: int) -> int:
    print(f"curation: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
