"""What is compared over an emulated path: the path itself, and ech-tunnel in several uses of it."""

from rig.chains.direct import Direct
from rig.chains.ours import Ours


class PlainTcp(Direct):
    """The load generator's connection goes over the path itself."""

    name = "plain-tcp"
    title = "plain TCP over the path"

    def start(self):
        super().start()
        self.entry_host = self.setting.server_address


class OursOnPath(Ours):
    backend = "auto"
    behind_connect = False   # the application sends its request right behind CONNECT
    beside_stalled = False   # other streams of the channel are not read

    def start(self):
        super().start()
        self.check_protocol()

    def check_protocol(self):
        """What is measured here is mux/2."""
        client = next(process for process in self.processes if process.role == "client")
        client.wait_log(r"channel \d+ up:.*mux/2", count=self.channels)


class OursOne(OursOnPath):
    name = "ours-1"
    title = "ech-tunnel, 1 channel"
    channels = 1


class OursThree(OursOnPath):
    name = "ours-3"
    title = "ech-tunnel, 3 channels"
    channels = 3


class OursBehindConnect(OursOne):
    name = "ours-1-optimistic"
    title = "ech-tunnel, request sent right behind CONNECT"
    behind_connect = True


class OursBesideStalled(OursOne):
    name = "ours-1-stalled"
    title = "ech-tunnel, 100 stalled streams beside it"
    beside_stalled = True
