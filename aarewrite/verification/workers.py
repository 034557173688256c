"""Workers of a Ray cluster: each opens models and data once, measures block after block, and sends what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module

from aarewrite.errors import AarewriteError, CannotHandle
from aarewrite.verification.job import Asked, Block, Job, open_job
from aarewrite.verification.records import Found

RETRIES = 5  # of a block whose worker died


class Worker:
    """One process of the cluster, which takes one core."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @cached_property
    def _job(self) -> Job:
        """Opened with the first block: what goes wrong then is that block's error, not an actor that never starts."""
        return open_job(self._asked)

    def measure(self, block: Block) -> tuple[list[Found], int]:
        """What was found on a block, and how many views it took."""
        return list(self._job.measure([block])), self._job.views([block])


def spread(job: Job, blocks: Sequence[Block], address: str, advance: Callable[[int], None]) -> Iterator[Found]:
    """Measure blocks on as many workers as the cluster has cores, and yield what they find as it comes.

    A worker that dies is begun again by Ray, and what it was at is measured again.

    Raises:
        CannotHandle: Ray is not installed, or there is no cluster at the address.
        AarewriteError: What a worker raised.
    """
    try:
        ray, pools, failures = map(import_module, ("ray", "ray.util", "ray.exceptions"))
    except ImportError:
        raise CannotHandle("--ray: Ray is not installed", "pip install 'aarewrite[ray]'") from None
    begun = not ray.is_initialized()
    try:
        if begun:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        cores = int(ray.cluster_resources().get("CPU", 1))
        kind = ray.remote(Worker).options(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)
        asked = replace(job.asked.from_anywhere(), threads=1, progress=False, ray=None, resume=None)
        pool = pools.ActorPool([kind.remote(asked) for _ in range(max(1, min(cores, len(blocks))))])
        for found, views in pool.map_unordered(lambda worker, block: worker.measure.remote(block), blocks):
            advance(views)
            yield from found
    except failures.RayTaskError as error:
        if isinstance(error.cause, AarewriteError):
            raise error.cause from None
        raise CannotHandle(f"--ray: a worker failed: {error.cause}") from None
    except (ConnectionError, RuntimeError, ValueError, failures.RayError) as error:
        raise CannotHandle(f"--ray {address}: {error}", "start a cluster with ray start --head") from None
    finally:
        if begun:
            ray.shutdown()
