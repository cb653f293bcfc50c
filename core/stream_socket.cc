#include "core/stream_socket.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>

namespace tunnel::core {

// The socket as the kernel and the reactor see it. Lives until its operations have ended.
class StreamSocket::State final : public OperationOwner, public Attention {
 public:
  State(Reactor& reactor, int descriptor);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() override;

  void SetHandler(Handler* handler);
  void PauseReceive();
  void ResumeReceive();
  void PutBack(Slice data);
  void Send(Slice data);
  void FinishSend();
  void Close(bool reset);
  void CloseAfterSend(Duration limit);
  void Release(absl::AnyInvocable<void(int, std::string)> released);

  [[nodiscard]] Backend& backend() const { return reactor().backend(); }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] size_t queued_bytes() const { return queued_bytes_; }
  [[nodiscard]] bool writable() const { return queued_bytes_ < kSendHighWaterBytes; }
  void LimitUnsent(unsigned bytes) { backend().LimitUnsent(descriptor_, bytes); }

 private:
  void Attend() override;
  void CancelAll() override {
    released_ = nullptr;  // whoever asked for the descriptor is gone
    Close(false);
  }
  [[nodiscard]] bool may_be_deleted() const override { return !receive_.started() && !send_.started() && !lingering_; }

  void OnReceiveCompletion(Completion& completion);
  void OnSendCompletion(const Completion& completion);
  void Deliver(Slice data);
  void DeliverEnd(IoError error);
  void Fail(IoError error);
  void FailSend(IoError error);
  void DropQueue();
  void StartSend();
  void ContinueRelease();
  void CompleteRelease();
  // An end of stream was seen or sent, or the limit passed, while closing.
  void EndLinger();

  const int descriptor_;
  bool descriptor_released_ = false;
  Handler* handler_ = nullptr;

  // Receive side. `receive_` is started whenever bytes are wanted and the stream has not ended.
  Operation receive_;
  bool paused_ = false;
  bool receive_ended_ = false;
  // What arrived while paused: delivered first on resume.
  std::deque<Slice> parked_;
  std::optional<IoError> parked_end_;

  // Send side. The first `in_flight_` slices of the queue are with the kernel.
  Operation send_;
  std::deque<Slice> queue_;
  size_t queued_bytes_ = 0;
  size_t in_flight_ = 0;
  msghdr message_{};
  std::array<iovec, kSendSlices> vectors_{};
  bool finish_wanted_ = false;
  bool finish_sent_ = false;
  bool failed_ = false;
  // Why sending died while received bytes were still to be delivered: the end of those becomes this error.
  std::optional<IoError> send_error_;

  // Closing after CloseAfterSend().
  bool lingering_ = false;
  bool broken_ = false;  // by an error: what was queued is lost
  size_t discarded_bytes_ = 0;
  Timer linger_timer_;
  absl::AnyInvocable<void(int, std::string)> released_;
};

StreamSocket::State::State(Reactor& reactor, int descriptor)
    : OperationOwner(reactor), descriptor_(descriptor), linger_timer_(reactor.timers(), [this] { EndLinger(); }) {
  reactor.counters().sockets_open.Add();
  backend().SetNoDelay(descriptor);
  if (!reactor.congestion_control().empty()) {
    (void)backend().SetCongestionControl(descriptor, reactor.congestion_control());
  }
  receive_.kind = OperationKind::kReceive;
  receive_.descriptor = descriptor;
  receive_.context = this;
  receive_.on_complete = [](Operation& operation, Completion& completion) {
    static_cast<State*>(operation.context)->OnReceiveCompletion(completion);
  };
  send_.kind = OperationKind::kSend;
  send_.descriptor = descriptor;
  send_.context = this;
  send_.message = &message_;
  send_.on_complete = [](Operation& operation, Completion& completion) {
    static_cast<State*>(operation.context)->OnSendCompletion(completion);
  };
}

StreamSocket::State::~State() {
  if (!descriptor_released_) backend().Close(descriptor_);
  reactor().counters().sockets_open.Add(-1);
}

void StreamSocket::State::SetHandler(Handler* handler) {
  handler_ = handler;
  if (handler == nullptr) {
    PauseReceive();
  } else {
    ResumeReceive();
    reactor().ScheduleAttention(*this);
  }
}

void StreamSocket::State::PauseReceive() {
  if (paused_) return;
  paused_ = true;
  backend().Cancel(receive_);
}

void StreamSocket::State::ResumeReceive() {
  if (!paused_) return;
  paused_ = false;
  reactor().ScheduleAttention(*this);
}

