"""Word error rates of the recogniser and PocketSphinx on the same recordings, in one run.

    python -m tests.benchmarks.wer CORPUS... [--split test] [--limit 300] [--model rnnt]

A corpus is a JSONL manifest or a folder with a manifest.jsonl. Needs `pip install pocketsphinx==5.1.1`.
"""

import argparse
from pathlib import Path

from ondevice.evaluation import Recognize, Report, Transcriber, evaluate
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.utterances import read_utterances
from tests.benchmarks.pocketsphinx_peer import pocketsphinx


def show(name: str, report: Report) -> None:
    """One line per corpus."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    for found in report.corpora:
        low, high = found.wer_interval or (None, None)
        print(
            f"{found.name:<22} {name:<20} {percent(found.wer):>7} {percent(low):>8} to {percent(high):>6} "
            f"{percent(found.cer):>7} {found.rtf or 0.0:8.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="rnnt")
    options = parser.parse_args()
    utterances = read_utterances(options.corpora, options.split, options.limit)
    recognizers: dict[str, Recognize] = {
        "PocketSphinx 5.1.1": pocketsphinx(),
        options.model: Transcriber(Recognizer.load(options.model)),
        f"{options.model}, first pass": Transcriber(
            Recognizer.load(options.model, RecognizerConfig(second_pass=False))
        ),
        f"{options.model}, greedy": Transcriber(Recognizer.load(options.model, RecognizerConfig(beam=1))),
    }
    print(f"{'corpus':<22} {'recogniser':<20} {'WER':>7} {'95 % interval':>18} {'CER':>7} {'RTF':>8}")
    for name, recognizer in recognizers.items():
        show(name, evaluate(recognizer, utterances))


if __name__ == "__main__":
    main()
