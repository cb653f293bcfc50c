#include "core/descriptor_watch.h"

#include <sys/epoll.h>

namespace tunnel::core {

class DescriptorWatch::State final : public OperationOwner {
 public:
  State(Reactor& reactor, int descriptor, absl::AnyInvocable<void(uint32_t)> ready)
      : OperationOwner(reactor), ready_(std::move(ready)) {
    poll_.kind = OperationKind::kPoll;
    poll_.descriptor = descriptor;
    poll_.context = this;
    poll_.on_complete = [](Operation& operation, Completion& completion) {
      static_cast<State*>(operation.context)->OnReady(completion);
    };
  }
  void Watch(uint32_t events) {
    wanted_ = events;
    if (poll_.started()) {
      // A poll cannot be changed under way; its completion starts the one that is wanted.
      if (poll_.poll_events != wanted_) reactor().backend().Cancel(poll_);
    } else {
      StartIfWanted();
    }
  }
  void Close() {
    wanted_ = 0;
    reactor().backend().Cancel(poll_);
    Orphan();
  }

 private:
  void CancelAll() override { Close(); }
  [[nodiscard]] bool may_be_deleted() const override { return !poll_.started(); }
  void StartIfWanted() {
    if (wanted_ == 0 || poll_.started()) return;
    poll_.poll_events = wanted_;
    reactor().backend().Start(poll_);
  }
  void OnReady(const Completion& completion) {
    // A descriptor that cannot be polled is reported as one in error, or nobody would learn of it.
    const uint32_t found = completion.error == IoError::kOk ? completion.events : kError;
    const uint32_t events = found & (wanted_ | kAlwaysReported);
    if (!orphaned() && completion.error != IoError::kCancelled && wanted_ != 0 && events != 0) ready_(events);
    if (!orphaned()) StartIfWanted();
    DeleteIfDone();
  }

  static constexpr uint32_t kError = EPOLLERR;
  static constexpr uint32_t kAlwaysReported = EPOLLERR | EPOLLHUP;
  Operation poll_;
  uint32_t wanted_ = 0;
  absl::AnyInvocable<void(uint32_t)> ready_;
};

DescriptorWatch::DescriptorWatch(Reactor& reactor, int descriptor, absl::AnyInvocable<void(uint32_t)> ready)
    : state_(new State(reactor, descriptor, std::move(ready))) {}

DescriptorWatch::~DescriptorWatch() { state_->Close(); }

void DescriptorWatch::Watch(uint32_t events) { state_->Watch(events); }

}  // namespace tunnel::core
