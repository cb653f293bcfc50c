#include "net/udp_forward.h"

#include <absl/hash/hash.h>

#include "core/log.h"

namespace tunnel::net {

using core::Slice;
using core::SocketAddress;

class UdpForward::Sender final : public core::ListLink<UdpForward>, public DatagramAssociation::Handler {
 public:
  Sender(UdpForward& forward, const SocketAddress& address) : forward_(forward), address_(address) {}
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;
  ~Sender() {
    if (association_ != nullptr) forward_.reactor_.counters().associations_open.Add(-1);
  }

  absl::Status Open() {
    auto opened = forward_.opener_.Open(*this, SenderFilter::kTargetsOnly);
    if (!opened.ok()) return opened.status();
    association_ = *std::move(opened);
    forward_.reactor_.counters().associations_open.Add();
    return absl::OkStatus();
  }
  void Send(Slice data) { association_->Send(forward_.target_, std::move(data)); }

  [[nodiscard]] const SocketAddress& address() const { return address_; }
  [[nodiscard]] core::TimePoint last_used() const { return last_used_; }
  void set_last_used(core::TimePoint now) { last_used_ = now; }

 private:
  void OnDatagram(const proto::Target& from, Slice payload) override {
    (void)from;  // there is one target only
    forward_.Answer(*this, std::move(payload));
  }
  void OnDead(const absl::Status& reason) override {
    spdlog::debug("{}: {}", forward_.description_, MessageOf(reason));
    forward_.Remove(*this);
  }

  UdpForward& forward_;
  const SocketAddress address_;
  core::TimePoint last_used_;
  std::unique_ptr<DatagramAssociation> association_;
};

size_t UdpForward::AddressHash::operator()(const SocketAddress& address) const {
  return absl::Hash<std::pair<std::array<uint8_t, 16>, uint16_t>>()({address.mapped_bytes(), address.port()});
}

UdpForward::UdpForward(core::Reactor& reactor, DatagramOpener& opener, proto::Target target, std::string description,
                       const Bounds& bounds)
    : reactor_(reactor),
      opener_(opener),
      target_(std::move(target)),
      description_(std::move(description)),
      bounds_(bounds),
      sweep_timer_(reactor.timers(), [this] { Sweep(); }) {
  TUNNEL_CHECK(bounds_.senders > 0);
}

UdpForward::~UdpForward() = default;

absl::Status UdpForward::Open(const SocketAddress& address) {
  auto socket = core::DatagramSocket::Open(reactor_, address);
  if (!socket.ok()) return socket.status();
  socket_ = *std::move(socket);
  socket_.Start(*this);
  return absl::OkStatus();
}

void UdpForward::OnDatagram(const SocketAddress& from, Slice data) {
  core::Counters& counters = reactor_.counters();
  const auto found = senders_.find(from);
  Sender* const sender = found != senders_.end() ? found->second.get() : Admit(from);
  if (sender == nullptr) {
    counters.datagrams_dropped.Add();
    return;
  }
  Touch(*sender);
  counters.bytes_from_target.Add(static_cast<int64_t>(data.size()));
  sender->Send(std::move(data));
}

UdpForward::Sender* UdpForward::Admit(const SocketAddress& address) {
  if (!admitting_) return nullptr;
  if (senders_.size() >= bounds_.senders) {
    Remove(by_use_.front());
    reactor_.counters().senders_evicted.Add();
  }
  auto sender = std::make_unique<Sender>(*this, address);
  if (const absl::Status opened = sender->Open(); !opened.ok()) {
    spdlog::debug("{}: {}", description_, MessageOf(opened));
    return nullptr;
  }
  return senders_.emplace(address, std::move(sender)).first->second.get();
}

void UdpForward::Answer(Sender& sender, Slice payload) {
  Touch(sender);
  reactor_.counters().bytes_to_target.Add(static_cast<int64_t>(payload.size()));
  socket_.SendTo(sender.address(), std::move(payload));
}

void UdpForward::Touch(Sender& sender) {
  sender.set_last_used(reactor_.now());
  sender.Unlink();
  by_use_.PushBack(sender);
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(bounds_.idle_limit);
}

void UdpForward::Remove(Sender& sender) {
  // A copy: the key that is looked for must not be one of what is erased.
  const SocketAddress address = sender.address();
  senders_.erase(address);
}

void UdpForward::Sweep() {
  const core::TimePoint limit = reactor_.now() - bounds_.idle_limit;
  while (!by_use_.empty() && by_use_.front().last_used() <= limit) Remove(by_use_.front());
  if (!by_use_.empty()) sweep_timer_.SetAt(by_use_.front().last_used() + bounds_.idle_limit);
}

// Only a bug of ours or of the kernel's gets here: what ICMP reports does not.
void UdpForward::OnSocketError(core::IoError error) {
  spdlog::error("{}: stopped listening: {}", description_, core::ToString(error));
  admitting_ = false;
  senders_.clear();
  socket_.Close();
}

}  // namespace tunnel::net
