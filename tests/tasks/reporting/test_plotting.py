"""What drawing leaves behind in a process that lives for weeks: nothing."""

import sys
import threading

import psutil
import pytest

from tasks.reporting.plotting import canvas, save_pictures


@pytest.mark.skipif(sys.platform == "win32", reason="files are not counted there")
def test_pictures_drawn_by_ever_new_threads_open_no_more_files(tmp_path):
    drawn, over = threading.Semaphore(0), threading.Event()

    def draw():
        save_pictures(tmp_path, {"one": canvas("a picture", 2.0)[0]})
        drawn.release()
        over.wait()  # until then no other thread gets its number

    counts = []
    for _ in range(4):
        threading.Thread(target=draw).start()
        assert drawn.acquire(timeout=60)
        counts.append(psutil.Process().num_fds())
    over.set()
    assert counts[1:] == [counts[0]] * 3
