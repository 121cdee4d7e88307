"""The verbs of `dir-bench` that show finished runs: what they can be asked, and where the answer goes."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from dir_bench.errors import UserError
from dir_bench.files.values import visible

TABLE_FORMATS = ("text", "md", "latex", "html", "csv", "json")
TABLE_HELP = """\
what is shown
  a row       a method, named by its config as in the paper; its seeds are averaged, runs that differ in more are rows
              of their own. Runs that are not finished, or damaged, are listed below the table with the reason
  a hole      –, with the command that fills it: a seed that other rows have; with --holes also the paper's rows
  n/a         its runs have no such number: a region without samples, a correlation of constant predictions
  --metrics   any that the runs have: mae mse rmse gm pearson spearman; bmae (over bins, bins says how many), bias,
              slope, ccc, w1, sera; of heads that know how sure they are nll crps coverage width uce uce_std ause
  marks       the best mean of a column (* or bold); what cannot be told from it (° or italic): intervals overlap, or
              with --compare no significant difference; † or ‡ differs significantly from the row of --compare
  --compare   †: a paired t-test over the seeds that two rows share, five or more, so that a claim is one about methods
              and not about seeds; Holm's correction over all cells of the table. With --test samples ‡: a sign-flip
              test over the test samples, of errors averaged over shared seeds, which says whether another test set
              would show the difference of these trained networks, not of others. p-values are in csv and json
  §           its runs depart from the dataset's published recipe, as said below the table: such rows are not compared
              with rows of another recipe
  numbers     the same in every format: text, md, latex (booktabs) and html as printed; csv and json in label units
              (years, metres, scores; correlations as fractions) and full precision

examples
  dir-bench table                                        all runs under outputs/
  dir-bench table outputs/agedb --compare VANILLA --gains
  dir-bench table --against paper ranksim --holes        beside two papers; what is still to run
  dir-bench table --metrics mae --regions all few --out table.tex
  dir-bench table --select lr --compare VANILLA          each method at the learning rate that validation chooses
"""

REPORT_HELP = """\
what it holds, for each dataset
  methods     the table of `dir-bench table` with the same options and numbers; sorts and filters
  figures     those of `dir-bench plot` that these runs can give, and why the others are not there; they need
              matplotlib (pip install 'dir-bench[plots]'). Of more than six methods they show the best
  runs        seed, state, time and errors of each; unfold one for its folder, code, command and config. Runs that
              are not finished, or damaged, are listed with the reason
  and where there are several datasets, methods ranked over all of them, if all have the same methods

Figures of several datasets are drawn by as many processes as there are cores; a dataset takes some seconds. The
file needs no other and loads nothing, can be mailed, printed and used with the keyboard alone; without JavaScript its
tables are plain. The same runs give the same bytes.

examples
  dir-bench report report.html                           all runs under outputs/
  dir-bench report agedb.html outputs/agedb --compare VANILLA --gains --title "AgeDB-DIR, first round"
  dir-bench report report.html --against paper ranksim --no-figures
"""

PREDICT_HELP = """\
what the files are
  pictures    of agedb, imdb_wiki and images: the files themselves, or a csv with the column of paths that the dataset
              has, relative to the csv; they are resized and normalised as in the run
  vectors     of arrays: a csv, a row a sample, with a header and as many columns as the run was trained on
  tables      of table and the published ones: a csv, tsv or parquet file with the columns that the run was trained on
  sentences   of sts_b: a csv with the columns sentence1 and sentence2

examples
  dir-bench predict outputs/agedb/vanilla/0123456789 face1.jpg face2.jpg
  dir-bench predict outputs/sts_b/vanilla/0123456789 pairs.csv --out scores.csv
