#include "net/udp_associate.h"

#include <array>

#include "core/log.h"
#include "net/limits.h"
#include "proto/socks5.h"
#include "proto/socks5_udp.h"

namespace tunnel::net {
namespace {

using core::Slice;
using core::SocketAddress;

proto::IpAddress IpOf(const SocketAddress& address) {
  return proto::Unmapped(proto::IpAddress::V6(address.mapped_bytes()));
}

void Reply(core::Reactor& reactor, ByteStream& control, proto::Socks5Reply reply, const SocketAddress& bound) {
  const proto::Socks5Bytes bytes =
      bound.valid() ? proto::EncodeSocks5Reply(reply, IpOf(bound), bound.port()) : proto::EncodeSocks5Reply(reply);
  control.Send(reactor.buffers().Copy(bytes.bytes()));
}

}  // namespace

class UdpAssociateSet::Relay final : public core::ListLink<UdpAssociateSet>,
                                     ByteStream::Handler,
                                     core::DatagramSocket::Handler,
                                     DatagramAssociation::Handler {
 public:
  Relay(UdpAssociateSet& set, std::unique_ptr<ByteStream> control) : set_(set), control_(std::move(control)) {}
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay() { control_->CloseAfterSend(kCloseLimit); }

  absl::Status Open(SocketAddress local, const SocketAddress& peer, const proto::Target& expected) {
    local.set_port(0);
    auto socket = core::DatagramSocket::Open(set_.reactor_, local);
    if (!socket.ok()) return socket.status();
    auto association = set_.opener_.Open(*this, SenderFilter::kAnySender);
    if (!association.ok()) return association.status();
    socket_ = *std::move(socket);
    association_ = *std::move(association);
    // The request's address counts only where the socket could see it at all.
    application_ = peer;
    application_.set_port(0);
    const auto named = SocketAddress::Parse(expected.host, expected.port);
    if (named.has_value() && named->family() == local.family()) {
      const proto::IpAddress ip = IpOf(*named);
      if (ip != proto::IpAddress{.v6 = ip.v6}) application_ = *named;
    }
    application_.set_port(expected.port);
    return absl::OkStatus();
  }
  void Start() {
    Reply(set_.reactor_, *control_, proto::Socks5Reply::kSucceeded, socket_.local_address());
    control_->SetHandler(this);
    socket_.Start(*this);
  }
  ByteStream& control() { return *control_; }

 private:
  // --- the control connection: nothing more is said on it ---
  void OnData(Slice data) override { (void)data; }
  void OnEnd() override { set_.Ended(*this); }
  void OnDrained() override {}
  // Of the connection or of the association: there is nothing left to do for the one without the other.
  void OnDead(absl::Status reason) override {
    (void)reason;
    set_.Ended(*this);
  }
  void OnDead(const absl::Status& reason) override {
    spdlog::debug("UDP association of {}: {}", control_->peer(), MessageOf(reason));
    set_.Ended(*this);
  }

  // --- from the application ---
  void OnDatagram(const SocketAddress& from, Slice data) override {
    core::Counters& counters = set_.reactor_.counters();
    const bool from_there =
        IpOf(from) == IpOf(application_) && (application_.port() == 0 || from.port() == application_.port());
    if (!from_there) {
      counters.datagrams_foreign.Add();
      return;
    }
    const proto::Socks5UdpResult header = proto::DecodeSocks5Udp(data.bytes(), target_);
    if (!header.ok) {
      counters.datagrams_malformed.Add();
      return;
    }
    application_.set_port(from.port());
    data.RemovePrefix(header.header_bytes);
    counters.bytes_from_target.Add(static_cast<int64_t>(data.size()));
    association_->Send(target_, std::move(data));
  }
  void OnSocketError(core::IoError error) override {
    spdlog::debug("UDP association of {}: {}", control_->peer(), core::ToString(error));
    set_.Ended(*this);
  }

  // --- to the application ---
  void OnDatagram(const proto::Target& from, Slice payload) override {
    core::Counters& counters = set_.reactor_.counters();
    std::array<uint8_t, proto::kSocks5MaxUdpHeaderBytes> header{};
    const size_t size = proto::EncodeSocks5Udp(header, from);
    // Nobody sent anything yet, or there is no room for the header before the largest of datagrams.
    if (application_.port() == 0 || size + payload.size() > core::kMaxDatagramBytes) {
      counters.datagrams_dropped.Add();
      return;
    }
    Slice block = set_.reactor_.buffers().Allocate(size + payload.size());
    block.Truncate(0);
    block.Append(std::span(header).first(size));
    block.Append(payload.bytes());
    counters.bytes_to_target.Add(static_cast<int64_t>(payload.size()));
    socket_.SendTo(application_, std::move(block));
  }

  UdpAssociateSet& set_;
  std::unique_ptr<ByteStream> control_;
  core::DatagramSocket socket_;
  std::unique_ptr<DatagramAssociation> association_;
  SocketAddress application_;  // port 0 until its first datagram has come
  proto::Target target_;       // kept, so that its text need not be allocated again
};

void UdpAssociateSet::Start(std::unique_ptr<ByteStream> control, const SocketAddress& local, const SocketAddress& peer,
                            const proto::Target& expected) {
  if (local.is_unix()) {
    // A relay on loopback would be open to those whom the permissions of the socket keep out.
    Reply(reactor_, *control, proto::Socks5Reply::kCommandNotSupported, {});
    control->CloseAfterSend(kCloseLimit);
    return;
  }
  auto relay = std::make_unique<Relay>(*this, std::move(control));
  absl::Status opened = ResourceExhausted("too many UDP associations");
  if (static_cast<int64_t>(size_) < kAssociationsPerCore) opened = relay->Open(local, peer, expected);
  if (!opened.ok()) {
    spdlog::debug("UDP association of {}: {}", relay->control().peer(), MessageOf(opened));
    Reply(reactor_, relay->control(), proto::Socks5Reply::kGeneralFailure, {});
    return;
  }
  Relay& started = *relay.release();
  relays_.PushBack(started);
  ++size_;
  reactor_.counters().associations_open.Add();
  started.Start();
}

void UdpAssociateSet::Ended(Relay& relay) {
  delete &relay;
  --size_;
  reactor_.counters().associations_open.Add(-1);
}

void UdpAssociateSet::CloseAll() {
  while (!relays_.empty()) Ended(relays_.PopFront());
}

}  // namespace tunnel::net