void StreamSocket::State::PutBack(Slice data) {
  if (data.empty()) return;
  parked_.push_front(std::move(data));
  reactor().ScheduleAttention(*this);
}

void StreamSocket::State::Attend() {
  while (!paused_ && !parked_.empty() && handler_ != nullptr) {
    Slice data = std::move(parked_.front());
    parked_.pop_front();
    handler_->OnReceive(std::move(data));
  }
  if (!paused_ && parked_.empty() && parked_end_.has_value() && handler_ != nullptr) {
    const IoError error = *parked_end_;
    parked_end_.reset();
    DeliverEnd(error);
  }
  if (failed_ || orphaned()) {
    DeleteIfDone();
    return;
  }
  if (!paused_ && !receive_ended_ && !receive_.started() && (handler_ != nullptr || lingering_)) {
    backend().Start(receive_);
  }
  StartSend();
}

void StreamSocket::State::OnReceiveCompletion(Completion& completion) {
  if (completion.bytes > 0) {
    reactor().counters().bytes_received.Add(static_cast<int64_t>(completion.bytes));
    Deliver(std::move(completion.data));
  }
  if (completion.more) return;
  if (released_ != nullptr) {
    if (completion.error == IoError::kOk) receive_ended_ = true;
    // Otherwise the last send's completion goes on with it.
    if (queue_.empty() && !send_.started()) CompleteRelease();
    return;
  }
  if (completion.error == IoError::kCancelled) {
    // Paused and perhaps resumed since.
    if (!paused_ && !failed_ && !orphaned()) reactor().ScheduleAttention(*this);
  } else if (!receive_ended_) {
    receive_ended_ = true;
    if (paused_ || !parked_.empty()) {
      parked_end_ = completion.error;
    } else {
      DeliverEnd(completion.error);
    }
  }
  DeleteIfDone();
}

void StreamSocket::State::Deliver(Slice data) {
  if (orphaned() || failed_) return;
  if (lingering_) {
    discarded_bytes_ += data.size();
    if (discarded_bytes_ > kLingerDiscardBytes) EndLinger();
    return;
  }
  if (paused_ || !parked_.empty() || handler_ == nullptr) {
    parked_.push_back(reactor().buffers().ForHolding(std::move(data)));
    return;
  }
  handler_->OnReceive(std::move(data));
}

void StreamSocket::State::DeliverEnd(IoError error) {
  if (lingering_) {
    if (error != IoError::kOk || finish_sent_) EndLinger();
    return;
  }
  if (send_error_.has_value()) error = *send_error_;
  if (error != IoError::kOk) {
    Fail(error);
  } else if (handler_ != nullptr) {
    handler_->OnReceiveEnd();
  }
}

void StreamSocket::State::Fail(IoError error) {
  if (failed_) return;
  receive_ended_ = true;
  if (handler_ == nullptr && !lingering_) {
    parked_end_ = error;  // for the handler that is set next
    return;
  }
  failed_ = true;
  broken_ = true;
  backend().Cancel(receive_);
  if (!send_.started()) DropQueue();
  if (lingering_) {
    EndLinger();
    return;
  }
  std::exchange(handler_, nullptr)->OnSocketError(error);
}

// The peer may have sent its last bytes before the connection died, and they may still be in the kernel or parked: a
// reset that answers our data must not cost what came before it. So the receive side, which ends at once now that the
// connection is dead, tells the handler.
void StreamSocket::State::FailSend(IoError error) {
  const bool dead = error == IoError::kReset || error == IoError::kTimedOut || error == IoError::kUnreachable ||
                    error == IoError::kNetworkUnreachable;
  const bool all_delivered = receive_ended_ && parked_.empty() && !parked_end_.has_value();
  if (!dead || all_delivered || lingering_) {
    Fail(error);
    return;
  }
  send_error_ = error;
  broken_ = true;
  const bool above_low_water = queued_bytes_ > kSendLowWaterBytes;
  DropQueue();
  reactor().ScheduleAttention(*this);
  // Who paused until there is room must go on, to find the end.
  if (above_low_water && handler_ != nullptr) handler_->OnSendDrained();
}

void StreamSocket::State::DropQueue() {
  queue_.clear();
  queued_bytes_ = 0;
}

