"""Metrics of several processes as those of one.

A process tells its families as rows of plain values; rows are added up, and shown as one exposition.
Counters and histograms are sums, counted amounts as integers until they are shown. Of gauges, some are
sums, too; of the others the largest value holds, which is the worst for all that tell of trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.telemetry.families import Count, Distribution, Family, Level, cumulative

Row = list[Any]
"""``[name, kind, text, labels, of, [[label values, value], …]]``: ``kind`` is counter, gauge or histogram;
``of`` a counter's divisor or a histogram's bounds; a histogram's value is ``[counts, sum]``."""
Keeps = Callable[[tuple[str, ...], tuple[str, ...]], bool]
"""Whether a series of these label names and values is shown."""

SUMMED = frozenset(
    {
        "gateway_in_flight_requests",
        "gateway_reservations_open",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
)
LEAST = frozenset({"process_start_time_seconds"})


def counter_row(family: Family[Count], divisor: int) -> Row:
    """``divisor``: what one shown unit is in counted ones."""
    children = [(values, child.value) for values, child in family.children()]
    shown = [one for one in children if one[1] or not family.sparse]
    return [family.name, "counter", family.text, family.labels, divisor, shown]


def gauge_row(family: Family[Level]) -> Row:
    children = [(values, child.value) for values, child in family.children()]
    return [family.name, "gauge", family.text, family.labels, None, children]


def histogram_row(family: Family[Distribution], bounds: tuple[float, ...]) -> Row:
    children = [(values, (child.counts[:], child.sum)) for values, child in family.children()]
    shown = [one for one in children if any(one[1][0]) or not family.sparse]
    return [family.name, "histogram", family.text, family.labels, list(bounds), shown]


def rows_of(collector: Collector) -> list[Row]:
    """Of counters and gauges that the client library shows by itself."""
    rows = []
    for metric in collector.collect():
        labels = sorted(metric.samples[0].labels) if metric.samples else []
        children = [[[one.labels[name] for name in labels], one.value] for one in metric.samples]
        rows.append(
            [
                metric.name,
                metric.type,
                metric.documentation,
                labels,
                1 if metric.type == "counter" else None,
                children,
            ]
        )
    return rows


@dataclass(slots=True)
class _Merged:
    kind: str
    text: str
    labels: tuple[str, ...]
    of: Any
    children: dict[tuple[str, ...], Any] = field(default_factory=dict)


class Merging:
    """Adds rows up. What another version of the gateway counts otherwise is left out."""

    def __init__(self) -> None:
        self._families: dict[str, _Merged] = {}

    def add(self, rows: Iterable[Row], *, gauges: bool = True) -> None:
        """``gauges``: False for processes that are no more."""
        for name, kind, text, labels, of, children in rows:
            if kind == "gauge" and not gauges:
                continue
            merged = self._families.get(name)
            if merged is None:
                merged = self._families[name] = _Merged(kind, text, tuple(labels), of)
            if (merged.kind, merged.labels, merged.of) == (kind, tuple(labels), of):
                combine = _combination(name, kind)
                for values, value in children:
                    key = tuple(values)
                    held = merged.children.get(key)
                    merged.children[key] = value if held is None else combine(held, value)

    def rows(self) -> list[Row]:
        return [
            [name, one.kind, one.text, one.labels, one.of, list(one.children.items())]
            for name, one in self._families.items()
        ]

    def render(self, keeps: Keeps = lambda labels, values: True) -> bytes:
        """The text exposition."""
        return generate_latest(_Shown([_metric(name, one, keeps) for name, one in self._families.items()]))


class _Shown(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _combination(name: str, kind: str) -> Callable[[Any, Any], Any]:
    if kind == "histogram":
        return _both
    if kind == "counter" or name in SUMMED:
        return lambda one, other: one + other
    return min if name in LEAST else max


def _both(one: list[Any], other: list[Any]) -> list[Any]:
    return [[a + b for a, b in zip(one[0], other[0], strict=True)], one[1] + other[1]]


def _metric(name: str, merged: _Merged, keeps: Keeps) -> Metric:
    shown = [one for one in merged.children.items() if keeps(merged.labels, one[0])]
    if merged.kind == "histogram":
        histogram = HistogramMetricFamily(name, merged.text, labels=merged.labels)
        for values, (counts, total) in shown:
            histogram.add_metric(values, cumulative(merged.of, counts), total)
        return histogram
    if merged.kind == "counter":
        counter = CounterMetricFamily(name, merged.text, labels=merged.labels)
        for values, value in shown:
            counter.add_metric(values, value / merged.of)
        return counter
    gauge = GaugeMetricFamily(name, merged.text, labels=merged.labels)
    for values, value in shown:
        gauge.add_metric(values, value)
    return gauge
