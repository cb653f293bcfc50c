#include "net/relay.h"

#include "net/limits.h"

namespace tunnel::net {

class RelaySet::Relay : public core::ListLink<RelaySet> {
 public:
  Relay(RelaySet& set, std::unique_ptr<ByteStream> tunnel, std::unique_ptr<ByteStream> outside)
      : set_(set),
        tunnel_(*this, std::move(tunnel), set.reactor_.counters().bytes_to_target),
        outside_(*this, std::move(outside), set.reactor_.counters().bytes_from_target) {
    tunnel_.other = &outside_;
    outside_.other = &tunnel_;
  }
  void Start(bool outside_ended) {
    outside_.ended = outside_ended;
    tunnel_.stream->SetHandler(&tunnel_);
    outside_.stream->SetHandler(&outside_);
  }

 private:
  // One stream and what comes out of it.
  struct Side final : ByteStream::Handler {
    Side(Relay& r, std::unique_ptr<ByteStream> s, core::Counter& bytes)
        : relay(r), stream(std::move(s)), received_bytes(bytes) {}

    void OnData(core::Slice data) override {
      received_bytes.Add(static_cast<int64_t>(data.size()));
      other->stream->Send(std::move(data));
      if (!other->stream->writable()) stream->PauseReceive();
    }
    void OnEnd() override {
      ended = true;
      if (other->ended) {
        stream->CloseAfterSend(kFlushLimit);
        other->stream->CloseAfterSend(kFlushLimit);
        relay.set_.Ended(relay);
      } else {
        other->stream->FinishSend();
      }
    }
    void OnDrained() override { other->stream->ResumeReceive(); }
    void OnDead(absl::Status reason) override {
      if (reason.ok()) {
        other->stream->CloseAfterSend(kFlushLimit);
      } else {
        other->stream->Abort();
      }
      relay.set_.Ended(relay);
    }

    Relay& relay;
    std::unique_ptr<ByteStream> stream;
    core::Counter& received_bytes;
    Side* other = nullptr;
    bool ended = false;
  };

  RelaySet& set_;
  Side tunnel_;
  Side outside_;
};

RelaySet::~RelaySet() {
  emptied_ = nullptr;
  while (!relays_.empty()) Ended(relays_.PopFront());
}

void RelaySet::Start(std::unique_ptr<ByteStream> tunnel, std::unique_ptr<ByteStream> outside, bool outside_ended) {
  auto* relay = new Relay(*this, std::move(tunnel), std::move(outside));
  relays_.PushBack(*relay);
  ++size_;
  relay->Start(outside_ended);
}

void RelaySet::Ended(Relay& relay) {
  delete &relay;
  LetGo();
}

void RelaySet::LetGo() {
  --size_;
  if (size_ == 0 && emptied_ != nullptr) emptied_();
}

}  // namespace tunnel::net
