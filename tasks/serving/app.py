"""MLflow's own scoring server as `lstm serve` runs it: what is refused is told in one line, without a stack trace.

The artefact answers most bad requests by itself, under `mlflow models serve` too. What MLflow's server does with the
rest before a model is asked is wordy: it repeats all of the data, shows its stack trace where a CSV file can't be
parsed, answers 500 where the type of the content is not said, and ignores params that it does not know.
"""

import ctypes
import hmac
import json
import logging
import os
import re
import signal
import sys
from copy import copy
from pathlib import Path
from typing import Any, TextIO

import mlflow
import numpy as np
import pandas as pd
import torch
from fastapi import FastAPI
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import DataType, Schema
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lstm.data.timestamps import shown
from lstm.errors import nearest
from tasks.registry.pyfunc_model import Refused

FOLDER, WORKERS = "LSTM_SERVED_FOLDER", "LSTM_SERVED_WORKERS"  # in the environment of the server's processes
TOKEN = "LSTM_SERVE_TOKEN"  # there, too, and nowhere else: whoever may start a process may see its arguments
_PREFIX = re.compile(r"Failed to enforce schema of data '.*?' with schema '\[.*?\]'\. Error: ", re.DOTALL)
_ECHOES = ("\nInput: ", " IMPORTANT: ")  # what follows repeats the data, or tells of MLflow 1
_UNEXPECTED = "Encountered an unexpected error"
_UNREADABLE = "The request can't be read as a table"
_NO_TYPE = "The request has no Content-Type. Send application/json, text/csv or application/vnd.apache.parquet."
_OPEN = ("/ping", "/health", "/version")  # for load balancers
_NO_TOKEN = "The request needs the header `Authorization: Bearer TOKEN` with the server's token."
_log = logging.getLogger(__name__)


def served() -> FastAPI:
    """The app of one worker, by the environment that `serve` has set."""
    workers = int(os.environ[WORKERS])
    if workers > 1:
        _end_with_parent()
        torch.set_num_threads(max(torch.get_num_threads() // workers, 1))
    return scoring_app(Path(os.environ[FOLDER]))


def scoring_app(folder: Path) -> FastAPI:
    """MLflow's scoring server for a version's artifacts, with refusals in one line."""
    model: Any = Strict(mlflow.pyfunc.load_model(str(folder)))
    scoring_server.predictions_to_json = write_forecasts
    app: FastAPI = scoring_server.init(model)
    app.add_middleware(OneLine)
    if token := os.environ.get(TOKEN):
        app.add_middleware(Bearer, token=token)  # the outermost: a stranger's request is not read
    return app


def write_forecasts(made: pd.DataFrame, output: TextIO, metadata: dict[str, Any] | None = None) -> None:
    """What MLflow's function of the server writes, letter by letter, in a third of the time.

    That one lets Python walk through every number; here C does.
    """
    names = made.columns.tolist()
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(made[name].tolist() for name in names), strict=True)]
    output.write(json.dumps({"predictions": rows, **(metadata or {})}))


