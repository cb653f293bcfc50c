// The epoll backend: the semantics of completions by readiness, for kernels and container runtimes that refuse
// io_uring.
//
// Every socket is registered once, edge-triggered for both directions, when its first operation starts. Operations
// that may make progress wait in `ready_`; Poll() tries each, and one that meets EAGAIN stays with its descriptor until
// the next edge.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <vector>

#include "core/kernel_calls.h"

namespace tunnel::core {
namespace {

constexpr int kEventsPerWait = 256;
// Bytes one descriptor may receive, and connections one listener may accept, before others have their turn.
constexpr int kReceivesPerTurn = 4;
constexpr int kAcceptsPerTurn = 64;
constexpr size_t kDatagramsPerTurn = 64;
// A receive goes on in the buffer it used before as long as this much of it is free.
constexpr size_t kMinReceiveRoom = size_t{16} * 1024;

class EpollBackend final : public KernelBackend {
 public:
  EpollBackend(BufferPool& pool, UdpOffload offload) : KernelBackend(offload), pool_(pool) {}
  ~EpollBackend() override {
    receive_buffer_.Reset();
    if (epoll_ >= 0) close(epoll_);
  }

  absl::Status Open() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return ToStatus(FromErrno(errno), "epoll_create1");
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = wake_descriptor();
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_descriptor(), &event) != 0) {
      return ToStatus(FromErrno(errno), "epoll_ctl");
    }
    return absl::OkStatus();
  }

  [[nodiscard]] std::string Describe() const override {
    const std::string offload = udp_offload().Describe();
    return offload.empty() ? "epoll (edge-triggered)" : fmt::format("epoll (edge-triggered {})", offload);
  }
  [[nodiscard]] size_t receive_buffers_in_use() const override { return 0; }

  void Start(Operation& operation) override;
  void Cancel(Operation& operation) override;
  void Close(int descriptor) override;
  void Detach(int descriptor) override;
  void Poll(TimePoint deadline) override;

 private:
  // What is known of one descriptor. `in` and `out` are the operations waiting for each direction.
  struct Descriptor {
    bool registered = false;
    Operation* in = nullptr;
    Operation* out = nullptr;
    Operation* poll = nullptr;
  };

  Descriptor& At(int descriptor) {
    const auto index = static_cast<size_t>(descriptor);
    if (index >= descriptors_.size()) descriptors_.resize(index + 64);
    return descriptors_[index];
  }
  void MakeReady(Operation* operation) {
    if (operation == nullptr || operation->ready_) return;
    operation->ready_ = true;
    ready_.PushBack(*operation);
  }
  void Finish(Operation& operation, Completion& completion);
  // Each returns true when the operation must be tried again in the next turn without waiting for an edge.
  bool Try(Operation& operation);
  bool TryAccept(Operation& operation);
  bool TryReceive(Operation& operation);
  bool TryReceiveDatagram(Operation& operation);
  // Makes `receive_buffer_` hold `room` or more.
  void TakeReceiveBuffer(size_t room);
  void TrySend(Operation& operation);
  void TryConnect(Operation& operation);
  void StartPoll(Operation& operation);
  void OnEvents(int descriptor, uint32_t events);

  BufferPool& pool_;
  int epoll_ = -1;
  std::vector<Descriptor> descriptors_;
  IntrusiveList<Operation, BackendList> ready_;
  Slice receive_buffer_;
};

void EpollBackend::Start(Operation& operation) {
  TUNNEL_CHECK(!operation.started_);
  operation.started_ = true;
  operation.cancelled_ = false;
  operation.ready_events_ = 0;
  Descriptor& descriptor = At(operation.descriptor);
  if (operation.kind == OperationKind::kPoll) {
    TUNNEL_CHECK(descriptor.poll == nullptr);
    descriptor.poll = &operation;
    StartPoll(operation);
    return;
  }
  const bool inward = operation.kind == OperationKind::kAccept || operation.kind == OperationKind::kReceive ||
                      operation.kind == OperationKind::kReceiveDatagram;
  Operation*& slot = inward ? descriptor.in : descriptor.out;
  TUNNEL_CHECK(slot == nullptr);
  slot = &operation;
  MakeReady(&operation);
}

// Polled descriptors belong to libraries that close them by themselves, so they are registered level-triggered and one
// shot for each poll, and nothing is assumed to be left from the last time.
void EpollBackend::StartPoll(Operation& operation) {
  epoll_event event{};
  event.events = operation.poll_events | EPOLLONESHOT;
  event.data.fd = operation.descriptor;
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, operation.descriptor, &event) == 0) return;
  if (errno == ENOENT && epoll_ctl(epoll_, EPOLL_CTL_ADD, operation.descriptor, &event) == 0) return;
  MakeReady(&operation);  // completes with an error in the next turn
}

