"""The report as one HTML file that needs nothing else."""
import html

import plots

STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --ink: #1c1f23; --soft: #5f6771; --rule: #e3e5e8;
  --good: #1a7f4b; --bad: #c22f2f; --warm: #2f6fd6; --cold: #d9730d; --prewarmed: #16908a; --unknown: #8a8f98;
  --refused: #a779d8; --error: #c22f2f; --dropped: #6b7280; --queue: #c3c8d0; --start: #d9730d; --turn: #2f6fd6; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1c2024; --ink: #e7e9ec; --soft: #9aa3ad; --rule: #30363d;
  --good: #4cc38a; --bad: #ff7b72; --warm: #6ba4ff; --cold: #f5a04c; --prewarmed: #45c4bd; --unknown: #8b939d;
  --refused: #c6a1f0; --error: #ff7b72; --dropped: #9aa3ad; --queue: #59626d; --start: #f5a04c; --turn: #6ba4ff; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 10px; } h3 { font-size: 15px; margin: 0 0 8px; }
a { color: inherit; } p { margin: 0 0 12px; } .soft, .note { color: var(--soft); } .note { font-size: 12.5px; margin: 4px 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 13px; } tr:last-child td { border-bottom: 0; } .n { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; } .dense { font-size: 14px; } .dense th, .dense td { padding: 6px 7px; white-space: nowrap; } .wide { width: 60%; } code { font: 13px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.card, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px; margin: 0 0 16px; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 16px; } .two > * { margin: 0; min-width: 0; }
.two + .card { margin-top: 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 12px 0 16px; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 14px; }
.tile b { display: block; font-size: 22px; line-height: 1.3; font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); font-size: 13px; }
.verdict { display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 13px; font-weight: 600; color: var(--card); }
.good { background: var(--good); } .bad { background: var(--bad); } td.bad-text, .bad-text { color: var(--bad); } .good-text { color: var(--good); }
figcaption { font-weight: 600; } .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); margin: 2px 0 6px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; } svg { display: block; width: 100%; height: auto; }
svg.key { width: 20px; height: 12px; } svg.meter { height: 12px; margin-top: 5px; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .tick, .label { font-size: 12px; fill: var(--soft); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; } circle.dashed { opacity: .8 }
.faint { opacity: .45; stroke-width: 1.5; } .hover { fill: transparent; } .hover:hover { fill: var(--ink); opacity: .07; }
"""


def verdict(passed):
    return f'<span class="verdict {"good" if passed else "bad"}">{"passed" if passed else "failed"}</span>'


def latency_of(run, start, percentile):
    about = run["latency_ms"].get(start, {}).get("call")
    return plots.duration(about[percentile]) if about else "–"


def overview(runs):
    head = ("run", "", "s", "accepted", "turns/s", "cold p50", "cold p95", "warm p50", "warm p95", "refused", "errors", "dropped", "read back", "faults")
    rows = []
    for index, run in enumerate(runs):
        bad = lambda count: f'<td class="n{" bad-text" if count else ""}">{count:,}</td>'  # noqa: E731
        cells = [f'<td><a href="#run-{index}">{html.escape(run["name"])}</a></td><td>{verdict(run["passed"])}</td>']
        plain = [f'{run["seconds"]:.0f}', f'{run["accepted"]:,}', plots.number(rate(run))]
        plain += [latency_of(run, start, p) for start in ("cold", "warm") for p in ("p50", "p95")]
        plain.append(f'{sum(run["refused"].values()):,}')
        cells += [f'<td class="n">{cell}</td>' for cell in plain]
        cells += [bad(sum(run["errors"].values())), bad(run["dropped_iterations"])]
        cells += [f'<td class="n">{run["read_back"]["turns"]:,}</td>', bad(run["read_back"]["fault_count"])]
        rows.append(f'<tr>{"".join(cells)}</tr>')
    heads = "".join(f'<th{"" if i < 2 else " class=n"}>{name}</th>' for i, name in enumerate(head))
    return f'<div class="card scroll dense"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def rate(run):
    return run["accepted"] / run["seconds"] if run["seconds"] else 0


def tiles(run):
    shown = [(f'{run["accepted"]:,}', "turns accepted"), (plots.number(rate(run)), "turns a second"),
             (f'{sum(run["refused"].values()):,}', "refused by limits"), (f'{sum(run["errors"].values()):,}', "errors"),
             (f'{run["dropped_iterations"]:,}', "calls dropped"),
             (f'{run["read_back"]["turns"]:,}', "turns read back"), (f'{run["read_back"]["fault_count"]:,}', "read-back faults")]
    return '<div class="tiles">' + "".join(f"<div class=tile><b>{value}</b><span>{name}</span></div>" for value, name in shown) + "</div>"


def latency_table(run):
    names = {"call": "whole call", "queue": "queue", "start": "start", "turn": "turn"}
    rows = []
    for start, about in run["latency_ms"].items():
        for part, label in names.items():
            if part in about:
                f = about[part]
                cells = "".join(f'<td class="n">{plots.duration(f[p])}</td>' for p in ("min", "p50", "p90", "p95", "p99", "max"))
                rows.append(f'<tr><td>{start if part == "call" else ""}</td><td>{label}</td><td class="n">{f["n"]:,}</td>{cells}</tr>')
    heads = "".join(f"<th class=n>{name}</th>" for name in ("calls", "min", "p50", "p90", "p95", "p99", "max"))
    return f'<div class="card scroll"><h3>Latency by kind of start</h3><table><tr><th>start</th><th>part</th>{heads}</tr>{"".join(rows)}</table></div>'


def read_back(run):
    about = run["read_back"]
    told = f'{about["turns"]:,} of {run["accepted"]:,} accepted turns were read back.'
    if not about["fault_count"] and not about["missing"] and about["turns"]:
        text = f'<p class="good-text">{told} Each is there, ended exactly once, and as its caller was told.</p>'
    else:
        text = f'<p class="bad-text">{told} Faults: {about["fault_count"]:,}; never read: {about["missing"]:,}.</p>'
    if about["without_events"]:
        text += f'<p class="soft">Of {about["without_events"]:,} the deployment keeps no events any more; their records are right.</p>'
    rows = "".join(f'<tr><td class="bad-text">{html.escape(f["fault"])}</td><td><code>{html.escape(f["turn"])}</code></td>'
                   f'<td><code>{html.escape(f["unit"])}</code></td></tr>' for f in about["faults"])
    if rows:
        more = about["fault_count"] - len(about["faults"])
        rows += f'<tr><td colspan="3">and {more:,} more</td></tr>' if more else ""
        text += f'<div class="scroll"><table><tr><th>fault</th><th>turn</th><th>unit</th></tr>{rows}</table></div>'
    return f'<div class="card"><h3>Read-back</h3>{text}</div>'


def thresholds(run):
    if not run["thresholds"]:
        return ""
    # `max>=0` makes k6 print figures and bounds nothing.
    rows = "".join(f'<tr><td><code>{html.escape(t["metric"])}</code></td><td><code>{html.escape(t["threshold"])}</code></td>'
                   f'<td class="{"good-text" if t["held"] else "bad-text"}">{"held" if t["held"] else "crossed"}</td></tr>'
                   for t in run["thresholds"] if t["threshold"] != "max>=0")
    return f'<div class="card"><h3>Thresholds</h3><table><tr><th>metric</th><th>threshold</th><th></th></tr>{rows}</table></div>'


def section(index, run):
    reasons = "" if run["passed"] else '<ul class="bad-text">' + "".join(f"<li>{html.escape(r)}</li>" for r in run["reasons"]) + "</ul>"
    charts = [plots.latency(run, start) for start in run["latency_ms"]]
    charts += [plots.throughput(run), plots.parts(run), plots.errors(run)]
    charts = "".join(chart for chart in charts if chart)
    return (f'<section id="run-{index}"><h2>{html.escape(run["name"])} {verdict(run["passed"])}</h2>'
            f'<p class="soft">{run["began"].replace("T", " ").replace("+00:00", " UTC")}, {run["seconds"]:.0f} s</p>{reasons}{tiles(run)}'
            f'<div class="two">{charts}{read_back(run)}{thresholds(run)}</div>{latency_table(run)}</section>')


def page(document):
    runs = document["runs"]
    good = all(run["passed"] for run in runs)
    about = " · ".join(html.escape(text) for text in (document["machine"], f'made {document["made"]}'))
    sections = "".join(section(index, run) for index, run in enumerate(runs))
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<title>Rekindle load test</title><style>{STYLE}</style><main><h1>Rekindle load test {verdict(good)}</h1>'
            f'<p class="soft">{about}</p>{overview(runs)}{sections}</main></html>\n')
