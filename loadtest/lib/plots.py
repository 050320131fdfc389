"""Plots as inline SVG. Colours are CSS variables of the page, so that they follow its light or dark look."""
import html
import math

WIDTH, HEIGHT = 720, 250
LEFT, RIGHT, TOP, BOTTOM = 80, 14, 12, 40


def ticks(highest, about=5):
    """Round values from 0 up to the first at or above `highest`."""
    if highest <= 0:
        return [0, 1]
    rough = highest / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 2.5 * power, 5 * power, 10 * power) if step >= rough)
    return [step * i for i in range(math.ceil(highest / step - 1e-9) + 1)]


def number(value):
    """Short: at most three digits that say something."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(ms):
    return f"{number(ms / 1e3)} s" if ms >= 1000 else f"{number(ms)} ms"


class Frame:
    """Axes with a grid; `x` in seconds from 0, `y` from 0."""

    def __init__(self, longest, highest, label, y_text=number):
        self.marks = ticks(highest)
        self.top = self.marks[-1]
        self.longest = longest or 1
        self.parts = []
        for mark in self.marks:
            y = self.y(mark)
            self.parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                              f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{y_text(mark)}</text>')
        for mark in ticks(self.longest, 8):
            if mark <= self.longest * 1.001:
                x = self.x(mark)
                self.parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'
                                  f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{number(mark)}</text>')
        self.parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
                          f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">seconds since the first call</text>'
                          f'<text class="label" transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">{html.escape(label)}</text>')

    def x(self, seconds):
        return LEFT + seconds / self.longest * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)

    def line(self, points, colour, style=""):
        """A line through the points; a point without neighbours is a dot."""
        if not points:
            return
        path = " ".join(f"{'L' if i else 'M'}{self.x(x):.1f} {self.y(y):.1f}" for i, (x, y) in enumerate(points))
        self.parts.append(f'<path class="line {style}" d="{path}" stroke="var(--{colour})"/>')
        if len(points) <= 24:
            self.parts += [f'<circle class="{style}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="2.6" fill="var(--{colour})"/>' for x, y in points]

    def bar(self, begin, end, low, high, colour):
        left, right = self.x(begin) + 0.5, self.x(end) - 0.5
        self.parts.append(f'<rect x="{left:.1f}" y="{self.y(high):.1f}" width="{max(right - left, 0.5):.1f}" '
                          f'height="{self.y(low) - self.y(high):.1f}" fill="var(--{colour})"/>')

    def hover(self, begin, end, text):
        """A band of the plot that says its figures when a pointer rests on it."""
        self.parts.append(f'<rect class="hover" x="{self.x(begin):.1f}" y="{TOP}" width="{max(self.x(end) - self.x(begin), 1):.1f}" '
                          f'height="{HEIGHT - TOP - BOTTOM}"><title>{html.escape(text)}</title></rect>')

    def svg(self, title):
        return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">{"".join(self.parts)}</svg>')


def legend(entries):
    """`(label, colour, style)`; a style of `bar` is a box, others are lines as they are drawn."""
    def key(colour, style):
        if style == "bar":
            return f'<rect x="3" y="1" width="12" height="10" rx="2" fill="var(--{colour})"/>'
        return f'<path class="line {style}" d="M1 6H19" stroke="var(--{colour})"/>'
    return '<div class="legend">' + "".join(
        f'<span><svg class="key" viewBox="0 0 20 12">{key(colour, style)}</svg>{html.escape(label)}</span>' for label, colour, style in entries) + "</div>"


def figure(title, keys, svg, note=""):
    note = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f'<figure><figcaption>{html.escape(title)}</figcaption>{legend(keys)}{svg}{note}</figure>'


def latency(run, start):
    """Percentiles of the callers' waits over time, of the calls of one kind of start."""
    over = run["over_time"]
    width = over["bucket_sec"]
    with_calls = [bucket for bucket in over["buckets"] if start in bucket["latency"]]
    highest = max(bucket["latency"][start]["p99"] for bucket in with_calls)
    frame = Frame(len(over["buckets"]) * width, highest, "latency", duration)
    lines = (("p99", "faint"), ("p95", "dashed"), ("p50", ""))
    for name, style in lines:
        frame.line([(bucket["at"] + width / 2, bucket["latency"][start][name]) for bucket in with_calls], start, style)
    for bucket in with_calls:
        f = bucket["latency"][start]
        said = ", ".join(f"{name} {duration(f[name])}" for name in ("p50", "p95", "p99"))
        frame.hover(bucket["at"], bucket["at"] + width, f"{bucket['at']} s: {f['n']} {start} calls, {said}")
    title = f"Latency of {start} calls over time"
    return figure(title, [(name, start, style) for name, style in reversed(lines)], frame.svg(title),
                  f"Each point stands for {width} s, by when a call ended.")


