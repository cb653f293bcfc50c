#include "net/direct_datagrams.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <deque>

#include "core/log.h"
#include "net/admission.h"
#include "net/target_answers.h"
#include "net/waiting_datagrams.h"

namespace tunnel::net {

using core::Slice;
using core::SocketAddress;
using proto::Target;

class DirectDatagrams::Association final : public DatagramAssociation {
 public:
  Association(DirectDatagrams& way, Handler& handler, SenderFilter filter)
      : way_(way), reactor_(way.reactor_), handler_(handler), filter_(filter), sweep_timer_(reactor_.timers(), [this] {
          Sweep();
        }) {}
  ~Association() override { *self_ = nullptr; }

  void Send(const Target& to, Slice payload) override;
  void Prepare(const Target& target) override { (void)Find(target); }
  // The answer to a question of Find()'s.
  void OnAnswer(const Target& target, const absl::StatusOr<SocketAddress>& answer);

 private:
  // What is known of one target.
  struct Entry {
    enum class State : uint8_t { kAsking, kReady, kRefused };
    State state = State::kAsking;
    SocketAddress address;  // kReady
    core::TimePoint last_used;
    core::TimePoint ask_again;  // kRefused
    WaitingDatagrams waiting;   // kAsking
  };
  struct Side final : core::DatagramSocket::Handler {
    explicit Side(Association& a) : association(a) {}
    void OnDatagram(const SocketAddress& from, Slice data) override {
      association.OnReceived(*this, from, std::move(data));
    }
    void OnSocketError(core::IoError error) override {
      spdlog::debug("UDP: {}", core::ToString(error));
      socket.Close();  // the next Send() opens another
    }
    Association& association;
    core::DatagramSocket socket;
    core::TimePoint last_used;
  };

  // The entry of `target`, made and asked about where that is due; nullptr when there are too many.
  Entry* Find(const Target& target);
  void Ask(const Target& target, Entry& entry);
  [[nodiscard]] bool MakeRoom();
  void Transmit(Entry& entry, Slice payload);
  void OnReceived(Side& side, const SocketAddress& from, Slice data);
  void Drop(size_t datagrams = 1) { reactor_.counters().datagrams_dropped.Add(static_cast<int64_t>(datagrams)); }
  void Sweep();

  DirectDatagrams& way_;
  core::Reactor& reactor_;
  Handler& handler_;
  const SenderFilter filter_;
  const core::CountGuard counted_{reactor_.counters().associations_open};
  const std::shared_ptr<Association*> self_ = std::make_shared<Association*>(this);
  absl::flat_hash_map<Target, std::unique_ptr<Entry>> entries_;
  Side v4_{*this};
  Side v6_{*this};
  TargetAnswers answers_{reactor_, handler_};
  core::Timer sweep_timer_;
  // The last sender, as it is told to the handler: most datagrams come from the same as the one before.
  SocketAddress source_;
  Target from_;
};

void DirectDatagrams::Association::Send(const Target& to, Slice payload) {
  Entry* entry = Find(to);
  if (entry == nullptr) {
    Drop();
    return;
  }
  entry->last_used = reactor_.now();
  switch (entry->state) {
    case Entry::State::kAsking:
      if (!entry->waiting.Add(reactor_.buffers().ForHolding(std::move(payload)))) Drop();
      break;
    case Entry::State::kReady:
      Transmit(*entry, std::move(payload));
      break;
    case Entry::State::kRefused:
      Drop();
      break;
  }
}

DirectDatagrams::Association::Entry* DirectDatagrams::Association::Find(const Target& target) {
  const auto found = entries_.find(target);
  if (found != entries_.end()) {
    Entry& entry = *found->second;
    if (entry.state == Entry::State::kRefused && entry.ask_again <= reactor_.now()) Ask(target, entry);
    return &entry;
  }
  if (!MakeRoom()) return nullptr;
  Entry& entry = *entries_.emplace(target, std::make_unique<Entry>()).first->second;
  entry.last_used = reactor_.now();
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(way_.idle_limit_ / 2);
  Ask(target, entry);
  return &entry;
}

// Whoever was silent longest makes room.
bool DirectDatagrams::Association::MakeRoom() {
  if (entries_.size() < kTargetsPerAssociation) return true;
  auto oldest = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    if (at->second->state == Entry::State::kAsking) continue;
    if (oldest == entries_.end() || at->second->last_used < oldest->second->last_used) oldest = at;
  }
  if (oldest == entries_.end()) return false;
  entries_.erase(oldest);
  return true;
}

void DirectDatagrams::Association::Ask(const Target& target, Entry& entry) {
  entry.state = Entry::State::kAsking;
  // An address needs no question, so that datagrams to one never wait.
  if (const auto literal = SocketAddress::Parse(target.host, target.port); literal.has_value()) {
    OnAnswer(target, way_.Choose(target, {*literal}));
    return;
  }
  way_.scope_.Spawn(way_.Ask(self_, target));
}

