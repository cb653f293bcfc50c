"""Runs measures: starts all chains, lets them take turns, stops them."""

import contextlib
import dataclasses
import json
import subprocess
import time

from rig import namespace, path
from rig.processes import Failure, Process, environment, in_child
from rig.results import Row, Sample

WARM_UP_SECONDS = 0.2
GRACE_SECONDS = 90   # the load generator's own limits are below it


class Runner:
    def __init__(self, setting, load_generator, seconds, rounds, congestion_control, deadline, say):
        """`deadline`: by time.monotonic(); a measure that cannot even have its first round by then fails. `say` is told
        of each run."""
        self._setting, self._load_generator = setting, load_generator
        self._seconds, self._rounds = seconds, rounds
        self._congestion_control, self._deadline, self._say = congestion_control, deadline, say
        self.path_counters = {}   # by measure

    def measure(self, measure, chain_classes, share):
        """Returns a Row for each chain the measure applies to. No further round begins when `share`, a fraction of the
        time that is left, is used up."""
        now = time.monotonic()
        enough = now + (self._deadline - now) * share
        rows = []
        with contextlib.ExitStack() as cleanup:
            setting = cleanup.enter_context(self._setting_for(measure))
            target_port = next(setting.ports)
            target = Process("target", [self._load_generator, "target", "--port", target_port, "--host", "0.0.0.0"],
                             setting.folder / f"target-{target_port}.log", setting.server_cores,
                             setting.far_namespace)
            cleanup.callback(target.stop)
            target.wait_listening(target_port)
            running = []
            for chain_class in chain_classes:
                if not measure.applies_to(chain_class):
                    continue
                row = Row(measure.name, chain_class.name)
                rows.append(row)
                chain = chain_class(setting, target_port)
                cleanup.callback(chain.stop)
                with self._failures_of(row):
                    chain.start()
                    self._warm_up(measure, chain)
                running.append((chain, row))
            for number in range(self._rounds):
                if number and time.monotonic() > enough:
                    self._say(f"{measure.name:<17} {number} rounds, not {self._rounds}: its share of the time is up")
                    break
                for chain, row in running:
                    if not row.failure:
                        with self._failures_of(row):
                            if not number and time.monotonic() > self._deadline:
                                raise Failure("the time for the whole run is up (--minutes)")
                            row.samples.append(self._run(measure, chain, target))
                            self._tell(measure, row, number)
            for chain, row in running:
                row.peak_memory_mib = {process.role: process.peak_memory_mib() for process in chain.processes}
        return rows

    @contextlib.contextmanager
    def _setting_for(self, measure):
        """The setting, with the path in it that the measure is about."""
        if measure.path is None:
            yield dataclasses.replace(self._setting, far_namespace=None)
            return

        def tell(counters):
            self.path_counters[measure.name] = counters

        with path.opened(measure.path, self._load_generator.with_name("path"), self._setting.far_namespace,
                         self._setting.folder / f"path-{next(self._setting.ports)}.log",
                         self._setting.client_cores | self._setting.server_cores, self._congestion_control,
                         tell) as link:
            yield dataclasses.replace(self._setting, server_address=link.server_address)

    def _tell(self, measure, row, number):
        first = measure.figures[0]
        self._say(f"{measure.name:<17} {row.chain:<14} {number + 1}/{self._rounds}   "
                  f"{row.samples[-1].figures[first.name]:.{first.digits}f} {first.title}")

    @contextlib.contextmanager
    def _failures_of(self, row):
        try:
            yield
        except (Failure, OSError, subprocess.SubprocessError) as error:
            row.failure = str(error) or type(error).__name__
            self._say(f"{row.measure:<17} {row.chain:<14} FAILED: {row.failure}")

    @contextlib.contextmanager
    def _started(self, arguments, seconds):
        """The load generator as the application; whatever happens, it is gone afterwards."""
        argv = [str(part) for part in (self._load_generator, *arguments, "--seconds", seconds)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=environment(),
                                preexec_fn=lambda: in_child(self._setting.client_cores)) as child:
            try:
                yield child
            finally:
                child.kill()

    def _finish(self, child):
        """The load generator's JSON."""
        output, errors = child.communicate(timeout=self._seconds + GRACE_SECONDS)
        if child.returncode != 0:
            raise Failure(errors.strip() or f"the load generator ended with status {child.returncode}")
        return json.loads(output)

    def _warm_up(self, measure, chain):
        """Runs the measure shortly, and looks whether every socket uses the congestion control it should."""
        seen = set()
        with self._started(measure.arguments(chain), WARM_UP_SECONDS) as child:
            while child.poll() is None:
                seen |= namespace.congestion_controls()
                if chain.setting.far_namespace is not None:
                    seen |= namespace.congestion_controls(chain.setting.far_namespace)
            seen.add(self._finish(child)["congestion_control"])
        if seen != {self._congestion_control}:
            raise Failure(f"sockets use {', '.join(sorted(seen))} and not {self._congestion_control}")

    def _run(self, measure, chain, target):
        processes = [*chain.processes, target]
        before = {process.role: process.cpu_seconds() for process in processes}
        with self._started(measure.arguments(chain), self._seconds * measure.length) as child:
            output = self._finish(child)
        cpu = {process.role: process.cpu_seconds() - before[process.role] for process in processes}
        for process in processes:
            process.check_running()
        if output["congestion_control"] != self._congestion_control:
            raise Failure(f"a connection used {output['congestion_control']}")
        cpu["application"] = output["cpu_seconds"]
        figures, work = measure.read(output)
        return Sample(figures, cpu, work)