def throughput(run):
    """How many calls a second ended, and how."""
    over = run["over_time"]
    width = over["bucket_sec"]
    outcomes = [kind for kind in ("warm", "prewarmed", "cold", "unknown", "refused", "error", "dropped")
                if any(bucket["ended"].get(kind) for bucket in over["buckets"])]
    highest = max(sum(bucket["ended"].values()) for bucket in over["buckets"]) / width
    frame = Frame(len(over["buckets"]) * width, highest, "calls a second")
    for bucket in over["buckets"]:
        low, end = 0, bucket["at"] + width
        for kind in outcomes:
            high = low + bucket["ended"].get(kind, 0) / width
            if high > low:
                frame.bar(bucket["at"], end, low, high, kind)
            low = high
        said = ", ".join(f"{bucket['ended'][kind]} {kind}" for kind in outcomes if bucket["ended"].get(kind))
        frame.hover(bucket["at"], end, f"{bucket['at']} s: {said or 'nothing'} in {width} s")
    title = "Throughput: calls by outcome"
    return figure(title, [(kind, kind, "bar") for kind in outcomes], frame.svg(title),
                  "Served calls by kind of start; refused by a limit (429), errors, and calls that k6 could not begin (dropped).")


def errors(run):
    """Errors and refusals by kind."""
    counts = [(kind, count, "error") for kind, count in run["errors"].items()]
    counts += [(kind, count, "refused") for kind, count in run["refused"].items()]
    if not counts:
        return ""
    most = max(count for _, count, _ in counts)
    rows = "".join(
        f'<tr><td>{html.escape(kind)}</td><td class="wide"><svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect width="{count / most * 100:.1f}" height="10" fill="var(--{colour})"/></svg></td><td class="n">{count:,}</td></tr>'
        for kind, count, colour in counts)
    keys = [(name, name, "bar") for name in ("error", "refused") if any(colour == name for _, _, colour in counts)]
    return f'<figure><figcaption>Errors and refusals by kind</figcaption>{legend(keys)}<table>{rows}</table></figure>'


def parts(run):
    """Where the time of a call went: medians of queue, start and turn, by kind of start."""
    names = ("queue", "start", "turn")
    rows = [(start, [about.get(part, {}).get("p50", 0) for part in names]) for start, about in run["latency_ms"].items()]
    rows = [(start, values) for start, values in rows if sum(values)]
    if not rows:
        return ""
    longest = ticks(max(sum(values) for _, values in rows), 6)
    height, row = 44 + 40 * len(rows), 40
    scale = (WIDTH - LEFT - 40) / longest[-1]
    drawn = []
    for mark in longest:
        x = LEFT + mark * scale
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 36}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{height - 22}" text-anchor="middle">{duration(mark) if mark else 0}</text>')
    for index, (start, values) in enumerate(rows):
        x, y = LEFT, 10 + index * row
        drawn.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{start}</text>')
        for name, value in zip(names, values):
            drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{value * scale:.1f}" height="24" fill="var(--{name})"><title>{start}, {name}: {duration(value)}</title></rect>')
            x += value * scale
    drawn.append(f'<text class="label" x="{(LEFT + WIDTH - 40) / 2:.0f}" y="{height - 4}" text-anchor="middle">median</text>')
    title = "Where a call's time goes"
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{"".join(drawn)}</svg>'
    return figure(title, [(name, name, "bar") for name in names], svg, "As the deployment says in Server-Timing: waiting in line, starting a worker, running the turn.")
