"""Plotting leaks no open files in a long-lived process."""

import sys
import threading

import psutil
import pytest

from tasks.reporting.plotting import save_plots, subplots


@pytest.mark.skipif(sys.platform == "win32", reason="files are not counted there")
def test_plotting_from_new_threads_opens_no_more_files(tmp_path):
    saved, finish = threading.Semaphore(0), threading.Event()

    def draw():
        save_plots(tmp_path, {"plot": subplots("a plot", 2.0)[0]})
        saved.release()
        finish.wait()  # until then no other thread gets the same thread id

    counts = []
    for _ in range(4):
        threading.Thread(target=draw).start()
        assert saved.acquire(timeout=60)
        counts.append(psutil.Process().num_fds())
    finish.set()
    assert counts[1:] == [counts[0]] * 3
