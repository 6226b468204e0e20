"""Set up a Prefect server: work pool, GPU limits, automations and the deployments of prefect.yaml.

`python -m flows.deployments` in the folder of prefect.yaml creates or updates all of them on the server that
PREFECT_API_URL names. It can be repeated.
"""

import importlib
import runpy
import sys
from contextlib import suppress
from pathlib import Path

from lstm.errors import ConfigError

POOL = "lstm"
FILE = Path("prefect.yaml")
_AUTOMATIONS = Path("automations.yaml")


def check_folder() -> None:
    """Raise ConfigError if the working directory holds no usable prefect.yaml."""
    if not FILE.is_file():
        raise ConfigError(
            f"{FILE.resolve()}: no such file. Change to the folder of your deployments: this project's checkout, or a "
            f"copy of its {FILE}, flows and configurations."
        )
    import yaml

    try:
        content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{FILE.resolve()}: can't be read ({' '.join(str(error).split())[:200]}). Correct it."
        ) from None
    if not isinstance(content, dict) or not content.get("deployments"):
        raise ConfigError(f"{FILE.resolve()}: has no `deployments`. Add them, as in this project's own prefect.yaml.")


def make_pool() -> None:
    """Create the process work pool, unless a pool of its name exists."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def make_gpu_limits() -> None:
    """Create a concurrency limit of one for each visible GPU, unless it exists."""
    import torch
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    from tasks.search.gpu_limits import gpu_limit_name

    with get_client(sync_client=True) as client:
        for number in range(torch.cuda.device_count()):
            name = gpu_limit_name(f"cuda:{number}")
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def make_automations() -> None:
    """Create or update the automations of automations.yaml, by name.

    An unchanged automation is not updated: an update would make it forget the runs that it watches.
    """
    import yaml
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    if not _AUTOMATIONS.is_file():
        return
    with get_client(sync_client=True) as client:
        for values in yaml.safe_load(_AUTOMATIONS.read_text(encoding="utf-8"))["automations"]:
            wanted = AutomationCore.model_validate(values)
            existing = client.read_automations_by_name(wanted.name)
            if not existing:
                client.create_automation(wanted)
            for automation in existing:
                if AutomationCore.model_validate(automation.model_dump()) != wanted:
                    client.update_automation(automation.id, wanted)


def deploy() -> None:
    """Apply every deployment of prefect.yaml by Prefect's own command, which exits this process."""
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    runpy.run_module("prefect", run_name="__main__")


def main() -> None:
    """Set up the server. The slow imports come first, while the server may still be starting."""
    from flows.services.prefect_server import wait_until_ready

    check_folder()
    _import_flows()
    wait_until_ready()
    make_pool()
    make_gpu_limits()
    make_automations()
    deploy()


def _import_flows() -> None:
    """Import the flows of prefect.yaml; Prefect's command reports those that can't be imported."""
    import yaml

    with suppress(Exception):
        for deployment in yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]:
            importlib.import_module(deployment["entrypoint"].partition(":")[0].removesuffix(".py").replace("/", "."))


if __name__ == "__main__":
    main()
