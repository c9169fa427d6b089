"""What the emulated engine tells Prometheus: vLLM's metrics, as far as anything here reads them."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 40.0)


@dataclass
class Histogram:
    """Seconds counted by bucket, so that it stays as small after a day as after a minute."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(TTFT_BUCKETS) + 1))
    """Each bucket's own; the last one has no upper limit."""
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect.bisect_left(TTFT_BUCKETS, seconds)] += 1
        self.total += seconds


def prometheus_text(
    *,
    model: str,
    running: int,
    waiting: int,
    tokens: Mapping[str, int],
    finished: Mapping[str, int],
    first_tokens: Histogram,
) -> str:
    """Return the text of /metrics; `first_tokens` are the seconds from each request to its first token."""
    label = f'engine="0",model_name="{model}"'
    gauges = {
        "vllm:num_requests_running": running,
        "vllm:num_requests_waiting": waiting,
        "vllm:kv_cache_usage_perc": min(1.0, running / 100),
    }
    lines = []
    for name, value in gauges.items():
        lines += [f"# TYPE {name} gauge", f"{name}{{{label}}} {float(value)}"]
    for kind in ("prompt", "generation"):
        name = f"vllm:{kind}_tokens"
        lines += [f"# TYPE {name} counter", f"{name}_total{{{label}}} {float(tokens.get(kind, 0))}"]
    lines.append("# TYPE vllm:request_success counter")
    for reason in FINISH_REASONS:
        labels = f'engine="0",finished_reason="{reason}",model_name="{model}"'
        lines.append(f"vllm:request_success_total{{{labels}}} {float(finished.get(reason, 0))}")
    return "\n".join([*lines, *_first_token_lines(model, first_tokens)]) + "\n"


def _first_token_lines(model: str, seconds: Histogram) -> list[str]:
    name, label = "vllm:time_to_first_token_seconds", f'engine="0",model_name="{model}"'
    lines, count = [f"# TYPE {name} histogram"], 0
    for limit, own in zip((*TTFT_BUCKETS, float("inf")), seconds.counts, strict=True):
        edge = "+Inf" if limit == float("inf") else limit
        count += own  # a Prometheus bucket holds all smaller ones
        lines.append(f'{name}_bucket{{engine="0",le="{edge}",model_name="{model}"}} {float(count)}')
    return [*lines, f"{name}_count{{{label}}} {float(count)}", f"{name}_sum{{{label}}} {seconds.total}"]
