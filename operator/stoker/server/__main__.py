"""`python -m stoker.server`: grants for pods and the way in for people, over HTTP."""

import argparse
import asyncio
import sys

import uvicorn

import stoker
from stoker.kube.access import AccessError
from stoker.kube.client import KubeClient
from stoker.server.app import make_app
from stoker.server.audit import log_to_stdout
from stoker.server.config import PORT, BadSetting, Settings
from stoker.server.metrics import Metrics

#: How long requests may still run after SIGTERM (seconds); with the wait before it, less than the pod's grace in the chart.
GRACEFUL_SECONDS = 25


def main() -> int:
    """Run until SIGTERM. 2: a setting or the kubeconfig cannot be used."""
    parser = argparse.ArgumentParser(prog="stoker.server", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--kubeconfig", help="outside a cluster: how to reach the API server")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    options = parser.parse_args()
    log_to_stdout(options.log_level)
    try:
        return asyncio.run(_serve(options))
    except (BadSetting, AccessError) as error:
        print(f"stoker.server: {error}", file=sys.stderr)
        return 2


async def _serve(options: argparse.Namespace) -> int:
    settings, metrics = Settings.from_env(), Metrics()
    agent = f"stoker-server/{stoker.__version__}"
    if options.kubeconfig:
        kube = KubeClient.from_kubeconfig(options.kubeconfig, user_agent=agent, observe=metrics.observe_api)
    else:
        kube = KubeClient.in_cluster(user_agent=agent, observe=metrics.observe_api)
    async with kube:
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(kube, settings, metrics=metrics),
                host=options.host,
                port=options.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
        )
        await server.serve()
        return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
