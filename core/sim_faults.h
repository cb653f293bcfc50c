// What may go wrong in a simulated world, how often, and how often it did.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/sim_random.h"

namespace tunnel::core {

// The calls of a Backend that can fail, and the other things that go wrong, as they are counted.
// name, text, and what it is
#define TUNNEL_SIM_FAULTS(X)                                                                            \
  X(kOpenStream, "open_stream")             /* socket() */                                              \
  X(kListen, "listen")                      /* bind() or listen() */                                    \
  X(kAccept, "accept")                      /* accept() */                                              \
  X(kConnect, "connect")                    /* connect() */                                             \
  X(kReceive, "receive")                    /* recv() */                                                \
  X(kSend, "send")                          /* sendmsg() */                                             \
  X(kOpenDatagram, "open_datagram")         /* socket() or bind() of UDP */                             \
  X(kConnectDatagram, "connect_datagram")   /* connect() of UDP */                                      \
  X(kReceiveDatagram, "receive_datagram")   /* recvmsg() */                                             \
  X(kSendDatagram, "send_datagram")         /* sendmmsg(): the datagram is dropped */                   \
  X(kCut, "cut")                            /* a connection is reset for both ends */                   \
  X(kCutAtByte, "cut_at_byte")              /* the same when so many bytes have passed */               \
  X(kFreezeConnection, "freeze_connection") /* nothing passes on one connection for a while, or ever */ \
  X(kFreezeHost, "freeze_host")             /* nothing passes to and from a host for a while */         \
  X(kLostDatagram, "lost_datagram")         /* on a link that loses some */                             \
  X(kStall, "stall")                        /* a reactor does not get the processor for a while */      \
  X(kNoDescriptors, "no_descriptors")       /* a host has none left for a while */                      \
  X(kNoBuffers, "no_buffers")               /* a reactor has hardly any receive buffers for a while */  \
  X(kClockJump, "clock_jump")               /* the clock goes ahead: a suspended machine */             \
  X(kPlanted, "planted")                    /* a bug that a test planted, to see it found */

enum class SimFault : uint8_t {
#define TUNNEL_SIM_DECLARE(name, text) name,
  TUNNEL_SIM_FAULTS(TUNNEL_SIM_DECLARE)
#undef TUNNEL_SIM_DECLARE
};
#define TUNNEL_SIM_LIST(name, text) SimFault::name,
inline constexpr std::array kAllSimFaults = {TUNNEL_SIM_FAULTS(TUNNEL_SIM_LIST)};
#undef TUNNEL_SIM_LIST
inline constexpr size_t kSimFaults = kAllSimFaults.size();

using SimFaultSet = std::bitset<kSimFaults>;
[[nodiscard]] const char* ToString(SimFault fault);
// Of a list like "cut,stall"; "calls" is every call. nullopt: there is no such fault.
[[nodiscard]] std::optional<SimFaultSet> ParseSimFaults(std::string_view list);

// The errno values that the kernel may give for a call; empty for what is no call.
[[nodiscard]] std::span<const int> SimErrnosOf(SimFault call);
// Whether a connection is dead after its receive or send failed with this, rather than the call alone.
[[nodiscard]] bool SimErrnoKills(int error_number);

class SimFaultCounts {
 public:
  void Add(SimFault fault) { ++counts_[static_cast<size_t>(fault)]; }
  void Add(const SimFaultCounts& other);
  [[nodiscard]] uint64_t of(SimFault fault) const { return counts_[static_cast<size_t>(fault)]; }
  [[nodiscard]] uint64_t total() const;
  // "cut=3 stall=1", what did not happen left out.
  [[nodiscard]] std::string Describe() const;

 private:
  std::array<uint64_t, kSimFaults> counts_{};
};

// How a world treats the calls of its reactors. Chances are per million calls.
struct SimChaos {
  // --- what real backends do, more often than they do it: no faults ---
  uint32_t short_receive = 0;    // fewer bytes than are there
  uint32_t short_send = 0;       // fewer bytes than there is room for
  uint32_t split_arrival = 0;    // what was sent at once arrives in two pieces
  uint32_t late_completion = 0;  // what is ready is told in the turn after the next
  uint32_t late_cancel = 0;      // what had arrived is still delivered to a cancelled operation
  bool reorder = false;          // completions of different sockets come in any order
  // --- faults ---
  uint32_t call_fails = 0;  // of the calls on hosts that SimNetwork::SetFaulty() names, if they are among
  SimFaultSet failing = SimFaultSet().set();
  // That call, counted from 1 over all on such hosts, fails in any case; 0: none.
  uint64_t fail_call = 0;
};

}  // namespace tunnel::core
