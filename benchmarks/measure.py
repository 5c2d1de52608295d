"""One measurement, in a process of its own.

usage: measure.py CLIENT TASK URL QUEUE N      prints one line of JSON
"""

from __future__ import annotations

import json
import sys

from job import Job
from process import end_with_parent
from tasks import client_module


def main() -> None:
    client, task, url, queue, n = sys.argv[1:6]
    job = Job(url, queue, int(n))
    getattr(client_module(client), task.replace("-", "_"))(job)
    result = {
        "n": job.n,
        "seconds": job.watch.seconds,
        "cpu_seconds": job.watch.cpu_seconds,
        "published": job.n + job.untimed,
        "samples": job.samples,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    end_with_parent()
    main()
