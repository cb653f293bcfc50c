#include "bench/path/tun_device.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace tunnel::bench {
namespace {

constexpr size_t kTcpHeaderLengthOffset = 12;
constexpr uint8_t kNoGso = 0;  // VIRTIO_NET_HDR_GSO_NONE

// struct virtio_net_hdr: <linux/virtio_net.h> is not C++.
struct VirtioHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t header_bytes;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(VirtioHeader) == 10);

[[noreturn]] void FailTun(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

TunDevice::TunDevice(const std::string& name, bool offload)
    : fd_(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) {
  if (fd_ < 0) FailTun("/dev/net/tun");
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name)) throw std::runtime_error("the name of a device is too long");
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(fd_, TUNSETIFF, &request) != 0) FailTun("making a TUN device");
  const unsigned long offloads = offload ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0;
  if (ioctl(fd_, TUNSETOFFLOAD, offloads) != 0) FailTun("TUNSETOFFLOAD");
}

TunDevice::~TunDevice() { close(fd_); }

size_t TunDevice::Read(std::span<uint8_t> into) const {
  const ssize_t got = read(fd_, into.data(), into.size());
  if (got >= 0) return static_cast<size_t>(got);
  if (errno != EAGAIN && errno != EINTR && errno != EBADFD) FailTun("reading from a TUN device");
  return 0;
}

bool TunDevice::Write(std::span<const uint8_t> packet) const { return write(fd_, packet.data(), packet.size()) >= 0; }

WireSize WireSizeOf(std::span<const uint8_t> packet) {
  VirtioHeader header{};
  if (packet.size() <= sizeof(header)) return {.segments = 1, .bytes = 0};
  std::memcpy(&header, packet.data(), sizeof(header));
  const auto ip = packet.subspan(sizeof(header));
  const size_t tcp = header.csum_start;
  if (header.gso_type == kNoGso || header.gso_size == 0 || tcp + kTcpHeaderLengthOffset >= ip.size()) {
    return {.segments = 1, .bytes = ip.size()};
  }
  const size_t heads = tcp + (ip[tcp + kTcpHeaderLengthOffset] >> 4U) * size_t{4};
  if (heads >= ip.size()) return {.segments = 1, .bytes = ip.size()};
  const size_t payload = ip.size() - heads;
  const size_t segments = (payload + header.gso_size - 1) / header.gso_size;
  return {.segments = segments, .bytes = payload + segments * heads};
}

}  // namespace tunnel::bench
