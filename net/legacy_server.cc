#include "net/legacy_server.h"

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {
namespace {

using proto::LegacyHead;
using proto::LegacyType;

// Connects one request's target and joins it with its stream. Owns the stream, so that whatever ends first ends it all.
core::Task<void> ConnectAndRelay(TargetConnector& connector, RelaySet& relays, core::Reactor& reactor,
                                 std::unique_ptr<LegacyStream> stream, proto::Target target) {
  const std::string name = proto::ToString(target);
  auto connected = co_await connector.Connect(std::move(target));
  if (!connected.ok()) {
    reactor.counters().streams_failed.Add();
    spdlog::debug("target {}: {}", name, MessageOf(connected.status()));
    co_return;  // the stream's destructor sends CLOSE
  }
  if (!stream->Announce()) co_return;
  relays.Start(std::move(stream), *std::move(connected));
}

}  // namespace

void LegacyServer::OnHead(const LegacyHead& head) {
  reading_datagram_ = false;
  switch (head.type) {
    case LegacyType::kClaim:
      (void)SendHead({.type = LegacyType::kClaimAck, .id = head.id, .channel = head.channel});
      break;
    case LegacyType::kTcp:
      // An id that is in use keeps its stream; only the further request is refused.
      requested_ = MakeStream(head.id);
      if (requested_ == nullptr) {
        if (Find(head.id) == nullptr) (void)SendHead({.type = LegacyType::kClose, .id = head.id});
        reactor().counters().streams_failed.Add();
      } else {
        target_ = {.host = std::string(head.host), .port = head.port};
      }
      break;
    case LegacyType::kUdpConnect:
      datagrams_.OnConnect(head);
      break;
    case LegacyType::kUdpClose:
      datagrams_.OnClose(head);
      break;
    case LegacyType::kUdpData:
      datagrams_.OnData(head);
      reading_datagram_ = true;
      break;
    default:
      reactor().counters().messages_ignored.Add();
      break;
  }
}

void LegacyServer::OnPayload(core::Slice piece) {
  if (reading_datagram_) {
    datagrams_.OnPayload(std::move(piece));
    return;
  }
  // It waits in the stream, as DATA does that comes before the target is connected.
  if (requested_ != nullptr) Deliver(*requested_, std::move(piece));
}

void LegacyServer::OnMessageComplete() {
  if (std::exchange(reading_datagram_, false)) {
    datagrams_.OnDataEnd();
    return;
  }
  if (requested_ == nullptr) return;
  scope_.Spawn(ConnectAndRelay(connector_, relays_, reactor(), std::move(requested_), std::move(target_)));
}

void LegacyServer::OnMalformed(const LegacyHead& head) {
  // A target that is none: the peer's application waits for the answer.
  if (head.type == LegacyType::kTcp && Find(head.id) == nullptr) {
    (void)SendHead({.type = LegacyType::kClose, .id = head.id});
    reactor().counters().streams_failed.Add();
  } else if (head.type == LegacyType::kUdpConnect) {
    (void)SendHead({.type = LegacyType::kUdpError, .id = head.id, .text = "the target is not HOST:PORT"});
  }
}

void LegacyServer::OnUnknownStream(const LegacyHead& head) {
  (void)head;  // as the original: DATA for a stream that has ended is on its way while CLOSE is
  reactor().counters().messages_ignored.Add();
}

}  // namespace tunnel::net
