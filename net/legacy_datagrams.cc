#include "net/legacy_datagrams.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

#include "core/log.h"

namespace tunnel::net {

using proto::LegacyType;

// One target: an id on a channel while it is open.
class LegacyDatagrams::Flow final : LegacyDatagramReceiver {
 public:
  Flow(LegacyDatagrams& owner, proto::Target target)
      : owner_(owner), target_(std::move(target)), last_used_(owner.reactor_.now()) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow() { Close(); }

  // Opens it on a channel unless it is open or was refused just now. False when it cannot be sent to.
  bool Open() {
    if (channel_ != nullptr) return true;
    if (owner_.reactor_.now() < ask_again_) return false;
    LegacyClient* channel = owner_.choose_();
    if (channel == nullptr || !channel->socket().writable()) return false;
    std::array<uint8_t, 16> random{};
    owner_.reactor_.FillRandom(random);
    id_ = proto::ConnectionId::FromRandom(random);
    if (!channel->SendHead({.type = LegacyType::kUdpConnect, .id = id_, .host = target_.host, .port = target_.port})) {
      return false;
    }
    channel->AddDatagrams(id_, *this);
    channel_ = channel;
    return true;
  }
  void Close() {
    if (channel_ == nullptr) return;
    LegacyClient& channel = *std::exchange(channel_, nullptr);
    channel.RemoveDatagrams(id_);
    if (channel.up()) (void)channel.SendHead({.type = LegacyType::kUdpClose, .id = id_});
  }
  // False when it was dropped.
  bool Send(const core::Slice& payload) {
    last_used_ = owner_.reactor_.now();
    if (!Open() || !channel_->socket().writable()) return false;
    std::array<uint8_t, proto::kMaxLegacyHeadBytes> head{};
    const std::optional<size_t> size =
        proto::EncodeLegacyHead(head, proto::Role::kClient, {.type = LegacyType::kUdpData, .id = id_});
    TUNNEL_CHECK(size.has_value());
    channel_->socket().SendMessage(proto::LegacyOpcodeOf(LegacyType::kUdpData), std::span(head).first(*size),
                                   payload.bytes());
    return true;
  }
  [[nodiscard]] core::TimePoint last_used() const { return last_used_; }

 private:
  // The handler comes last in each: the association may be destroyed from it, and this with it.
  void OnConnected() override { owner_.handler_.OnTarget(target_, absl::OkStatus()); }
  void OnRefused(std::string_view reason) override {
    channel_->RemoveDatagrams(id_);
    channel_ = nullptr;
    ask_again_ = owner_.reactor_.now() + kRefusedTargetLimit;
    spdlog::debug("target {}: refused by the server", proto::ToString(target_));
    owner_.handler_.OnTarget(target_, Unavailable("refused by the server: {}", reason));
  }
  void OnDatagram(std::string_view host, uint16_t port, core::Slice payload) override {
    last_used_ = owner_.reactor_.now();
    from_.host.assign(host);
    from_.port = port;
    owner_.handler_.OnDatagram(from_, std::move(payload));
  }
  void OnChannelGone() override { channel_ = nullptr; }

  LegacyDatagrams& owner_;
  const proto::Target target_;
  LegacyClient* channel_ = nullptr;  // null while it is not open
  proto::ConnectionId id_;
  core::TimePoint last_used_;
  core::TimePoint ask_again_;
  proto::Target from_;  // kept, so that its text need not be allocated again
};

LegacyDatagrams::LegacyDatagrams(core::Reactor& reactor, Choose choose, Handler& handler, core::Duration idle_limit)
    : reactor_(reactor),
      choose_(std::move(choose)),
      handler_(handler),
      idle_limit_(idle_limit),
      sweep_timer_(reactor.timers(), [this] { Sweep(); }) {}

LegacyDatagrams::~LegacyDatagrams() { CloseUnusedSince(core::kNever); }

// In an order of their own, which is not the table's: what is said on the wire must not depend on where memory lies.
void LegacyDatagrams::CloseUnusedSince(core::TimePoint limit) {
  std::vector<const proto::Target*> unused;
  for (const auto& [target, flow] : flows_) {
    if (flow->last_used() <= limit) unused.push_back(&target);
  }
  std::sort(unused.begin(), unused.end(), [](const proto::Target* one, const proto::Target* other) {
    return std::tie(one->host, one->port) < std::tie(other->host, other->port);
  });
  for (const proto::Target* target : unused) flows_.erase(flows_.find(*target));
}

void LegacyDatagrams::Send(const proto::Target& to, core::Slice payload) {
  Flow* flow = Find(to);
  if (flow == nullptr || !flow->Send(payload)) reactor_.counters().datagrams_dropped.Add();
}

LegacyDatagrams::Flow* LegacyDatagrams::Find(const proto::Target& target) {
  const auto found = flows_.find(target);
  if (found != flows_.end()) return found->second->Open() ? found->second.get() : nullptr;
  MakeRoom();
  auto flow = std::make_unique<Flow>(*this, target);
  if (!flow->Open()) return nullptr;
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(idle_limit_ / 2);
  return flows_.emplace(target, std::move(flow)).first->second.get();
}

// Whoever was silent longest makes room.
void LegacyDatagrams::MakeRoom() {
  if (flows_.size() < kTargetsPerAssociation) return;
  auto oldest = flows_.begin();
  for (auto at = flows_.begin(); at != flows_.end(); ++at) {
    if (at->second->last_used() < oldest->second->last_used()) oldest = at;
  }
  flows_.erase(oldest);
}

void LegacyDatagrams::Sweep() {
  CloseUnusedSince(reactor_.now() - idle_limit_);
  if (!flows_.empty()) sweep_timer_.SetAfter(idle_limit_ / 2);
}

}  // namespace tunnel::net
