#include "core/udp_offload.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/limits.h"
#include "core/socket_address.h"

namespace tunnel::core {
namespace {

static_assert(kDatagramControlBytes >= CMSG_SPACE(sizeof(int)), "room for the size of what was coalesced");

constexpr std::array<const char*, 2> kOffloadNames = {"udp-gso", "udp-gro"};

// A UDP socket on loopback that closes itself; -1 where there is none.
class ProbeSocket {
 public:
  ProbeSocket() : descriptor_(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    const SocketAddress any = SocketAddress::V4({127, 0, 0, 1}, 0);
    if (descriptor_ < 0 || bind(descriptor_, any.kernel(), any.kernel_length()) != 0) return;
    socklen_t length = sizeof(address_);
    bound_ = getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address_), &length) == 0;
  }
  ProbeSocket(const ProbeSocket&) = delete;
  ProbeSocket& operator=(const ProbeSocket&) = delete;
  ~ProbeSocket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  [[nodiscard]] bool ConnectTo(const ProbeSocket& peer) const {
    return bound_ && peer.bound_ &&
           connect(descriptor_, reinterpret_cast<const sockaddr*>(&peer.address_), sizeof(peer.address_)) == 0;
  }
  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
  sockaddr_in address_{};
  bool bound_ = false;
};

constexpr size_t kProbeSegmentBytes = 100;
constexpr size_t kProbeBytes = 2 * kProbeSegmentBytes + 1;  // three datagrams, the last a short one
constexpr int kProbePatienceMs = 200;

bool SendSegmented(const ProbeSocket& from) {
  std::array<uint8_t, kProbeBytes> bytes{};
  iovec vector{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  SegmentControl control;
  control.Attach(message, kProbeSegmentBytes);
  return sendmsg(from.descriptor(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

// How many bytes the next message has, -1 when none comes; `coalesced` is what CoalescedSize() says of it.
ssize_t ReceiveProbe(const ProbeSocket& at, size_t& coalesced) {
  pollfd waiting{.fd = at.descriptor(), .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, kProbePatienceMs) != 1) return -1;
  std::array<uint8_t, 2 * kProbeBytes> bytes{};
  iovec vector{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<uint8_t, kDatagramControlBytes> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = recvmsg(at.descriptor(), &message, 0);
  coalesced = CoalescedSize(message);
  return got;
}

bool SegmentationWorks() {
  const ProbeSocket from;
  const ProbeSocket to;
  if (!from.ConnectTo(to) || !SendSegmented(from)) return false;
  for (const size_t expected : {kProbeSegmentBytes, kProbeSegmentBytes, size_t{1}}) {
    size_t coalesced = 0;
    if (ReceiveProbe(to, coalesced) != static_cast<ssize_t>(expected) || coalesced != 0) return false;
  }
  return true;
}

bool CoalescingWorks() {
  const ProbeSocket from;
  const ProbeSocket to;
  if (!from.ConnectTo(to) || !EnableCoalescing(to.descriptor()) || !SendSegmented(from)) return false;
  size_t coalesced = 0;
  return ReceiveProbe(to, coalesced) == static_cast<ssize_t>(kProbeBytes) && coalesced == kProbeSegmentBytes;
}

}  // namespace

std::string UdpOffload::Describe() const {
  std::string text = segmentation ? kOffloadNames[0] : "";
  if (coalescing) text += std::string(text.empty() ? "" : " ") + kOffloadNames[1];
  return text;
}

std::span<const char* const> UdpOffloadNames() { return kOffloadNames; }

UdpOffload ProbeUdpOffload(const std::vector<std::string>& disabled) {
  const auto wanted = [&](std::string_view name) {
    return std::find(disabled.begin(), disabled.end(), name) == disabled.end();
  };
  return {.segmentation = wanted(kOffloadNames[0]) && SegmentationWorks(),
          .coalescing = wanted(kOffloadNames[1]) && CoalescingWorks()};
}

bool EnableCoalescing(int descriptor) {
  const int on = 1;
  return setsockopt(descriptor, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;
}

size_t CoalescedSize(const msghdr& message) {
  // CMSG_NXTHDR writes nothing, but takes no const.
  auto& header = const_cast<msghdr&>(message);
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_UDP || control->cmsg_type != UDP_GRO) continue;
    if (control->cmsg_len < CMSG_LEN(sizeof(int))) continue;
    int size = 0;
    std::memcpy(&size, CMSG_DATA(control), sizeof(size));
    if (size > 0) return static_cast<size_t>(size);
  }
  return 0;
}

void SegmentControl::Attach(msghdr& message, size_t segment_bytes) {
  message.msg_control = bytes_.data();
  message.msg_controllen = bytes_.size();
  cmsghdr* const control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_UDP;
  control->cmsg_type = UDP_SEGMENT;
  const auto size = static_cast<uint16_t>(segment_bytes);
  control->cmsg_len = CMSG_LEN(sizeof(size));
  std::memcpy(CMSG_DATA(control), &size, sizeof(size));
}

}  // namespace tunnel::core
