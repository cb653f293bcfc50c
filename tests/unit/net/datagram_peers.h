// What the tests of datagrams share: a resolver that answers when it is told to, targets that answer, and a handler
// that remembers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/datagram_socket.h"
#include "net/datagram_opener.h"
#include "net/resolver.h"
#include "net/target_policy.h"
#include "run_task.h"

namespace tunnel::net {

class FakeResolver final : public Resolver {
 public:
  core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    if (const auto literal = core::SocketAddress::Parse(host, port); literal.has_value()) {
      co_return std::vector<core::SocketAddress>{*literal};
    }
    ++questions;
    if (hold) {
      const absl::Status waited = co_await released.Wait();
      if (!waited.ok()) co_return waited;
    }
    const auto found = names.find(host);
    if (found == names.end()) co_return NotFound("no such name");
    std::vector<core::SocketAddress> addresses;
    for (const std::string& ip : found->second) addresses.push_back(*core::SocketAddress::Parse(ip, port));
    co_return std::move(addresses);
  }

  std::map<std::string, std::vector<std::string>> names;
  bool hold = false;
  core::Event released;
  int questions = 0;
};

// Answers every datagram with "echo:" before it, on loopback.
class EchoTarget final : core::DatagramSocket::Handler {
 public:
  explicit EchoTarget(core::Reactor& reactor) : reactor_(reactor) {
    auto opened = core::DatagramSocket::Open(reactor, *core::SocketAddress::Parse("127.0.0.1", 0));
    EXPECT_TRUE(opened.ok());
    socket_ = *std::move(opened);
    port = socket_.local_address().port();
    socket_.Start(*this);
  }
  [[nodiscard]] proto::Target target() const { return {.host = "127.0.0.1", .port = port}; }
  void SendTo(const core::SocketAddress& to, std::string_view text) {
    socket_.SendTo(to, reactor_.buffers().Copy(text));
  }

  uint16_t port = 0;
  std::vector<std::string> received;
  std::vector<core::SocketAddress> sources;

 private:
  void OnDatagram(const core::SocketAddress& from, core::Slice data) override {
    received.emplace_back(data.text());
    sources.push_back(from);
    socket_.SendTo(from, reactor_.buffers().Copy("echo:" + std::string(data.text())));
  }
  void OnSocketError(core::IoError error) override { ADD_FAILURE() << core::ToString(error); }

  core::Reactor& reactor_;
  core::DatagramSocket socket_;
};

class DatagramRecorder final : public DatagramAssociation::Handler {
 public:
  void OnDatagram(const proto::Target& from, core::Slice payload) override {
    received.push_back(proto::ToString(from) + " " + std::string(payload.text()));
    if (on_datagram) on_datagram();
  }
  void OnTarget(const proto::Target& target, const absl::Status& status) override {
    targets.emplace_back(target.host, status);
    if (on_target) on_target();
  }
  void OnDead(const absl::Status& reason) override { dead = reason; }

  std::vector<std::string> received;
  std::vector<std::pair<std::string, absl::Status>> targets;
  std::optional<absl::Status> dead;
  std::function<void()> on_datagram;
  std::function<void()> on_target;
};

inline std::vector<TargetRule> AllowAll() {
  TargetRule v4{.kind = TargetRule::Kind::kNetwork, .network = *proto::ParseCidr("0.0.0.0/0")};
  return {v4};
}

}  // namespace tunnel::net
