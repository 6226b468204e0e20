"""What a Prefect server must know of this project: work pool, GPU limits, automations, and prefect.yaml's deployments.

`python -m flows.deployments` in the folder of prefect.yaml makes all of it, or brings it up to date, on the server that
PREFECT_API_URL names. It may be repeated.
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
    """Raise ConfigError where the working directory is none to deploy from."""
    if not FILE.is_file():
        raise ConfigError(
            f"{FILE.resolve()}: is not there. Go to the folder of your deployments: this project's checkout, or a copy "
            f"of its {FILE}, flows and configurations."
        )
    import yaml

    try:
        content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{FILE.resolve()}: can't be read ({' '.join(str(error).split())[:200]}). Mend it.") from None
    if not isinstance(content, dict) or not content.get("deployments"):
        raise ConfigError(f"{FILE.resolve()}: has no `deployments`. Mend it: this project's own shows the form.")


def make_pool() -> None:
    """The process work pool, unless there is one of its name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def make_gpu_limits() -> None:
    """A limit of one for each GPU that this process sees, unless it has one."""
    import torch
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    from tasks.search.gpu_limits import gpu_limit

    with get_client(sync_client=True) as client:
        for number in range(torch.cuda.device_count()):
            name = gpu_limit(f"cuda:{number}")
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def make_automations() -> None:
    """Those of automations.yaml, each in the place of the one of its name.

    One that is there already as it stands is left alone: a change would forget the runs that it watches.
    """
    import yaml
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    if not _AUTOMATIONS.is_file():
        return
    with get_client(sync_client=True) as client:
        for values in yaml.safe_load(_AUTOMATIONS.read_text(encoding="utf-8"))["automations"]:
            wanted = AutomationCore.model_validate(values)
            found = client.read_automations_by_name(wanted.name)
            if not found:
                client.create_automation(wanted)
            for one in found:
                if AutomationCore.model_validate(one.model_dump()) != wanted:
                    client.update_automation(one.id, wanted)


def deploy() -> None:
    """Every deployment of prefect.yaml, by Prefect's own command, which ends this process."""
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    runpy.run_module("prefect", run_name="__main__")


def main() -> None:
    """All of it. Its imports take longer than the rest and need no server, so that one may still be starting."""
    from flows.services.prefect_server import wait_until_ready

    check_folder()
    _import_flows()
    wait_until_ready()
    make_pool()
    make_gpu_limits()
    make_automations()
    deploy()


def _import_flows() -> None:
    """Those of this project, with what they need; what can't be imported is for Prefect's command to tell."""
    import yaml

    with suppress(Exception):
        for one in yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]:
            importlib.import_module(one["entrypoint"].partition(":")[0].removesuffix(".py").replace("/", "."))


if __name__ == "__main__":
    main()
