#include "core/datagram_sender.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tunnel::core {
namespace {

bool SameAddress(const OutgoingDatagram& a, const OutgoingDatagram& b) {
  if (a.to == nullptr || b.to == nullptr) return a.to == b.to;
  return a.to == b.to || *a.to == *b.to;
}

// How many datagrams at the start of `datagrams` can be one message.
size_t RunLength(std::span<const OutgoingDatagram> datagrams, size_t largest_segment) {
  const OutgoingDatagram& first = datagrams.front();
  const size_t segment = first.payload.size();
  if (segment == 0 || segment > largest_segment) return 1;
  size_t bytes = segment;
  size_t count = 1;
  while (count < std::min(datagrams.size(), kSegmentsPerMessage)) {
    const OutgoingDatagram& next = datagrams[count];
    const size_t size = next.payload.size();
    if (size == 0 || size > segment || bytes + size > kSegmentedMessageBytes || !SameAddress(first, next)) break;
    bytes += size;
    ++count;
    if (size < segment) break;  // only the last may be shorter
  }
  return count;
}

}  // namespace

DatagramSender::DatagramSender(bool segmentation, SendMessages send) : segmentation_(segmentation), send_(send) {}

size_t DatagramSender::LargestSegment(int descriptor) const {
  if (!segmentation_) return 0;
  const auto known = largest_segment_.find(descriptor);
  return known == largest_segment_.end() ? kSegmentedMessageBytes : known->second;
}

size_t DatagramSender::Arrange(std::span<const OutgoingDatagram> datagrams, size_t largest_segment) {
  size_t messages = 0;
  for (size_t at = 0; at < datagrams.size(); ++messages) {
    const size_t count = RunLength(datagrams.subspan(at), largest_segment);
    for (size_t i = at; i < at + count; ++i) {
      // The kernel only reads them; its structures have no const.
      vectors_[i] = {const_cast<uint8_t*>(datagrams[i].payload.data()), datagrams[i].payload.size()};
    }
    messages_[messages] = {};
    msghdr& header = messages_[messages].msg_hdr;
    header.msg_iov = &vectors_[at];
    header.msg_iovlen = count;
    if (const SocketAddress* const to = datagrams[at].to; to != nullptr) {
      header.msg_name = const_cast<sockaddr*>(to->kernel());
      header.msg_namelen = to->kernel_length();
    }
    if (count > 1) controls_[messages].Attach(header, datagrams[at].payload.size());
    at_[messages] = at;
    at += count;
    at_[messages + 1] = at;
  }
  return messages;
}

bool DatagramSender::SendSingly(int descriptor, std::span<const OutgoingDatagram> datagrams, int error,
                                DatagramsSent& result) {
  const size_t segment = datagrams.front().payload.size();
  const size_t sent_before = result.sent;
  bool room = true;
  for (size_t i = 0; room && i < datagrams.size(); ++i) {
    room = SendBatch(descriptor, datagrams.subspan(i, 1), result);
    // The first went where the message of all did not: it was not the address's fault, so it was the segmentation's.
    if (i > 0 || result.sent == sent_before) continue;
    if (error == EIO) largest_segment_[descriptor] = 0;  // no checksum offload on this way out
    if (error == EINVAL || error == EMSGSIZE) {          // more than the path takes in one piece
      largest_segment_[descriptor] = std::min(LargestSegment(descriptor), segment - 1);
    }
  }
  return room;
}

bool DatagramSender::SendBatch(int descriptor, std::span<const OutgoingDatagram> datagrams, DatagramsSent& result) {
  size_t messages = Arrange(datagrams, LargestSegment(descriptor));
  bool retried = false;
  for (size_t done = 0; done < messages;) {
    const int sent =
        send_(descriptor, messages_.data() + done, static_cast<unsigned>(messages - done), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      retried = false;
      for (size_t i = done; i < done + static_cast<size_t>(sent); ++i) {
        result.bytes += messages_[i].msg_len;
        result.sent += at_[i + 1] - at_[i];
      }
      done += static_cast<size_t>(sent);
      continue;
    }
    if (errno == EINTR) continue;
    // What does not fit now would not fit at once either.
    if (errno == EAGAIN) return false;
    // Every other error is this message's, or it tells of an ICMP message that answered an earlier one: once told,
    // that is gone, and this one can go.
    if (!std::exchange(retried, true)) continue;
    retried = false;
    const size_t first = at_[done];
    const size_t behind = at_[done + 1];
    if (behind - first == 1) {
      ++done;
      continue;
    }
    // Sending the parts uses what is arranged here, so the rest is arranged anew.
    const int error = errno;
    if (!SendSingly(descriptor, datagrams.subspan(first, behind - first), error, result)) return false;
    datagrams = datagrams.subspan(behind);
    messages = Arrange(datagrams, LargestSegment(descriptor));
    done = 0;
  }
  return true;
}

DatagramsSent DatagramSender::Send(int descriptor, std::span<const OutgoingDatagram> datagrams) {
  DatagramsSent result;
  while (!datagrams.empty()) {
    const size_t count = std::min(datagrams.size(), kDatagramsPerSend);
    if (!SendBatch(descriptor, datagrams.first(count), result)) break;
    datagrams = datagrams.subspan(count);
  }
  return result;
}

}  // namespace tunnel::core
