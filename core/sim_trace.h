// What happened in a simulated world, as a hash of everything and the text of the last of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/time.h"

namespace tunnel::core {

// name, text, and what its two numbers are; the subject is a socket's or a connection's serial number, or a reactor's
#define TUNNEL_SIM_EVENTS(X)                                                                        \
  X(kTurn, "turn")                  /* a reactor: completions delivered */                          \
  X(kOpen, "open")                  /* a socket: its host, its descriptor */                        \
  X(kListen, "listen")              /* a socket: its port, errno */                                 \
  X(kConnect, "connect")            /* a socket: its connection, errno */                           \
  X(kAccept, "accept")              /* a listener: the connection, the new socket */                \
  X(kSend, "send")                  /* a connection: which end, bytes taken */                      \
  X(kReceive, "receive")            /* a connection: which end, bytes given; 0 is the end */        \
  X(kArrive, "arrive")              /* a connection: towards which end, bytes */                    \
  X(kEndArrives, "end_arrives")     /* a connection: towards which end */                           \
  X(kResetArrives, "reset_arrives") /* a connection: towards which end, errno there */              \
  X(kHeld, "held")                  /* a connection: towards which end, packets held back */        \
  X(kClose, "close")                /* a socket: its host, 1 when the peer sees a reset */          \
  X(kDatagram, "datagram")          /* a socket that sent: bytes, that which gets it; 0 for none */ \
  X(kCompletion, "completion")      /* a socket: kind of operation, error */                        \
  X(kCancel, "cancel")              /* a socket: kind of operation */                               \
  X(kCallFails, "call_fails")       /* a reactor: which call, errno */                              \
  X(kCut, "cut")                    /* a connection: 1 at a byte, 0 at a time */                    \
  X(kFreeze, "freeze")              /* a connection or host: which end, microseconds; 0 for ever */ \
  X(kThaw, "thaw")                  /* a connection or host: which end */                           \
  X(kStall, "stall")                /* a reactor: microseconds */                                   \
  X(kSqueeze, "squeeze")            /* a host or reactor: what is left, microseconds */             \
  X(kJump, "jump")                  /* the clock: microseconds */                                   \
  X(kNote, "note")                  /* whatever the driver of the simulation has to say */

enum class SimEvent : uint8_t {
#define TUNNEL_SIM_DECLARE(name, text) name,
  TUNNEL_SIM_EVENTS(TUNNEL_SIM_DECLARE)
#undef TUNNEL_SIM_DECLARE
};

class SimTrace {
 public:
  // Keeps the last `lines` for Text(). The hash covers all.
  explicit SimTrace(size_t lines) : kept_(lines) {}

  void Add(TimePoint when, SimEvent event, uint64_t subject, uint64_t first, uint64_t second);

  // The same for two runs that did the same things at the same times; contents of messages are no part of it.
  [[nodiscard]] uint64_t hash() const { return hash_; }
  [[nodiscard]] uint64_t events() const { return events_; }
  // One line an event: milliseconds since the start, the event, its numbers.
  [[nodiscard]] std::string Text(TimePoint start) const;

 private:
  struct Line {
    TimePoint when;
    uint64_t subject;
    uint64_t first;
    uint64_t second;
    SimEvent event;
  };
  std::vector<Line> lines_;  // the last kept_, as a ring
  size_t kept_;
  uint64_t hash_ = 0xcbf29ce484222325;
  uint64_t events_ = 0;
};

}  // namespace tunnel::core
