#include "core/kernel_calls.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/limits.h"

namespace tunnel::core {
namespace {

void SetInt(int descriptor, int level, int option, int value) {
  // Best effort: an option the kernel lacks leaves its default, which is correct if less fast.
  (void)setsockopt(descriptor, level, option, &value, sizeof(value));
}

SocketAddress AddressBy(int (*get)(int, sockaddr*, socklen_t*), int descriptor) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (get(descriptor, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&storage), length);
}

}  // namespace

std::optional<IoError> PassingDatagramError(int error_number) {
  switch (error_number) {
    case ECONNREFUSED:
    case ENOPROTOOPT:
    case EPROTO:
      return IoError::kRefused;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case ENONET:
    case ETIMEDOUT:
      return IoError::kUnreachable;
    case EACCES:
    case EPERM:
      return IoError::kDenied;
    case ENOMEM:
    case ENOBUFS:
      return IoError::kNoMemory;
    case EMSGSIZE:
    case EOPNOTSUPP:
      return IoError::kOther;
    default:
      return std::nullopt;
  }
}

void DeliverCoalesced(Operation& operation, Completion& completion, size_t segment_bytes) {
  while (completion.data.size() > segment_bytes) {
    Completion part{.more = true,
                    .bytes = segment_bytes,
                    .data = completion.data.Share(0, segment_bytes),
                    .source = completion.source};
    completion.data.RemovePrefix(segment_bytes);
    operation.on_complete(operation, part);
  }
  completion.bytes = completion.data.size();
}

KernelBackend::KernelBackend(UdpOffload offload)
    : udp_offload_(offload),
      datagram_sender_(offload.segmentation),
      wake_descriptor_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  TUNNEL_CHECK(wake_descriptor_ >= 0);
}

KernelBackend::~KernelBackend() { close(wake_descriptor_); }

IoError KernelBackend::OpenStream(int family, int& descriptor) {
  descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return descriptor >= 0 ? IoError::kOk : FromErrno(errno);
}

IoError KernelBackend::Listen(int descriptor, const SocketAddress& address, bool share_port) {
  if (address.is_unix()) {
    SocketFile file;
    const IoError error = BindSocketFile(descriptor, address, file);
    if (error != IoError::kOk) return error;
    socket_files_.emplace(descriptor, std::move(file));
    return IoError::kOk;
  }
  SetInt(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
  if (share_port) SetInt(descriptor, SOL_SOCKET, SO_REUSEPORT, 1);
  if (address.is_v6()) SetInt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (bind(descriptor, address.kernel(), address.kernel_length()) != 0) return FromErrno(errno);
  if (listen(descriptor, kListenBacklog) != 0) return FromErrno(errno);
  return IoError::kOk;
}

SocketAddress KernelBackend::LocalAddress(int descriptor) { return AddressBy(&getsockname, descriptor); }

SocketAddress KernelBackend::PeerAddress(int descriptor) { return AddressBy(&getpeername, descriptor); }

void KernelBackend::SetNoDelay(int descriptor) { SetInt(descriptor, IPPROTO_TCP, TCP_NODELAY, 1); }

void KernelBackend::LimitUnsent(int descriptor, unsigned bytes) {
  SetInt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<int>(bytes));
}

IoError KernelBackend::OpenDatagram(const SocketAddress& address, int& descriptor) {
  descriptor = socket(address.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return FromErrno(errno);
  SetInt(descriptor, SOL_SOCKET, SO_RCVBUF, kDatagramSocketBufferBytes);
  SetInt(descriptor, SOL_SOCKET, SO_SNDBUF, kDatagramSocketBufferBytes);
  if (udp_offload_.coalescing) (void)EnableCoalescing(descriptor);
  if (address.is_v6()) SetInt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (bind(descriptor, address.kernel(), address.kernel_length()) == 0) return IoError::kOk;
  const IoError error = FromErrno(errno);
  close(std::exchange(descriptor, -1));
  return error;
}

IoError KernelBackend::ConnectDatagram(int descriptor, const SocketAddress& peer) {
  return connect(descriptor, peer.kernel(), peer.kernel_length()) == 0 ? IoError::kOk : FromErrno(errno);
}

DatagramsSent KernelBackend::SendDatagrams(int descriptor, std::span<const OutgoingDatagram> datagrams) {
  return datagram_sender_.Send(descriptor, datagrams);
}

IoError KernelBackend::SetCongestionControl(int descriptor, const std::string& algorithm) {
  const auto length = static_cast<socklen_t>(algorithm.size());
  if (setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, algorithm.data(), length) != 0) return FromErrno(errno);
  return IoError::kOk;
}

void KernelBackend::ShutdownWrite(int descriptor) { (void)shutdown(descriptor, SHUT_WR); }

void KernelBackend::Abort(int descriptor, bool reset) {
  if (reset) {
    const linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  } else {
    (void)shutdown(descriptor, SHUT_RDWR);
  }
}

void KernelBackend::Close(int descriptor) {
  if (const auto file = socket_files_.find(descriptor); file != socket_files_.end()) {
    RemoveSocketFile(file->second);
    socket_files_.erase(file);
  }
  datagram_sender_.Forget(descriptor);
  TUNNEL_CHECK(close(descriptor) == 0 || errno != EBADF);
}

void KernelBackend::Detach(int descriptor) { datagram_sender_.Forget(descriptor); }

TimePoint KernelBackend::Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return TimePoint(std::chrono::seconds(now.tv_sec) + Duration(now.tv_nsec));
}

int64_t KernelBackend::WallSeconds() { return time(nullptr); }

void KernelBackend::FillRandom(std::span<uint8_t> out) {
  while (!out.empty()) {
    if (random_left_ == 0) {
      size_t filled = 0;
      while (filled < random_.size()) {
        const ssize_t got = getrandom(random_.data() + filled, random_.size() - filled, 0);
        TUNNEL_CHECK(got > 0 || errno == EINTR);
        if (got > 0) filled += static_cast<size_t>(got);
      }
      random_left_ = random_.size();
    }
    const size_t take = std::min(out.size(), random_left_);
    uint8_t* from = random_.data() + (random_.size() - random_left_);
    std::memcpy(out.data(), from, take);
    std::memset(from, 0, take);  // what was handed out is not kept
    random_left_ -= take;
    out = out.subspan(take);
  }
}

void KernelBackend::Wake() {
  const uint64_t one = 1;
  // EAGAIN means that the counter is full, so the sleeper is woken anyway.
  (void)!write(wake_descriptor_, &one, sizeof(one));
}

void KernelBackend::ConsumeWake() const {
  uint64_t count = 0;
  (void)!read(wake_descriptor_, &count, sizeof(count));
}

}  // namespace tunnel::core
