"""Check for the token of D-Wave's service, before anything is computed or sent."""

from __future__ import annotations

from qubo.solvers.solver import Solver


def require_token(solver: Solver) -> None:
    """Check that a token is configured for a solver of D-Wave's service; nothing is sent.

    The token comes from Ocean's own configuration alone: `dwave config create`, or DWAVE_API_TOKEN.

    Raises:
        ValueError: no token, or a configuration that cannot be read.
    """
    if solver.client is None:
        return
    from dwave.cloud.config import load_config
    from dwave.cloud.config.exceptions import ConfigFileError

    cure = "run `dwave config create` or set DWAVE_API_TOKEN"
    try:
        token = load_config(client=solver.client).get("token")
    except (ConfigFileError, ValueError) as error:
        told = f"solver '{solver.name}' cannot read D-Wave's configuration ({one_line(error)}): {cure}"
        raise ValueError(told) from None
    if not token:
        raise ValueError(f"solver '{solver.name}' needs a D-Wave token, none is configured: {cure}")


def one_line(error: BaseException) -> str:
    """An error's text in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
