#include "bench/load/blocks.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace tunnel::bench {
namespace {

using Body = std::array<uint8_t, kBlockBytes - sizeof(BlockHead)>;

// Every stream of the process sends from the one and receives into the other: the content is of no interest.
Body& Source() {
  static Body body = [] {
    Body bytes;
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>((i * 2654435761U) >> 24);
    return bytes;
  }();
  return body;
}

Body& Discard() {
  static Body body;
  return body;
}

// What is left of a block from `offset` on, as the parts of a vectored call.
int Remainder(BlockHead& head, Body& body, size_t offset, std::array<iovec, 2>& parts) {
  if (offset >= sizeof(head)) {
    const size_t done = offset - sizeof(head);
    parts[0] = {body.data() + done, body.size() - done};
    return 1;
  }
  parts[0] = {reinterpret_cast<uint8_t*>(&head) + offset, sizeof(head) - offset};
  parts[1] = {body.data(), body.size()};
  return 2;
}

}  // namespace

Progress BlockSender::Send(int fd, bool finish) {
  if (offset_ == 0) head_.last = finish || head_.sequence + 1 >= kStreamLimitBlocks ? 1 : 0;
  std::array<iovec, 2> parts;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = static_cast<size_t>(Remainder(head_, Source(), offset_, parts));
  const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EINTR) return Progress::kMore;
    throw std::system_error(errno, std::generic_category(), "sending a block");
  }
  offset_ += static_cast<size_t>(sent);
  total_bytes_ += static_cast<uint64_t>(sent);
  if (offset_ < kBlockBytes) return Progress::kMore;
  offset_ = 0;
  if (head_.last != 0) return Progress::kLast;
  ++head_.sequence;
  return Progress::kMore;
}

Progress BlockReceiver::Receive(int fd) {
  std::array<iovec, 2> parts;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = static_cast<size_t>(Remainder(head_, Discard(), offset_, parts));
  const ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT);
  if (received < 0) {
    if (errno == EAGAIN || errno == EINTR) return Progress::kMore;
    throw std::system_error(errno, std::generic_category(), "receiving a block");
  }
  if (received == 0) {
    throw std::runtime_error(fmt::format("the stream ended after {} bytes, before its last block", total_bytes_));
  }
  const bool head_was_known = offset_ >= sizeof(head_);
  offset_ += static_cast<size_t>(received);
  total_bytes_ += static_cast<uint64_t>(received);
  if (!head_was_known && offset_ >= sizeof(head_) && (head_.magic != kBlockMagic || head_.sequence != due_)) {
    throw std::runtime_error(fmt::format("block {} was due, and {:#x} {} came: bytes were lost or displaced", due_,
                                         head_.magic, head_.sequence));
  }
  if (offset_ < kBlockBytes) return Progress::kMore;
  offset_ = 0;
  ++due_;
  return head_.last != 0 ? Progress::kLast : Progress::kMore;
}

}  // namespace tunnel::bench
