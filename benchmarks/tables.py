"""What the benchmarks share in writing: a Markdown table, the line on the machine, a section of the README."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

README = Path(__file__).with_name("README.md")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(versions: Mapping[str, str]) -> str:
    """Cores, processor, Python, packages."""
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    kind = f"{os.cpu_count()} cores ({_processor()})"
    return f"{kind}, Python {platform.python_version()}, {packages}."


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return match[1].strip() if match else platform.machine()


def publish(section: str, text: str, file: Path = README) -> None:
    """Print the text, and put it between the marks of a section of a file, benchmarks/README.md by default.

    Raises:
        SystemExit: the file has no such marks.
    """
    print(text)
    pattern = re.compile(rf"(<!-- {section} -->\n).*?(<!-- end -->)", re.DOTALL)
    before = file.read_text(encoding="utf-8")
    after, replaced = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", before)
    if not replaced:
        raise SystemExit(f"{file}: has no line <!-- {section} -->, below which <!-- end --> follows.")
    file.write_text(after, encoding="utf-8")
