"""Kill -9 at random moments of a deployed training, and see that nothing is lost: benchmarks/chaos.py [--kills 50]

A real Prefect server with a worker, a real MLflow server, and a champion, made by a first training that nobody
disturbs. Then the deployment `train` searches the same again, as if it had never been, and at random moments one of
these is killed: the flow, a worker of the search, the Prefect worker, the Prefect server, the MLflow server. What a
service manager would start again is started again; a flow that ended by it is run again, as a user would. When the
training has ended by itself, it begins anew, until there were so many kills. What must hold:

- after every kill, while the victim is down and when it is back, the champion is there and loads;
- a trial that has ended is never lost, and never done again; at the end each is there once, ended before nothing more
  was written of it;
- every trial has the parameters, the error and the weights, bit for bit, of the undisturbed search: the best one, too;
- nothing is left that says it is running: no run in MLflow, no trial, no flow run in Prefect; no process either.

The sampler is `random` without pruning: what a trial gets follows from its number. With TPE a proposal depends on which
trials ended before, which is another order with every kill, and with every undisturbed search by two workers, too.

Exit code 1 where any of this does not hold. Prints the seed; writes the table to benchmarks/README.md.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
from chaos_checks import differences
from chaos_stage import FLOW, KINDS, NAME, ROOT, SEARCH_WORKER, Stage, wait_for
from tables import machine, publish, table

sys.path.insert(0, str(ROOT))  # flows, tasks and lstm of this checkout
TRIALS = 48
_LATEST = 8.0  # seconds after the last kill
_STUCK = 20.0  # seconds without a process after which a flow run is given up
_CONFIG = {
    "name": NAME,
    "data": {"source": "waves.csv", "time": "time", "series": "name", "target": "value", "frequency": "1h"},
    "split": {"validation": "5d", "test": "5d"},
    "window": {"horizon": 12},
    "model": {"sequence_length": 24, "epochs": 40, "patience": 40, "device": "cpu"},
    "ensemble": {"members": [], "size": 2},
    "evaluate": {"season": 24},
    "search": {
        "trials": TRIALS,
        "timeout": "1h",
        "workers": 2,
        "sampler": "random",
        "pruner": "none",
        "warm_start": False,
        "space": {
            "hidden_size": [16, 24, 32],
            "num_layers": {"low": 1, "high": 2},
            "dropout": {"low": 0.0, "high": 0.5},
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        },
    },
}


def waves(path: Path) -> None:
    """Two series with a daily wave and noise, 60 days."""
    generator, hours = np.random.default_rng(0), np.arange(60 * 24)
    times = pd.date_range("2024-01-01", periods=len(hours), freq="h", tz="UTC")
    parts = []
    for shift, name in enumerate("ab"):
        values = np.sin(2 * np.pi * hours / 24 + shift) + generator.normal(0, 0.3, len(hours))
        parts.append(pd.DataFrame({"time": times, "name": name, "value": values}))
    pd.concat(parts).to_csv(path, index=False)


@dataclass
class Outcome:
    """What was seen on the way."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    again: int = 0  # flow runs that were started because one had ended badly
    stuck: int = 0  # of them, those whose flow run still said Pending or Running
    by_hand: int = 0  # of these, those that `lstm doctor --repair` could not know to be dead
    looked: int = 0  # at the champion
    wrong: list[str] = field(default_factory=list)  # what does not hold
    ended: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # trials of this round


