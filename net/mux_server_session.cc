#include "net/mux_server_session.h"

#include <algorithm>

#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"
#include "net/mux_connect.h"
#include "net/tcp_stream.h"

namespace tunnel::net {

using proto::MuxFrame;
using proto::MuxKind;

// A stream of datagrams and its way out.
class MuxServerSession::Association final : MuxStream::Watcher, DatagramAssociation::Handler {
 public:
  Association(MuxServerSession& session, MuxStream& stream)
      : session_(session), stream_(stream), handle_(stream.TakeHandle()) {
    stream_.SetWatcher(this);
  }
  ~Association() { stream_.SetWatcher(nullptr); }

  absl::Status Open(DatagramOpener& way_out) {
    auto opened = way_out.Open(*this, SenderFilter::kAnySender);
    if (!opened.ok()) return opened.status();
    way_ = *std::move(opened);
    return absl::OkStatus();
  }

 private:
  // --- from the client ---
  void OnOpened(const absl::Status& status) override { OnGone(status); }
  void OnCarried(const proto::Target& address, core::Slice payload) override {
    way_->Send(address, std::move(payload));
  }
  void OnGone(const absl::Status& reason) override {
    (void)reason;
    session_.EndAssociation(stream_.id());
  }
  // --- from targets ---
  void OnDatagram(const proto::Target& from, core::Slice payload) override {
    stream_.SendDatagram(from, std::move(payload));
  }
  void OnDead(const absl::Status& reason) override {
    stream_.Reset(proto::MuxResetCode::kAborted, MessageOf(reason));
    session_.EndAssociation(stream_.id());
  }

