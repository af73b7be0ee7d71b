"""An export's report as one page a person reads: no file beside it, no script, pictures inside.

Everything on it is also in report.json; nothing is measured here.
"""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from export.writing import PAGE
from ondevice.graph import read_graph
from ondevice.manifest_base import MODEL_FILE, Manifest

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}h2{margin-top:2rem;font-size:1.15rem}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}img{background:#fff}}
"""


def operator_table(path: Path) -> list[dict[str, Any]]:
    """How often each signature of a TFLite file runs each operator."""
    graph = read_graph(path)
    if graph is None:
        return []
    counts = {name: Counter(op.code for op in subgraph.operators) for name, subgraph in graph.signatures.items()}
    codes = sorted(set().union(*counts.values()))
    return [{"operator": code, **{name: found[code] for name, found in counts.items()}} for code in codes]


def write_page(directory: Path, manifest: Manifest, report: Mapping[str, Any]) -> None:
    """Write report.html of an asset into its directory."""
    parts = [
        f"<h1>{html.escape(manifest.name)}</h1><p>{html.escape(manifest.description)}</p>",
        _sizes(report, manifest),
        _metrics(report),
        _task(report.get("task", {})),
        _mixture(report.get("mixture")),
        _layers(report.get("layers", [])),
        _parity(report["parity"]),
        _edge_tpu(report.get("edge_tpu", [])),
        _bench(report.get("bench")),
        _section("Operators", _table(report.get("operators", []))),
    ]
    title = html.escape(f"{manifest.name}, {manifest.precision}")
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    (directory / PAGE).write_text(head + "".join(parts) + "</html>\n", encoding="utf-8")


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}" if body else ""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else html.escape(str(value))


def _sizes(report: Mapping[str, Any], manifest: Manifest) -> str:
    first = next(iter(report["bytes"].values()))
    rows = [{"precision": n, "MB": b / 1e6, "times_smaller": first / b} for n, b in report["bytes"].items()]
    return _section(f"Size of {MODEL_FILE}, {manifest.parameters:,} parameters", _table(rows))


def _metrics(report: Mapping[str, Any]) -> str:
    rows = [{"": name, "greedy_WER": value} for name, value in report.get("wer", {}).items()]
    return _section(f"Word error rate on {report.get('utterances')} utterances", _table(rows)) if rows else ""


def _task(task: Mapping[str, Mapping[str, float]]) -> str:
    rows = [{"": name, **values} for name, values in task.items() if values]
    return _section("How good it is at its task, over the recording", _table(rows))


def _mixture(mixture: Mapping[str, Any] | None) -> str:
    if not mixture:
        return ""
    layers = sorted(mixture["layers"], key=lambda row: -(row["error_at_int4"] or 0))
    pictures = _picture(_layer_errors, layers) + _picture(_trade_off, mixture)
    return _section("Bits, layer by layer", pictures + _table(layers)) + _section(
        "Size against error", _table(mixture["curve"])
    )


def _layers(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    picture = _picture(_weight_errors, rows) if any(row["error"] for row in rows) else ""
    return _section("Relative RMS error of every layer's weights against the float file", picture + _table(rows))


def _parity(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    merged: dict[str, dict[str, Any]] = {}
    for precision, rows in tables.items():
        for row in rows:
            name = f"{row['signature']}.{row['tensor']}" if "signature" in row else row["tensor"]
            merged.setdefault(name, {"tensor": name})[precision] = row["relative_rms"]
    rows = list(merged.values())
    body = _picture(_tensor_errors, rows) + _table(rows)
    return _section("Relative RMS error of every output and state against Keras, over a real recording", body)


def _edge_tpu(parts: Sequence[Mapping[str, Any]]) -> str:
    names = ("signature", "file", "bytes", "operators", "on_edge_tpu")
    rows = [{**{n: part[n] for n in names}, "compiled": "yes" if part["compiler"] else "no"} for part in parts]
    said = dict.fromkeys(f"{p['signature']}: {line}" for p in parts for line in p["notes"])
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in said)
    return _section("On an Edge TPU", _table(rows) + notes if rows else "")


def _bench(bench: Mapping[str, Any] | None) -> str:
    if not bench:
        return ""
    (run,) = bench["threads"]
    rows = [{"signature": name, **times} for name, times in run["signatures"].items()]
    said = [
        f"{bench['interpreter']}, one thread, {bench['runs']} runs; loading {run['load_ms']:.1f} ms, "
        f"peak memory {run['peak_memory_mb']:.0f} MB; memory bandwidth "
        f"{bench['bandwidth_bytes_per_s'] / 1e9:.1f} GB/s.",
        "{what}: real-time factor {real_time_factor:.4f}.".format(**run["pipeline"])
        if run["pipeline"]["real_time_factor"]
        else f"{run['pipeline']['what']}: not measured ({run['pipeline']['missing']}).",
    ]
    return _section("Speed where it was exported", "".join(f"<p>{html.escape(s)}</p>" for s in said) + _table(rows))


def _picture(draw: Any, *arguments: Any) -> str:
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = draw(*arguments)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    return f'<p><img alt="" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"></p>'


def _bars(names: Iterable[str], series: Mapping[str, Sequence[float]], label: str) -> Figure:
    names = list(names)
    figure = Figure(figsize=(8, 0.6 + 0.16 * len(names) * len(series)))
    axes, height = figure.subplots(), 0.8 / len(series)
    for number, (title, values) in enumerate(series.items()):
        places = [i + number * height for i in range(len(names))]
        axes.barh(places, values, height, label=title)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(1, 0))
    return figure


def _layer_errors(layers: Sequence[Mapping[str, Any]]) -> Figure:
    rows = [row for row in layers if row["error_at_int4"] is not None]
    values = {f"int{bits}": [row["error_at_int4"] if row["bits"] == bits else 0.0 for row in rows] for bits in (8, 4)}
    return _bars(
        (row["layer"] for row in rows), values, "error of the outputs with only this layer at int4; by bits chosen"
    )


def _weight_errors(rows: Sequence[Mapping[str, Any]]) -> Figure:
    kinds = dict.fromkeys(row["stored_as"] for row in rows)
    values = {kind: [max(row["error"], 1e-9) if row["stored_as"] == kind else 0.0 for row in rows] for kind in kinds}
    return _bars((row["layer"] for row in rows), values, "relative RMS error of the weights")


def _trade_off(mixture: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 3))
    axes, curve = figure.subplots(), mixture["curve"]
    axes.plot([p["bytes"] / 1e6 for p in curve], [p["error"] for p in curve], "o-", label="error of the outputs")
    axes.plot(mixture["bytes"] / 1e6, mixture["error"], "s", label="chosen")
    if all("wer" in p for p in curve):
        axes.plot([p["bytes"] / 1e6 for p in curve], [p["wer"] for p in curve], "^--", label="greedy WER")
    axes.set_xlabel("MB")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _tensor_errors(rows: Sequence[Mapping[str, Any]]) -> Figure:
    precisions = [name for name in rows[0] if name != "tensor"]
    series = {name: [max(row[name], 1e-9) for row in rows] for name in precisions}
    return _bars((row["tensor"] for row in rows), series, "relative RMS error")
