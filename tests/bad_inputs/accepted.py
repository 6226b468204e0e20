"""Every accepted form of input: what `test_accepted.py` ingests, and the table of forms in the docs."""

from tests.bad_inputs.form import Form
from tests.bad_inputs.forms_sources import DIALECTS, SOURCES
from tests.bad_inputs.forms_tables import CATEGORIES, SHAPES, TYPES
from tests.bad_inputs.forms_times import FREQUENCIES, GAPS, TIME

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