class Chaos:
    """Searches on a stage, and what kills them."""

    def __init__(self, stage: Stage, trials: int, dice: random.Random) -> None:
        """Train undisturbed: the champion, and what the disturbed searches are held against."""
        self.stage, self.dice, self.outcome = stage, dice, Outcome()
        waves(stage.folder / "waves.csv")
        sections = {**_CONFIG, "data": {**_CONFIG["data"], "source": str(stage.folder / "waves.csv")}}
        sections["search"] = {**_CONFIG["search"], "trials": trials}
        self.trials, self.config = trials, stage.folder / "chaos.yaml"
        self.config.write_text(json.dumps(sections))
        self.flow_run = self._submit()
        wait_for(lambda: stage.has_ended(self.flow_run), "the undisturbed training to end", 900)
        if stage.state(self.flow_run) != "COMPLETED":
            raise SystemExit("the undisturbed training failed")
        [study] = (path for path in self._studies().iterdir() if path.is_dir())
        self.key, self.undisturbed = study.name, stage.folder / "undisturbed"
        shutil.move(study, self.undisturbed)
        self._look("before the first kill")

    def _submit(self) -> str:
        """Each round registers versions of its own: their intervals are others."""
        return self.stage.submit(self.config, [f"evaluate.levels=[80, {81 + self.outcome.rounds}]"])

    def _studies(self) -> Path:
        return self.stage.folder / "mlruns" / "studies" / NAME

    def go(self, victims: list[str]) -> None:
        """Kill them one after the other, and run what is left to its end."""
        while victims:
            self.outcome.rounds += 1
            self.outcome.ended = {}
            self.flow_run = self._submit()
            while victims and self._strike(victims[0]):
                victims.pop(0)
            while self._goes_on():
                time.sleep(0.3)
            self._check()
            shutil.rmtree(self._studies() / self.key)

    def _strike(self, kind: str) -> bool:
        """Kill at a random moment, look, and start again what was killed; False: the training was over before."""
        target, moment = None, time.monotonic() + self.dice.uniform(0, _LATEST)
        while time.monotonic() < moment or (kind in (FLOW, SEARCH_WORKER) and not target):
            if not self._goes_on():
                return False
            if kind in (FLOW, SEARCH_WORKER) and time.monotonic() >= moment - 0.5:
                target = self.dice.choice(self.stage.victims(kind) or [None])
            time.sleep(0.1)
        try:
            self.stage.kill(kind, target)
        except psutil.NoSuchProcess:
            return self._strike(kind)
        self.outcome.kills[kind] += 1
        print(f"{time.strftime('%X')} kill {sum(self.outcome.kills.values())}: {kind}", flush=True)
        self._look(f"{kind} killed")
        self._remember()
        if kind not in (FLOW, SEARCH_WORKER):
            self.stage.start(kind)
            self._look(f"{kind} is back")
        return True

    def _goes_on(self) -> bool:
        """Whether the training is not over; a flow run that ended badly is followed by another one."""
        state = self.stage.state(self.flow_run)
        if state == "COMPLETED":
            return False
        stuck = state in ("RUNNING", "PENDING") and self._is_stuck()
        if stuck or state in ("FAILED", "CRASHED", "CANCELLED"):
            self.outcome.again, self.outcome.stuck = self.outcome.again + 1, self.outcome.stuck + stuck
            if stuck:
                self._repair()
            if stuck and not self.stage.has_ended(self.flow_run):
                self.outcome.by_hand += 1
                self.stage.crash(self.flow_run)
            print(
                f"{time.strftime('%X')} run again, since the flow run was {state}{' without a process' * stuck}",
                flush=True,
            )
            self.flow_run = self._submit()
        return True

    def _is_stuck(self) -> bool:
        """Whether nobody works at the flow run, and nobody begins to."""
        deadline = time.monotonic() + _STUCK
        while not self.stage.victims(FLOW):
            if time.monotonic() > deadline:
                return not self.stage.has_ended(self.flow_run)
            if self.stage.has_ended(self.flow_run):
                return False
            time.sleep(0.5)
        return False

    def _repair(self) -> None:
        """What `lstm doctor --repair` does."""
        from tasks.operations.reconcile import reconcile

        repairs = reconcile()
        for line in (*repairs.lines, *repairs.left):
            print(f"  repair: {line}", flush=True)

    def _look(self, when: str) -> None:
        """At the champion, in the stores and, where it answers, through the server."""
        looks = [self.stage.champion_on_disk]
        looks += [self.stage.champion_served] if "MLflow server killed" not in when else []
        for look in looks:
            self.outcome.looked += 1
            try:
                wrong = look()
            except Exception as error:  # whatever it is, the champion could not be had
                wrong = f"{type(error).__name__}: {error}"
            if wrong:
                self.outcome.wrong.append(f"champion, {when}: {wrong}")

    def _study(self) -> optuna.Study | None:
        """Of this round, where there is one yet."""
        return self._study_of(self._studies() / self.key)

    def _study_of(self, folder: Path) -> optuna.Study | None:
        from tasks.search.study import load_study

        return load_study(f"{NAME}/{self.key}", folder)

    def _remember(self) -> None:
        """What has ended stays as it is."""
        study = self._study()
        for trial in [] if study is None else study.trials:
            if trial.state.is_finished():
                ended = (trial.datetime_complete, trial.values, trial.params)
                if self.outcome.ended.setdefault(trial.number, ended) != ended:
                    self.outcome.wrong.append(f"trial {trial.number} of round {self.outcome.rounds} was done again")

    def _check(self) -> None:
        """What must hold when a training has ended after all."""
        from tasks.tracking import runs

        self._remember()
        deadline = time.monotonic() + _STUCK  # Completed is said before the process ends
        while list(self.stage.processes("prefect.engine")) and time.monotonic() < deadline:
            time.sleep(0.2)
        self._repair()
        client = runs.client()
        experiment = client.get_experiment_by_name(NAME).experiment_id
        running = {
            "runs in MLflow": len(client.search_runs([experiment], "attributes.status = 'RUNNING'")),
            "flow runs in Prefect": self.stage.unended(),
            "processes of the flow": len(self.stage.victims(FLOW)) + len(self.stage.victims(SEARCH_WORKER)),
        }
        study, undisturbed = self._study(), self._study_of(self.undisturbed)
        problems = ["there is no study"]
        if study is not None and undisturbed is not None:
            problems = differences(study, undisturbed, self._studies() / self.key, self.undisturbed)
        problems += [f"{count} {name} are left" for name, count in running.items() if count]
        self.outcome.wrong += [f"round {self.outcome.rounds}: {line}" for line in problems]
        self._look(f"after round {self.outcome.rounds}")