void EpollBackend::Cancel(Operation& operation) {
  if (!operation.started_ || operation.cancelled_) return;
  operation.cancelled_ = true;
  if (operation.kind == OperationKind::kPoll) {
    // At once: the descriptor's owner may close it next, and its number may be another's by the next turn.
    (void)epoll_ctl(epoll_, EPOLL_CTL_DEL, operation.descriptor, nullptr);
    At(operation.descriptor).poll = nullptr;
  }
  MakeReady(&operation);
}

void EpollBackend::Close(int descriptor) {
  Descriptor& state = At(descriptor);
  TUNNEL_CHECK(state.in == nullptr && state.out == nullptr && state.poll == nullptr);
  state = {};
  KernelBackend::Close(descriptor);  // leaves the epoll set by itself
}

void EpollBackend::Detach(int descriptor) {
  Descriptor& state = At(descriptor);
  TUNNEL_CHECK(state.in == nullptr && state.out == nullptr && state.poll == nullptr);
  if (state.registered) (void)epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
  state = {};
}

void EpollBackend::Finish(Operation& operation, Completion& completion) {
  if (!completion.more) {
    Descriptor& descriptor = At(operation.descriptor);
    for (Operation** slot : {&descriptor.in, &descriptor.out, &descriptor.poll}) {
      if (*slot == &operation) *slot = nullptr;
    }
    operation.started_ = false;
  }
  operation.on_complete(operation, completion);
}

bool EpollBackend::Try(Operation& operation) {
  if (operation.cancelled_) {
    Completion completion{.error = IoError::kCancelled};
    Finish(operation, completion);
    return false;
  }
  if (operation.kind == OperationKind::kPoll) {
    Completion completion{.events = std::exchange(operation.ready_events_, 0)};
    if (completion.events == 0) completion.error = IoError::kOther;  // it could not be registered
    Finish(operation, completion);
    return false;
  }
  Descriptor& descriptor = At(operation.descriptor);
  if (!descriptor.registered) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.fd = operation.descriptor;
    // A connecting socket is registered after connect(): before, it reports a hang-up.
    if (operation.kind != OperationKind::kConnect) {
      TUNNEL_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, operation.descriptor, &event) == 0);
      descriptor.registered = true;
    }
  }
  switch (operation.kind) {
    case OperationKind::kAccept:
      return TryAccept(operation);
    case OperationKind::kReceive:
      return TryReceive(operation);
    case OperationKind::kReceiveDatagram:
      return TryReceiveDatagram(operation);
    case OperationKind::kSend:
      TrySend(operation);
      return false;
    case OperationKind::kConnect:
      TryConnect(operation);
      return false;
    case OperationKind::kPoll:
      break;
  }
  return false;
}

bool EpollBackend::TryAccept(Operation& operation) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    const int descriptor = accept4(operation.descriptor, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) {
      Completion completion{.more = true, .descriptor = descriptor};
      Finish(operation, completion);
      if (!operation.started_ || operation.cancelled_) return false;
      continue;
    }
    if (errno == EAGAIN) return false;
    // A connection that ended before it was accepted is that peer's affair, not the listener's.
    if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
    Completion completion{.error = FromErrno(errno)};
    Finish(operation, completion);
    return false;
  }
  return true;
}

void EpollBackend::TakeReceiveBuffer(size_t room) {
  const Buffer* buffer = receive_buffer_.buffer();
  if (buffer != nullptr && buffer->references == 1) receive_buffer_.Reset();  // consumed already: begin it anew
  if (receive_buffer_.size() < room) receive_buffer_ = pool_.Allocate(kReceiveBufferBytes);
}

bool EpollBackend::TryReceive(Operation& operation) {
  for (int i = 0; i < kReceivesPerTurn; ++i) {
    TakeReceiveBuffer(kMinReceiveRoom);
    const size_t room = receive_buffer_.size();
    const ssize_t got = recv(operation.descriptor, receive_buffer_.data(), room, 0);
    if (got < 0) {
      if (errno == EAGAIN) return false;
      if (errno == EINTR) continue;
      Completion completion{.error = FromErrno(errno)};
      Finish(operation, completion);
      return false;
    }
    const auto bytes = static_cast<size_t>(got);
    Completion completion{.more = bytes > 0, .bytes = bytes};
    if (bytes > 0) {
      completion.data = receive_buffer_.Share(0, bytes);
      receive_buffer_.RemovePrefix(bytes);
    }
    Finish(operation, completion);
    if (bytes == 0 || !operation.started_ || operation.cancelled_) return false;
  }
  return true;
}

