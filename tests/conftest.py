"""What all tests share: numpy's linear algebra on one thread; small matrices lose more than they gain on several."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when numpy is imported
    os.environ.setdefault(name, "1")

pytest_plugins = ["shared_fixtures"]
