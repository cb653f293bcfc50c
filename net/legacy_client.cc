#include "net/legacy_client.h"

#include <algorithm>
#include <array>

#include "core/log.h"
#include "net/legacy_datagrams.h"
#include "net/limits.h"

namespace tunnel::net {

using proto::LegacyHead;
using proto::LegacyType;

// One stream being opened. Lives in the coroutine's frame; registered under its id with every channel that was asked.
class LegacyOpen final : ByteStream::Handler {
 public:
  explicit LegacyOpen(const proto::ConnectionId& id) : id_(id) {}
  LegacyOpen(const LegacyOpen&) = delete;
  LegacyOpen& operator=(const LegacyOpen&) = delete;
  ~LegacyOpen() {
    for (LegacyClient* channel : asked_) channel->opens_.erase(id_);
  }

  void Ask(LegacyClient& channel, bool race) {
    asked_.push_back(&channel);
    channel.opens_.emplace(id_, this);
    if (race) {
      (void)channel.SendHead({.type = LegacyType::kClaim, .id = id_, .channel = channel.channel_});
    } else {
      winner_ = &channel;
    }
  }

  // Sends the request on the winner.
  absl::Status Request(const proto::Target& target, core::Slice first) {
    stream_ = winner_->MakeStream(id_);
    if (stream_ == nullptr) return ResourceExhausted("the channel carries as many streams as it may");
    stream_->SetHandler(this);
    stream_->PauseReceive();  // what comes is for the stream's real handler
    std::array<uint8_t, proto::kMaxLegacyHeadBytes> bytes{};
    const std::optional<size_t> size = proto::EncodeLegacyHead(
        bytes, proto::Role::kClient, {.type = LegacyType::kTcp, .id = id_, .host = target.host, .port = target.port});
    if (!size.has_value()) return InvalidArgument("the legacy protocol cannot carry this target");
    // What the first message does not hold follows as data, once the target is connected.
    const size_t with_request = std::min(first.size(), kDataMessageBytes);
    winner_->socket().SendMessage(proto::LegacyOpcodeOf(LegacyType::kTcp), std::span(bytes).first(*size),
                                  first.bytes().first(with_request));
    first.RemovePrefix(with_request);
    rest_ = std::move(first);
    return absl::OkStatus();
  }

  std::unique_ptr<ByteStream> TakeStream() {
    stream_->SetHandler(nullptr);
    if (!rest_.empty()) stream_->Send(std::move(rest_));
    return std::move(stream_);
  }

  [[nodiscard]] bool claimed() const { return winner_ != nullptr; }
  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] const absl::Status& failed() const { return failed_; }
  core::Event& changed() { return changed_; }

  // --- called by channels ---
  void OnClaimed(LegacyClient& channel) {
    if (winner_ == nullptr) winner_ = &channel;
    changed_.Set();
  }
  void OnConnected() {
    connected_ = true;
    changed_.Set();
  }
  void OnChannelGone(LegacyClient& channel, const absl::Status& reason) {
    asked_.erase(std::remove(asked_.begin(), asked_.end(), &channel), asked_.end());
    if (winner_ == &channel || asked_.empty()) {
      Fail(MakeStatus(absl::StatusCode::kAborted, "channel lost: {}", MessageOf(reason)));
    }
  }

 private:
  void Fail(absl::Status reason) {
    if (failed_.ok()) failed_ = std::move(reason);
    changed_.Set();
  }
  void OnData(core::Slice data) override { (void)data; }
  void OnEnd() override {}
  void OnDrained() override {}
  void OnDead(absl::Status reason) override {
    // A target that was reached and has left already: the stream tells its next handler so.
    if (connected_ && reason.ok()) return;
    Fail(reason.ok() ? Unavailable("the server could not reach the target") : std::move(reason));
  }

  const proto::ConnectionId id_;
  std::vector<LegacyClient*> asked_;
  LegacyClient* winner_ = nullptr;
  std::unique_ptr<LegacyStream> stream_;
  core::Slice rest_;
  bool connected_ = false;
  absl::Status failed_;
  core::Event changed_;
};