void StreamSocket::State::Send(Slice data) {
  if (failed_ || send_error_.has_value() || data.empty()) return;
  TUNNEL_CHECK(!finish_wanted_);
  queued_bytes_ += data.size();
  BufferPool& pool = reactor().buffers();
  if (data.size() < kCoalesceBytes && queue_.size() > in_flight_) {
    // Small pieces are joined: a queue of them must not cost a block each.
    Slice& tail = queue_.back();
    if (tail.buffer()->owner == &pool && tail.buffer()->references == 1 && tail.room() >= data.size()) {
      tail.Append(data.bytes());
      return;
    }
    Slice block = pool.Allocate(BufferPool::kBlockBytes[1]);
    std::memcpy(block.data(), data.data(), data.size());
    block.Truncate(data.size());
    data = std::move(block);
  }
  queue_.push_back(pool.ForHolding(std::move(data)));
  reactor().ScheduleAttention(*this);
}

void StreamSocket::State::StartSend() {
  if (send_.started() || failed_ || send_error_.has_value()) return;
  if (queue_.empty()) {
    if (finish_wanted_ && !finish_sent_) {
      finish_sent_ = true;
      backend().ShutdownWrite(descriptor_);
    }
    if (lingering_ && finish_sent_ && receive_ended_) EndLinger();
    return;
  }
  in_flight_ = std::min(queue_.size(), kSendSlices);
  for (size_t i = 0; i < in_flight_; ++i) vectors_[i] = {queue_[i].data(), queue_[i].size()};
  message_.msg_iov = vectors_.data();
  message_.msg_iovlen = in_flight_;
  backend().Start(send_);
}

void StreamSocket::State::OnSendCompletion(const Completion& completion) {
  in_flight_ = 0;
  if (failed_ || orphaned()) {
    DropQueue();
    DeleteIfDone();
    return;
  }
  if (completion.error != IoError::kOk) {
    if (completion.error != IoError::kCancelled) FailSend(completion.error);
    DeleteIfDone();
    ContinueRelease();
    return;
  }
  reactor().counters().bytes_sent.Add(static_cast<int64_t>(completion.bytes));
  const bool above_low_water = queued_bytes_ > kSendLowWaterBytes;
  queued_bytes_ -= completion.bytes;
  for (size_t left = completion.bytes; left > 0;) {
    Slice& first = queue_.front();
    const size_t taken = std::min(left, first.size());
    left -= taken;
    if (taken == first.size()) {
      queue_.pop_front();
    } else {
      first.RemovePrefix(taken);
    }
  }
  reactor().ScheduleAttention(*this);
  if (above_low_water && queued_bytes_ <= kSendLowWaterBytes && handler_ != nullptr) handler_->OnSendDrained();
  ContinueRelease();
}

void StreamSocket::State::FinishSend() {
  finish_wanted_ = true;
  reactor().ScheduleAttention(*this);
}

void StreamSocket::State::Close(bool reset) {
  handler_ = nullptr;
  released_ = nullptr;
  lingering_ = false;
  linger_timer_.Cancel();
  failed_ = true;
  receive_ended_ = true;
  parked_.clear();
  parked_end_.reset();
  if (!send_.started()) DropQueue();
  // Not every error is the end of the connection for the kernel (ENOBUFS is none), and the peer of one that we give up
  // must not take what it has for the whole.
  backend().Abort(descriptor_, reset || (broken_ && !finish_sent_));
  backend().Cancel(receive_);
  backend().Cancel(send_);
  Orphan();
}

void StreamSocket::State::CloseAfterSend(Duration limit) {
  if (failed_ || send_error_.has_value()) {
    Close(false);
    return;
  }
  handler_ = nullptr;
  parked_.clear();
  lingering_ = true;
  if (parked_end_.has_value()) parked_end_.reset();
  finish_wanted_ = true;
  paused_ = false;
  linger_timer_.SetAfter(limit);
  reactor().ScheduleAttention(*this);
}

// What is still queued will not be sent: the peer must not take what it has for the whole.
void StreamSocket::State::EndLinger() { Close(queued_bytes_ > 0); }

void StreamSocket::State::Release(absl::AnyInvocable<void(int, std::string)> released) {
  handler_ = nullptr;
  paused_ = true;
  released_ = std::move(released);
  linger_timer_.SetAfter(kReleaseLimit);
  ContinueRelease();
}

void StreamSocket::State::ContinueRelease() {
  if (released_ == nullptr || !queue_.empty() || send_.started()) return;
  linger_timer_.Cancel();
  // An end of stream that was asked for and not yet sent would be forgotten with this state.
  if (finish_wanted_ && !std::exchange(finish_sent_, true)) backend().ShutdownWrite(descriptor_);
  if (receive_.started()) {
    backend().Cancel(receive_);
  } else {
    reactor().Defer([this] { CompleteRelease(); });
  }
}

