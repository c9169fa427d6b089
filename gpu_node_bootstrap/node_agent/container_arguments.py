"""How the engine's container is run: as little as vLLM can do with.

What is allowed and why is in docs/decisions/0310-the-engine-is-nobody-in-its-container.md.
"""

from __future__ import annotations

from pathlib import Path

from .container_user import (
    CONTAINER_CACHE,
    CONTAINER_NAME,
    CONTAINER_USER,
    CONTAINER_WEIGHTS,
    engine_cache,
    weights_folder,
)
from .preparation import Prepared
from .settings import Settings

# Long enough for what a node accepted; the agent asks an engine to end only when it is idle.
SHUTDOWN_TIMEOUT_SECONDS = 60
KEEP_ALIVE_SECONDS = 4060
"""Longer than any idle timeout that an Application Load Balancer takes (1-4000 s)."""
PIDS_LIMIT = 16384
"""Threads count. An engine of eight GPUs on 192 processors has a few thousand; a fork bomb has no end."""
LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - inside the container, or where the node does not know its own address


def run_arguments(settings: Settings, prepared: Prepared, *, address: str, secrets: Path) -> list[str]:
    """Return what follows `docker run --detach --name NAME`.

    `address` is the node's own, where the load balancer reaches the engine; `secrets` an env file, which
    keeps what it holds off the command line.
    """
    container = [
        # Reaps what the engine leaves inside, and passes SIGTERM on.
        *("--init", "--gpus", "all"),
        # The preparation pulled it. A pull here would be one that no phase shows.
        *("--pull", "never"),
        *_confinement(),
        # Bridge: a metadata service that answers over one hop does not answer here.
        *("--network", "bridge"),
        *_publications(settings.engine_port, address),
        *_environment(),
        *("--env-file", str(secrets)),
        *("--volume", f"{engine_cache(settings)}:{CONTAINER_CACHE}"),
        *("--volume", f"{weights_folder(settings)}:{CONTAINER_WEIGHTS}:ro"),
        # The agent alone decides whether an engine starts again.
        *("--restart", "no"),
        *("--stop-timeout", str(SHUTDOWN_TIMEOUT_SECONDS)),
        *("--log-driver", "journald", "--log-opt", f"tag={CONTAINER_NAME}"),
        # The image's own entry point has changed between releases.
        *("--entrypoint", "vllm"),
        settings.image,
    ]
    engine = ["serve", prepared.model, "--served-model-name", settings.served_model_name]
    engine += ["--host", ANY_ADDRESS, "--port", str(settings.engine_port)]
    engine += ["--shutdown-timeout", str(SHUTDOWN_TIMEOUT_SECONDS)]
    return [*container, *engine, *prepared.engine_args, *settings.engine_args]


def trial_arguments() -> list[str]:
    """Return the options of `docker run` for an engine that is only tried out: a node's, but for what it
    keeps, and without a network.
    """
    scratch = ("--tmpfs", f"{CONTAINER_CACHE}:rw,exec,nosuid,nodev,mode=1777")
    return ["--gpus", "all", *_confinement(), "--network", "none", *_environment(), *scratch]


def _confinement() -> list[str]:
    user, group = CONTAINER_USER
    return [
        *("--user", f"{user}:{group}"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        # Python and the kernels' compilers write to /tmp, and load from there what they built: hence exec.
        *("--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,size=4g,mode=1777"),  # noqa: S108
        *("--ipc", "private"),
        # Tensor parallelism shares memory between processes; docker's default of 64 MiB is too little for it.
        *("--shm-size", "8g"),
        *("--pids-limit", str(PIDS_LIMIT)),
    ]


def _publications(port: int, address: str) -> list[str]:
    # The load balancer comes over the node's address, and so does the agent, to prove the same way. The
    # loopback is for an agent that does not know the address. Nobody else should.
    addresses = [ANY_ADDRESS] if address == ANY_ADDRESS else [address, LOOPBACK]
    return [word for each in addresses for word in ("--publish", f"{each}:{port}:{port}")]


def _environment() -> list[str]:
    told = {
        # A load balancer keeps its connections for as long as its idle timeout. An engine that closes one
        # first, as vLLM does after 5 s, makes the request that was just sent on it fail with 502.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
        # So that an SDK in there does not wait for a metadata service that it cannot reach.
        "AWS_EC2_METADATA_DISABLED": "true",
        # The account's own home is part of the image, which cannot be written.
        "HOME": CONTAINER_CACHE,
        "XDG_CACHE_HOME": f"{CONTAINER_CACHE}/xdg",
        "XDG_CONFIG_HOME": f"{CONTAINER_CACHE}/config",
        "HF_HOME": f"{CONTAINER_CACHE}/huggingface",
        # What is compiled lies below one folder, which compile_cache.py keeps. TORCHINDUCTOR_CACHE_DIR is
        # vLLM's to set, below its own root (vllm/compilation/compiler_interface.py, initialize_cache).
        "VLLM_CACHE_ROOT": f"{CONTAINER_CACHE}/vllm",
        "TRITON_CACHE_DIR": f"{CONTAINER_CACHE}/vllm/triton",
        "FLASHINFER_WORKSPACE_BASE": f"{CONTAINER_CACHE}/vllm/flashinfer",
    }
    return [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
