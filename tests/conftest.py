"""What all tests share: numpy's linear algebra on one thread, for small matrices lose more than they gain on several;
a garbage collector that looks less often through the many small graphs; and interrupts and hang-ups, heard also where
the suite was started in the background, which ignores them."""

import gc
import os
import signal

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy is imported
    os.environ.setdefault(name, "1")
gc.set_threshold(200_000, 20, 20)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["shared_fixtures"]


def pytest_configure() -> None:
    """No session waits actively for work: several workers share the cores."""
    from aarewrite.model import runtime

    plain = runtime._options
    runtime._options = lambda entries: plain(dict((*entries, *runtime.NO_SPINNING)).items())
