// Handing datagrams to the kernel: as few messages in as few calls as it takes.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <span>

#include "core/backend.h"
#include "core/limits.h"
#include "core/udp_offload.h"

namespace tunnel::core {

// Sends for all UDP sockets of one core. With `segmentation`, datagrams that follow each other to the same address and
// are of one size (the last may be shorter) leave as one message that the kernel or the network card cuts. What a way
// out cannot do so is sent again one by one, at once, and remembered for the socket. Owner core only.
class DatagramSender {
 public:
  using SendMessages = int (*)(int descriptor, mmsghdr* messages, unsigned count, int flags);

  // `send` stands for sendmmsg in tests.
  explicit DatagramSender(bool segmentation, SendMessages send = &::sendmmsg);
  DatagramSender(const DatagramSender&) = delete;
  DatagramSender& operator=(const DatagramSender&) = delete;

  // As Backend::SendDatagrams.
  [[nodiscard]] DatagramsSent Send(int descriptor, std::span<const OutgoingDatagram> datagrams);
  // The descriptor is closed.
  void Forget(int descriptor) { largest_segment_.erase(descriptor); }

 private:
  // Arranges `datagrams` (at most kDatagramsPerSend) into messages_, which hold at_[i] to at_[i + 1]; returns how many.
  size_t Arrange(std::span<const OutgoingDatagram> datagrams, size_t largest_segment);
  // Sends `datagrams`, at most kDatagramsPerSend. False when the socket is full.
  bool SendBatch(int descriptor, std::span<const OutgoingDatagram> datagrams, DatagramsSent& result);
  // Sends those of a message that failed with `error` one by one. False when the socket is full.
  bool SendSingly(int descriptor, std::span<const OutgoingDatagram> datagrams, int error, DatagramsSent& result);
  [[nodiscard]] size_t LargestSegment(int descriptor) const;

  const bool segmentation_;
  const SendMessages send_;
  // The largest datagram that may be part of a segmented message, of sockets that were seen to have a limit.
  absl::flat_hash_map<int, size_t> largest_segment_;
  std::array<mmsghdr, kDatagramsPerSend> messages_{};
  std::array<iovec, kDatagramsPerSend> vectors_{};
  std::array<size_t, kDatagramsPerSend + 1> at_{};
  std::array<SegmentControl, kDatagramsPerSend> controls_;
};

}  // namespace tunnel::core
