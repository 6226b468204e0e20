"""Register the candidates, and make the best one champion if it has earned it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from prefect import task
from prefect.cache_policies import NO_CACHE

import lstm
from lstm.data.panel import build_panel
from lstm.data.windows import Windows, window_origins
from lstm.errors import InputError
from lstm.forecaster import Forecaster
from lstm.pipeline_config import DataSpec, PipelineConfig
from tasks import tracking
from tasks.handles import Candidate, Evaluation, PanelHandle, RunHandle, TableHandle, WindowsHandle
