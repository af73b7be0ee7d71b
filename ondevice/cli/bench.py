"""`ondevice bench`: how fast a model runs on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ondevice.bench import Latency, Pipeline, Report, Step, ThreadRun


def bench(
    model: Annotated[str, typer.Argument(help="Name or directory of a model of any task.")],
    threads: Annotated[str, typer.Option(help="Threads of the interpreter; several as in 1,2.")] = "1",
    runs: Annotated[int, typer.Option(help="Timed calls of each signature.")] = 100,
    warmup: Annotated[int, typer.Option(help="Calls before them.")] = 10,
    audio: Annotated[
        str | None, typer.Option(metavar="FILE", help="A recording to hear instead of the samples that ship.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="onnx: time ONNX Runtime with the same network, too ('ondevice[onnx]').")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Time a model: loading, each signature, the whole pipeline, and the memory-bandwidth floor.

    Each signature is called with seeded random input, its state fed back, as benchmark_model does it.
    """
    import json
    from dataclasses import asdict

    from ondevice.bench import BenchConfig, measure, parse_threads

    report = measure(model, BenchConfig(parse_threads(threads), runs, warmup, audio, against=against))
    if as_json:
        print(json.dumps(asdict(report), indent=1))
        return
    for line in _lines(report):
        print(line)


def _lines(report: "Report") -> list[str]:
    bandwidth = report.bandwidth_bytes_per_s / 1e9
    lines = [
        f"model         {report.model} ({report.task}), {report.model_bytes / 1e6:.1f} MB, {report.interpreter}",
        f"memory        {bandwidth:.1f} GB/s read by one thread",
        f"inference     {report.runs} runs after {report.warmup} of warmup, ms",
    ]
    for run in report.threads:
        lines += ["", *_thread_lines(run)]
        if report.against:
            lines += [f"against       {report.against}, p50 of the same network; how many times as long", *_peers(run)]
    return lines


def _peers(run: "ThreadRun") -> list[str]:
    width = max(9, *map(len, run.peers))
    return [
        f"{name:<{width}} "
        + "   ".join(
            f"{peer.precision} {peer.bytes / 1e6:.2f} MB {peer.latency.p50_ms:.3f} ms {peer.times_as_long:.1f}x"
            for peer in peers
        )
        for name, peers in run.peers.items()
    ]


def _thread_lines(run: "ThreadRun") -> list[str]:
    width = max(map(len, run.signatures))
    lines = [
        f"threads {run.threads}: init {run.load_ms:.1f} ms, peak memory of the process {run.peak_memory_mb:.0f} MB",
        f"{'signature':<{max(width, 9)}} {'first':>9} {'warmup':>9} {'avg':>9} {'min':>9} {'p50':>9} {'p90':>9} "
        f"{'p99':>9}  {'weights MB':>10} {'read GB/s':>9}",
    ]
    lines += [f"{name:<{max(width, 9)}} {_row(times)}" for name, times in run.signatures.items()]
    if run.step:
        lines.append(_step(run.step))
    return [*lines, _whole(run.pipeline)]


def _row(times: "Latency") -> str:
    columns = (
        times.first_ms, times.warmup_ms, times.mean_ms, times.min_ms, times.p50_ms, times.p90_ms, times.p99_ms,
    )  # fmt: skip
    weights = _number(times.weight_bytes and times.weight_bytes / 1e6, 10, 2)
    rate = _number(times.read_bytes_per_s and times.read_bytes_per_s / 1e9, 9, 2)
    return " ".join(_number(value, 9, 3) for value in columns) + f"  {weights} {rate}"


def _number(value: float | None, width: int, places: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{places}f}"


def _step(step: "Step") -> str:
    said = f"step          {step.latency_ms:.3f} ms for {step.audio_ms:.0f} ms of audio"
    if step.floor_ms is None or step.floor_share is None:
        return said
    cached = " (they stay in the cache)" if step.floor_share > 1 else ""
    return (
        f"{said}; reading the encoder's weights from memory takes {step.floor_ms:.3f} ms: "
        f"{100 * step.floor_share:.0f} % of that speed{cached}"
    )


def _whole(pipeline: "Pipeline") -> str:
    if pipeline.real_time_factor is None:
        return f"pipeline      {pipeline.what}: not measured, {pipeline.missing or 'it made no audio'}"
    return (
        f"pipeline      {pipeline.what}: {pipeline.audio_s:.2f} s of audio in {pipeline.compute_s:.2f} s, "
        f"real-time factor {pipeline.real_time_factor:.4f}"
    )
