"""What a k6 run measured, from its `--out json` file: one JSON object a line (k6's "JSON output" documentation)."""
import collections
import datetime
import gzip
import json
import os

STARTS = ("cold", "prewarmed", "warm", "unknown")
PARTS = ("call", "queue", "start", "turn")
PERCENTILES = (50, 90, 95, 99)
# Seconds that one point of a plot over time stands for: the least of these that needs no more points than that.
WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300)
MOST_BUCKETS = 60
MOST_FAULTS = 200


class Unreadable(Exception):
    """The file is no output of k6, or of a run of something else."""


def percentile(ordered, percent):
    """By linear interpolation, as k6 does."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def figures(values):
    ordered = sorted(values)
    result = {"n": len(ordered), "min": ordered[0], "max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    result |= {f"p{p}": percentile(ordered, p) for p in PERCENTILES}
    return {name: round(value, 3) for name, value in result.items()}


def seconds_of(time):
    """RFC 3339 with any number of digits, to seconds since the epoch."""
    whole, _, rest = time.partition(".")
    digits = rest[:len(rest) - len(rest.lstrip("0123456789"))] if rest else ""
    zone = rest[len(digits):] if rest else whole[19:]
    at = datetime.datetime.fromisoformat(whole[:19] + (zone or "Z").replace("Z", "+00:00"))
    return at.timestamp() + (float(f"0.{digits}") if digits else 0)


class Run:
    """One file: every sample of this project's own metrics, by kind."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path).removesuffix(".gz").removesuffix(".json")
        self.calls = []  # (at, start, milliseconds)
        self.parts = {part: collections.defaultdict(list) for part in PARTS}
        self.accepted, self.dropped = [], []  # (at, count)
        self.refused, self.errors = [], []  # (at, kind)
        self.faults = []
        self.counts = collections.Counter()
        self.failed_checks = collections.Counter()
        opened = gzip.open if path.endswith(".gz") else open
        try:
            with opened(path, "rt") as lines:
                for line in lines:
                    if '"type":"Point"' in line and ('"rekindle_' in line or '"checks"' in line or '"dropped_' in line):
                        self._take(json.loads(line))
        except (OSError, ValueError, EOFError) as error:
            raise Unreadable(f"{path}: {error}") from error
        if not self.counts["samples"]:
            raise Unreadable(f"{path}: no run of these scripts; it is the file of `k6 run --out json={path}`")
        self.thresholds = self._thresholds()

    def _take(self, point):
        metric, data = point["metric"].removeprefix("rekindle_"), point["data"]
        value, tags = data["value"], data.get("tags") or {}
        self.counts["samples"] += 1
        if metric in PARTS:
            start = tags.get("start", "unknown")
            self.parts[metric][start].append(value)
            if metric == "call":
                self.calls.append((seconds_of(data["time"]), start, value))
        elif metric == "checks":
            self.counts["checks"] += 1
            if not value:
                self.failed_checks[tags.get("check", "a check")] += 1
        elif value and metric in ("refused", "errors"):
            getattr(self, metric).append((seconds_of(data["time"]), tags.get("kind", "unknown")))
        elif value and metric == "faults":
            self.faults.append({name: tags.get(name, "") for name in ("fault", "turn", "unit")})
        elif value and metric in ("accepted", "dropped_iterations"):
            getattr(self, metric.removesuffix("_iterations")).append((seconds_of(data["time"]), value))
        else:
            self.counts[metric] += value

    def _thresholds(self):
        """What `--summary-export` says of them, where that file lies beside this one. True there means crossed."""
        beside = f"{os.path.dirname(self.path) or '.'}/{self.name}.summary.json"
        if not os.path.exists(beside):
            return []
        with open(beside) as file:
            metrics = json.load(file)["metrics"]
        return [{"metric": metric, "threshold": text, "held": not crossed}
                for metric, about in sorted(metrics.items()) for text, crossed in about.get("thresholds", {}).items()]

    def reasons(self):
        """Why the run did not pass; none when it did."""
        sums = {"dropped iterations": sum(n for _, n in self.dropped), "errors": len(self.errors),
                "read-back faults": len(self.faults), "accepted turns never read back": int(self.counts["unread"])}
        reasons = [f"{what}: {count}" for what, count in sums.items() if count]
        reasons += [f"check `{check}` failed: {count}" for check, count in self.failed_checks.items()]
        if not self.counts["read_back"]:
            reasons.append("no turn was read back")
        told = ("dropped_iterations", "checks", "rekindle_errors", "rekindle_faults", "rekindle_unread", "rekindle_read_back")
        reasons += [f"{t['metric']}: not {t['threshold']}" for t in self.thresholds if not t["held"] and t["metric"] not in told]
        return reasons

    def span(self):
        """When its first call began and its last one ended."""
        ended = [at for at, _, _ in self.calls] + [at for at, _ in self.errors + self.refused + self.accepted + self.dropped]
        began = [at - ms / 1e3 for at, _, ms in self.calls] or ended
        return (min(began), max(ended)) if ended else (0, 0)

    def series(self):
        """Per bucket of time (by when a call ended): percentiles by kind of start, and how many calls ended how."""
        first, last = self.span()
        width = next((width for width in WIDTHS if (last - first) / width <= MOST_BUCKETS), WIDTHS[-1])
        buckets = [{"at": i * width, "latency": {}, "ended": collections.Counter()}
                   for i in range(int((last - first) / width) + 1)]

        def bucket(at):
            return buckets[max(0, min(int((at - first) / width), len(buckets) - 1))]

        for at, start, ms in self.calls:
            bucket(at)["latency"].setdefault(start, []).append(ms)
            bucket(at)["ended"][start] += 1
        for outcome, samples in (("refused", self.refused), ("error", self.errors)):
            for at, _ in samples:
                bucket(at)["ended"][outcome] += 1
        for at, count in self.dropped:
            bucket(at)["ended"]["dropped"] += count
        for one in buckets:
            one["latency"] = {start: figures(values) for start, values in one["latency"].items()}
        return {"bucket_sec": width, "buckets": buckets}

    def document(self):
        """All of it as plain data: what `report.json` has of a run."""
        first, last = self.span()
        reasons = self.reasons()
        kinds = {name: dict(collections.Counter(kind for _, kind in getattr(self, name)).most_common())
                 for name in ("refused", "errors")}
        return {
            "name": self.name,
            "passed": not reasons,
            "reasons": reasons,
            "began": datetime.datetime.fromtimestamp(first, datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(last - first, 3),
            "accepted": int(sum(n for _, n in self.accepted)),
            "dropped_iterations": int(sum(n for _, n in self.dropped)),
            "refused": kinds["refused"],
            "errors": kinds["errors"],
            "checks": {"made": self.counts["checks"], "failed": dict(self.failed_checks)},
            "read_back": {"turns": int(self.counts["read_back"]), "missing": int(self.counts["unread"]),
                          "without_events": int(self.counts["trimmed"]), "faults": self.faults[:MOST_FAULTS],
                          "fault_count": len(self.faults)},
            "latency_ms": {start: {part: figures(self.parts[part][start]) for part in PARTS if self.parts[part][start]}
                           for start in STARTS if self.parts["call"][start]},
            "thresholds": self.thresholds,
            "over_time": self.series(),
        }
