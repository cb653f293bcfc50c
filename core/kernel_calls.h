// The immediate system calls that both kernel backends share.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "core/backend.h"
#include "core/datagram_sender.h"
#include "core/socket_file.h"
#include "core/udp_offload.h"

namespace tunnel::core {

// What an ICMP message (or a full kernel) leaves on a datagram socket, which lives on; nullopt for an error that ends
// it.
[[nodiscard]] std::optional<IoError> PassingDatagramError(int error_number);

// Says `completion`, which received what CoalescedSize() says is several datagrams, one datagram at a time, slices of
// one buffer. All but the last, which is left in it.
void DeliverCoalesced(Operation& operation, Completion& completion, size_t segment_bytes);

// A Backend without its operations: what io_uring and epoll do alike.
class KernelBackend : public Backend {
 public:
  explicit KernelBackend(UdpOffload offload);
  ~KernelBackend() override;

  [[nodiscard]] IoError OpenStream(int family, int& descriptor) override;
  [[nodiscard]] IoError Listen(int descriptor, const SocketAddress& address, bool share_port) override;
  [[nodiscard]] SocketAddress LocalAddress(int descriptor) override;
  [[nodiscard]] SocketAddress PeerAddress(int descriptor) override;
  void SetNoDelay(int descriptor) override;
  void LimitUnsent(int descriptor, unsigned bytes) override;
  [[nodiscard]] IoError OpenDatagram(const SocketAddress& address, int& descriptor) override;
  [[nodiscard]] IoError ConnectDatagram(int descriptor, const SocketAddress& peer) override;
  [[nodiscard]] DatagramsSent SendDatagrams(int descriptor, std::span<const OutgoingDatagram> datagrams) override;
  [[nodiscard]] IoError SetCongestionControl(int descriptor, const std::string& algorithm) override;
  void ShutdownWrite(int descriptor) override;
  void Abort(int descriptor, bool reset) override;
  void Close(int descriptor) override;
  void Detach(int descriptor) override;
  [[nodiscard]] TimePoint Now() override;
  [[nodiscard]] int64_t WallSeconds() override;
  void FillRandom(std::span<uint8_t> out) override;
  void Wake() override;

 protected:
  [[nodiscard]] const UdpOffload& udp_offload() const { return udp_offload_; }
  [[nodiscard]] int wake_descriptor() const { return wake_descriptor_; }
  // Empties the eventfd behind Wake().
  void ConsumeWake() const;

 private:
  const UdpOffload udp_offload_;
  DatagramSender datagram_sender_;
  int wake_descriptor_;
  // Of the Unix sockets that listen, by descriptor.
  absl::flat_hash_map<int, SocketFile> socket_files_;
  // Random bytes are drawn from the kernel in blocks: a mask key a frame must not cost a system call a frame.
  std::array<uint8_t, 1024> random_{};
  size_t random_left_ = 0;
};

}  // namespace tunnel::core