  MuxServerSession& session_;
  MuxStream& stream_;
  std::unique_ptr<ByteStream> handle_;  // keeps the stream; destroying it resets it
  std::unique_ptr<DatagramAssociation> way_;
};

MuxServerSession::MuxServerSession(const MuxServerParts& parts, uint64_t epoch)
    : MuxSession(parts.reactor, proto::Role::kServer, parts.budget),
      parts_(parts),
      epoch_(epoch),
      open_tokens_(kMuxOpenBurst),
      tokens_at_(parts.reactor.now()) {
  SetSettled(parts_.settled);
}

MuxServerSession::~MuxServerSession() {
  listeners_.clear();
  associations_.clear();
  EndAll(Unavailable("the session is over"));
}

absl::Status MuxServerSession::Admit() {
  const core::TimePoint now = reactor().now();
  const double seconds = std::chrono::duration<double>(now - std::exchange(tokens_at_, now)).count();
  open_tokens_ = std::min<double>(kMuxOpenBurst, open_tokens_ + seconds * kMuxOpensPerSecond);
  if (open_tokens_ < 1) return ResourceExhausted("the session opens streams too fast");
  open_tokens_ -= 1;
  if (streams() >= kMuxStreamsPerSession) return ResourceExhausted("the session has as many streams as it may");
  if (*connecting_ >= kMuxConnectsPerSession) return ResourceExhausted("the session connects to too many targets");
  if (budget().exhausted()) return ResourceExhausted("the streams of this server hold as much memory as they may");
  // Ids that leave gaps, each of which has to be remembered.
  if (seen_.ranges() > kMuxStreamsPerSession) return ResourceExhausted("the session's stream ids are too far apart");
  return absl::OkStatus();
}

MuxStream* MuxServerSession::OnOpen(MuxChannel& channel, const MuxFrame& frame) {
  if (MuxStream* known = Find(frame.stream); known != nullptr) {
    // One that is not above came late, on a channel that the client has given up.
    if (frame.generation <= known->generation()) return nullptr;
    known->Bind(channel, frame.generation);
    known->OnOpenedAgain();
    return nullptr;
  }
  if (seen_.Contains(frame.stream)) {
    channel.SendReset(frame.stream, proto::MuxResetCode::kUnknown);
    return nullptr;
  }
  const absl::Status admitted = Admit();
  if (admitted.ok() || seen_.ranges() <= kMuxStreamsPerSession) seen_.Add(frame.stream);
  MuxStream& stream = MakeStream(frame.stream, frame.kind, false, *frame.address, frame.limit);
  stream.Bind(channel, frame.generation);
  if (frame.generation > 0) stream.OnOpenedAgain();
  if (!admitted.ok()) {
    reactor().counters().streams_failed.Add();
    spdlog::debug("stream refused: {}", MessageOf(admitted));
    stream.Answer(admitted, Nowhere());
    return nullptr;
  }
  Accept(stream);
  return Find(frame.stream);  // unless it was refused
}

void MuxServerSession::Accept(MuxStream& stream) {
  switch (stream.kind()) {
    case MuxKind::kTcp: {
      std::unique_ptr<ByteStream> handle = stream.TakeHandle();
      parts_.scope.Spawn(ConnectAndAnswer(reactor(), parts_.connector, parts_.relays, stream.address(), stream,
                                          std::move(handle), connecting_));
      break;
    }
    case MuxKind::kUdp: {
      auto association = std::make_unique<Association>(*this, stream);
      absl::Status opened = association->Open(parts_.datagrams);
      if (opened.ok()) associations_.emplace(stream.id(), std::move(association));
      stream.Answer(opened, Nowhere());
      break;
    }
    case MuxKind::kListen:
      Listen(stream);
      break;
  }
}

void MuxServerSession::Listen(MuxStream& stream) {
  static const std::vector<TargetRule> nothing;
  MuxListener::Owner& owner = *this;
  auto listener = std::make_unique<MuxListener>(reactor(), owner, stream);
  absl::StatusOr<proto::Target> bound = ResourceExhausted("the server stops");
  if (listeners_.size() >= kMuxListenersPerSession) {
    bound = ResourceExhausted("the session has as many listeners as it may");
  } else if (!stopped_listening_) {
    bound = listener->Open(parts_.allow_reverse == nullptr ? nothing : *parts_.allow_reverse);
  }
  if (!bound.ok()) {
    reactor().counters().streams_failed.Add();
    spdlog::debug("not listening for a client: {}", MessageOf(bound.status()));
    stream.Answer(bound.status(), Nowhere());
    return;
  }
  spdlog::info("listening on {} for a client", proto::ToString(*bound));
  listeners_.emplace(stream.id(), std::move(listener));
  stream.Answer(absl::OkStatus(), *bound);
}

void MuxServerSession::StopListening() {
  stopped_listening_ = true;
  for (const auto& [id, listener] : listeners_) listener->Stop("the server stops");
}

bool MuxServerSession::HasRoom() const {
  return streams() < kMuxStreamsPerSession && !budget().exhausted() && next_id_ <= UINT32_MAX - 2 &&
         Choose() != nullptr;
}

void MuxServerSession::OnConnection(const proto::Target& address, core::StreamSocket socket) {
  MuxChannel* channel = Choose();
  TUNNEL_CHECK(channel != nullptr);
  // Anywhere in the lower half: numbers that a client met under another epoch are then others.
  if (next_id_ == 0) next_id_ = 2 + 2 * static_cast<uint32_t>(reactor().RandomU64() >> 34);
  MuxStream& stream = MakeStream(next_id_, MuxKind::kTcp, true, address, channel->peer_window());
  next_id_ += 2;
  stream.Open(*channel, {});
  std::unique_ptr<ByteStream> handle = stream.TakeHandle();
  // What comes before OPENED goes ahead, as far as the window lets it.
  parts_.relays.Start(std::move(handle), std::make_unique<TcpStream>(std::move(socket)));
}

template <typename Held>
void MuxServerSession::LetGo(std::map<uint32_t, std::unique_ptr<Held>>& of, uint32_t stream) {
  const auto found = of.find(stream);
  if (found == of.end()) return;
  reactor().Defer([ended = std::move(found->second)] {});
  of.erase(found);
}

void MuxServerSession::OnListenerGone(uint32_t stream) { LetGo(listeners_, stream); }

void MuxServerSession::OnAttached(MuxChannel& channel) {
  ForEachUnbound([&channel](MuxStream& stream) {
    if (stream.unanswered()) stream.OpenAgain(channel);
  });
  for (const auto& [id, listener] : listeners_) listener->CheckRoom();
}

void MuxServerSession::OnDetached() {
  ForEachUnbound([this](MuxStream& stream) {
    // What was answered, its client will move.
    MuxChannel* channel = stream.unanswered() ? Choose() : nullptr;
    if (channel != nullptr) stream.OpenAgain(*channel);
  });
  for (const auto& [id, listener] : listeners_) listener->CheckRoom();
}

void MuxServerSession::EndAssociation(uint32_t stream) { LetGo(associations_, stream); }

void MuxServerSession::OnResume(MuxChannel& channel, const MuxFrame& frame) {
  MuxStream* stream = Find(frame.stream);
  if (stream == nullptr) {
    channel.SendReset(frame.stream, proto::MuxResetCode::kUnknown);
    return;
  }
  if (frame.generation <= stream->generation()) return;  // late, as above
  stream->Bind(channel, frame.generation);
  stream->OnResume(frame);
}

void MuxServerSession::OnGoAway(MuxChannel& channel, const MuxFrame& frame) {
  // The client will move what is on it.
  (void)frame;
  channel.SetGoingAway();
}

}  // namespace tunnel::net