bool EpollBackend::TryReceiveDatagram(Operation& operation) {
  DatagramScratch& scratch = *operation.scratch;
  for (size_t done = 0; done < kDatagramsPerTurn; ++done) {
    TakeReceiveBuffer(kMaxDatagramBytes);  // of which most is left, and used anew, when nobody keeps the last one
    scratch.vector = {receive_buffer_.data(), receive_buffer_.size()};
    scratch.message = {};
    scratch.message.msg_name = &scratch.source;
    scratch.message.msg_namelen = sizeof(scratch.source);
    scratch.message.msg_iov = &scratch.vector;
    scratch.message.msg_iovlen = 1;
    scratch.message.msg_control = scratch.control.data();
    scratch.message.msg_controllen = scratch.control.size();
    const ssize_t got = recvmsg(operation.descriptor, &scratch.message, 0);
    if (got < 0) {
      if (errno == EAGAIN) return false;
      if (errno == EINTR) continue;
      const std::optional<IoError> passing = PassingDatagramError(errno);
      Completion completion{.error = passing.has_value() ? *passing : FromErrno(errno), .more = passing.has_value()};
      Finish(operation, completion);
      if (!operation.started_ || operation.cancelled_) return false;
      continue;
    }
    const auto bytes = static_cast<size_t>(got);
    const SocketAddress source =
        SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&scratch.source), scratch.message.msg_namelen);
    Completion completion{.more = true,
                          .bytes = bytes,
                          .data = receive_buffer_.Share(0, bytes),
                          .source = &source,
                          .truncated = (scratch.message.msg_flags & MSG_TRUNC) != 0};
    receive_buffer_.RemovePrefix(bytes);
    if (const size_t segment = CoalescedSize(scratch.message); segment > 0 && !completion.truncated) {
      done += bytes / segment;
      DeliverCoalesced(operation, completion, segment);
    }
    Finish(operation, completion);
    if (!operation.started_ || operation.cancelled_) return false;
  }
  return true;
}

void EpollBackend::TrySend(Operation& operation) {
  ssize_t sent = 0;
  do {
    sent = sendmsg(operation.descriptor, operation.message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == EAGAIN) return;
  Completion completion;
  if (sent < 0) {
    completion.error = FromErrno(errno);
  } else {
    completion.bytes = static_cast<size_t>(sent);
  }
  Finish(operation, completion);
}

void EpollBackend::TryConnect(Operation& operation) {
  Descriptor& descriptor = At(operation.descriptor);
  Completion completion;
  if (!descriptor.registered) {
    const int result = connect(operation.descriptor, operation.address->kernel(), operation.address->kernel_length());
    const int error = result == 0 ? 0 : errno;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.fd = operation.descriptor;
    TUNNEL_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, operation.descriptor, &event) == 0);
    descriptor.registered = true;
    if (error == EINPROGRESS || error == EINTR) return;
    // Of a Unix socket only: its backlog is full, and readiness would never be told.
    completion.error = error == EAGAIN ? IoError::kNoMemory : FromErrno(error);
  } else {
    int error = 0;
    socklen_t length = sizeof(error);
    (void)getsockopt(operation.descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0) {
      // An edge without a result: still connecting.
      sockaddr_storage peer{};
      socklen_t peer_length = sizeof(peer);
      if (getpeername(operation.descriptor, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) return;
    }
    completion.error = FromErrno(error);
  }
  Finish(operation, completion);
}

void EpollBackend::OnEvents(int descriptor, uint32_t events) {
  if (descriptor == wake_descriptor()) {
    ConsumeWake();
    return;
  }
  Descriptor& state = At(descriptor);
  if (state.poll != nullptr) {
    state.poll->ready_events_ = events;
    MakeReady(state.poll);
    return;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) MakeReady(state.in);
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) MakeReady(state.out);
}

void EpollBackend::Poll(TimePoint deadline) {
  epoll_event events[kEventsPerWait];
  int timeout_ms = -1;
  if (!ready_.empty()) {
    timeout_ms = 0;
  } else if (deadline != kNever) {
    const Duration left = deadline - Now();
    // Rounded up, or the last part of a millisecond would be spent in a loop.
    const int64_t left_ms = left.count() <= 0 ? 0 : std::chrono::ceil<std::chrono::milliseconds>(left).count();
    timeout_ms = static_cast<int>(std::min<int64_t>(left_ms, std::numeric_limits<int>::max()));
  }
  const int count = epoll_wait(epoll_, events, kEventsPerWait, timeout_ms);
  AfterWait();
  for (int i = 0; i < count; ++i) OnEvents(events[i].data.fd, events[i].events);

  // Only what is ready now: operations started by completions wait for the next turn.
  IntrusiveList<Operation, BackendList> batch;
  batch.Append(ready_);
  while (!batch.empty()) {
    Operation& operation = batch.PopFront();
    operation.ready_ = false;
    if (Try(operation)) MakeReady(&operation);
  }
  // A block that nobody else looks into is not kept while idle; the pool has it again as cheaply.
  if (receive_buffer_.buffer() != nullptr && receive_buffer_.buffer()->references == 1) receive_buffer_.Reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeEpollBackend(BufferPool& pool, const BackendOptions& options) {
  auto backend = std::make_unique<EpollBackend>(pool, ProbeUdpOffload(options.disabled_features));
  if (absl::Status status = backend->Open(); !status.ok()) return status;
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace tunnel::core
