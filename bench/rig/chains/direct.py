"""No tunnel at all: what the load generator itself can do here. For orientation."""

from rig.chains.chain import Chain


class Direct(Chain):
    name = "direct"
    title = "no tunnel (one loopback hop)"

    @classmethod
    def program(cls, setting):
        return "none"

    @classmethod
    def version(cls, program):
        return ""

    def start(self):
        self.entry_port = self.target_port