def chaos(folder: Path, kills: int, seed: int, trials: int = TRIALS) -> Outcome:
    """So many kills, as many of each kind as can be."""
    dice = random.Random(seed)
    victims = (list(KINDS) * (kills // len(KINDS) + 1))[:kills]
    dice.shuffle(victims)
    stage = Stage(folder)
    try:
        played = Chaos(stage, trials, dice)
        played.go(victims)
    finally:
        left = stage.close()
    played.outcome.wrong += left
    return played.outcome


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of a deployed training")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the stage is cleared in that case, too
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        outcome = chaos(Path(folder), options.kills, options.seed)
    minutes = (time.monotonic() - started) / 60
    rows = [
        *((f"kills of {kind}", outcome.kills[kind]) for kind in KINDS),
        (f"searches of {TRIALS} trials", outcome.rounds),
        ("trainings run again", outcome.again),
        ("of them while their flow run still said Pending or Running", outcome.stuck),
        ("of these not mended by `lstm doctor --repair`", outcome.by_hand),
        ("looks at the champion", outcome.looked),
        ("what did not hold", len(outcome.wrong)),
    ]
    versions = {name: version(name) for name in ("torch", "prefect", "mlflow", "optuna")}
    text = f"{machine(versions)} Seed {options.seed}, {minutes:.0f} minutes."
    publish("chaos", f"{text}\n\n" + table(["", ""], [[name, str(value)] for name, value in rows]))
    for line in outcome.wrong:
        print(line, file=sys.stderr)
    if outcome.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
