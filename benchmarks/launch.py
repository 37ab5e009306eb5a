"""Runs a command from a process that is itself small, and writes what it took to a file.

The kernel counts into a child's peak what its parent had in memory when it started it (getrusage(2), ru_maxrss).
"""

import os
import subprocess
import sys
import time

if __name__ == "__main__":
    told, *command = sys.argv[1:]
    begun = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    with open(told, "w") as file:
        file.write(f"{wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1024}")
    sys.exit(os.waitstatus_to_exitcode(status))
