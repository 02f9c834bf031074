"""A launcher: runs the jobs of a study one after the other, in the process of the command."""

from seqeval.execution.launchers import Launcher
from seqeval.execution.worker import Failure, run_payload


class OneAtATime(Launcher):
    device = "cpu"

    def slots(self, device):
        return 1

    def has_spare_cpu(self, device, jobs):
        return False

    def submit(self, payloads, stop):
        self.waiting, self.stop = list(enumerate(payloads)), stop

    def poll(self):
        if not self.waiting:
            return {}
        place, payload = self.waiting.pop(0)
        events = list(run_payload(payload, self.stop))  # trains, and stores rows and checkpoints
        return {place: next((event for event in events if isinstance(event, Failure)), None)}

    def cancel(self):
        self.waiting = []
