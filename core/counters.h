// Per-core counters: plain stores by the owning core, readable from any thread, so that observing costs the data path
// nothing. Gauges go up and down, counters only up.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace tunnel::core {

// name, and what it counts
#define TUNNEL_COUNTERS(X)                                                             \
  X(sockets_open)           /* gauge: streams, listeners, UDP */                       \
  X(streams_open)           /* gauge: streams carried by channels */                   \
  X(buffers_in_use)         /* gauge: pool blocks and receive buffers lent out */      \
  X(buffer_bytes_in_use)    /* gauge */                                                \
  X(channels_up)            /* gauge */                                                \
  X(handshakes_in_progress) /* gauge: accepted, not yet a channel or refused */        \
  X(connects_in_progress)   /* gauge: server side, towards targets */                  \
  X(timers_armed)           /* gauge */                                                \
  X(connections_accepted)                                                              \
  X(connections_refused) /* over a bound, outside -cidr */                             \
  X(channels_opened)                                                                   \
  X(channels_lost)                                                                     \
  X(channels_refused) /* 503: a source with too many */                                \
  X(ech_accepted)     /* handshakes done with ECH */                                   \
  X(ech_rejected)     /* offered, no key for it; at a server GREASE counts too */      \
  X(ech_absent)       /* server: handshakes done without the extension */              \
  X(server_lookups) /* by a client, of its server; one asks several questions */       \
  X(server_lookups_failed)                                                             \
  X(handshakes_failed)                                                                 \
  X(upgrades_refused) /* 400, 401, 403, 404 */                                         \
  X(streams_opened)                                                                    \
  X(streams_failed) /* the target could not be reached or was denied */                \
  X(streams_moved)  /* from one channel to another */                                  \
  X(streams_broken) /* reset because the peer broke a rule of one stream */            \
  X(targets_denied)                                                                    \
  X(outbound_proxy_failures) /* it was not reached, or broke the protocol */           \
  X(protocol_errors)         /* a channel ended with 1002, 1007 or 1009 */             \
  X(messages_ignored)        /* legacy messages that match no form or no stream */     \
  X(bytes_to_target)         /* payload handed to applications' or targets' sockets */ \
  X(bytes_from_target)                                                                 \
  X(bytes_sent) /* on every socket */                                                  \
  X(bytes_received)                                                                    \
  X(datagrams_sent)      /* by UDP sockets */                                          \
  X(datagrams_received)  /* by UDP sockets */                                          \
  X(datagrams_unsent)    /* dropped by UDP sockets: full, no way, too long */          \
  X(associations_open)   /* gauge: UDP associations */                                 \
  X(senders_evicted)     /* of udp:// listeners: others needed the room */             \
  X(datagrams_dropped)   /* no room, no channel, an unreachable target */              \
  X(datagrams_malformed) /* no SOCKS5 header, a fragment, too long */                  \
  X(datagrams_foreign)   /* from whom the association is not for */                    \
  X(datagram_errors)     /* ICMP errors, and datagrams cut by the kernel */            \
  X(dns_queries_answered)                                                              \
  X(dns_queries_refused)                                                               \
  X(turns) /* of the reactor's loop */

class Counter {
 public:
  // Owner core only: a load and a store, no locked instruction.
  void Add(int64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void Set(int64_t n) { value_.store(n, std::memory_order_relaxed); }
  // Any thread.
  [[nodiscard]] int64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// One in a gauge, for as long as this lives.
class CountGuard {
 public:
  explicit CountGuard(Counter& gauge) : gauge_(gauge) { gauge_.Add(); }
  CountGuard(const CountGuard&) = delete;
  CountGuard& operator=(const CountGuard&) = delete;
  ~CountGuard() { gauge_.Add(-1); }

 private:
  Counter& gauge_;
};

// One core's counters, on cache lines of their own.
struct alignas(64) Counters {
#define TUNNEL_DECLARE_COUNTER(name) Counter name;
  TUNNEL_COUNTERS(TUNNEL_DECLARE_COUNTER)
#undef TUNNEL_DECLARE_COUNTER
};

// "name=value name=value ...", summed over the cores given.
[[nodiscard]] std::string DescribeCounters(const std::vector<const Counters*>& cores);

}  // namespace tunnel::core
