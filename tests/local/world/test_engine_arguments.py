"""What a fleet gives vLLM where its configuration says nothing is what the pinned vLLM takes."""

from __future__ import annotations

import json
import subprocess

from infra.fleet_context import DEFAULT_ENGINE_ARGS
from local_aws.engines.commands import ENGINE_PYTHON

PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
print(json.dumps([parsed.max_model_len, parsed.gpu_memory_utilization, parsed.cudagraph_capture_sizes]))
"""


def test_vllm_takes_the_default_arguments() -> None:
    done = subprocess.run(
        [str(ENGINE_PYTHON), "-c", PARSE, *DEFAULT_ENGINE_ARGS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [8192, 0.9, [1, 4, 8, 16, 32, 64, 128, 256]]
