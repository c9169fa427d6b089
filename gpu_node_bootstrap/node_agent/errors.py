"""What can go wrong on a node.

AgentError
├── SettingsError    a setting is missing or makes no sense
├── PreparationError  what the engine needs cannot be had; names the phase of the boot
├── CommandError     a command failed, timed out or was stopped
├── EngineError      the engine cannot be started or will not end
├── EngineAnswerError  the engine did not answer as it should; it may yet
├── ImdsError        the instance metadata service did not answer as it should
├── AwsCliError      the AWS command line failed: refused, unreachable, or out of time
├── HookError        the launch hook could not be completed
└── ControlError     a command could not be handed to the agent, or was refused by it
"""

from __future__ import annotations

from .boot import Phase


class AgentError(Exception):
    """Base of all errors of the agent."""


class SettingsError(AgentError):
    """A setting is missing or makes no sense; the message names it."""


class PreparationError(AgentError):
    """What the engine needs cannot be had."""

    def __init__(self, phase: Phase, reason: str) -> None:
        super().__init__(f"{phase.value}: {reason}")
        self.phase = phase
        self.reason = reason


class CommandError(AgentError):
    """A command failed, timed out or was stopped; the message is its own, in its first lines."""


class EngineError(AgentError):
    """The engine cannot be started, or something of it outlived a kill."""


class EngineAnswerError(AgentError):
    """The engine did not answer, or not as vLLM does."""


class ImdsError(AgentError):
    """The instance metadata service did not answer, or not as documented."""


class AwsCliError(AgentError):
    """A call of the AWS command line failed; the message is the first lines of its complaint."""


class HookError(AgentError):
    """The launch hook could not be completed; trying again may help."""


class ControlError(AgentError):
    """The agent cannot be reached over its socket, or it refused the command."""
