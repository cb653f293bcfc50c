"""The tunnels that can be measured: each a Chain. A new one is a file with a subclass, and a line here."""

from rig.chains.direct import Direct
from rig.chains.haproxy import HaproxyPlain, HaproxyTls
from rig.chains.ours import OursEpoll, OursIoUring
from rig.chains.stunnel import Stunnel
from rig.chains.trojan import Trojan

# The first is what the others are compared with.
ALL = (HaproxyTls, OursIoUring, OursEpoll, HaproxyPlain, Stunnel, Trojan, Direct)
REFERENCE = HaproxyTls.name
