"""Every accepted form of input: what `test_accepted.py` ingests, and the table of forms in the docs."""

from .form import Form
from .forms_sources import DIALECTS, SOURCES
from .forms_tables import CATEGORIES, SHAPES, TYPES
from .forms_times import FREQUENCIES, GAPS, TIME

FORMS: dict[str, tuple[Form, ...]] = {
    "Sources": SOURCES,
    "CSV": DIALECTS,
    "Shapes": SHAPES,
    "Types": TYPES,
    "Times and zones": TIME,
    "Frequencies": FREQUENCIES,
    "Gaps and duplicates": GAPS,
    "Categories": CATEGORIES,
}
