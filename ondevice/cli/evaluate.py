"""`ondevice evaluate`: word and character error rates on labelled recordings."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli.checks import check_search
from ondevice.errors import FailureError, InputError

if TYPE_CHECKING:
    from ondevice.evaluation import Failure, Report, Score, Summary

_TEXT_WIDTH = 100  # columns of an aligned pair of lines


def evaluate(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST", help="JSONL manifests, or folders with a manifest.jsonl.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Name or directory of a model.")] = "rnnt",
    beam: Annotated[int | None, typer.Option(help="Hypotheses kept, 1 is greedy; else as the model says.")] = None,
    lm_weight: Annotated[
        float | None, typer.Option(help="Weight of the language model; else as the model says.")
    ] = None,
    second_pass: Annotated[
        bool, typer.Option(help="Weigh all readings again, by their sounds too, at the end of an utterance.")
    ] = True,
    vad: Annotated[bool, typer.Option(help="No words where nobody speaks, if the model can tell.")] = True,
    split: Annotated[str, typer.Option(help="Split to evaluate where lines name one, or `all`.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many utterances of a manifest.")] = None,
    normalize: Annotated[
        str, typer.Option(help="Before comparing: none, basic (case, punctuation) or english (numbers too).")
    ] = "english",
    streaming_chunk_ms: Annotated[
        int | None, typer.Option(min=1, help="Feed audio in pieces of so many ms instead of at once.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side; RTF is best measured with one.")] = 1,
    worst: Annotated[int, typer.Option(min=0, help="Show so many utterances with the most errors.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON with every utterance; rates as fractions.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of stdout.")] = None,
) -> None:
    """Word and character error rates on labelled recordings, with confidence intervals."""
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output {output}: expected a file name in a folder that exists")
    from ondevice.evaluation import evaluate as run
    from ondevice.normalize import normalizer
    from ondevice.recognizer import Recognizer, RecognizerConfig
    from ondevice.utterances import read_utterances

    check_search(beam, lm_weight)
    normalizing = normalizer(normalize)
    utterances = read_utterances(manifests, None if split == "all" else split, limit)
    recognizer = Recognizer.load(
        model, RecognizerConfig(beam=beam, lm_weight=lm_weight, second_pass=second_pass, vad=vad, threads=threads)
    )
    with _progress(len(utterances)) as show:
        report = run(
            recognizer, utterances, normalize=normalizing, chunk_ms=streaming_chunk_ms, jobs=jobs, on_outcome=show
        )
    settings = {
        "model": recognizer.manifest.name, "precision": recognizer.manifest.precision, "beam": beam,
        "lm_weight": lm_weight, "second_pass": second_pass, "vad": vad, "split": split, "limit": limit,
        "normalize": normalize, "streaming_chunk_ms": streaming_chunk_ms, "threads": threads, "jobs": jobs,
    }  # fmt: skip
    if as_json:
        text = json.dumps({"settings": settings, **_values(report, worst)}, indent=1) + "\n"
    else:
        text = "\n".join(_lines(report, worst, settings)) + "\n"
    _write(text, output)
    if report.failures:
        raise FailureError(f"{len(report.failures)} of {len(utterances)} utterances could not be decoded; not scored")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[["Score | Failure"], None]]:
    """A function to call after each utterance: failures are printed, a bar is drawn on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ondevice.evaluation import Errors, Failure

    console, words = Console(stderr=True), Errors()
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=total)

    def show(outcome: "Score | Failure") -> None:
        nonlocal words
        if isinstance(outcome, Failure):
            print(f"ondevice: {outcome.utterance.where}: {outcome.message}", file=sys.stderr, flush=True)
        else:
            words += outcome.words
        bar.update(task, advance=1, description=f"WER {_percent(words.rate)}")

    with bar:
        yield show


def _write(text: str, output: Path | None) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair from a manifest
    from ondevice.files import open_output

    with open_output(output) as out:
        out.write(text)


def _values(report: "Report", worst: int) -> dict[str, Any]:
    """The report for a program: rates are fractions, times in seconds."""
    from ondevice.evaluation import aligned

    return {
        "overall": _summary_values(report.overall),
        "corpora": [_summary_values(corpus) for corpus in report.corpora],
        "worst": [{**_score_values(score), "aligned": aligned(score)} for score in report.worst(worst)],
        "utterances": [_score_values(score) for score in report.scores],
        "failures": [
            {"file": failure.utterance.name, "where": failure.utterance.where, "error": failure.message}
            for failure in report.failures
        ],
    }


def _summary_values(summary: "Summary") -> dict[str, Any]:
    rates = {"wer": summary.wer, "cer": summary.cer, "rtf": summary.rtf, "hours": summary.audio_s / 3600}
    return asdict(summary) | rates


def _score_values(score: "Score") -> dict[str, Any]:
    utterance, values = score.utterance, asdict(score)
    del values["utterance"]
    return {"file": utterance.name, "corpus": utterance.corpus, "speaker": utterance.speaker, **values}


_HEADERS = (
    *("corpus", "utts", "spk", "hours", "words"),
    *("WER", "95 % interval", "over", "ins", "del", "sub"),
    *("CER", "95 % interval", "RTF"),
)


def _lines(report: "Report", worst: int, settings: dict[str, Any]) -> list[str]:
    """The report for a person."""
    search = "own search settings" if settings["beam"] is None else f"beam {settings['beam']}"
    lines = [
        f"{settings['model']} ({settings['precision']}), {search}, split {settings['split']}, "
        f"normalisation {settings['normalize']}",
        "",
    ]
    summaries = report.corpora if len(report.corpora) == 1 else (*report.corpora, report.overall)
    rows = [_HEADERS, *(_cells(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADERS))]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((row[0].ljust(widths[0]), *cells)))
    if report.overall.nonspeech:
        lines += [
            "",
            f"{report.overall.nonspeech} recordings without speech: "
            f"{report.overall.nonspeech_insertions} words heard in them, counted as insertions",
        ]
    if wrong := report.worst(worst):
        lines += ["", "Most errors:"]
        for score in wrong:
            lines += ["", *_diff(score)]
    return lines


def _cells(summary: "Summary") -> tuple[str, ...]:
    words = summary.words
    return (
        summary.name,
        str(summary.utterances),
        str(summary.speakers or "-"),
        f"{summary.audio_s / 3600:.2f}",
        str(words.reference),
        _percent(summary.wer),
        _interval(summary.wer_interval),
        summary.resampled,
        str(words.insertions),
        str(words.deletions),
        str(words.substitutions),
        _percent(summary.cer),
        _interval(summary.cer_interval),
        "-" if summary.rtf is None else f"{summary.rtf:.4f}",
    )


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _diff(score: "Score") -> list[str]:
    """The utterance's name, then its words below each other in rows of about 100 columns."""
    from ondevice.evaluation import aligned

    words = score.words
    lines = [f"{score.utterance.name}: {words.total} errors in {words.reference} words"]
    reference = hypothesis = ""
    for there, heard in aligned(score):
        width = max(len(there), len(heard))
        if len(reference) + width > _TEXT_WIDTH:
            lines += [f"  ref {reference.rstrip()}", f"  hyp {hypothesis.rstrip()}"]
            reference = hypothesis = ""
        reference += there.ljust(width) + " "
        hypothesis += heard.ljust(width) + " "
    return [*lines, f"  ref {reference.rstrip()}", f"  hyp {hypothesis.rstrip()}"]
