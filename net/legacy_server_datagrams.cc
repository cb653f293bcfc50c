#include "net/legacy_server_datagrams.h"

#include <array>

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

using proto::LegacyType;

class LegacyServerDatagrams::Association final : DatagramAssociation::Handler {
 public:
  Association(LegacyServerDatagrams& set, const proto::ConnectionId& id, proto::Target target)
      : set_(set), id_(id), target_(std::move(target)) {}

  absl::Status Open(DatagramOpener& way_out) {
    auto opened = way_out.Open(*this, SenderFilter::kTargetsOnly);
    if (!opened.ok()) return opened.status();
    way_ = *std::move(opened);
    way_->Prepare(target_);
    return absl::OkStatus();
  }
  void Send(core::Slice payload) { way_->Send(target_, std::move(payload)); }

 private:
  void OnDatagram(const proto::Target& from, core::Slice payload) override {
    WebSocket& socket = set_.carrier_.socket();
    std::array<uint8_t, proto::kMaxLegacyHeadBytes> head{};
    const std::optional<size_t> size = proto::EncodeLegacyHead(
        head, proto::Role::kServer, {.type = LegacyType::kUdpData, .id = id_, .host = from.host, .port = from.port});
    // UDP may drop; a queue that grows may not.
    if (!size.has_value() || !socket.writable()) {
      set_.carrier_.reactor().counters().datagrams_dropped.Add();
      return;
    }
    socket.SendMessage(proto::LegacyOpcodeOf(LegacyType::kUdpData), std::span(head).first(*size), payload.bytes());
  }
  void OnTarget(const proto::Target& target, const absl::Status& status) override {
    (void)target;
    if (!status.ok()) {
      OnDead(status);
    } else if (!std::exchange(announced_, true)) {
      (void)set_.carrier_.SendHead({.type = LegacyType::kUdpConnected, .id = id_});
    }
  }
  void OnDead(const absl::Status& reason) override {
    set_.Refuse(id_, MessageOf(reason));
    const proto::ConnectionId id = id_;  // which goes with this
    set_.associations_.erase(id);
  }

  LegacyServerDatagrams& set_;
  const proto::ConnectionId id_;
  const proto::Target target_;
  std::unique_ptr<DatagramAssociation> way_;
  bool announced_ = false;
};

LegacyServerDatagrams::LegacyServerDatagrams(LegacyCarrier& carrier, DatagramOpener& way_out)
    : carrier_(carrier), way_out_(way_out), assembler_(carrier.reactor().buffers()) {}

LegacyServerDatagrams::~LegacyServerDatagrams() { Clear(); }

void LegacyServerDatagrams::Clear() {
  for (const proto::ConnectionId& id : IdsInOrder(associations_)) associations_.erase(id);
}

void LegacyServerDatagrams::Refuse(const proto::ConnectionId& id, std::string_view reason) {
  (void)carrier_.SendHead({.type = LegacyType::kUdpError, .id = id, .text = reason});
}

void LegacyServerDatagrams::OnConnect(const proto::LegacyHead& head) {
  if (associations_.contains(head.id)) {
    carrier_.reactor().counters().messages_ignored.Add();
    return;
  }
  proto::Target target{.host = std::string(head.host), .port = head.port};
  if (!proto::IsValidHost(target.host)) return Refuse(head.id, "the target is not HOST:PORT");
  if (associations_.size() >= kAssociationsPerChannel) {
    return Refuse(head.id, "too many UDP associations on this channel");
  }
  auto association = std::make_unique<Association>(*this, head.id, std::move(target));
  if (const absl::Status opened = association->Open(way_out_); !opened.ok()) {
    return Refuse(head.id, MessageOf(opened));
  }
  associations_.emplace(head.id, std::move(association));
}

void LegacyServerDatagrams::OnClose(const proto::LegacyHead& head) {
  if (associations_.erase(head.id) == 0) carrier_.reactor().counters().messages_ignored.Add();
}

void LegacyServerDatagrams::OnData(const proto::LegacyHead& head) {
  data_id_ = head.id;
  assembler_.Begin();
}

void LegacyServerDatagrams::OnDataEnd() {
  core::Counters& counters = carrier_.reactor().counters();
  std::optional<core::Slice> datagram = assembler_.Take();
  if (!datagram.has_value()) {
    counters.datagrams_malformed.Add();
    return;
  }
  const auto found = associations_.find(data_id_);
  if (found == associations_.end()) {
    // It was refused, or closed while this was on its way.
    counters.datagrams_dropped.Add();
  } else {
    found->second->Send(*std::move(datagram));
  }
}

}  // namespace tunnel::net
