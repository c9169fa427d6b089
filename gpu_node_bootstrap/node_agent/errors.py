"""What can go wrong on a node.

AgentError
├── SettingsError    a setting is missing or makes no sense
├── EngineError      the engine cannot be started or will not end
├── EngineAnswerError  the engine did not answer as it should; it may yet
├── ImdsError        the instance metadata service did not answer as it should
├── HookError        the launch hook could not be completed
└── ControlError     a command could not be handed to the agent, or was refused by it
"""


class AgentError(Exception):
    """Base of all errors of the agent."""


class SettingsError(AgentError):
    """A setting is missing or makes no sense; the message names it."""


class EngineError(AgentError):
    """The engine cannot be started, or something of it outlived a kill."""


class EngineAnswerError(AgentError):
    """The engine did not answer, or not as vLLM does."""


class ImdsError(AgentError):
    """The instance metadata service did not answer, or not as documented."""


class HookError(AgentError):
    """The launch hook could not be completed; trying again may help."""


class ControlError(AgentError):
    """The agent cannot be reached over its socket, or it refused the command."""
