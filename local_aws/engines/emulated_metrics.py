"""What the emulated engine tells Prometheus: vLLM's metrics, as far as anything here reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 40.0)


def prometheus_text(
    *,
    model: str,
    running: int,
    waiting: int,
    tokens: Mapping[str, int],
    finished: Mapping[str, int],
    first_tokens: Sequence[float],
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


def _first_token_lines(model: str, seconds: Sequence[float]) -> list[str]:
    name, label = "vllm:time_to_first_token_seconds", f'engine="0",model_name="{model}"'
    lines = [f"# TYPE {name} histogram"]
    for limit in (*TTFT_BUCKETS, float("inf")):
        edge = "+Inf" if limit == float("inf") else limit
        count = sum(each <= limit for each in seconds)
        lines.append(f'{name}_bucket{{engine="0",le="{edge}",model_name="{model}"}} {float(count)}')
    return [*lines, f"{name}_count{{{label}}} {float(len(seconds))}", f"{name}_sum{{{label}}} {sum(seconds)}"]
