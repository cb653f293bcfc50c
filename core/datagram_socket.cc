#include "core/datagram_socket.h"

#include <array>
#include <vector>

#include "core/limits.h"

namespace tunnel::core {

// The socket as the kernel and the reactor see it. Lives until its receive has ended.
class DatagramSocket::State final : public OperationOwner, public Attention {
 public:
  State(Reactor& reactor, int descriptor);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() override;

  void Start(Handler& handler);
  void Send(const SocketAddress* to, Slice data);
  void Close();

  [[nodiscard]] Backend& backend() const { return reactor().backend(); }
  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  struct Queued {
    bool addressed = false;
    SocketAddress to;
    Slice data;
  };

  void Attend() override;
  void CancelAll() override { Close(); }
  [[nodiscard]] bool may_be_deleted() const override { return !receive_.started(); }
  void OnCompletion(Completion& completion);
  void Flush();

  const int descriptor_;
  Handler* handler_ = nullptr;
  Operation receive_;
  DatagramScratch scratch_;
  std::vector<Queued> queue_;
  size_t queued_bytes_ = 0;
};

DatagramSocket::State::State(Reactor& reactor, int descriptor) : OperationOwner(reactor), descriptor_(descriptor) {
  reactor.counters().sockets_open.Add();
  receive_.kind = OperationKind::kReceiveDatagram;
  receive_.descriptor = descriptor;
  receive_.scratch = &scratch_;
  receive_.context = this;
  receive_.on_complete = [](Operation& operation, Completion& completion) {
    static_cast<State*>(operation.context)->OnCompletion(completion);
  };
}

DatagramSocket::State::~State() {
  backend().Close(descriptor_);
  reactor().counters().sockets_open.Add(-1);
}

void DatagramSocket::State::Start(Handler& handler) {
  TUNNEL_CHECK(handler_ == nullptr && !receive_.started());
  handler_ = &handler;
  backend().Start(receive_);
}

void DatagramSocket::State::OnCompletion(Completion& completion) {
  Counters& counters = reactor().counters();
  if (completion.source != nullptr) {
    if (completion.truncated || !completion.source->valid()) {
      counters.datagram_errors.Add();
    } else if (handler_ != nullptr) {
      counters.datagrams_received.Add();
      counters.bytes_received.Add(static_cast<int64_t>(completion.bytes));
      handler_->OnDatagram(*completion.source, std::move(completion.data));
    }
  } else if (completion.more) {
    counters.datagram_errors.Add();
  }
  if (completion.more) return;
  if (!orphaned() && completion.error != IoError::kCancelled && handler_ != nullptr) {
    std::exchange(handler_, nullptr)->OnSocketError(completion.error);
  }
  DeleteIfDone();
}

void DatagramSocket::State::Send(const SocketAddress* to, Slice data) {
  Counters& counters = reactor().counters();
  if (data.size() > kMaxDatagramBytes) {
    counters.datagrams_unsent.Add();
    return;
  }
  queued_bytes_ += data.size();
  queue_.push_back({.addressed = to != nullptr,
                    .to = to != nullptr ? *to : SocketAddress(),
                    .data = reactor().buffers().ForHolding(std::move(data))});
  if (queue_.size() >= kDatagramsPerSend || queued_bytes_ >= kDatagramBatchBytes) {
    Flush();
  } else {
    reactor().ScheduleAttention(*this);
  }
}

void DatagramSocket::State::Flush() {
  if (queue_.empty()) return;
  std::array<OutgoingDatagram, kDatagramsPerSend> batch;
  for (size_t i = 0; i < queue_.size(); ++i) {
    batch[i] = {.to = queue_[i].addressed ? &queue_[i].to : nullptr, .payload = queue_[i].data.bytes()};
  }
  const DatagramsSent result = backend().SendDatagrams(descriptor_, std::span(batch).first(queue_.size()));
  Counters& counters = reactor().counters();
  counters.datagrams_sent.Add(static_cast<int64_t>(result.sent));
  counters.datagrams_unsent.Add(static_cast<int64_t>(queue_.size() - result.sent));
  counters.bytes_sent.Add(static_cast<int64_t>(result.bytes));
  queue_.clear();
  queued_bytes_ = 0;
}

void DatagramSocket::State::Attend() { Flush(); }

void DatagramSocket::State::Close() {
  Flush();
  Attention::Unlink();
  handler_ = nullptr;
  backend().Cancel(receive_);
  Orphan();
}

absl::StatusOr<DatagramSocket> DatagramSocket::Open(Reactor& reactor, const SocketAddress& address) {
  int descriptor = -1;
  if (const IoError error = reactor.backend().OpenDatagram(address, descriptor); error != IoError::kOk) {
    return ToStatus(error, fmt::format("UDP socket on {}", address.ToString()));
  }
  return DatagramSocket(new State(reactor, descriptor));
}

DatagramSocket& DatagramSocket::operator=(DatagramSocket&& other) noexcept {
  if (this != &other) {
    Close();
    state_ = std::exchange(other.state_, nullptr);
  }
  return *this;
}

SocketAddress DatagramSocket::local_address() const { return state_->backend().LocalAddress(state_->descriptor()); }

absl::Status DatagramSocket::Connect(const SocketAddress& peer) {
  const IoError error = state_->backend().ConnectDatagram(state_->descriptor(), peer);
  return ToStatus(error, fmt::format("UDP to {}", peer.ToString()));
}

void DatagramSocket::Start(Handler& handler) { state_->Start(handler); }
void DatagramSocket::SendTo(const SocketAddress& to, Slice data) {
  if (state_ != nullptr) state_->Send(&to, std::move(data));
}
void DatagramSocket::Send(Slice data) {
  if (state_ != nullptr) state_->Send(nullptr, std::move(data));
}
void DatagramSocket::Close() {
  if (state_ != nullptr) std::exchange(state_, nullptr)->Close();
}

SocketAddress AnyAddress(int family) {
  return family == AF_INET6 ? SocketAddress::V6({}, 0) : SocketAddress::V4({}, 0);
}

}  // namespace tunnel::core