LegacyClient::~LegacyClient() { OnChannelDown(Unavailable("the channel was closed")); }

void LegacyClient::OnHead(const LegacyHead& head) {
  datagram_.reset();
  switch (head.type) {
    case LegacyType::kUdpData:
      datagram_ = head;  // whose texts hold until the next message
      assembler_.Begin();
      break;
    case LegacyType::kUdpConnected:
    case LegacyType::kUdpError: {
      const auto found = datagrams_.find(head.id);
      if (found == datagrams_.end()) {
        reactor().counters().messages_ignored.Add();  // closed while this was on its way
      } else if (head.type == LegacyType::kUdpConnected) {
        found->second->OnConnected();
      } else {
        found->second->OnRefused(head.text);
      }
      break;
    }
    case LegacyType::kClaimAck:
    case LegacyType::kConnected: {
      // A slower channel's CLAIM_ACK finds nothing: the race is over.
      const auto found = opens_.find(head.id);
      if (found == opens_.end()) return;
      if (head.type == LegacyType::kClaimAck) {
        found->second->OnClaimed(*this);
      } else {
        found->second->OnConnected();
      }
      break;
    }
    case LegacyType::kError:
      spdlog::warn("the server at {} reports an error", socket().peer());
      break;
    default:
      reactor().counters().messages_ignored.Add();
      break;
  }
}

void LegacyClient::OnMessageComplete() {
  if (!datagram_.has_value()) return;
  const LegacyHead head = *std::exchange(datagram_, std::nullopt);
  std::optional<core::Slice> payload = assembler_.Take();
  const auto found = datagrams_.find(head.id);
  if (!payload.has_value() || !proto::IsValidHost(head.host)) {
    reactor().counters().datagrams_malformed.Add();
  } else if (found == datagrams_.end()) {
    reactor().counters().datagrams_dropped.Add();
  } else {
    found->second->OnDatagram(head.host, head.port, *std::move(payload));
  }
}

void LegacyClient::OnMalformed(const LegacyHead& head) {
  (void)head;  // nothing of a server's waits for an answer
}

void LegacyClient::OnUnknownStream(const LegacyHead& head) {
  // The server goes on sending to a stream we closed: tell it again, as the original client does.
  if (head.type == LegacyType::kData) (void)SendHead({.type = LegacyType::kClose, .id = head.id});
}

void LegacyClient::OnChannelDown(const absl::Status& reason) {
  // Whoever is told may take others out, and adds none: the channel is down.
  for (const proto::ConnectionId& id : IdsInOrder(opens_)) {
    const auto open = opens_.extract(id);
    if (!open.empty()) open.mapped()->OnChannelGone(*this, reason);
  }
  for (const proto::ConnectionId& id : IdsInOrder(datagrams_)) {
    const auto receiver = datagrams_.extract(id);
    if (!receiver.empty()) receiver.mapped()->OnChannelGone();
  }
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> OpenLegacyStream(core::Reactor& reactor,
                                                                         std::vector<LegacyClient*> channels,
                                                                         proto::Target target, core::Slice first) {
  std::array<uint8_t, 16> random{};
  reactor.FillRandom(random);
  LegacyOpen open(proto::ConnectionId::FromRandom(random));
  for (LegacyClient* channel : channels) open.Ask(*channel, channels.size() > 1);
  while (!open.claimed() && open.failed().ok()) {
    open.changed().Reset();
    const absl::Status waited = co_await open.changed().Wait();
    if (!waited.ok()) co_return waited;
  }
  if (!open.failed().ok()) co_return open.failed();
  if (absl::Status requested = open.Request(target, std::move(first)); !requested.ok()) co_return requested;
  while (!open.connected() && open.failed().ok()) {
    open.changed().Reset();
    const absl::Status waited = co_await open.changed().Wait();
    if (!waited.ok()) co_return waited;
  }
  if (!open.failed().ok()) co_return open.failed();
  co_return open.TakeStream();
}

}  // namespace tunnel::net
