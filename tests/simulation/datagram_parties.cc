#include "datagram_parties.h"

#include <fmt/format.h>

#include <array>

#include "core/check.h"
#include "proto/socks5_udp.h"
#include "tunnel.h"

namespace tunnel::simulation {

using core::Slice;
using core::SocketAddress;

// --- targets ---

DatagramTarget::DatagramTarget(core::Reactor& reactor, uint32_t index) : reactor_(reactor), index_(index) {
  auto socket = core::DatagramSocket::Open(
      reactor, *SocketAddress::Parse(kTargetIp, static_cast<uint16_t>(kFirstDatagramPort + index)));
  TUNNEL_CHECK(socket.ok());
  socket_ = *std::move(socket);
  socket_.Start(*this);
}

void DatagramTarget::OnDatagram(const SocketAddress& from, Slice data) {
  const std::optional<DatagramKey> key = ReadDatagram(data.bytes());
  if (!key.has_value() || key->target != index_) {
    wrong_ = fmt::format("target {} got a datagram of {} bytes that nobody sent it", index_, data.size());
    return;
  }
  most_copies_ = std::max(most_copies_, ++copies_[*key]);
  socket_.SendTo(from, reactor_.buffers().Copy(data.bytes()));
}

void DatagramTarget::OnSocketError(core::IoError error) {
  wrong_ = fmt::format("target {}: {}", index_, core::ToString(error));
}

// --- applications ---

std::string DatagramRecord::Describe() const {
  return fmt::format("{}sent {}, answered {}{}", granted ? "" : "not granted; ", sent, answered,
                     over ? "" : ", NOT OVER");
}

DatagramParty::DatagramParty(core::Reactor& reactor, core::StreamSocket control, const DatagramPlan& plan,
                             bool one_is_enough)
    : reactor_(reactor),
      control_(std::move(control)),
      plan_(plan),
      one_is_enough_(one_is_enough),
      request_(proto::Socks5Command::kUdpAssociate, {.host = "0.0.0.0", .port = 0}, std::nullopt),
      random_(plan.number),
      timer_(reactor.timers(), [this] { OnTimer(); }) {
  control_.SetHandler(this);
  Negotiate(Slice());
}

void DatagramParty::Wrong(std::string what) {
  if (record_.wrong.empty()) record_.wrong = std::move(what);
}

void DatagramParty::Leave() {
  record_.over = true;
  timer_.Cancel();
  socket_.Close();
  control_.Close();
}

void DatagramParty::OnSocketError(core::IoError error) {
  (void)error;
  Leave();
}

void DatagramParty::OnReceive(Slice data) {
  if (record_.granted) {
    Wrong("the proxy says more than that it grants the association");
  } else {
    Negotiate(std::move(data));
  }
}

void DatagramParty::Negotiate(Slice data) {
  request_.Feed(data.bytes());
  for (;;) {
    const proto::Socks5ClientEvent event = request_.Next();
    switch (event.kind) {
      case proto::Socks5ClientEvent::Kind::kNeedMore:
        return;
      case proto::Socks5ClientEvent::Kind::kSend:
        control_.Send(reactor_.buffers().Copy(event.send));
        break;
      case proto::Socks5ClientEvent::Kind::kDone:
        Begin(event.bound);
        return;
      case proto::Socks5ClientEvent::Kind::kError:
        if (!event.refused) Wrong("the answer is no SOCKS5");
        Leave();
        return;
    }
  }
}

void DatagramParty::Begin(const proto::Target& relay) {
  const auto address = SocketAddress::Parse(relay.host, relay.port);
  auto socket = core::DatagramSocket::Open(reactor_, core::AnyAddress(AF_INET));
  if (!address.has_value() || address->ip() != kClientIp || !socket.ok()) {
    Wrong("the relay is nowhere");
    Leave();
    return;
  }
  record_.granted = true;
  relay_ = *address;
  socket_ = *std::move(socket);
  socket_.Start(*this);
  SendBurst();
}

void DatagramParty::SendBurst() {
  for (uint32_t i = 0; i < plan_.burst && record_.sent < plan_.datagrams; ++i) {
    const DatagramKey key{.association = plan_.number,
                          .target = static_cast<uint32_t>(random_.Below(plan_.targets)),
                          .number = record_.sent};
    const bool by_name = plan_.by_name && key.target % 2 == 1;
    std::array<uint8_t, proto::kSocks5MaxUdpHeaderBytes> header{};
    const size_t header_bytes = proto::EncodeSocks5Udp(
        header,
        {.host = by_name ? kTargetName : kTargetIp, .port = static_cast<uint16_t>(kFirstDatagramPort + key.target)});
    const std::vector<uint8_t> payload =
        MakeDatagram(key, random_.Between(kDatagramKeyBytes, std::max<uint64_t>(kDatagramKeyBytes, plan_.most_bytes)));
    Slice block = reactor_.buffers().Allocate(header_bytes + payload.size());
    block.Truncate(0);
    block.Append(std::span(header).first(header_bytes));
    block.Append(payload);
    socket_.SendTo(relay_, std::move(block));
    ++record_.sent;
  }
  timer_.SetAfter(record_.sent < plan_.datagrams ? plan_.gap : plan_.patience);
}

void DatagramParty::OnTimer() {
  if (record_.sent < plan_.datagrams) {
    SendBurst();
  } else {
    Leave();
  }
}

void DatagramParty::OnDatagram(const SocketAddress& from, Slice data) {
  proto::Target sender;
  const proto::Socks5UdpResult header = proto::DecodeSocks5Udp(data.bytes(), sender);
  if (!(from == relay_) || !header.ok) return Wrong("an answer that is not the relay's");
  data.RemovePrefix(header.header_bytes);
  const std::optional<DatagramKey> key = ReadDatagram(data.bytes());
  if (!key.has_value() || key->association != plan_.number || key->number >= record_.sent) {
    return Wrong("an answer to what was never asked");
  }
  if (sender.host != kTargetIp || sender.port != kFirstDatagramPort + key->target) {
    return Wrong(fmt::format("target {}'s answer, as if from {}", key->target, proto::ToString(sender)));
  }
  record_.bytes += data.size();
  if (++answers_[*key] == 1) ++record_.answered;
  if (one_is_enough_ || record_.answered == plan_.datagrams) Leave();
}

}  // namespace tunnel::simulation