"""


def table(arguments: list[str]) -> int:
    """Print one table a dataset from run folders: means over seeds and their 95 % intervals, by region, beside
    published numbers.
    """
    parser = argparse.ArgumentParser(
        "dir-bench table",
        description=table.__doc__,
        epilog=TABLE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_choices(parser)
    parser.add_argument("--format", choices=TABLE_FORMATS, help="default: by the suffix of --out, else text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file, whole or not at all")
    asked = parser.parse_intermixed_args(arguments)
    runs, choices = _chosen(asked)
    from dir_bench.results.tables import table as make_table

    suffixes = {".txt": "text", ".tex": "latex", **{f".{name}": name for name in TABLE_FORMATS}}
    if asked.out and not asked.format and asked.out.suffix.lower() not in ("", *suffixes):
        raise UserError(
            f"--out {asked.out}: no format ends in '{asked.out.suffix}': {', '.join(suffixes)}; or --format"
        )
    text = make_table(
        runs,
        asked.format or (suffixes.get(asked.out.suffix.lower(), "text") if asked.out else "text"),
        **choices,
        colour=False if asked.out else None,
    )
    return _deliver(text, asked.out)


def _deliver(text: str, out: Path | None, about: str = "") -> int:
    """Print a text, or write it to the file that --out names; bytes of file names that are no text stay as they are."""
    from dir_bench.files.text import BYTES

    encoded = text.encode("utf-8", BYTES)
    if out is None:
        print(encoded.decode("utf-8", "replace"), end="")
        return 0
    from dir_bench.atomic import write_named

    try:
        write_named(out, encoded)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; give --out another path") from error
    print(f"wrote {out}{about}", file=sys.stderr)
    return 0


def report(arguments: list[str]) -> int:
    """Write one HTML file: tables, figures, and each run with its config and the command that repeats it."""
    parser = argparse.ArgumentParser(
        "dir-bench report",
        description=report.__doc__,
        epilog=REPORT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT.html", help="the file to write, whole or not at all")
    _add_choices(parser)
    parser.add_argument("--title", help="of the page (default: the names of the datasets)")
    parser.add_argument("--no-figures", action="store_true", help="tables only, which is faster and smaller")
    asked = parser.parse_intermixed_args(arguments)
    if asked.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{asked.out} is no name of a page: the first word is the file to write, such as report.html")
    runs, choices = _chosen(asked)
    from dir_bench.results import report as reports
    from dir_bench.workers import cores

    reports.write(asked.out, runs, title=asked.title, figures=not asked.no_figures, processes=cores(), **choices)
    print(f"wrote {asked.out}")
    return 0


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Add what tables can be asked for."""
    parser.add_argument("runs", nargs="*", type=Path, help="folders to search (default: outputs)")
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="such as mae gm bmae bias sera (default: the paper's)"
    )
    parser.add_argument("--regions", nargs="+", metavar="NAME", help="such as all few zero (default: the paper's)")
    parser.add_argument(
        "--against", nargs="+", default=["paper"], metavar="PAPER", help="published numbers beside ours: paper "
        "(default), repo, ranksim, conr, vir, srl, … or none; several may be named"
    )  # fmt: skip
    parser.add_argument("--compare", metavar="ROW", help="test every row against this one, such as VANILLA (below)")
    parser.add_argument(
        "--test", choices=("seeds", "samples"), default="seeds", help="what --compare tests over (below)"
    )
    parser.add_argument(
        "--spread", choices=("interval", "std"), default="interval",
        help="behind the ±: half of the mean's 95 %% interval over seeds (default), or the sample standard deviation",
    )  # fmt: skip
    parser.add_argument(
        "--select", nargs="*", metavar="KEY",
        help="of rows that differ in these settings alone (lr; default: in any), show the best on validation alone",
    )  # fmt: skip
    parser.add_argument("--gains", action="store_true", help="gains over VANILLA below each row, and of the best row")
    parser.add_argument(
        "--holes", action="store_true", help="show the paper's rows that have no run, and what runs them"
    )


def _chosen(asked: argparse.Namespace) -> tuple[list[Path], dict[str, Any]]:
    """Return the folders to search, and the arguments of `tables.table` that were asked for."""
    # argparse takes every word after these for one of theirs; people write folders there too.
    named = {option: getattr(asked, option) for option in ("against", "metrics", "regions", "select")}
    behind = [named["select"] or [], *((named[option] or [])[1:] for option in ("against", "metrics", "regions"))]
    folders = [name for words in behind for name in words if Path(name).is_dir()]
    named = {option: words and [name for name in words if name not in folders] for option, words in named.items()}
    runs = [*asked.runs, *map(Path, folders)]
    for folder in runs:
        if not folder.exists():
            raise UserError(f"{folder} does not exist: name run folders, or folders that hold some")
    presets = None
    if asked.holes:
        from dir_bench import config

        presets = config.options("method")
    return runs or [Path("outputs")], {
        **named,
        "against": None if named["against"] == ["none"] else named["against"],
        "compare": asked.compare,
        "over": asked.test,
        "gains": asked.gains,
        "presets": presets,
        "spread": asked.spread,
    }