class Strict:
    """A loaded model as the scoring server sees it: unknown params and cells of the wrong type are told in one line."""

    def __init__(self, model: PyFuncModel) -> None:
        """Stand in for `model`."""
        self.model = model
        signature = model.metadata.signature
        self.params = [param.name for param in signature.params]
        texts = [column for column in signature.inputs if column.type == DataType.string]
        self.numeric = [column.name for column in signature.inputs if column.type != DataType.string]
        # The server casts by this while it parses. Numbers are cast below, where a bad cell can be named.
        self.metadata = copy(model.metadata)
        self.metadata.signature = ModelSignature(Schema(texts), params=signature.params)

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Forecast.

        Raises:
            Refused: the data or a param breaks a rule.
        """
        for name in params if isinstance(params, dict) else ():
            if name not in self.params:
                raise Refused(f"params: {name!r} is unknown.{nearest(name, self.params)}")
        try:
            made: Any = self.model.predict(self._with_numbers(pd.DataFrame(data)), params)
        except MlflowException as error:
            raise Refused(one_line(error.message)) from None
        # Each moment is written once: the server would write it for every row.
        times = pd.DatetimeIndex(made["time"])
        moments = times.unique()
        texts = np.array([moment.isoformat() for moment in moments], dtype=object)
        return made.assign(time=texts[moments.get_indexer(times)])

    def _with_numbers(self, data: pd.DataFrame) -> pd.DataFrame:
        twice = data.columns[data.columns.duplicated()]
        if len(twice):
            raise Refused(f"history: column {twice[0]!r} is there twice. Give each column its own name.")
        made = {}
        for name in data.columns.intersection(self.numeric):
            try:
                made[name] = data[name].astype("float64")
            except (ValueError, TypeError, OverflowError):
                bad = pd.to_numeric(data[name].map(_scalar), errors="coerce").isna() & data[name].notna()
                cell = f"history: column {name!r}, row {int(bad.to_numpy().argmax()) + 1}"
                raise Refused(f"{cell}: {shown(data[name], bad)} is no number. Leave a missing value empty.") from None
        return data.assign(**made)


def _scalar(cell: Any) -> Any:
    """Lists and objects as text: pandas would not look at them."""
    large = isinstance(cell, int) and abs(cell) > sys.float_info.max
    return "text" if isinstance(cell, list | dict) or large else cell


class Bearer:
    """ASGI middleware: who does not bring the token gets 401, whatever was asked, but for what load balancers ask."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Stand before `app`."""
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and (scope["path"] in _OPEN or self._knows(scope))):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            told = {"error_code": "UNAUTHENTICATED", "message": _NO_TOKEN}
            await _answer(send, 401, told, (b"www-authenticate", b"Bearer"))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _knows(self, scope: Scope) -> bool:
        """In a time that says nothing of how much of a guess was right."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token)


class OneLine:
    """ASGI middleware: JSON answers of status 400 and above lose their stack trace, and say it in one line."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] == "POST" and not any(name == b"content-type" for name, _ in scope["headers"]):
            await _answer(send, 415, {"error_code": "BAD_REQUEST", "message": _NO_TYPE})
        else:
            answer = _Rewriter(send)
            try:
                await self.app(scope, receive, answer)
            except (RecursionError, TypeError, ValueError) as error:  # MLflow's parser, before a model is asked
                if answer.begun:
                    raise
                said = "its JSON is nested too deep" if isinstance(error, RecursionError) else one_line(str(error))
                await _answer(send, 400, {"error_code": "BAD_REQUEST", "message": f"{_UNREADABLE} ({said})."})


class _Rewriter:
    """Passes an answer on; an error is held back until it is whole."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None  # of an error
        self.body = b""
        self.begun = False  # whether something was sent

    async def __call__(self, message: Message) -> None:
        self.begun = self.begun or message["type"] == "http.response.start"
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.start = message
        elif self.start is None:
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self.start)

    async def _finish(self, start: Message) -> None:
        try:
            told = json.loads(self.body)
            told["message"] = one_line(told["message"])
        except (ValueError, KeyError, TypeError):  # text, in one line already
            await self.send(start)
            await self.send({"type": "http.response.body", "body": self.body})
            return
        trace = told.pop("stack_trace", None)
        if trace and told["message"].startswith(_UNEXPECTED):  # a fault of ours: to be seen, but not by the caller
            _log.error(trace)
        await _answer(self.send, start["status"], told)


async def _answer(send: Send, status: int, told: dict[str, Any], *more: tuple[bytes, bytes]) -> None:
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def one_line(message: str) -> str:
    """MLflow's message without the data that it repeats."""
    for echo in _ECHOES:
        message = message.partition(echo)[0]
    return " ".join(_PREFIX.sub("", message).split())


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
