#include "core/listener.h"

#include "core/log.h"

namespace tunnel::core {
namespace {

// How long to leave connections in the kernel's queue after it had no descriptor or memory for one.
constexpr Duration kRetryDelay = std::chrono::milliseconds(100);

}  // namespace

class Listener::State final : public OperationOwner {
 public:
  State(Reactor& reactor, int descriptor, Accepted accepted)
      : OperationOwner(reactor), accepted_(std::move(accepted)), retry_(reactor.timers(), [this] { Start(); }) {
    reactor.counters().sockets_open.Add();
    accept_.kind = OperationKind::kAccept;
    accept_.descriptor = descriptor;
    accept_.context = this;
    accept_.on_complete = [](Operation& operation, Completion& completion) {
      static_cast<State*>(operation.context)->OnAccept(completion);
    };
    Start();
  }
  ~State() override {
    reactor().backend().Close(accept_.descriptor);
    reactor().counters().sockets_open.Add(-1);
  }

  void Close() {
    retry_.Cancel();
    reactor().backend().Cancel(accept_);
    Orphan();
  }
  void Pause() {
    if (std::exchange(paused_, true)) return;
    retry_.Cancel();
    reactor().backend().Cancel(accept_);
  }
  void Resume() {
    // Where the cancellation is still on its way, its completion starts it again.
    if (std::exchange(paused_, false) && !accept_.started()) Start();
  }
  [[nodiscard]] SocketAddress local_address() { return reactor().backend().LocalAddress(accept_.descriptor); }

 private:
  void CancelAll() override { Close(); }
  [[nodiscard]] bool may_be_deleted() const override { return !accept_.started(); }
  void Start() { reactor().backend().Start(accept_); }

  void OnAccept(const Completion& completion) {
    if (completion.descriptor >= 0) {
      if (orphaned()) {
        reactor().backend().Close(completion.descriptor);
      } else {
        reactor().counters().connections_accepted.Add();
        const SocketAddress peer = reactor().backend().PeerAddress(completion.descriptor);
        accepted_(StreamSocket(reactor(), completion.descriptor), peer);
      }
    }
    if (completion.more || accept_.started()) return;
    if (orphaned() || paused_) {
      DeleteIfDone();
      return;
    }
    if (completion.error == IoError::kCancelled) {  // by a Pause() that is over
      Start();
    } else {
      spdlog::warn("accept on {}: {}; trying again", local_address().ToString(), core::ToString(completion.error));
      retry_.SetAfter(kRetryDelay);
    }
    DeleteIfDone();
  }

  Operation accept_;
  Accepted accepted_;
  Timer retry_;
  bool paused_ = false;
};

namespace {

// A descriptor that listens on `address`.
absl::StatusOr<int> OpenListening(Reactor& reactor, const SocketAddress& address, bool share_port) {
  int descriptor = -1;
  IoError error = reactor.backend().OpenStream(address.family(), descriptor);
  if (error == IoError::kOk) {
    error = reactor.backend().Listen(descriptor, address, share_port);
    if (error != IoError::kOk) reactor.backend().Close(descriptor);
  }
  if (error != IoError::kOk) return ToStatus(error, fmt::format("listen on {}", address.ToString()));
  return descriptor;
}

}  // namespace

absl::StatusOr<SocketAddress> Listener::Probe(Reactor& reactor, const SocketAddress& address) {
  const auto descriptor = OpenListening(reactor, address, false);
  if (!descriptor.ok()) return descriptor.status();
  const SocketAddress bound = reactor.backend().LocalAddress(*descriptor);
  reactor.backend().Close(*descriptor);
  return bound;
}

absl::StatusOr<Listener> Listener::Open(Reactor& reactor, const SocketAddress& address, bool share_port,
                                        Accepted accepted) {
  const auto descriptor = OpenListening(reactor, address, share_port);
  if (!descriptor.ok()) return descriptor.status();
  return Listener(new State(reactor, *descriptor, std::move(accepted)));
}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    Close();
    state_ = std::exchange(other.state_, nullptr);
  }
  return *this;
}

void Listener::Close() {
  if (state_ != nullptr) std::exchange(state_, nullptr)->Close();
}

void Listener::Pause() {
  if (state_ != nullptr) state_->Pause();
}

void Listener::Resume() {
  if (state_ != nullptr) state_->Resume();
}

SocketAddress Listener::local_address() const { return state_ == nullptr ? SocketAddress() : state_->local_address(); }

}  // namespace tunnel::core
