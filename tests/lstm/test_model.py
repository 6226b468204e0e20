"""`LSTMModel` on arrays: shapes, persistence, and misuse."""

import pickle

import numpy as np
import pytest
import torch

from lstm import LSTMModel
from lstm.errors import CheckpointError, ConfigError, DataError

T = np.arange(400)
Y = np.sin(T / 6).astype(np.float32)
X = np.stack([Y, np.cos(T / 9)], axis=1).astype(np.float32)
SMALL = {"hidden_size": 8, "num_layers": 1, "epochs": 3, "sequence_length": 10, "device": "cpu"}


def fit_model(y=Y, x=X, **changes):
    return LSTMModel({**SMALL, **changes}).fit(x, y, verbose=False)


def test_predict_has_a_row_for_every_window():
    assert fit_model().predict(X).shape == (391, 1)
    assert fit_model(horizon=4).predict(X, steps=3).shape == (391, 3)
    assert fit_model(y=X, horizon=4).predict(X, steps=4).shape == (391, 4, 2)
    assert fit_model(y=Y[:, None]).predict(X).shape == (391, 1, 1)


def test_row_k_forecasts_the_steps_after_its_window():
    model = fit_model(epochs=60, learning_rate=0.01, horizon=2, dropout=0.0, anchor="last")
    predicted = model.predict(X, steps=2)
    np.testing.assert_allclose(predicted[:-2, 0], Y[10:-1], atol=0.15)
    np.testing.assert_allclose(predicted[:-2, 1], Y[11:], atol=0.15)


def test_row_k_depends_on_its_window_alone():
    model = fit_model()
    before, changed = model.predict(X), X.copy()
    changed[50:] += 1
    after = model.predict(changed)
    # Rows 0 … 40 have seen X[:50] only.
    assert (before[:41] == after[:41]).all()
    assert (before[41:51] != after[41:51]).all()


def test_validation_rows_are_not_trained_on():
    changed_y, changed_x = Y.copy(), X.copy()
    changed_y[360:] += 7
    changed_x[360:] += 7
    options = {"patience": None, "epochs": 1}
    first, second = fit_model(**options), fit_model(y=changed_y, x=changed_x, **options)
    assert first.train_history[0]["train_loss"] == second.train_history[0]["train_loss"]
    assert first.train_history[0]["val_loss"] != second.train_history[0]["val_loss"]


def test_history_has_an_entry_an_epoch():
    history = fit_model().train_history
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert {"train_loss", "val_loss", "learning_rate", "seconds"} <= set(history[0])


def test_evaluate_returns_the_metrics():
    scores = fit_model(epochs=30, learning_rate=0.01).evaluate(X, Y)
    assert {"rmse", "mae", "mape", "smape", "r2", "mase"} <= set(scores)
    assert scores["r2"] > 0.8


@pytest.mark.parametrize("changes", [{}, {"quantiles": (0.1, 0.5, 0.9)}, {"batch_norm": True, "anchor": "last"}])
def test_save_then_load_gives_the_same_bits(tmp_path, changes):
    model = fit_model(horizon=3, **changes)
    path = str(tmp_path / "lstm_model.pkl")
    model.save(path)
    again = LSTMModel().load(path)
    assert again.predict(X, steps=3).tobytes() == model.predict(X, steps=3).tobytes()
    assert again.train_history == model.train_history
    assert again.evaluate(X, Y) == model.evaluate(X, Y)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    path = tmp_path / "model.pkl"
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps(Trap(), protocol=protocol))
        with pytest.raises(CheckpointError, match="pickle|damaged"):
            LSTMModel().load(str(path))
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="is a pickle"):
        LSTMModel().load(str(path))
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "m"
    with pytest.raises(CheckpointError, match="no such file"):
        LSTMModel().load(str(path))
    fit_model().save(str(path))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\0" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            LSTMModel().load(str(path))
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not of this package"):
        LSTMModel().load(str(path))


