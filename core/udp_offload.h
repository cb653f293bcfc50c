// What the kernel does for UDP beyond one datagram a message: segmentation (GSO) when sending, coalescing (GRO) when
// receiving.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tunnel::core {

struct UdpOffload {
  bool segmentation = true;  // UDP_SEGMENT (4.18): one message leaves as many datagrams
  bool coalescing = true;    // UDP_GRO (5.0): many datagrams arrive as one message

  // "udp-gso udp-gro": those in use.
  [[nodiscard]] std::string Describe() const;
};

// The names that switch each off, for flag checking and help.
[[nodiscard]] std::span<const char* const> UdpOffloadNames();

// Both, less what `disabled` names and what does not work when it is tried over loopback.
[[nodiscard]] UdpOffload ProbeUdpOffload(const std::vector<std::string>& disabled);

// Asks for coalesced datagrams on a socket. False when the kernel will not.
bool EnableCoalescing(int descriptor);
// The size of the datagrams that the received `message` is made of (the last may be shorter), from its control
// messages; 0 when it is a single one.
[[nodiscard]] size_t CoalescedSize(const msghdr& message);

// The control message that cuts what is sent with it into datagrams of `segment_bytes`, as long as it lives.
class SegmentControl {
 public:
  // Adds it to `message`.
  void Attach(msghdr& message, size_t segment_bytes);

 private:
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(uint16_t))> bytes_{};
};

}  // namespace tunnel::core
