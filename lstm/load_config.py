"""Load a `PipelineConfig` from a YAML file, with overrides."""

from pathlib import Path
from typing import Any

import yaml

from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, redact_credentials
from lstm.presets.presets import with_defaults
from lstm.sources.files import is_table


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> PipelineConfig:
    """Read, override and validate a pipeline configuration.

    The result holds what the file says. `presets.with_defaults` adds the preset's defaults, which depend on the data.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` each, the value in YAML: `search.trials=50`.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a key or value breaks a rule.
    """
    path = Path(path)
    values = _read_yaml(path)
    for override in overrides:
        _set(values, override)
    config = PipelineConfig.parse(values, where=path.name, partial=True)
    _check_with_defaults(config, path.name)
    return config


def _check_with_defaults(config: PipelineConfig, where: str) -> None:
    """Refuse values that don't go together with the preset's defaults, before any data are read."""
    try:
        with_defaults(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


# A value such as 2024-13-45, or a thousand nested brackets, passes the parser and fails when the object is built.
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, of which YAML's own silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the mapping of a node."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node.value, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}). Name a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8. Name a YAML file.") from None
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} is no valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(values, dict):
        hint = f" Is it a table? Run: lstm init {path}" if is_table(path.name) else ""
        raise ConfigError(f"{path}: must hold `key: value` pairs, but holds {type(values).__name__}.{hint}")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    """Set `dotted.key=value` in nested mappings."""
    key, equals, text = override.partition("=")
    shown = redact_credentials(repr(override))
    if not equals or not key.strip():
        raise ConfigError(f"--set {shown}: must read `dotted.key=value`, such as search.trials=50.")
    *parents, last = key.strip().split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {shown}: {parent!r} holds a value, not keys.")
        values = child
    try:
        values[last] = yaml.load(text, _UniqueKeys)
    except _YAML_ERRORS:
        raise ConfigError(f"--set {shown}: {redact_credentials(repr(text))} is no valid YAML value.") from None
