"""Why an endurance run could not be judged. The root is the demo's own."""

from local_aws.demo.errors import DemoError


class EnduranceError(DemoError):
    """The run broke off before there was anything to judge."""


class ClientsEndedError(EnduranceError):
    """A client process ended before it was told to, and what it knew is gone."""


class TooFewRequestsError(EnduranceError):
    """The clients do not ask as fast as they should."""
