import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from lstm import DataNormalizer
from lstm.errors import ConfigError, DataError

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("strategy", "reference"), [("zscore", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())]
)
def test_agrees_with_scikit_learn_on_data_with_gaps(strategy, reference):
    x = np.random.default_rng(0).normal(5, 3, (200, 4))
    x[::7, 1] = np.nan
    x[:, 3] = 2.5
    ours = DataNormalizer({"strategy": strategy}).fit_transform(x)
    np.testing.assert_allclose(ours, reference.fit_transform(x), atol=1e-12)


@pytest.mark.parametrize("strategy", ["zscore", "minmax", "robust", "none"])
@given(x=arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=numbers))
def test_round_trip_gives_the_data_back(strategy, x):
    normalizer = DataNormalizer({"strategy": strategy})
    back = normalizer.inverse_transform(normalizer.fit_transform(x))
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-6)


def test_a_constant_column_comes_back_exactly():
    x = np.full((5, 1), 0.1)
    normalizer = DataNormalizer()
    assert (normalizer.fit_transform(x) == 0).all()
    assert (normalizer.inverse_transform(np.zeros((5, 1))) == x).all()


def test_flat_input_stays_flat_and_nan_stays_nan():
    out = DataNormalizer().fit_transform([1.0, np.nan, 3.0])
    assert out.shape == (3,)
    assert np.isnan(out).tolist() == [False, True, False]


def test_state_survives_json():
    import json

    normalizer = DataNormalizer({"strategy": "robust"})
    x = np.random.default_rng(1).normal(size=(9, 2))
    expected = normalizer.fit_transform(x)
    again = DataNormalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert (again.transform(x) == expected).all()


@pytest.mark.parametrize(
    ("act", "error", "expected"),
    [
        (lambda: DataNormalizer({"strategie": "zscore"}), ConfigError, "Did you mean 'strategy'"),
        (lambda: DataNormalizer({"strategy": "log"}), ConfigError, "key 'strategy'"),
        (lambda: DataNormalizer().transform([[1.0]]), DataError, "not fitted"),
        (lambda: DataNormalizer().fit([[1.0, 2.0]]).transform([[1.0]]), DataError, "2 columns as fitted, but has 1"),
        (lambda: DataNormalizer().fit([["a"]]), DataError, "numbers only"),
        (lambda: DataNormalizer().fit([[np.inf]]), DataError, "infinity"),
        (lambda: DataNormalizer().fit([[1.0, np.nan]]), DataError, "column 1: has no value"),
        (lambda: DataNormalizer().fit(np.zeros((0, 2))), DataError, "at least one row"),
    ],
)
def test_misuse_is_refused(act, error, expected):
    with pytest.raises(error, match=expected):
        act()
