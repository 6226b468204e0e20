"""The ASGI app of `lstm serve`: MLflow's scoring server with one-line errors and an optional bearer token.

The packaged model itself reports most invalid requests in one line, under `mlflow models serve` too. For the others
MLflow's server repeats the request data, returns a stack trace for malformed CSV, answers 500 without a Content-Type,
and ignores unknown params. This module changes that.
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

from lstm.data.timestamps import format_cell
from lstm.errors import did_you_mean
from tasks.registry.pyfunc_model import InvalidInput

FOLDER, WORKERS = "LSTM_SERVED_FOLDER", "LSTM_SERVED_WORKERS"  # environment variables of the server's processes
TOKEN = "LSTM_SERVE_TOKEN"  # an environment variable, since arguments of a process are visible to all users
_PREFIX = re.compile(r"Failed to enforce schema of data '.*?' with schema '\[.*?\]'\. Error: ", re.DOTALL)
_ECHOES = ("\nInput: ", " IMPORTANT: ")  # followed by the request data, or by advice for MLflow 1
_UNEXPECTED = "Encountered an unexpected error"
_UNREADABLE = "The request can't be read as a table"
_CONTENT_TYPE_NEEDED = (
    "The request has no Content-Type. Send application/json, text/csv or application/vnd.apache.parquet."
)
_PUBLIC_PATHS = ("/ping", "/health", "/version")  # for load balancers
_TOKEN_NEEDED = "The request needs the header `Authorization: Bearer TOKEN` with the server's token."
_log = logging.getLogger(__name__)


def create_app() -> FastAPI:
    """Create the app of one worker from the environment variables that `serve` sets."""
    workers = int(os.environ[WORKERS])
    if workers > 1:
        _end_with_parent()
        torch.set_num_threads(max(torch.get_num_threads() // workers, 1))
    return scoring_app(Path(os.environ[FOLDER]))


def scoring_app(folder: Path) -> FastAPI:
    """Return MLflow's scoring server for a version's artifacts, with one-line errors."""
    model: Any = StrictModel(mlflow.pyfunc.load_model(str(folder)))
    scoring_server.predictions_to_json = write_forecasts
    app: FastAPI = scoring_server.init(model)
    app.add_middleware(OneLineErrors)
    if token := os.environ.get(TOKEN):
        app.add_middleware(BearerAuth, token=token)  # outermost: a request without the token is not read
    return app


def write_forecasts(forecasts: pd.DataFrame, output: TextIO, metadata: dict[str, Any] | None = None) -> None:
    """Write the same JSON as `scoring_server.predictions_to_json`, in a third of the time.

    MLflow converts each number in a Python loop; `tolist` does it in C.
    """
    names = forecasts.columns.tolist()
    columns = (forecasts[name].tolist() for name in names)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    output.write(json.dumps({"predictions": rows, **(metadata or {})}))


class StrictModel:
    """Wrap a loaded model to report unknown params and cells of the wrong type in one line."""

    def __init__(self, model: PyFuncModel) -> None:
        """Wrap `model`."""
        self.model = model
        signature = model.metadata.signature
        self.params = [param.name for param in signature.params]
        texts = [column for column in signature.inputs if column.type == DataType.string]
        self.numeric = [column.name for column in signature.inputs if column.type != DataType.string]
        # The server casts the text columns while parsing; `predict` casts the numeric ones and can name a bad cell.
        self.metadata = copy(model.metadata)
        self.metadata.signature = ModelSignature(Schema(texts), params=signature.params)

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return forecasts, with times as ISO 8601 text.

        Raises:
            InvalidInput: the data or a param breaks a rule.
        """
        for name in params if isinstance(params, dict) else ():
            if name not in self.params:
                raise InvalidInput(f"params: {name!r} is unknown.{did_you_mean(name, self.params)}")
        try:
            forecasts: Any = self.model.predict(self._cast_numbers(pd.DataFrame(data)), params)
        except MlflowException as error:
            raise InvalidInput(one_line(error.message)) from None
        # Format each distinct time once: all series share them.
        times = pd.DatetimeIndex(forecasts["time"])
        distinct = times.unique()
        texts = np.array([time.isoformat() for time in distinct], dtype=object)
        return forecasts.assign(time=texts[distinct.get_indexer(times)])

    def _cast_numbers(self, data: pd.DataFrame) -> pd.DataFrame:
        duplicates = data.columns[data.columns.duplicated()]
        if len(duplicates):
            raise InvalidInput(f"history: column {duplicates[0]!r} is there twice. Give each column its own name.")
        columns = {}
        for name in data.columns.intersection(self.numeric):
            try:
                columns[name] = data[name].astype("float64")
            except (ValueError, TypeError, OverflowError):
                bad = pd.to_numeric(data[name].map(_as_scalar), errors="coerce").isna() & data[name].notna()
                cell = f"history: column {name!r}, row {int(bad.to_numpy().argmax()) + 1}"
                raise InvalidInput(
                    f"{cell}: {format_cell(data[name], bad)} is no number. Leave a missing value empty."
                ) from None
        return data.assign(**columns)