@pytest.mark.parametrize("place", ["header", "weights"])
def test_one_flipped_bit_is_noticed(tmp_path, place):
    path = tmp_path / "m"
    fit_model().save(str(path))
    whole = bytearray(path.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    random = np.random.default_rng(0)
    for position in random.integers(*((8, header) if place == "header" else (header, len(whole))), 60):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            LSTMModel().load(str(path))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    model = fit_model()
    model.save(str(path))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(str(path))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("changes", [{}, {"lags": (3,), "head": "parallel"}, {"loss": "gaussian"}], ids=str)
def test_forecasts_are_fed_back_past_the_horizon_if_all_features_are_targets(changes):
    model = fit_model(x=Y, horizon=2, **changes)
    rolled = model.predict(Y, steps=5)
    assert rolled.shape == (391, 5)
    assert (rolled[:, :2] == model.predict(Y, steps=2)).all()
    # The third step is the forecast from a window that ends with the first two forecasts.
    window = np.concatenate([Y[2:10], rolled[0, :2]])
    np.testing.assert_allclose(model.predict(window, steps=1)[0, 0], rolled[0, 2], rtol=1e-5)


def test_several_targets_are_forecast_together():
    x = np.stack([Y, Y * 2], axis=1)
    assert fit_model(y=x[:, ::-1], x=x).predict(x, steps=3).shape == (391, 3, 2)


def test_quantiles_have_an_axis_of_levels():
    model = fit_model(quantiles=(0.1, 0.5, 0.9), horizon=2)
    quantiles = model.predict_quantiles(X, steps=2)
    assert quantiles.shape == (391, 2, 3)
    assert (np.diff(quantiles) >= 0).all()
    assert (quantiles[..., 1] == model.predict(X, steps=2)).all()


@pytest.mark.parametrize("loss", ["gaussian", "student_t"])
def test_a_likelihood_gives_quantiles_that_rise_around_the_forecast(loss):
    model = fit_model(loss=loss, horizon=2)
    quantiles = model.predict_quantiles(X, steps=2)
    assert quantiles.shape == (391, 2, 3)
    assert (np.diff(quantiles) > 0).all()
    np.testing.assert_allclose(quantiles[..., 1], model.predict(X, steps=2), atol=1e-6)
    assert fit_model(loss=loss, y=X, quantiles=(0.2, 0.5)).predict_quantiles(X).shape == (391, 1, 2, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "parallel", "patch_length": 5},
        {"head": "recursive", "lags": (4, 7)},
        {"head": "bidirectional", "cell": "gru"},
        {"channel_independent": True, "anchor": "seasonal", "season": 5, "head": "parallel"},
        {"loss": "mase", "season": 3},
    ],
    ids=str,
)
def test_heads_lags_and_channels_work_where_the_targets_are_among_the_features(tmp_path, changes):
    x = np.stack([np.cos(T / 9), Y, Y * 2], axis=1).astype(np.float32)
    model = fit_model(y=x[:, 1:], x=x, horizon=4, **changes)
    assert model.predict(x, steps=4).shape == (391, 4, 2)
    model.save(str(tmp_path / "m"))
    assert LSTMModel().load(str(tmp_path / "m")).predict(x, steps=4).tobytes() == model.predict(x, steps=4).tobytes()


def test_equal_targets_are_matched_to_different_columns():
    x = np.stack([np.cos(T / 9), Y, Y], axis=1).astype(np.float32)
    assert fit_model(y=x[:, 1:], x=x, channel_independent=True).predict(x).shape == (391, 1, 2)


def test_nothing_is_printed_unless_verbose(capsys):
    LSTMModel(SMALL).fit(X, Y, verbose=False)
    assert capsys.readouterr() == ("", "")
    LSTMModel(SMALL).fit(X, Y, verbose=True)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: LSTMModel({"epoch": 1}), ConfigError, "Did you mean 'epochs'"),
        (lambda: LSTMModel().predict(X), DataError, "not fitted"),
        (lambda: LSTMModel().save("x"), DataError, "not fitted"),
        (lambda: fit_model(y=Y[:-1]), DataError, "equally many rows, but got 400 and 399"),
        (lambda: fit_model(x=X[:15], y=Y[:15], horizon=9), DataError, "too few for windows"),
        (lambda: fit_model(input_size=7), ConfigError, "input_size=7, but the data have 2"),
        (lambda: fit_model(anchor="last", y=Y + 1), ConfigError, "anchor='last' needs the target's own past"),
        (lambda: fit_model(lags=(2, 3), y=Y + 1), ConfigError, r"lags=\[2, 3\] needs the target's own past"),
        (
            lambda: fit_model(channel_independent=True, y=Y + 1),
            ConfigError,
            "channel_independent needs the target's own",
        ),
        (lambda: fit_model(loss="mase", y=Y + 1), ConfigError, "loss='mase' needs the target's own past"),
        (lambda: fit_model(series_embedding=True), ConfigError, "series_embedding needs series"),
        (lambda: LSTMModel(SMALL).fit(X, Y, validation_split=1.0), ConfigError, "validation_split"),
        (lambda: fit_model(x=np.where(T[:, None] == 5, np.nan, X)), DataError, "row 5, column 0 is nan"),
        (lambda: fit_model(x=[["a"]] * 400), DataError, "numbers only"),
        (lambda: fit_model(x=X.astype(complex)), DataError, "numbers only"),
        (lambda: fit_model(y=Y * np.nan), DataError, "no measured value in the training rows"),
        (lambda: LSTMModel("x"), ConfigError, "must map keys to values"),
        (lambda: fit_model().predict(X, steps=1.5), ConfigError, "whole number, but got 1.5"),
        (lambda: LSTMModel(SMALL).fit(X, Y, validation_split="x"), ConfigError, "but got 'x'"),
        (lambda: fit_model(y=Y + np.inf), DataError, "must not be infinite"),
        (lambda: fit_model().predict(X[:, :1]), DataError, "2 columns as fitted, but has 1"),
        (lambda: fit_model().predict(X[:9]), DataError, "at least sequence_length=10 rows"),
        (lambda: fit_model().predict(X, steps=0), ConfigError, "`steps >= 1`"),
        (lambda: fit_model().predict(X, steps=2), ConfigError, r"Fit with LSTMModel\(\{'horizon': 2\}\)"),
        (lambda: fit_model().predict_quantiles(X), ConfigError, "quantiles"),
        (lambda: fit_model().evaluate(X[:10], Y[:10]), DataError, "at least 11 rows"),
    ],
)
def test_misuse_is_refused_in_one_line(act, error, message):
    with pytest.raises(error, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_without_validation_rows_the_training_windows_select_the_epoch():
    model = LSTMModel(SMALL).fit(X, Y, validation_split=0, verbose=False)
    assert len(model.train_history) == 3
