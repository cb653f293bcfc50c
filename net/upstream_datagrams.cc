#include "net/upstream_datagrams.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <deque>

#include "core/log.h"
#include "net/admission.h"
#include "net/target_answers.h"
#include "net/waiting_datagrams.h"
#include "proto/socks5_udp.h"

namespace tunnel::net {

using core::Slice;
using core::SocketAddress;
using proto::Target;

class UpstreamDatagrams::Association final : public DatagramAssociation,
                                             ByteStream::Handler,
                                             core::DatagramSocket::Handler {
 public:
  Association(UpstreamDatagrams& way, DatagramAssociation::Handler& handler, SenderFilter filter)
      : way_(way), reactor_(way.reactor_), handler_(handler), filter_(filter), sweep_timer_(reactor_.timers(), [this] {
          Sweep();
        }) {}
  Association(const Association&) = delete;
  Association& operator=(const Association&) = delete;
  ~Association() override {
    *self_ = nullptr;
    Disconnect();
  }

  void Send(const Target& to, Slice payload) override;
  void Prepare(const Target& target) override {
    if (Admit(target)) Connect();
  }
  // The answer to a question of Connect()'s.
  void OnAnswer(absl::StatusOr<UpstreamAssociation> answer);

 private:
  // Where the association with the proxy stands.
  enum class State : uint8_t { kNone, kAsking, kReady, kRefused };
  struct Known {
    core::TimePoint last_used;
    bool allowed = false;
  };

  // Whether datagrams may go to `target`, which is remembered.
  [[nodiscard]] bool Admit(const Target& target);
  // Asks the proxy for an association where there is none.
  void Connect();
  void Disconnect();
  void Drop(size_t datagrams = 1) { reactor_.counters().datagrams_dropped.Add(static_cast<int64_t>(datagrams)); }
  [[nodiscard]] bool IsTarget(const Target& from) const;
  void Sweep();

  // --- the control connection: nothing more is said on it, and the association ends with it ---
  void OnData(Slice data) override { (void)data; }
  void OnEnd() override { Disconnect(); }
  void OnDrained() override {}
  void OnDead(absl::Status reason) override {
    spdlog::debug("outbound proxy: UDP association lost: {}", MessageOf(reason));
    Disconnect();
  }
  // --- the socket towards the relay ---
  void OnDatagram(const SocketAddress& from, Slice data) override;
  void OnSocketError(core::IoError error) override {
    spdlog::debug("outbound proxy: UDP: {}", core::ToString(error));
    Disconnect();
  }

  UpstreamDatagrams& way_;
  core::Reactor& reactor_;
  DatagramAssociation::Handler& handler_;
  const SenderFilter filter_;
  const core::CountGuard counted_{reactor_.counters().associations_open};
  const std::shared_ptr<Association*> self_ = std::make_shared<Association*>(this);
  State state_ = State::kNone;
  core::TimePoint ask_again_;  // kRefused
  core::TimePoint last_used_;
  std::unique_ptr<ByteStream> control_;  // kReady
  core::DatagramSocket socket_;          // kReady; connected to the relay
  WaitingDatagrams waiting_;             // kAsking; with their headers
  absl::flat_hash_map<Target, Known> targets_;
  TargetAnswers answers_{reactor_, handler_};
  core::Timer sweep_timer_;
  Target from_;  // kept, so that its text need not be allocated again
};

bool UpstreamDatagrams::Association::Admit(const Target& target) {
  const core::TimePoint now = reactor_.now();
  const auto found = targets_.find(target);
  if (found != targets_.end()) {
    found->second.last_used = now;
    return found->second.allowed;
  }
  if (targets_.size() >= kTargetsPerAssociation) {
    // Whoever was silent longest makes room.
    targets_.erase(std::min_element(targets_.begin(), targets_.end(), [](const auto& a, const auto& b) {
      return a.second.last_used < b.second.last_used;
    }));
  }
  const bool allowed = way_.policy_.AllowsUnresolved(target.host, target.port);
  targets_.emplace(target, Known{.last_used = now, .allowed = allowed});
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(way_.idle_limit_ / 2);
  if (!allowed) {
    answers_.Tell(target, DenyTarget(reactor_.counters()));
  } else if (state_ == State::kReady) {
    answers_.Tell(target, absl::OkStatus());
  } else if (state_ == State::kRefused && now < ask_again_) {
    answers_.Tell(target, Unavailable("the outbound proxy gives no UDP association"));
  }
  return allowed;
}

void UpstreamDatagrams::Association::Send(const Target& to, Slice payload) {
  if (!Admit(to)) return Drop();
  std::array<uint8_t, proto::kSocks5MaxUdpHeaderBytes> header{};
  const size_t size = proto::EncodeSocks5Udp(header, to);
  if (size + payload.size() > core::kMaxDatagramBytes) return Drop();
  Connect();
  Slice block = reactor_.buffers().Allocate(size + payload.size());
  block.Truncate(0);
  block.Append(std::span(header).first(size));
  block.Append(payload.bytes());
  last_used_ = reactor_.now();
  if (state_ == State::kReady) {
    reactor_.counters().bytes_to_target.Add(static_cast<int64_t>(payload.size()));
    socket_.Send(std::move(block));
  } else if (state_ != State::kAsking || !waiting_.Add(std::move(block))) {
    Drop();
  }
}

void UpstreamDatagrams::Association::Connect() {
  if (state_ == State::kReady || state_ == State::kAsking) return;
  if (state_ == State::kRefused && reactor_.now() < ask_again_) return;
  state_ = State::kAsking;
  way_.scope_.Spawn(way_.Associate(self_));
}

void UpstreamDatagrams::Association::OnAnswer(absl::StatusOr<UpstreamAssociation> answer) {
  std::deque<Slice> waiting = waiting_.TakeAll();
  absl::Status status = answer.status();
  if (status.ok()) {
    auto socket = core::DatagramSocket::Open(reactor_, core::AnyAddress(answer->relay.family()));
    status = socket.status();
    if (status.ok()) status = socket->Connect(answer->relay);
    if (status.ok()) socket_ = *std::move(socket);
  }
  if (status.ok()) {
    state_ = State::kReady;
    last_used_ = reactor_.now();
    control_ = std::move(answer->control);
    control_->SetHandler(this);
    socket_.Start(*this);
    for (Slice& datagram : waiting) socket_.Send(std::move(datagram));
  } else {
    spdlog::debug("outbound proxy: UDP: {}", MessageOf(status));
    state_ = State::kRefused;
    ask_again_ = reactor_.now() + kRefusedTargetLimit;
    Drop(waiting.size());
  }
  for (const auto& [target, known] : targets_) {
    if (known.allowed) answers_.Tell(target, status);
  }
}

void UpstreamDatagrams::Association::Disconnect() {
  if (state_ != State::kReady) return;
  state_ = State::kNone;
  socket_.Close();
  control_.reset();
}

bool UpstreamDatagrams::Association::IsTarget(const Target& from) const {
  return std::any_of(targets_.begin(), targets_.end(), [&](const auto& target) {
    return target.second.allowed && (target.first == from || !proto::ParseIpAddress(target.first.host).has_value());
  });
}

void UpstreamDatagrams::Association::OnDatagram(const SocketAddress& from, Slice data) {
  (void)from;  // the kernel lets nothing pass but what the relay sends
  const proto::Socks5UdpResult header = proto::DecodeSocks5Udp(data.bytes(), from_);
  if (!header.ok) {
    reactor_.counters().datagrams_malformed.Add();
    return;
  }
  if (filter_ == SenderFilter::kTargetsOnly && !IsTarget(from_)) {
    reactor_.counters().datagrams_foreign.Add();
    return;
  }
  last_used_ = reactor_.now();
  data.RemovePrefix(header.header_bytes);
  reactor_.counters().bytes_from_target.Add(static_cast<int64_t>(data.size()));
  handler_.OnDatagram(from_, std::move(data));  // last: this may be destroyed from it
}

void UpstreamDatagrams::Association::Sweep() {
  const core::TimePoint limit = reactor_.now() - way_.idle_limit_;
  if (last_used_ <= limit) {
    // As one: what a target answers cannot be told from what another one does.
    Disconnect();
    absl::erase_if(targets_, [&](const auto& target) { return target.second.last_used <= limit; });
  }
  if (!targets_.empty() || state_ == State::kReady) sweep_timer_.SetAfter(way_.idle_limit_ / 2);
}

absl::StatusOr<std::unique_ptr<DatagramAssociation>> UpstreamDatagrams::Open(DatagramAssociation::Handler& handler,
                                                                             SenderFilter filter) {
  TUNNEL_RETURN_IF_ERROR(AdmitAssociation(reactor_.counters()));
  return std::make_unique<Association>(*this, handler, filter);
}

core::Task<absl::StatusOr<UpstreamAssociation>> UpstreamDatagrams::AssociateCounted() {
  if (absl::Status admitted = AdmitConnect(reactor_.counters()); !admitted.ok()) co_return admitted;
  core::TaskContext& context = co_await core::CurrentTask();
  const core::CountGuard counted(reactor_.counters().connects_in_progress);
  const core::DeadlineGuard deadline(context, kTargetConnectLimit);
  co_return co_await proxy_.Associate();
}

core::Task<void> UpstreamDatagrams::Associate(std::shared_ptr<Association*> asker) {
  auto answer = co_await AssociateCounted();
  if (*asker != nullptr) (*asker)->OnAnswer(std::move(answer));
}

}  // namespace tunnel::net
