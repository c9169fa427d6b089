"""The figures of the boot budget, each with where it comes from. Change them here; nothing else holds any.

Bytes and bytes per second, decimal (1 GB = 1e9) unless a name says GiB or MiB; seconds. `worst` is the other
end of what the source gives, or what a second source does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GB = 1e9
GIB = 2**30
MIB = 2**20


class Basis(StrEnum):
    """How far a figure can be trusted."""

    DOCUMENTED = "documented"
    """The provider's own word."""
    MEASURED = "measured"
    """Somebody's measurement, on hardware or a version that may not be ours."""
    ESTIMATED = "estimated"
    """Ours, from what the source says; nobody has measured it."""


@dataclass(frozen=True)
class Figure:
    """One number, its other end, and its source."""

    value: float
    source: str
    basis: Basis
    worst: float | None = None

    @property
    def at_worst(self) -> float:
        """Return the other end, or the value where there is none."""
        return self.value if self.worst is None else self.worst


_TYPES = "EC2 DescribeInstanceTypes, g6e.xlarge (2026-11)"
_L40S = "tensorfuse.io, 8B model on L40S with vLLM (2025)"

# Sizes.
CONTAINER_COMPRESSED = Figure(12.64 * GB, "discuss.vllm.ai 1204, v0.10 (2025-08)", Basis.MEASURED)
CONTAINER_UNPACKED = Figure(28.6 * GB, "vllm#22377, v0.12 (2025-12)", Basis.MEASURED)
CONTAINER_READ = Figure(
    4 * GB,
    "CUDA, torch and vLLM libraries; 6.4% of an image is read at a start (FAST'16, Slacker)",
    Basis.ESTIMATED,
    worst=6 * GB,
)
SNAPSHOT = Figure(100 * GIB, "the image's whole disk; blocks never written do not count", Basis.ESTIMATED)
WEIGHTS = Figure(16.4 * GB, "Qwen3-8B: 8.2e9 parameters of 2 bytes", Basis.DOCUMENTED)
COMPILE_CACHE = Figure(0.1 * GB, "tens of MB a model, with room", Basis.ESTIMATED)
AGENT = Figure(0.1e6, "this repository's archive", Basis.ESTIMATED)

# Bandwidths.
REGISTRY = Figure(
    17.5 * GB / 300,
    "AWS ML blog: pulls of 15-20 GB take 4-6 min (2026-06); tensorfuse.io: 10 GB take 7-10 min (2025)",
    Basis.MEASURED,
    worst=10 * GB / 510,
)
HUB = Figure(16 * GB / 61, _L40S, Basis.MEASURED)
EBS_LAZY = Figure(
    135e6,
    "re:Post, gp3: 130-140 MB/s read in parallel (2026); ldoughty.com: 1 GB a minute (2018)",
    Basis.MEASURED,
    worst=17e6,
)
EBS_INITIALIZED_AT_300 = Figure(300 * MIB, "EBS user guide: 100-300 MiB/s (2026)", Basis.DOCUMENTED)
EBS_READY = Figure(
    500 * MIB,
    f"volume_throughput_mibps; {_TYPES}: burst 625, baseline 125 MB/s",
    Basis.DOCUMENTED,
    worst=125e6,
)
S3_STREAM = Figure(
    16 * 85e6,
    f"S3 user guide: 85-90 MB/s a request, 16 of them; {_TYPES}: burst 20, baseline 2.5 Gbit/s",
    Basis.DOCUMENTED,
    worst=2.5e9 / 8,
)
INSTANCE_STORE = Figure(
    1250e6, "BlitzScale (OSDI'25): 2-10 Gbit/s of SSD a GPU; AWS states none", Basis.ESTIMATED, worst=250e6
)

# Seconds.
LAUNCH = Figure(15, "request to machine start; tensorfuse.io: 80-120 s with boot", Basis.ESTIMATED, worst=60)
KERNEL = Figure(
    20, "machine start to user data, Amazon Linux 2023 with GPU driver", Basis.ESTIMATED, worst=40
)
USER_DATA_PLAIN = Figure(5, "one download and an unpacking", Basis.ESTIMATED, worst=15)
USER_DATA_BAKED = Figure(2, "files only", Basis.ESTIMATED, worst=5)
IMPORTS = Figure(34, f"{_L40S}: init and imports, caches there", Basis.MEASURED)
IMPORTS_COLD = Figure(94, f"{_L40S}: init and imports, nothing cached", Basis.MEASURED)
LOAD_FROM_DISK = Figure(18, f"{_L40S}: weights from a volume to the GPU", Basis.MEASURED, worst=33)
COMPILE_WARM = Figure(23, f"{_L40S}: dynamo 10 s, cached graphs 13 s", Basis.MEASURED)
COMPILE_COLD = Figure(52, f"{_L40S}: dynamo 10 s, compilation 42 s", Basis.MEASURED)
CAPTURE_FEW = Figure(7, f"{_L40S}: 8 sizes captured", Basis.MEASURED)
CAPTURE_ALL = Figure(54, f"{_L40S}: all sizes captured", Basis.MEASURED)
RECENT_START = Figure(
    46.9,
    "vllm#40331: 7B, command to checked completion, caches warm (2026-04)",
    Basis.MEASURED,
    worst=73.7,
)
WARM_UP = Figure(1, "one completion", Basis.ESTIMATED, worst=3)
IN_SERVICE = Figure(10, "two health checks 5 s apart (this repository's target group)", Basis.DOCUMENTED)

BUDGET_SECONDS = 120.0
"""From an interruption notice to the node's end (EC2 user guide, "Spot Instance interruption notices")."""
