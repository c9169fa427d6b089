"""Why a demo could not even be judged. `DemoError` is the root; its text is for the operator."""


class DemoError(Exception):
    """The run broke off before there was anything to judge."""


class FleetNotReadyError(DemoError):
    """The fleet did not have all its nodes ready in time."""


class WatchError(DemoError):
    """The local AWS stopped answering."""
