// Both ends of UDP in a simulated run: applications that ask for associations by SOCKS5, and targets that send back
// what they get.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/datagram_socket.h"
#include "core/stream_socket.h"
#include "core/timers.h"
#include "datagram_plan.h"
#include "proto/socks5_client.h"

namespace tunnel::simulation {

// Answers every datagram with itself.
class DatagramTarget final : core::DatagramSocket::Handler {
 public:
  // The `index`-th, on `reactor`, which is the targets' host.
  DatagramTarget(core::Reactor& reactor, uint32_t index);
  DatagramTarget(const DatagramTarget&) = delete;
  DatagramTarget& operator=(const DatagramTarget&) = delete;

  // What should not have come; empty when all was right.
  [[nodiscard]] const std::string& wrong() const { return wrong_; }
  // The most copies of one datagram that came.
  [[nodiscard]] uint32_t most_copies() const { return most_copies_; }

 private:
  void OnDatagram(const core::SocketAddress& from, core::Slice data) override;
  void OnSocketError(core::IoError error) override;

  core::Reactor& reactor_;
  const uint32_t index_;
  core::DatagramSocket socket_;
  std::map<DatagramKey, uint32_t> copies_;
  uint32_t most_copies_ = 0;
  std::string wrong_;
};

struct DatagramRecord {
  bool granted = false;
  uint32_t sent = 0;
  uint32_t answered = 0;  // different ones
  uint64_t bytes = 0;
  bool over = false;
  std::string wrong;

  [[nodiscard]] std::string Describe() const;
};

class DatagramParty final : core::StreamSocket::Handler, core::DatagramSocket::Handler {
 public:
  // `control`: its connection to the client's proxy. With `one_is_enough` it goes when the first answer has come.
  DatagramParty(core::Reactor& reactor, core::StreamSocket control, const DatagramPlan& plan, bool one_is_enough);
  DatagramParty(const DatagramParty&) = delete;
  DatagramParty& operator=(const DatagramParty&) = delete;

  [[nodiscard]] const DatagramRecord& record() const { return record_; }
  // Goes away at once.
  void Leave();

 private:
  void OnReceive(core::Slice data) override;
  void OnReceiveEnd() override { Leave(); }
  void OnSendDrained() override {}
  void OnSocketError(core::IoError error) override;
  void OnDatagram(const core::SocketAddress& from, core::Slice data) override;

  void Negotiate(core::Slice data);
  void Begin(const proto::Target& relay);
  void SendBurst();
  void OnTimer();
  void Wrong(std::string what);

  core::Reactor& reactor_;
  core::StreamSocket control_;
  const DatagramPlan plan_;
  const bool one_is_enough_;
  proto::Socks5Client request_;
  core::DatagramSocket socket_;
  core::SocketAddress relay_;
  core::SimRandom random_;
  std::map<DatagramKey, uint32_t> answers_;
  core::Timer timer_;
  DatagramRecord record_;
};

}  // namespace tunnel::simulation
