// A TUN device: what the kernel routes into it is read, what is written comes out of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tunnel::bench {

// It exists as long as this object. Not blocking. Packets are IP packets behind a virtio_net_hdr.
class TunDevice {
 public:
  // Made in this process's network namespace, down and without an address. With `offload` the kernel hands over TCP
  // segments as it sends them, up to 64 KiB in one piece, and takes them so. Throws std::system_error.
  TunDevice(const std::string& name, bool offload);
  ~TunDevice();
  TunDevice(const TunDevice&) = delete;
  TunDevice& operator=(const TunDevice&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  // Returns 0 when there is nothing to read now. Throws std::system_error.
  [[nodiscard]] size_t Read(std::span<uint8_t> into) const;
  // False when the kernel does not take it: the device is down.
  [[nodiscard]] bool Write(std::span<const uint8_t> packet) const;

 private:
  int fd_ = -1;
};

struct WireSize {
  uint64_t segments = 0;
  uint64_t bytes = 0;
};
// What a packet as it is read is on a wire: IP packets of the size that its path allows, each with its headers.
[[nodiscard]] WireSize WireSizeOf(std::span<const uint8_t> packet);

}  // namespace tunnel::bench