void StreamSocket::State::CompleteRelease() {
  if (released_ == nullptr) return;  // the reactor ended first
  std::string received;
  for (const Slice& slice : parked_) received += slice.text();
  parked_.clear();
  descriptor_released_ = true;
  backend().Detach(descriptor_);
  auto released = std::exchange(released_, nullptr);
  released(descriptor_, std::move(received));
  Orphan();
}

StreamSocket::StreamSocket(Reactor& reactor, int descriptor) : state_(new State(reactor, descriptor)) {}

StreamSocket& StreamSocket::operator=(StreamSocket&& other) noexcept {
  if (this != &other) {
    Close();
    state_ = std::exchange(other.state_, nullptr);
  }
  return *this;
}

SocketAddress StreamSocket::peer_address() const { return state_->backend().PeerAddress(state_->descriptor()); }
SocketAddress StreamSocket::local_address() const { return state_->backend().LocalAddress(state_->descriptor()); }
void StreamSocket::SetHandler(Handler* handler) {
  if (state_ != nullptr) state_->SetHandler(handler);
}
void StreamSocket::PauseReceive() {
  if (state_ != nullptr) state_->PauseReceive();
}
void StreamSocket::ResumeReceive() {
  if (state_ != nullptr) state_->ResumeReceive();
}
void StreamSocket::PutBack(Slice data) {
  if (state_ != nullptr) state_->PutBack(std::move(data));
}
void StreamSocket::Send(Slice data) {
  if (state_ != nullptr) state_->Send(std::move(data));
}
size_t StreamSocket::queued_bytes() const { return state_ == nullptr ? 0 : state_->queued_bytes(); }
bool StreamSocket::writable() const { return state_ != nullptr && state_->writable(); }
void StreamSocket::LimitUnsent(unsigned bytes) {
  if (state_ != nullptr) state_->LimitUnsent(bytes);
}
void StreamSocket::FinishSend() {
  if (state_ != nullptr) state_->FinishSend();
}
void StreamSocket::Close() {
  if (state_ != nullptr) std::exchange(state_, nullptr)->Close(false);
}
void StreamSocket::Reset() {
  if (state_ != nullptr) std::exchange(state_, nullptr)->Close(true);
}
void StreamSocket::CloseAfterSend(Duration limit) {
  if (state_ != nullptr) std::exchange(state_, nullptr)->CloseAfterSend(limit);
}
void StreamSocket::Release(absl::AnyInvocable<void(int, std::string)> released) {
  if (state_ != nullptr) std::exchange(state_, nullptr)->Release(std::move(released));
}

namespace {

// One connect in progress, waited for by one task.
class ConnectWait final : Waiter {
 public:
  ConnectWait(Reactor& reactor, int descriptor, const SocketAddress& address) : reactor_(reactor) {
    operation_.kind = OperationKind::kConnect;
    operation_.descriptor = descriptor;
    operation_.address = &address;
    operation_.context = this;
    operation_.on_complete = [](Operation& operation, Completion& completion) {
      auto& self = *static_cast<ConnectWait*>(operation.context);
      self.error_ = completion.error;
      self.context_->SetWaiter(nullptr);
      self.context_->Resume(self.self_);
    };
  }
  bool await_ready() { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> self) {
    self_ = self;
    context_ = &self.promise().context();
    context_->SetWaiter(this);
    reactor_.backend().Start(operation_);
  }
  IoError await_resume() { return error_; }

 private:
  void Interrupt() override { reactor_.backend().Cancel(operation_); }
  Reactor& reactor_;
  Operation operation_;
  IoError error_ = IoError::kOk;
  TaskContext* context_ = nullptr;
  std::coroutine_handle<> self_;
};

}  // namespace

Task<absl::StatusOr<StreamSocket>> Connect(Reactor& reactor, SocketAddress address) {
  TaskContext& context = co_await CurrentTask();
  if (absl::Status status = context.interruption(); !status.ok()) co_return status;
  int descriptor = -1;
  IoError error = reactor.backend().OpenStream(address.family(), descriptor);
  const std::string what = fmt::format("connect to {}", address.ToString());
  if (error != IoError::kOk) co_return ToStatus(error, what);
  ConnectWait wait(reactor, descriptor, address);
  error = co_await wait;
  if (error != IoError::kOk) {
    reactor.backend().Close(descriptor);
    const absl::Status interruption = context.interruption();
    if (error == IoError::kCancelled && !interruption.ok()) co_return Annotate(interruption, "{}", what);
    co_return ToStatus(error, what);
  }
  co_return StreamSocket(reactor, descriptor);
}

}  // namespace tunnel::core