def plot(arguments: list[str]) -> int:
    """Draw one figure from run folders; runs that differ by the seed alone become one line with a band."""
    from dir_bench.results import plots

    listed = "\n".join(f"  {name:12s} {kind.shows}" for name, kind in plots.PLOTS.items())
    parser = argparse.ArgumentParser(
        "dir-bench plot",
        description=plot.__doc__,
        epilog=f"figures (NAME):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="which figure, see below")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders, or folders that hold some (default: outputs)"
    )
    parser.add_argument("--reference", type=Path, metavar="RUN", help="what gains are over (default: VANILLA's runs)")
    parser.add_argument(
        "--anchor", type=float, action="append", default=[], metavar="LABEL",
        help="compare features with those of this label; may be repeated (default: the most frequent label)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, action="append", default=[], metavar="FILE",
        help=".png, .svg or .pdf; may be repeated (default: plots/NAME.png in the folder that the runs share)",
    )  # fmt: skip
    parser.add_argument("--metric", default="mae", metavar="NAME", help="what cd ranks methods by (default: mae)")
    parser.add_argument("--region", default="all", metavar="NAME", help="of the test split, for cd (default: all)")
    asked = parser.parse_intermixed_args(arguments)
    written = plots.plot(
        asked.name,
        asked.runs or ["outputs"],
        reference=asked.reference,
        anchors=asked.anchor,
        metric=asked.metric,
        region=asked.region,
        out=asked.out,
    )
    for file in written:
        print(f"wrote {file}")
    return 0


def predict(arguments: list[str]) -> int:
    """Write what a trained network says of new samples: a csv, in label units.

    New samples have no target, so no error and no region either.
    """
    parser = argparse.ArgumentParser(
        "dir-bench predict",
        description=predict.__doc__,
        epilog=PREDICT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder; its data have to be there, too")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="pictures, or one csv (below)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write to this file (default: print)")
    add_evaluation(parser)
    asked = parser.parse_intermixed_args(arguments)
    if asked.out is not None and asked.out.suffix.lower() != ".csv":
        raise UserError(f"--out {asked.out}: predictions are a csv, so give it a name that ends in .csv")
    from dir_bench import experiment

    found = experiment.predict(asked.run, asked.files, asked.accelerator, asked.data, asked.trust)
    return _deliver(found.to_csv(index=False), asked.out, f": {len(found)} predictions")


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to build a finished run again."""
    parser.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), help="default: the run's own")
    parser.add_argument("--data", type=Path, help="the dataset's folder, if it is not where it was")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="MODULE",
        help="a module of your own whose dataset, backbone or part the run was trained with; may be repeated. Other "
        "code than this package's, torch's and torchvision's is not run for a run folder, which may be somebody's",
    )  # fmt: skip


_DESCRIBE_HELP = """\
what is recognised, by what is in the files
  a table      .csv, .tsv or .parquet, its first line naming the columns: numbers and categories (dataset=table), or
               free text (text_table). houses_val.csv and houses_test.csv beside houses_train.csv are used too
  pictures     a csv with a column of paths, relative to its folder, and a column of numbers (images); a folder of
               pictures of UTKFace, whose names tell the age (utk)
  arrays       an .npz with train_x, train_y, val_x, … test_y, or a folder of such .npy files (arrays, volumes)

what is printed
  what it is, and what was guessed; problems (missing values, tails, labels that pile up, ids in two splits); bins,
  thresholds of many, medium and few shots and the kernel, each with its rule; the labels by region; then the YAML
  is written, DIR/dataset/NAME.yaml, and three commands are printed that run as they stand

examples
  dir-bench data describe houses.csv --target price
  dir-bench data describe faces/                          a folder with a csv, or with arrays
  dir-bench data describe reviews.csv --as table          the columns of numbers, and not the text
  dir-bench data describe houses.csv --dry-run            print the YAML, write nothing
"""


def add_describe(actions: Any) -> None:
    """Add `data describe` to the actions of `dir-bench data`."""
    parser = actions.add_parser(
        "describe",
        help="your own data: what it is, its labels by region, and a config to begin with",
        description="Look at a file or folder of your own, say what it is, and write a config to begin with.",
        epilog=_DESCRIBE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="FILE | FOLDER", help="a table, a csv of pictures, arrays")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict (default: guessed, and said)")
    parser.add_argument("--as", dest="kind", metavar="KIND", help="read it so, such as table (default: what fits best)")
    parser.add_argument("--name", metavar="NAME", help="what to call the data (default: as the file or folder)")
    parser.add_argument("--write", type=Path, default=Path("my_configs"), metavar="DIR",
                        help="folder of your configs (default: my_configs)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the YAML and write nothing")
    parser.add_argument("--force", action="store_true", help="replace a YAML that is there and says something else")


def describe(asked: argparse.Namespace) -> int:
    """Say what somebody's files are, and write or print a config for them."""
    from dir_bench.description import describe as look

    made = look(asked.path, target=asked.target, kind=asked.kind, name=asked.name, folder=asked.write)
    print(made.text(shutil.get_terminal_size((100, 24)).columns))
    if asked.dry_run:
        print(f"\n{made.file} would be\n\n{made.yaml}\nThen run")
    else:
        print(f"\n{made.write(force=asked.force)}; look at it, then run")
    for command in made.commands:
        print(f"  {visible(command)}")
    return 0
