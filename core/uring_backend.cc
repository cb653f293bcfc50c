// The io_uring backend: one ring, one io_uring_enter a turn.
//
// Receives take buffers from a ring of provided buffers and hand them out as slices; the buffer goes back to the kernel
// when its last slice is gone. While many are out, received bytes are copied to the pool instead, so that consumers
// that hold slices never leave the kernel without buffers. A receive that met an empty ring waits in its list and is
// armed again when enough buffers are back (at once would spin). Completions are copied out of the ring first and
// delivered after, so that what they start never interleaves with what is still to be read.
#include <liburing.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/kernel_calls.h"
#include "core/uring_features.h"
#include "core/uring_receive_ring.h"

namespace tunnel::core {
namespace {

// Buffers of streams and of datagrams lie in rings of their own.
constexpr uint16_t kStreamGroup = 1;
constexpr uint16_t kDatagramGroup = 2;

class UringBackend final : public KernelBackend {
 public:
  UringBackend(BufferPool& pool, UringFeatures features, UdpOffload offload)
      : KernelBackend(offload), features_(features), pool_(pool) {}
  ~UringBackend() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  absl::Status Open();

  [[nodiscard]] std::string Describe() const override {
    const std::string offload = udp_offload().Describe();
    return fmt::format("io_uring ({}{}{})", features_.Describe(), offload.empty() ? "" : " ", offload);
  }
  [[nodiscard]] size_t receive_buffers_in_use() const override { return stream_ring_.lent() + datagram_ring_.lent(); }
  void Start(Operation& operation) override;
  void Cancel(Operation& operation) override;
  void Poll(TimePoint deadline) override;

 private:
  struct RawCompletion {
    Operation* operation;
    int32_t result;
    uint32_t flags;
  };

  io_uring_sqe* NextSqe() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      const int result = io_uring_submit(&ring_);
      TUNNEL_CHECK(result >= 0 || result == -EBUSY || result == -EAGAIN || result == -EINTR);
      if (result < 0) Reap();  // the kernel wants room for completions first
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }
  void ArmWake() {
    io_uring_sqe* sqe = NextSqe();
    io_uring_prep_poll_add(sqe, wake_descriptor(), POLLIN);
    io_uring_sqe_set_data(sqe, &wake_mark_);
  }
  void Submit(Operation& operation);
  // Copies completions out of the ring.
  void Reap();
  void Deliver(const RawCompletion& raw);
  void DeliverReceive(Operation& operation, const RawCompletion& raw);
  void DeliverDatagram(Operation& operation, const RawCompletion& raw);
  // What a receive met that its owner is not told of: no buffer, or nothing there after all. True when that was it.
  bool WaitsOn(Operation& operation, const RawCompletion& raw);
  // Says `completion`, whose operation the kernel has ended, and goes on for its owner, unless that cancelled it
  // meanwhile.
  void FinishAndGoOn(Operation& operation, Completion& completion);
  UringReceiveRing& RingOf(const Operation& operation) {
    return operation.kind == OperationKind::kReceiveDatagram ? datagram_ring_ : stream_ring_;
  }
  void Finish(Operation& operation, Completion& completion) {
    if (!completion.more) operation.started_ = false;
    operation.on_complete(operation, completion);
  }
  void RearmStarved(UringReceiveRing& ring);

