"""The CDK app: a control plane, the image pipeline where one is wanted, and a stack for each fleet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from aws_cdk import App

from gpu_node_bootstrap.user_data import UserDataError
from infra import nag
from infra.bundle import BundleError
from infra.context import app_config
from infra.fields import ConfigError
from infra.stacks import ControlPlaneStack, FleetStack, ImagePipelineStack


def build(context: Mapping[str, Any] | None = None, *, outdir: str | None = None) -> App:
    """Return the app with its stacks; raises ConfigError, BundleError and UserDataError."""
    app = App(context=context, outdir=outdir, analytics_reporting=False)
    config = app_config(app.node.get_all_context())
    control_plane = ControlPlaneStack(app, config=config.control_plane)
    if config.image is not None:
        ImagePipelineStack(app, config=config.image)
    for fleet in config.fleets:
        # A fleet comes up with somebody to serve it, and goes before they do.
        FleetStack(app, config=fleet).add_stack_dependency(control_plane)
    nag.check(app)
    return app


def main() -> int:
    """Synthesize for the CDK command line; what the operator has to correct is one line, no traceback."""
    try:
        build().synth()
    except (ConfigError, BundleError, UserDataError) as err:
        print(f"spot-failover: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
