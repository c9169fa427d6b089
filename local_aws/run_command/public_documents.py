"""The documents that AWS itself offers in every account, as far as anyone here needs one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = "1"
# AWS-RunShellScript as the Systems Manager console shows it: these parameters, defaults and limits. Its own
# schema is 1.2; this is the same document in 2.2, the schema that is run here.
_RUN_SHELL_SCRIPT: Mapping[str, Any] = {
    "schemaVersion": "2.2",
    "description": "Run a shell script or specify the commands to run.",
    "parameters": {
        "commands": {"type": "StringList", "minItems": 1},
        "workingDirectory": {"type": "String", "default": "", "maxChars": 4096},
        "executionTimeout": {"type": "String", "default": "3600", "allowedPattern": r"^[1-9][0-9]{0,5}$"},
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "aws:runShellScript",
            "inputs": {
                "runCommand": "{{ commands }}",
                "workingDirectory": "{{ workingDirectory }}",
                "timeoutSeconds": "{{ executionTimeout }}",
            },
        }
    ],
}
PUBLIC_DOCUMENTS: Mapping[str, Mapping[str, Any]] = {"AWS-RunShellScript": _RUN_SHELL_SCRIPT}