void DirectDatagrams::Association::OnAnswer(const Target& target, const absl::StatusOr<SocketAddress>& answer) {
  const auto found = entries_.find(target);
  if (found == entries_.end() || found->second->state != Entry::State::kAsking) return;
  Entry& entry = *found->second;
  std::deque<Slice> waiting = entry.waiting.TakeAll();
  if (answer.ok()) {
    entry.state = Entry::State::kReady;
    entry.address = *answer;
    for (Slice& payload : waiting) Transmit(entry, std::move(payload));
  } else {
    spdlog::debug("target {}: {}", proto::ToString(target), MessageOf(answer.status()));
    entry.state = Entry::State::kRefused;
    entry.ask_again = reactor_.now() + kRefusedTargetLimit;
    Drop(waiting.size());
  }
  answers_.Tell(target, answer.status());
}

void DirectDatagrams::Association::Transmit(Entry& entry, Slice payload) {
  Side& side = entry.address.is_v6() ? v6_ : v4_;
  if (!side.socket.open()) {
    auto socket = core::DatagramSocket::Open(reactor_, core::AnyAddress(entry.address.family()));
    if (!socket.ok()) {
      spdlog::debug("{}", MessageOf(socket.status()));
      Drop();
      return;
    }
    side.socket = *std::move(socket);
    side.socket.Start(side);
  }
  side.last_used = reactor_.now();
  reactor_.counters().bytes_to_target.Add(static_cast<int64_t>(payload.size()));
  side.socket.SendTo(entry.address, std::move(payload));
}

void DirectDatagrams::Association::OnReceived(Side& side, const SocketAddress& from, Slice data) {
  if (filter_ == SenderFilter::kTargetsOnly) {
    const auto sender = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) {
      return entry.second->state == Entry::State::kReady && entry.second->address == from;
    });
    if (sender == entries_.end()) {
      reactor_.counters().datagrams_foreign.Add();
      return;
    }
    sender->second->last_used = reactor_.now();
  }
  side.last_used = reactor_.now();
  reactor_.counters().bytes_from_target.Add(static_cast<int64_t>(data.size()));
  if (!(source_ == from)) {
    source_ = from;
    from_ = {.host = from.ip(), .port = from.port()};
  }
  handler_.OnDatagram(from_, std::move(data));  // last: this may be destroyed from it
}

void DirectDatagrams::Association::Sweep() {
  const core::TimePoint limit = reactor_.now() - way_.idle_limit_;
  absl::erase_if(entries_, [&](const auto& entry) {
    return entry.second->state != Entry::State::kAsking && entry.second->last_used <= limit;
  });
  for (Side* side : {&v4_, &v6_}) {
    if (side->socket.open() && side->last_used <= limit) side->socket.Close();
  }
  if (!entries_.empty() || v4_.socket.open() || v6_.socket.open()) sweep_timer_.SetAfter(way_.idle_limit_ / 2);
}

absl::StatusOr<std::unique_ptr<DatagramAssociation>> DirectDatagrams::Open(DatagramAssociation::Handler& handler,
                                                                           SenderFilter filter) {
  TUNNEL_RETURN_IF_ERROR(AdmitAssociation(reactor_.counters()));
  return std::make_unique<Association>(*this, handler, filter);
}

absl::StatusOr<SocketAddress> DirectDatagrams::Choose(const Target& target, std::vector<SocketAddress> addresses) {
  std::erase_if(addresses, [&](const SocketAddress& address) { return !policy_.Allows(target.host, address); });
  if (addresses.empty()) return DenyTarget(reactor_.counters());
  if (addresses.size() == 1) return addresses.front();
  // Nothing answers a datagram that has no way, so whether there is one is asked before.
  for (const SocketAddress& address : addresses) {
    auto socket = core::DatagramSocket::Open(reactor_, core::AnyAddress(address.family()));
    if (socket.ok() && socket->Connect(address).ok()) return address;
  }
  return Unavailable("no way to any address of the target");
}

core::Task<absl::StatusOr<SocketAddress>> DirectDatagrams::FindAddress(Target target) {
  if (absl::Status admitted = AdmitConnect(reactor_.counters()); !admitted.ok()) co_return admitted;
  core::TaskContext& context = co_await core::CurrentTask();
  const core::CountGuard counted(reactor_.counters().connects_in_progress);
  const core::DeadlineGuard deadline(context, kTargetConnectLimit);
  auto addresses = co_await resolver_.Resolve(target.host, target.port);
  if (!addresses.ok()) co_return addresses.status();
  co_return Choose(target, *std::move(addresses));
}

core::Task<void> DirectDatagrams::Ask(std::shared_ptr<Association*> asker, Target target) {
  const absl::StatusOr<SocketAddress> answer = co_await FindAddress(target);
  if (*asker != nullptr) (*asker)->OnAnswer(target, answer);
}

}  // namespace tunnel::net