  const UringFeatures features_;
  BufferPool& pool_;
  io_uring ring_{};
  bool open_ = false;
  UringReceiveRing stream_ring_{kStreamGroup, kReceiveBuffers, kReceiveBufferBytes};
  UringReceiveRing datagram_ring_{kDatagramGroup, kDatagramBuffers, kDatagramBufferBytes};
  // Starved receives that were cancelled: they complete in the next turn.
  IntrusiveList<Operation, BackendList> cancelled_;
  std::vector<RawCompletion> completions_;  // copied out and not yet delivered
  Operation wake_mark_;
};

// Results that say "again" and concern nobody above.
bool IsTransient(int32_t result) { return result == -EINTR || result == -EAGAIN; }

absl::Status UringBackend::Open() {
  io_uring_params params{};
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
  params.cq_entries = kCompletionEntries;
  if (features_.single_issuer) params.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  if (const int result = io_uring_queue_init_params(kRingEntries, &ring_, &params); result != 0) {
    return Unavailable("io_uring_setup: {}", std::strerror(-result));
  }
  open_ = true;
  if (features_.registered_ring) (void)io_uring_register_ring_fd(&ring_);  // without it everything works, slower
  TUNNEL_RETURN_IF_ERROR(stream_ring_.Register(ring_));
  TUNNEL_RETURN_IF_ERROR(datagram_ring_.Register(ring_));
  completions_.reserve(kCompletionEntries);
  ArmWake();
  return absl::OkStatus();
}

void UringBackend::Submit(Operation& operation) {
  io_uring_sqe* sqe = NextSqe();
  switch (operation.kind) {
    case OperationKind::kAccept:
      if (features_.multishot_accept) {
        io_uring_prep_multishot_accept(sqe, operation.descriptor, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      } else {
        io_uring_prep_accept(sqe, operation.descriptor, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      }
      break;
    case OperationKind::kReceive:
      if (features_.multishot_receive) {
        io_uring_prep_recv_multishot(sqe, operation.descriptor, nullptr, 0, 0);
      } else {
        io_uring_prep_recv(sqe, operation.descriptor, nullptr, kReceiveBufferBytes, 0);
      }
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = kStreamGroup;
      break;
    case OperationKind::kSend:
      io_uring_prep_sendmsg(sqe, operation.descriptor, operation.message, MSG_NOSIGNAL);
      break;
    case OperationKind::kConnect:
      io_uring_prep_connect(sqe, operation.descriptor, operation.address->kernel(), operation.address->kernel_length());
      break;
    case OperationKind::kPoll:
      io_uring_prep_poll_add(sqe, operation.descriptor, operation.poll_events);
      break;
    case OperationKind::kReceiveDatagram: {
      DatagramScratch& scratch = *operation.scratch;
      scratch.message = {};
      scratch.message.msg_namelen = sizeof(scratch.source);
      scratch.message.msg_controllen = scratch.control.size();
      if (features_.multishot_datagrams) {
        // The kernel takes sizes from the message and writes all it describes into the buffer.
        io_uring_prep_recvmsg_multishot(sqe, operation.descriptor, &scratch.message, 0);
      } else {
        scratch.vector = {nullptr, kDatagramBufferBytes};
        scratch.message.msg_name = &scratch.source;
        scratch.message.msg_control = scratch.control.data();
        scratch.message.msg_iov = &scratch.vector;
        scratch.message.msg_iovlen = 1;
        io_uring_prep_recvmsg(sqe, operation.descriptor, &scratch.message, 0);
      }
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = kDatagramGroup;
      break;
    }
  }
  io_uring_sqe_set_data(sqe, &operation);
}

void UringBackend::Start(Operation& operation) {
  TUNNEL_CHECK(!operation.started_);
  operation.started_ = true;
  operation.cancelled_ = false;
  Submit(operation);
}

void UringBackend::Cancel(Operation& operation) {
  if (!operation.started_ || operation.cancelled_) return;
  operation.cancelled_ = true;
  if (operation.linked()) {
    operation.Unlink();
    cancelled_.PushBack(operation);
    return;
  }
  io_uring_sqe* sqe = NextSqe();
  io_uring_prep_cancel(sqe, &operation, 0);
  io_uring_sqe_set_data(sqe, nullptr);  // the operation's own completion is the one that counts
}

bool UringBackend::WaitsOn(Operation& operation, const RawCompletion& raw) {
  if (operation.cancelled_) return false;
  if (raw.result == -ENOBUFS) {
    RingOf(operation).starved().PushBack(operation);
    return true;
  }
  if (!IsTransient(raw.result)) return false;
  Submit(operation);
  return true;
}

void UringBackend::FinishAndGoOn(Operation& operation, Completion& completion) {
  completion.more = true;
  Finish(operation, completion);
  if (operation.cancelled_) {
    Completion last{.error = IoError::kCancelled};
    Finish(operation, last);
  } else {
    Submit(operation);
  }
}

void UringBackend::DeliverReceive(Operation& operation, const RawCompletion& raw) {
  if (WaitsOn(operation, raw)) return;
  Completion completion;
  completion.more = (raw.flags & IORING_CQE_F_MORE) != 0;
  if ((raw.flags & IORING_CQE_F_BUFFER) != 0) {
    completion.data =
        stream_ring_.Take(raw.flags >> IORING_CQE_BUFFER_SHIFT, raw.result > 0 ? static_cast<size_t>(raw.result) : 0);
    if (stream_ring_.scarce()) completion.data = pool_.Copy(completion.data.bytes());
  }
  if (raw.result < 0) {
    const bool ours = raw.result == -ENOBUFS || IsTransient(raw.result);  // and cancelled meanwhile
    completion.error = ours ? IoError::kCancelled : FromErrno(-raw.result);
  } else {
    completion.bytes = static_cast<size_t>(raw.result);
  }
  // Data, but the operation ended: single shot, or the kernel gave up the multishot.
  if (!completion.more && raw.result > 0) {
    FinishAndGoOn(operation, completion);
  } else {
    Finish(operation, completion);
  }
}

void UringBackend::DeliverDatagram(Operation& operation, const RawCompletion& raw) {
  if (WaitsOn(operation, raw)) return;
  Completion completion;
  completion.more = (raw.flags & IORING_CQE_F_MORE) != 0;
  SocketAddress source;
  size_t segment = 0;  // of what the kernel coalesced
  if ((raw.flags & IORING_CQE_F_BUFFER) != 0) {
    completion.data =
        datagram_ring_.Take(raw.flags >> IORING_CQE_BUFFER_SHIFT, raw.result > 0 ? static_cast<size_t>(raw.result) : 0);
  }
  if (raw.result >= 0) {
    DatagramScratch& scratch = *operation.scratch;
    if (features_.multishot_datagrams) {
      io_uring_recvmsg_out* out = io_uring_recvmsg_validate(completion.data.data(), raw.result, &scratch.message);
      TUNNEL_CHECK(out != nullptr);
      source = SocketAddress::FromKernel(static_cast<const sockaddr*>(io_uring_recvmsg_name(out)), out->namelen);
      completion.truncated = (out->flags & MSG_TRUNC) != 0;
      // Behind the room for the name; the kernel says how much of it is written.
      msghdr control{};
      control.msg_control = static_cast<uint8_t*>(io_uring_recvmsg_name(out)) + scratch.message.msg_namelen;
      control.msg_controllen = out->controllen;
      segment = CoalescedSize(control);
      const auto* payload = static_cast<const uint8_t*>(io_uring_recvmsg_payload(out, &scratch.message));
      completion.data.RemovePrefix(static_cast<size_t>(payload - completion.data.data()));
    } else {
      source =
          SocketAddress::FromKernel(reinterpret_cast<const sockaddr*>(&scratch.source), scratch.message.msg_namelen);
      completion.truncated = (scratch.message.msg_flags & MSG_TRUNC) != 0;
      segment = CoalescedSize(scratch.message);
    }
    completion.data.Truncate(std::min(completion.data.size(), kMaxDatagramBytes));
    completion.bytes = completion.data.size();
    if (datagram_ring_.scarce()) completion.data = pool_.Copy(completion.data.bytes());
    completion.source = &source;
    if (segment > 0 && !completion.truncated) DeliverCoalesced(operation, completion, segment);
  } else if (operation.cancelled_) {
    completion.error = IoError::kCancelled;
  } else if (const std::optional<IoError> passing = PassingDatagramError(-raw.result); passing.has_value()) {
    completion.error = *passing;
  } else {
    completion.error = raw.result == -ECANCELED ? IoError::kCancelled : FromErrno(-raw.result);
    Finish(operation, completion);
    return;
  }
  if (completion.more || completion.error == IoError::kCancelled) {
    Finish(operation, completion);
  } else {
    FinishAndGoOn(operation, completion);
  }
}

void UringBackend::Deliver(const RawCompletion& raw) {
  if (raw.operation == nullptr) return;
  if (raw.operation == &wake_mark_) {
    ConsumeWake();
    ArmWake();
    return;
  }
  Operation& operation = *raw.operation;
  const bool more = (raw.flags & IORING_CQE_F_MORE) != 0;
  if (operation.kind == OperationKind::kReceive) {
    DeliverReceive(operation, raw);
    return;
  }
  if (operation.kind == OperationKind::kReceiveDatagram) {
    DeliverDatagram(operation, raw);
    return;
  }
  if (IsTransient(raw.result)) {
    if (!operation.cancelled_) {
      Submit(operation);
      return;
    }
    Completion last{.error = IoError::kCancelled};
    Finish(operation, last);
    return;
  }
  Completion completion;
  completion.more = more;
  if (raw.result < 0) completion.error = FromErrno(-raw.result);
  switch (operation.kind) {
    case OperationKind::kAccept:
      if (raw.result >= 0) {
        completion.descriptor = raw.result;
        if (more) {
          Finish(operation, completion);
        } else {
          FinishAndGoOn(operation, completion);
        }
        return;
      }
      if (raw.result == -ECONNABORTED && !operation.cancelled_) {
        Submit(operation);  // that peer's affair, not the listener's
        return;
      }
      break;
    case OperationKind::kSend:
      if (raw.result >= 0) completion.bytes = static_cast<size_t>(raw.result);
      break;
    case OperationKind::kPoll:
      if (raw.result >= 0) completion.events = static_cast<uint32_t>(raw.result);
      break;
    case OperationKind::kConnect:
    case OperationKind::kReceive:
    case OperationKind::kReceiveDatagram:
      break;
  }
  Finish(operation, completion);
}

void UringBackend::Reap() {
  unsigned head = 0;
  unsigned seen = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    completions_.push_back({static_cast<Operation*>(io_uring_cqe_get_data(cqe)), cqe->res, cqe->flags});
    ++seen;
  }
  io_uring_cq_advance(&ring_, seen);
}

void UringBackend::RearmStarved(UringReceiveRing& ring) {
  if (ring.starved().empty() || ring.free() < ring.size() / 2) return;
  // No more than there are buffers: the rest would only come back empty-handed.
  for (size_t left = ring.free(); left > 0 && !ring.starved().empty(); --left) Submit(ring.starved().PopFront());
}

void UringBackend::Poll(TimePoint deadline) {
  RearmStarved(stream_ring_);
  RearmStarved(datagram_ring_);
  const TimePoint now = Now();
  if (!cancelled_.empty() || !completions_.empty() || deadline <= now) {
    io_uring_submit_and_get_events(&ring_);
  } else if (deadline == kNever) {
    (void)io_uring_submit_and_wait(&ring_, 1);
  } else {
    const Duration left = deadline - now;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    __kernel_timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    io_uring_cqe* first = nullptr;
    (void)io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
  }
  AfterWait();

  Reap();
  // By index and by copy: a submission that finds no room reaps more.
  for (size_t i = 0; i < completions_.size(); ++i) {
    const RawCompletion raw = completions_[i];
    Deliver(raw);
  }
  completions_.clear();

  while (!cancelled_.empty()) {
    Completion completion{.error = IoError::kCancelled};
    Finish(cancelled_.PopFront(), completion);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeUringBackend(BufferPool& pool, const BackendOptions& options) {
  std::string error;
  const UringFeatures features = ProbeUring(options.disabled_features, error);
  if (!error.empty()) return Unavailable("{}", error);
  auto backend = std::make_unique<UringBackend>(pool, features, ProbeUdpOffload(options.disabled_features));
  if (absl::Status status = backend->Open(); !status.ok()) return status;
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace tunnel::core
