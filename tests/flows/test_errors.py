"""What a command says where Prefect's server fails."""

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows.errors import as_user_error
from lstm.errors import StoreError, TrainingError

FULL = httpx.Response(500, request=httpx.Request("POST", "http://127.0.0.1:4200/api/flow_runs/1/set_state"), json={})


def refused(before: Exception | None) -> Exception:
    """As Prefect's engine raises it, which tells the server of the error that it handles."""
    with pytest.raises(PrefectHTTPStatusError) as caught:
        try:
            if before is not None:
                raise before
        finally:
            try:
                FULL.raise_for_status()
            except httpx.HTTPStatusError as error:
                raise PrefectHTTPStatusError.from_httpx_error(error) from error.__cause__
    return caught.value


def test_the_error_that_the_server_was_to_be_told_of_is_the_one_that_is_shown():
    first = StoreError("disk: is full. Make room.")
    assert as_user_error(refused(first)) is first
    assert as_user_error(first) is first


@pytest.mark.parametrize("error", [refused(None), refused(KeyError("bug")), httpx.ConnectError("refused")])
def test_a_server_that_fails_by_itself_is_told_with_its_log(home, error):
    line = str(as_user_error(error))
    assert line.startswith("the Prefect server failed (") and str(home / "logs" / "prefect-server.log") in line
    assert "\n" not in line


@pytest.mark.parametrize("error", [KeyError("bug"), TypeError("bug")])
def test_what_nobody_expected_keeps_its_traceback(error):
    try:
        raise error from TrainingError("of before")
    except (KeyError, TypeError) as caught:
        assert as_user_error(caught) is None
