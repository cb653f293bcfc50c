#include "core/sim_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

namespace tunnel::core {
namespace {

constexpr auto kSimFaultNames = std::to_array<const char*>({
#define TUNNEL_SIM_NAME(name, text) text,
    TUNNEL_SIM_FAULTS(TUNNEL_SIM_NAME)
#undef TUNNEL_SIM_NAME
});

// After the manual pages; EINTR and EAGAIN are the backend's own business.
constexpr auto kSocketErrnos = std::to_array<int>({EMFILE, ENFILE, ENOBUFS, ENOMEM});
constexpr auto kListenErrnos = std::to_array<int>({EADDRINUSE, EACCES, ENOBUFS});
constexpr auto kAcceptErrnos = std::to_array<int>({EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM});
constexpr auto kConnectErrnos = std::to_array<int>(
    {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL, EPERM, EACCES, ECONNRESET, ENOBUFS});
constexpr auto kReceiveErrnos = std::to_array<int>({ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM});
constexpr auto kSendErrnos = std::to_array<int>({ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH, ENOBUFS, ENOMEM});
constexpr auto kConnectDatagramErrnos = std::to_array<int>({ENETUNREACH, EHOSTUNREACH, EACCES});
constexpr auto kReceiveDatagramErrnos = std::to_array<int>({ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOBUFS});
constexpr auto kSendDatagramErrnos = std::to_array<int>({EAGAIN, ENOBUFS, EPERM, ENETUNREACH});

}  // namespace

std::span<const int> SimErrnosOf(SimFault call) {
  switch (call) {
    case SimFault::kOpenStream:
    case SimFault::kOpenDatagram:
      return kSocketErrnos;
    case SimFault::kListen:
      return kListenErrnos;
    case SimFault::kAccept:
      return kAcceptErrnos;
    case SimFault::kConnect:
      return kConnectErrnos;
    case SimFault::kReceive:
      return kReceiveErrnos;
    case SimFault::kSend:
      return kSendErrnos;
    case SimFault::kConnectDatagram:
      return kConnectDatagramErrnos;
    case SimFault::kReceiveDatagram:
      return kReceiveDatagramErrnos;
    case SimFault::kSendDatagram:
      return kSendDatagramErrnos;
    default:
      return {};
  }
}

const char* ToString(SimFault fault) { return kSimFaultNames[static_cast<size_t>(fault)]; }

std::optional<SimFaultSet> ParseSimFaults(std::string_view list) {
  SimFaultSet set;
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), name.size() + 1));
    bool known = false;
    for (size_t i = 0; i < kSimFaults; ++i) {
      if (name != kSimFaultNames[i] && (name != "calls" || SimErrnosOf(static_cast<SimFault>(i)).empty())) continue;
      set.set(i);
      known = true;
    }
    if (!known) return std::nullopt;
  }
  return set;
}

bool SimErrnoKills(int error_number) { return error_number != ENOMEM && error_number != ENOBUFS; }

void SimFaultCounts::Add(const SimFaultCounts& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

uint64_t SimFaultCounts::total() const { return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0}); }

std::string SimFaultCounts::Describe() const {
  std::string text;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", kSimFaultNames[i], counts_[i]);
  }
  return text.empty() ? "none" : text;
}

}  // namespace tunnel::core