def _as_scalar(cell: Any) -> Any:
    """Return a text in place of a list, an object or an integer too large for a float, which pandas can't parse."""
    large = isinstance(cell, int) and abs(cell) > sys.float_info.max
    return "text" if isinstance(cell, list | dict) or large else cell


class BearerAuth:
    """ASGI middleware: 401 without the bearer token, except for health endpoints."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Wrap `app`."""
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = scope["type"]
        if kind == "lifespan" or (kind == "http" and (scope["path"] in _PUBLIC_PATHS or self._has_token(scope))):
            await self.app(scope, receive, send)
        elif kind == "http":
            content = {"error_code": "UNAUTHENTICATED", "message": _TOKEN_NEEDED}
            await _send_json(send, 401, content, (b"www-authenticate", b"Bearer"))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _has_token(self, scope: Scope) -> bool:
        """Return whether the request holds the token, in constant time."""
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token)


class OneLineErrors:
    """ASGI middleware: errors (status 400 and above) have a message of one line and no stack trace."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] == "POST" and not any(name == b"content-type" for name, _ in scope["headers"]):
            await _send_json(send, 415, {"error_code": "BAD_REQUEST", "message": _CONTENT_TYPE_NEEDED})
        else:
            rewriter = _ErrorRewriter(send)
            try:
                await self.app(scope, receive, rewriter)
            except (RecursionError, TypeError, ValueError) as error:  # of MLflow's parser
                if rewriter.started:
                    raise
                reason = "its JSON is nested too deep" if isinstance(error, RecursionError) else one_line(str(error))
                await _send_json(send, 400, {"error_code": "BAD_REQUEST", "message": f"{_UNREADABLE} ({reason})."})


class _ErrorRewriter:
    """Pass a response on; buffer an error until it is complete, then shorten it."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.error_start: Message | None = None
        self.body = b""
        self.started = False  # whether a response has begun

    async def __call__(self, message: Message) -> None:
        self.started = self.started or message["type"] == "http.response.start"
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.error_start = message
        elif self.error_start is None:
            await self.send(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self.error_start)

    async def _finish(self, start: Message) -> None:
        try:
            content = json.loads(self.body)
            content["message"] = one_line(content["message"])
        except (ValueError, KeyError, TypeError):  # plain text of one line
            await self.send(start)
            await self.send({"type": "http.response.body", "body": self.body})
            return
        trace = content.pop("stack_trace", None)
        if trace and content["message"].startswith(
            _UNEXPECTED
        ):  # a bug of the server: log it, don't show it to the caller
            _log.error(trace)
        await _send_json(self.send, start["status"], content)


async def _send_json(send: Send, status: int, content: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(content).encode()
    standard = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*standard, *headers]})
    await send({"type": "http.response.body", "body": body})


def one_line(message: str) -> str:
    """Return MLflow's message in one line, without the request data that it repeats."""
    for echo in _ECHOES:
        message = message.partition(echo)[0]
    return " ".join(_PREFIX.sub("", message).split())


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
