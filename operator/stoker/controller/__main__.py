"""`python -m stoker.controller`: the operator process. Ends with 0 only when it was told to stop."""

import asyncio
import logging
import signal
import sys

from stoker import __version__
from stoker.controller.app import Operator, PartEnded
from stoker.controller.config import ConfigError, read_config
from stoker.controller.gate import NotLeading
from stoker.controller.logs import configure_logs
from stoker.controller.preflight import Unfit
from stoker.kube.access import AccessError
from stoker.kube.elector import LeaseLost
from stoker.kube.errors import KubeError

LOG = logging.getLogger("stoker.controller")

#: As sysexits.h has them: wrong configuration, and something that should be there is not.
EXIT_CONFIG, EXIT_UNAVAILABLE, EXIT_FAILED = 78, 69, 1


def main(arguments: list[str]) -> int:
    """Run the operator; returns the process's exit code."""
    try:
        config = read_config(arguments)
    except ConfigError as error:
        print(f"stoker operator: {error}", file=sys.stderr)
        return EXIT_CONFIG
    configure_logs(config.log_level)
    LOG.info("stoker operator %s starts", __version__)

    async def operate() -> None:
        # Made inside the loop: its parts hold the loop's primitives.
        try:
            await Operator(config).run()
        finally:
            _ignore_signals()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(operate())
    except AccessError as error:
        LOG.error("%s", error)
        return EXIT_CONFIG
    except (Unfit, KubeError) as error:
        LOG.error("%s", error)
        return EXIT_UNAVAILABLE
    except PartEnded as error:
        if isinstance(error.__cause__, (LeaseLost, NotLeading)):
            LOG.error("this process ends, another replica takes over: %s", error.__cause__)
        else:
            LOG.error("%s: %r", error, error.__cause__, exc_info=error.__cause__)
        return EXIT_FAILED
    LOG.info("stopped")
    return 0


def _ignore_signals() -> None:
    """Nothing is left to stop: another signal must not make a death of the end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.Loop


if __name__ == "__main__":
    # kopf's threads and anything that hangs must not hold the process: it has said what it had to say.
    sys.exit(main(sys.argv[1:]))
